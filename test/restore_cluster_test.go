package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// clusterBench is a server that was backed up, and the host that restores it.
type clusterBench struct {
	*walBench
	// place is a folder of the server's user.
	place string
}

// restoring makes a bench of a host that restores, as the user of the server or as root for
// that user. What is stored must be there.
func (b *walBench) restoring() *clusterBench {
	b.t.Helper()
	c := &clusterBench{b, filepath.Join(b.tmp, "place")}
	// The server's own user runs pgmedic, too.
	b.program = filepath.Join(b.tmp, "pgmedic")
	err := os.WriteFile(b.program, readFile(b.t, binary), 0o755)
	if err == nil {
		err = os.MkdirAll(c.place, 0o700)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	if out, err := exec.Command("chown", "-R", "--reference="+b.server.DataDir(), b.store, c.place).CombinedOutput(); err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
	b.reader = append(b.reader, "PGMEDIC_POSTGRES_DIRS="+b.server.BinDir())
	return c
}

// clusterDone is what restore --target-dir says in JSON.
type clusterDone struct {
	Backup string
	Plan   struct {
		Through string
		WAL     struct {
			Stop string
			LSN  string
			Last *struct {
				LSN  string
				Time time.Time
			} `json:"last_commit"`
		}
	}
	Preview, Done *struct {
		State         string
		Deletions     int
		Configuration struct {
			SetAside []struct{ Name, Undo string } `json:"set_aside"`
		}
	}
	Started *struct {
		Redone  string
		Running bool
		PID     int
		Log     string
	}
}

// restore restores into a folder of the place.
func (c *clusterBench) restore(code int, folder string, args ...string) (done clusterDone, r result) {
	c.t.Helper()
	r = c.asReader(append([]string{"restore", "--json", "--yes", "--target-dir", filepath.Join(c.place, folder)}, args...)...)
	if err := json.Unmarshal([]byte(r.stdout), &done); r.code != code || err != nil && code == 0 {
		log, _ := os.ReadFile(filepath.Join(c.place, folder, "pgmedic-recovery.log"))
		c.t.Fatalf("restore %q: exit code %d, %v, %s%s\n%s", args, r.code, err, r.stdout, r.stderr, log)
	}
	if done.Started != nil && done.Started.PID > 0 {
		c.t.Cleanup(func() { c.stop(done.Started.PID) })
	}
	return done, r
}

func (c *clusterBench) stop(pid int) { c.end(pid, syscall.SIGINT) }

func (c *clusterBench) end(pid int, how syscall.Signal) {
	_ = syscall.Kill(pid, how) // an error means that it has ended
	testkit.Eventually(c.t, time.Minute, "the restored server has stopped", func() bool {
		state, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return err != nil || strings.Contains(string(state), ") Z ")
	})
}

// port returns a port that nothing listens on.
func (c *clusterBench) port() string {
	c.t.Helper()
	l, err := (&net.ListenConfig{}).Listen(c.t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// asks asks a restored server.
func (c *clusterBench) asks(port, sql string) (answer string) {
	c.t.Helper()
	conn := testkit.Dial(c.t, fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres", c.server.SocketDir(), port))
	defer testkit.End(conn)
	if err := conn.QueryRow(c.t.Context(), sql).Scan(&answer); err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

const ledgerSum = "SELECT count(*) || ' ' || coalesce(md5(string_agg(n || note, ',' ORDER BY n)), '') FROM ledger"

// TestRestoreCluster is the whole way by the command line: a base backup, streamed WAL, and
// the cluster at a position and at a time, with the rows that it had then, no more and no
// less. The server asks pgmedic for its WAL.
func TestRestoreCluster(t *testing.T) {
	b := newWALBench(t, 0)
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	b.wantStreaming()
	b.sql("INSERT INTO ledger VALUES (1, 'before')")
	row, _ := b.physical(0)
	b.sql("INSERT INTO ledger SELECT g, repeat('y', 1000) FROM generate_series(2, 4000) AS g") // several segments
	first := b.ask(ledgerSum)
	moment := b.ask("SELECT clock_timestamp()::timestamptz(6)::text")
	b.sql("DELETE FROM ledger WHERE n > 5")
	second, position := b.ask(ledgerSum), b.ask("SELECT pg_current_wal_lsn()::text")
	b.sql("INSERT INTO ledger VALUES (-1, 'too late')")
	b.wantStored()
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		t.Fatalf("the stream: exit code %d, %s", r.code, r.stderr)
	}
	c := b.restoring()
	foreseen, r := c.restore(0, "time", "--to-time", moment, "--dry-run")
	if foreseen.Preview == nil || foreseen.Preview.State != "absent" || foreseen.Plan.WAL.Last == nil {
		t.Errorf("foreseen: %s", r.stdout)
	}
	if left, err := os.ReadDir(c.place); err != nil || len(left) > 0 {
		t.Errorf("the dry run left %v, %v", left, err)
	}
	for folder, what := range map[string]struct{ flag, value, want string }{
		"time": {"--to-time", moment, first}, "position": {"--to-lsn", position, second},
	} {
		port := c.port()
		done, r := c.restore(0, folder, what.flag, what.value, "--start", "--start-port", port)
		if done.Backup != row.ID || done.Started == nil || !done.Started.Running || done.Started.Redone != done.Plan.WAL.LSN {
			t.Errorf("%s: %s", folder, r.stdout)
		}
		if got := c.asks(port, ledgerSum); got != what.want {
			t.Errorf("%s: the ledger is %s, want %s", folder, got, what.want)
		}
		if got := c.asks(port, "SELECT current_setting('archive_mode') || pg_is_in_recovery()"); got != "offfalse" {
			t.Errorf("%s: %s", folder, got)
		}
		// What fetches ahead may still be at it as the recovery ends.
		testkit.Eventually(t, time.Minute, folder+": what was fetched ahead is gone", func() bool {
			left, err := filepath.Glob(filepath.Join(c.place, folder, "pg_wal", ".pgmedic-prefetch"))
			return err == nil && len(left) == 0
		})
		late := exec.CommandContext(t.Context(), binary, "wal", "fetch", "--prefetch", "--plan", "pgmedic-recovery.json", "000000010000000000000001", "pg_wal/RECOVERYXLOG")
		late.Dir, late.Env = filepath.Join(c.place, folder), c.reader
		if out, err := late.CombinedOutput(); err != nil {
			t.Errorf("%s: what fetches ahead and begins late: %v, %s", folder, err, out)
		}
		if _, err := os.Lstat(filepath.Join(c.place, folder, "pg_wal", ".pgmedic-prefetch")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: what begins late leaves its folder: %v", folder, err)
		}
	}
	// Those of the two recoveries are left, which end by themselves, and none of a restore.
	leases := storedFiles(t, c.store, "/lease-")
	for _, file := range leases {
		if text := string(readFile(t, file)); !strings.Contains(text, `"purpose": "recovery"`) || !strings.Contains(text, `"timeline": 1`) {
			t.Errorf("lease %s", text)
		}
	}
	if notes, err := filepath.Glob(filepath.Join(c.place, "*", "pgmedic-recovery-lease.json")); err != nil || len(notes) != 2 || len(leases) < 2 {
		t.Errorf("%v, %v, leases %v", notes, err, leases)
	}
	if os.Geteuid() == 0 {
		if r := c.asReader("restore", "--target-dir", filepath.Join(c.tmp, "root-s"), "--to-end", "--dry-run"); r.code != 2 || !strings.Contains(r.stdout, "recovers to") || strings.Contains(r.stdout, "nothing was changed") || !strings.Contains(r.stderr, "nothing says which user will run it") {
			t.Errorf("a plan for root: exit code %d, %s%s", r.code, r.stdout, r.stderr)
		}
		if r := c.asReader("restore", "--target-dir", filepath.Join(c.tmp, "root-s"), "--to-end"); r.code != 2 || !strings.Contains(r.stderr, "nothing says which user will run it") {
			t.Errorf("for root: exit code %d, %s", r.code, r.stderr)
		}
	}
	_, r = c.restore(14, "time", "--to-time", moment, "--delta")
	if !strings.Contains(r.stderr, "a server runs in") {
		t.Errorf("over a running server: %s", r.stderr)
	}
	env := c.env
	c.env = c.reader
	if log := c.ok("audit", "show", "--json"); !strings.Contains(log, `"target_dir"`) || !strings.Contains(log, row.ID) {
		t.Errorf("the audit log: %s", log)
	}
	c.env = env
	_, r = c.restore(14, "time", "--to-time", moment)
	if !strings.Contains(r.stderr, "is the data folder of a cluster") {
		t.Errorf("into a cluster: %s", r.stderr)
	}
}
