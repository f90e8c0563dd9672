package test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// slow is a table that takes ten seconds to load, unless the role has fast
// set, and no time to dump.
func slow() []string {
	return []string{
		`CREATE FUNCTION public.slow() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
			IF coalesce(current_setting('test.fast', true), '') <> 'on' THEN PERFORM pg_sleep(0.02); END IF;
			RETURN true;
		END $$`,
		`SET test.fast = 'on'`,
		`CREATE TABLE public.visits (id int CHECK (public.slow()))`,
		`INSERT INTO public.visits SELECT generate_series(1, 500)`,
	}
}

// large is a table that takes some seconds to dump over a wire as of narrowed.
func large() []string {
	return []string{
		// Not one aggregate over three million rows, which takes ten times as long.
		`CREATE TABLE public.large AS SELECT i, (SELECT string_agg(encode(sha512((i * 8 + j)::text::bytea), 'hex'), '')
			FROM generate_series(1, 8) AS j) AS t FROM generate_series(1, 50000) AS i`,
		`CREATE TABLE public.visits AS SELECT generate_series(1, 500) AS id`,
	}
}

// asRole gives the bench a superuser of its own, whose settings a test may
// change. It returns the role's name.
func (b *bench) asRole() string {
	b.t.Helper()
	role := "e2e_" + strings.ToLower(rand.Text()[:10])
	mustExec(b.t, "postgres", fmt.Sprintf("CREATE ROLE %s LOGIN SUPERUSER PASSWORD '%s'", role, password))
	b.t.Cleanup(func() {
		dropAll(b.t, b.database)
		mustExec(b.t, "postgres", "DROP ROLE "+role)
	})
	u, err := url.Parse(server.URL(b.database))
	if err != nil {
		b.t.Fatal(err)
	}
	u.User = url.UserPassword(role, password)
	b.env = b.environ("DATABASE_URL=" + u.String())
	return role
}

// narrowed has the program connect over a wire that is so narrow that there is a midway on
// the fastest machine.
func (b *bench) narrowed() {
	b.t.Helper()
	i := slices.IndexFunc(b.env, func(pair string) bool { return strings.HasPrefix(pair, "DATABASE_URL=") })
	u, err := url.Parse(strings.TrimPrefix(b.env[i], "DATABASE_URL="))
	if err != nil {
		b.t.Fatal(err)
	}
	b.wire = newWire(b.t, u.Host)
	u.Host = net.JoinHostPort("127.0.0.1", b.wire.port)
	b.env[i] = "DATABASE_URL=" + u.String()
}

// backup takes a backup of the bench's database.
func (b *bench) backup() string {
	b.t.Helper()
	return strings.TrimSpace(b.ok("backup", "-q"))
}

func (b *bench) visits() string {
	b.t.Helper()
	return strings.Join(query(b.t, b.database, "SELECT count(*)::text FROM public.visits"), "")
}

// loading reports whether a client program loads rows into a database whose
// name begins as the bench's.
func (b *bench) loading() bool {
	return len(query(b.t, "postgres", `SELECT 'x' FROM pg_stat_activity WHERE starts_with(datname::text, $1 || '_')
		AND state = 'active' AND query LIKE 'COPY "public"."visits"%'`, b.database)) > 0
}

func (b *bench) dumping() bool {
	return len(query(b.t, "postgres", `SELECT 'x' FROM pg_stat_activity WHERE datname = $1
		AND state = 'active' AND query LIKE 'COPY %"public"."large"%'`, b.database)) > 0
}

// interruptions are the moments at which the program is interrupted.
func interruptions() []struct {
	name    string
	prepare func(b *bench)
	args    func(b *bench) []string
	// now reports whether the moment has come.
	now func(b *bench, c *child) bool
} {
	type moment = struct {
		name    string
		prepare func(b *bench)
		args    func(b *bench) []string
		now     func(b *bench, c *child) bool
	}
	words := func(w ...string) func(*bench) []string { return func(*bench) []string { return w } }
	loading := func(b *bench, _ *child) bool { return b.loading() }
	withBackup := func(b *bench) {
		mustExec(b.t, b.database, slow()...)
		b.backup()
	}
	return []moment{
		{"backup", func(b *bench) {
			b.narrowed()
			mustExec(b.t, b.database, large()...)
		}, words("backup"),
			func(b *bench, _ *child) bool { return b.dumping() }},
		{"parallel backup", func(b *bench) {
			b.narrowed()
			b.env = append(b.env, "BACKUP_METHOD=parallel", "PGMEDIC_JOBS=2")
			mustExec(b.t, b.database, large()...)
		}, words("backup"), func(b *bench, _ *child) bool {
			return len(query(b.t, "postgres", `SELECT 'x' FROM pg_stat_activity WHERE datname = $1
				AND state = 'active' AND query LIKE 'COPY%"public"."large"%'`, b.database)) > 0
		}},
		{"backup that waits for a lock", func(b *bench) {
			mustExec(b.t, b.database, slow()...)
			conn := testkit.Connect(b.t, server.DSN(b.database))
			if _, err := conn.Exec(context.Background(), "BEGIN; LOCK TABLE public.visits"); err != nil {
				b.t.Fatal(err)
			}
		}, words("backup"), func(b *bench, _ *child) bool {
			return len(query(b.t, "postgres", `SELECT 'x' FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'`,
				b.database)) > 0
		}},
		{"restore into", withBackup, func(b *bench) []string {
			return []string{"restore", "latest", "--into", b.database + "_copy"}
		}, loading},
		{"restore swap", withBackup, words("restore", "latest", "--swap", "--yes"), loading},
		{"drill", withBackup, words("drill", "latest"), func(_ *bench, c *child) bool {
			return strings.Contains(c.stderr.String(), "create ")
		}},
		{"demo that starts", func(*bench) {}, words("demo"), func(b *bench, _ *child) bool {
			owners, _ := filepath.Glob(filepath.Join(b.tmp, "*", "owner"))
			return len(owners) > 0
		}},
		{"demo that works", func(*bench) {}, words("demo"), func(_ *bench, c *child) bool {
			return strings.Contains(c.stdout.String(), "Backed up")
		}},
	}
}

func TestInterrupt(t *testing.T) {
	if runtime.GOOS != "linux" {
		testkit.Elsewhere(t, "processes are looked for in /proc")
	}
	for i, m := range testkit.SomeOf(t, 3, interruptions()) {
		s := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[i%2]
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.asRole()
			m.prepare(b)
			before, backups := databasesOf(t, b.database), b.manifests()
			rows := ""
			if len(backups) > 0 {
				rows = b.visits()
			}
			c := b.start(m.args(b)...)
			testkit.Eventually(t, time.Minute, "the moment to interrupt", func() bool { return m.now(b, c) })
			c.signal(s)
			r := c.wait(time.Minute)
			if r.code != 130 {
				t.Errorf("exit code %d", r.code)
			}
			if !strings.HasSuffix(r.stderr, "error: interrupted\n") {
				t.Errorf("it says:\n%s", r.stderr)
			}
			if left := b.processes(); len(left) > 0 {
				t.Errorf("processes are left: %q", left)
			}
			if left := b.leftovers(); len(left) > 0 {
				t.Errorf("files are left: %q", left)
			}
			if after := databasesOf(t, b.database); !slices.Equal(after, before) {
				t.Errorf("databases are %q instead of %q", after, before)
			}
			if after := b.manifests(); len(after) != len(backups) {
				t.Errorf("backups are %q", after)
			}
			if rows != "" && b.visits() != rows {
				t.Errorf("the live database has %s rows", b.visits())
			}
			b.noRunLock()
		})
	}
}

// TestReaderGone closes the pipe that a restore prints to: that is an interrupt,
// and no reason to die without clearing away.
func TestReaderGone(t *testing.T) {
	b := newBench(t, slow()...)
	b.backup()
	before := databasesOf(t, b.database)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "restore", "latest", "--swap", "--yes")
	cmd.Dir, cmd.Env, cmd.Stderr = b.dir, b.env, writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	_ = writer.Close()
	for lines := bufio.NewScanner(reader); lines.Scan() && !strings.Contains(lines.Text(), "create "); {
	}
	_ = reader.Close()
	_ = cmd.Wait() // ProcessState has it
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("it ended with %s", cmd.ProcessState)
	}
	if after := databasesOf(t, b.database); !slices.Equal(after, before) {
		t.Errorf("databases are %q instead of %q", after, before)
	}
	if n := b.visits(); n != "500" {
		t.Errorf("the live database has %s rows", n)
	}
}

// A killed program can't clean up: its children end by themselves, and the next
// run removes the rest.
func TestKill(t *testing.T) {
	if runtime.GOOS != "linux" {
		testkit.Elsewhere(t, "the kernel ends the children of a killed program on Linux only")
	}
	for _, m := range testkit.SomeOf(t, 3, interruptions()) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			role := b.asRole()
			m.prepare(b)
			backups := b.manifests()
			rows := ""
			if len(backups) > 0 {
				rows = b.visits()
			}
			c := b.start(m.args(b)...)
			testkit.Eventually(t, time.Minute, "the moment to kill", func() bool { return m.now(b, c) })
			c.signal(syscall.SIGKILL)
			<-c.done
			testkit.Eventually(t, time.Minute, "the children have ended", func() bool { return len(b.processes()) == 0 })
			if after := b.manifests(); len(after) != len(backups) {
				t.Errorf("backups are %q", after)
			}
			if rows != "" && b.visits() != rows {
				t.Errorf("the live database has %s rows", b.visits())
			}
			// A session that waits or computes notices only later that nobody
			// listens; the lock of the run is another one's.
			testkit.Eventually(t, time.Minute, "the run's lock is free", func() bool {
				return len(query(t, "postgres", `SELECT 'x' FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
					WHERE l.locktype = 'advisory' AND a.usename = $1`, role)) == 0
			})
			mustExec(t, "postgres",
				"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = '"+b.database+"'",
				"ALTER ROLE "+role+" SET test.fast = 'on'")
			b.nextRun(m.args(b))
		})
	}
}

// nextRun runs after a kill what was killed, and looks whether it works and
// removes what was left.
func (b *bench) nextRun(args []string) {
	t := b.t
	t.Helper()
	if b.wire != nil {
		b.wire.heal()
	}
	if args[0] == "drill" { // it sets rows aside in a server that knows no fast
		args = []string{"demo", "--json"}
	}
	r := b.run(args...)
	if r.code != 0 {
		t.Errorf("the next run: exit code %d\n%s", r.code, r.stderr)
	}
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("files are left: %q", left)
	}
	for _, name := range databasesOf(t, b.database) {
		if strings.Contains(name, "__restore_") {
			t.Errorf("database %s is left", name)
		}
	}
	if _, err := os.Stat(b.store); err == nil {
		b.ok("list")
	}
}
