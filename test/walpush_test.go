package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// pushBench is a server that hands its WAL over to pgmedic wal push, as its own user, into a
// store that this user can write to, with public keys alone.
type pushBench struct {
	*walBench
	program string
	// command is the archive_command.
	command string
}

func newPushBench(t *testing.T) *pushBench {
	t.Helper()
	b := &pushBench{walBench: newWALBench(t, 0, map[string]string{"archive_mode": "on", "archive_command": "false"})}
	b.program = filepath.Join(b.tmp, "pgmedic")
	if err := os.WriteFile(b.program, readFile(t, binary), 0o755); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(b.tmp, "home")
	for _, folder := range []string{home, b.store} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("chown", "-R", "--reference="+b.server.DataDir(), home, b.store).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var env []string
	for _, kv := range b.env[1:] {
		if name, _, _ := strings.Cut(kv, "="); name != "DATABASE_URL" && name != "HOME" && name != "XDG_STATE_HOME" {
			env = append(env, kv)
		}
	}
	env = append(env, "HOME="+home)
	b.command = fmt.Sprintf("env -i PATH=$PATH %s %s wal push %%p", strings.Join(quoted(env), " "), b.program)
	b.sql("ALTER SYSTEM SET archive_command = " + sqlLiteral(b.command))
	b.sql("SELECT pg_reload_conf()")
	return b
}

func sqlLiteral(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// push runs the command by hand, in the data directory, as the server does.
func (b *pushBench) push(path string) (code int, stderr string) {
	b.t.Helper()
	cmd := exec.Command("sh", "-c", strings.ReplaceAll(b.command, "%p", "'"+path+"'"))
	cmd.Dir = b.server.DataDir()
	var lines strings.Builder
	cmd.Stderr = &lines
	_ = cmd.Run() // the exit code says it
	return cmd.ProcessState.ExitCode(), lines.String()
}

// archived waits until the current segment is stored.
func (b *pushBench) archived() (name string) {
	b.t.Helper()
	b.sql("SELECT pg_logical_emit_message(true, 'a', 'b')")
	name = b.ask("SELECT pg_walfile_name(pg_switch_wal())")
	testkit.Eventually(b.t, time.Minute, name+" is stored", func() bool {
		return b.ask("SELECT coalesce(last_archived_wal >= '"+name+"', false)::text FROM pg_stat_archiver") == "true"
	})
	return name
}

func (b *pushBench) objects(part string) (n int) {
	b.t.Helper()
	err := filepath.WalkDir(b.store, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, part) {
			n++
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// other makes another data directory of the cluster, with a file of its WAL.
func (b *pushBench) other(from, to string, change func([]byte)) {
	b.t.Helper()
	content := readFile(b.t, filepath.Join(b.server.DataDir(), "pg_wal", from))
	change(content)
	control := readFile(b.t, filepath.Join(b.server.DataDir(), "global", "pg_control"))
	for path, text := range map[string][]byte{"pg_wal/" + to: content, "global/pg_control": control} {
		file := filepath.Join(b.tmp, "other", path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestWALPush: a server with archive_command, a failover to a copy that recovered from the
// store alone, and what is stored of both.
func TestWALPush(t *testing.T) {
	testkit.OnlyAll(t, "a server that archives, its standby, and a recovery")
	b := newPushBench(t)
	settings := map[string]string{
		"primary_conninfo": "", "primary_slot_name": "", "archive_mode": "on", "archive_command": b.command,
		"restore_command": fmt.Sprintf("env -i PATH=$PATH %s %s wal fetch %%f %%p; r=$?; [ $r -le 1 ] || r=255; exit $r", strings.Join(quoted(b.reader[1:]), " "), b.program),
	}
	b.archived()
	standby, err := scratch.StartStandby(t.Context(), b.server, scratch.StandbyOptions{Name: "copy", Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = standby.Stop(t.Context()) }()
	b.sql("INSERT INTO ledger SELECT n, repeat('x', 200) FROM generate_series(1, 10000) AS n")
	last := b.archived()
	if epochs := b.objects("/epoch.json"); epochs != 1 {
		t.Errorf("%d epochs of one day", epochs)
	}

	// Again, it is no error, and changes nothing.
	before := b.objects("")
	if code, stderr := b.push("pg_wal/" + last); code != 0 || b.objects("") != before {
		t.Errorf("again: exit code %d, %s, %d objects of %d", code, stderr, b.objects(""), before)
	}
	for path, want := range map[string]string{"pg_wal/nothing": "not the name of a file of WAL", "pg_wal/" + strings.Repeat("F", 24): "no such file"} {
		if code, stderr := b.push(path); code == 0 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, %q", path, code, stderr)
		}
	}

	// A store that is away: PostgreSQL tries again.
	command := b.command
	b.command = strings.ReplaceAll(command, b.store, b.program+"/store")
	if code, stderr := b.push("pg_wal/" + last); code == 0 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("the store is away: exit code %d, %q", code, stderr)
	}
	b.command = command

	// Four at once, on the first day of a store: each is stored, in some epoch.
	b.command = strings.ReplaceAll(command, b.store, filepath.Join(b.tmp, "home", "second"))
	var pushes sync.WaitGroup
	for range 4 {
		pushes.Go(func() {
			if code, stderr := b.push("pg_wal/" + last); code != 0 {
				t.Errorf("at the same time: exit code %d, %s", code, stderr)
			}
		})
	}
	pushes.Wait()
	b.command = command

	// The copy has all rows from the store alone. It becomes the server, on timeline 2.
	copied := testkit.Connect(t, standby.DSN("postgres"))
	ask := func(sql string) (answer string) {
		t.Helper()
		if err := copied.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return answer
	}
	testkit.Eventually(t, time.Minute, "the copy has all rows", func() bool { return ask("SELECT count(*)::text FROM ledger") == "10000" })
	ask("SELECT pg_promote()::text")
	ask("SELECT pg_switch_wal()::text")
	testkit.Eventually(t, time.Minute, "the copy stores its WAL", func() bool {
		return ask("SELECT coalesce(last_archived_wal LIKE '00000002%' AND last_archived_wal NOT LIKE '%history', false)::text FROM pg_stat_archiver") == "true"
	})
	if n := b.objects("hist/00000002.history"); n != 1 {
		t.Errorf("%d histories", n)
	}
	// The part of a segment with which a timeline ends is stored as far as it has records.
	b.sql("INSERT INTO ledger VALUES (20000, 'on the old server')")
	current := b.ask("SELECT pg_walfile_name(pg_current_wal_lsn())")
	b.other(current, current+".partial", func([]byte) {})
	if code, stderr := b.push(filepath.Join(b.tmp, "other", "pg_wal", current+".partial")); code != 0 || b.objects("/tail/"+current) != 1 {
		t.Errorf("the last part: exit code %d, %s", code, stderr)
	}
	if code, plain, stderr := b.fetch(current); code != 0 || len(plain) != 1<<20 || !strings.Contains(string(plain), "on the old server") {
		t.Errorf("the last part is fetched: exit code %d, %d bytes, %s", code, len(plain), stderr)
	}
	if s := b.status(); len(s.Missing) != 0 || len(s.Split) != 0 || len(s.Spans) != 2 {
		t.Errorf("status %+v", s)
	}
	b.env = b.reader
	if out := b.ok("verify", "--all", "--deep"); !strings.Contains(out, "verified") {
		t.Errorf("verify says %s", out)
	}

	// What another server has under the same name is stored, too, and said.
	b.other(last, last, func(content []byte) { content[len(content)/2] ^= 1 })
	if code, stderr := b.push(filepath.Join(b.tmp, "other", "pg_wal", last)); code != 14 || strings.Count(strings.TrimSpace(stderr), "\nerror") != 0 || b.objects("/"+last+"-") != 2 {
		t.Errorf("other bytes: exit code %d, %s, %d objects", code, stderr, b.objects("/"+last+"-"))
	}
	if code, _ := b.push(filepath.Join("pg_wal", last)); code != 14 {
		t.Errorf("the first server's: exit code %d", code)
	}
}
