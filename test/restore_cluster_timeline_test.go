package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestRestoreClusterTargets: the end of the backup, and the end of the WAL while more of it
// comes; what the WAL does not reach is refused, and says what it does.
func TestRestoreClusterTargets(t *testing.T) {
	testkit.OnlyAll(t, "a server for each target")
	b := newWALBench(t, 0)
	var want string
	b.streamed(func() { b.sql("INSERT INTO ledger VALUES (1, 'before')") }, func() {
		b.sql("INSERT INTO ledger VALUES (2, 'after')")
		want = b.ask(ledgerSum)
	})
	c := b.restoring()
	for folder, what := range map[string]struct {
		args []string
		want string
	}{
		"twice": {[]string{"--to-end"}, want}, "backup": {[]string{"latest", "--to-backup"}, "1 "}, "end": {[]string{"--to-end"}, want}, "default": {nil, want},
		"wal": {[]string{"--wal-dir", filepath.Join(c.place, "elsewhere")}, want},
	} {
		port := c.port()
		c.restore(0, folder, append(what.args, "--start", "--start-port", port)...)
		if got := c.asks(port, ledgerSum); !strings.HasPrefix(got, what.want) {
			t.Errorf("%s: the ledger is %s, want %s", folder, got, what.want)
		}
	}
	// Over a cluster that was recovered and has gone on: asked first, and only what differs.
	c.stop(pidOf(filepath.Join(c.place, "twice", "postmaster.pid")))
	if r := c.asReader("restore", "--target-dir", filepath.Join(c.place, "twice"), "--to-backup", "--delta"); r.code != 13 {
		t.Errorf("over a cluster, not confirmed: exit code %d, %s", r.code, r.stderr)
	}
	port := c.port()
	again, _ := c.restore(0, "twice", "--to-backup", "--delta", "--start", "--start-port", port)
	if got := c.asks(port, ledgerSum); !strings.HasPrefix(got, "1 ") || again.Done.Deletions == 0 {
		t.Errorf("again: the ledger is %s, %+v", got, again.Done)
	}
	if at, err := os.Readlink(filepath.Join(c.place, "wal", "pg_wal")); err != nil || at != filepath.Join(c.place, "elsewhere") {
		t.Errorf("pg_wal is a link to %s, %v", at, err)
	}
	for what, args := range map[string][]string{
		"a time before the backup": {"--to-time", "2020-01-01 00:00:00+00"}, "a time to come": {"--to-time", "2120-01-01 00:00:00+00"},
		"a position to come": {"--to-lsn", "FF/0"}, "a restore point that is none": {"--to-name", "none"}, "a timeline that is none": {"--timeline", "7"},
	} {
		if _, r := c.restore(10, "never", args...); !strings.Contains(r.stderr, "hint") || !strings.Contains(r.stderr, "can't be reached") {
			t.Errorf("%s: %s", what, r.stderr)
		}
	}
	for what, args := range map[string][]string{
		"two targets": {"--to-end", "--to-backup"}, "a time without its offset": {"--to-time", "2026-11-29 10:41:59"}, "no position": {"--to-lsn", "1-2"},
		"no timeline": {"--timeline", "old"}, "a database's flag": {"--into", "copy"}, "a tablespace that is none": {"--tablespace", "/a=/b"}, "a port alone": {"--start-port", "1"},
	} {
		if _, r := c.restore(2, "never", args...); !strings.Contains(r.stderr, "hint") {
			t.Errorf("%s: %s", what, r.stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(c.place, "never")); err == nil {
		t.Error("what was refused made a folder")
	}
	if r := c.asReader("restore", "--to-end"); r.code != 2 || !strings.Contains(r.stderr, "--target-dir") {
		t.Errorf("without a folder: exit code %d, %s", r.code, r.stderr)
	}
}

// TestRestoreClusterAlongTimelines: after a failover that lost commits, the latest timeline
// has what the new primary wrote, and the old one still has what was lost.
func TestRestoreClusterAlongTimelines(t *testing.T) {
	testkit.OnlyAll(t, "four servers for each version")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newWALBench(t, major)
			var position, old string
			b.streamed(func() { b.sql("INSERT INTO ledger VALUES (1, 'before')") }, func() {
				b.sql("INSERT INTO ledger SELECT g, repeat('a', 1000) FROM generate_series(2, 3000) AS g")
				position = b.ask("SELECT pg_current_wal_lsn()::text")
				b.sql("INSERT INTO ledger SELECT g, repeat('b', 1000) FROM generate_series(3001, 5000) AS g")
				old = b.ask(ledgerSum)
			})
			c := b.restoring()
			// The copy goes on in the place of the server, and its WAL is streamed under its name.
			port := c.port()
			c.restore(0, "new", "--to-lsn", position, "--start", "--start-port", port)
			dsn := fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres", b.server.SocketDir(), port)
			conn := testkit.Dial(t, dsn)
			defer testkit.End(conn)
			env, before := b.env, b.conn
			b.env = append(slices.DeleteFunc(slices.Clone(b.env), func(kv string) bool { return strings.HasPrefix(kv, "DATABASE_URL=") }),
				"DATABASE_URL=postgres://postgres@/postgres?sslmode=disable&host="+b.server.SocketDir()+"&port="+port)
			b.conn = conn
			if out, err := exec.Command("chown", "-R", "0:0", b.store).CombinedOutput(); err != nil && os.Geteuid() == 0 {
				t.Fatalf("%v: %s", err, out)
			}
			stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
			b.wantStreaming()
			b.sql("INSERT INTO ledger SELECT -g, repeat('c', 1000) FROM generate_series(1, 3000) AS g")
			now := b.ask(ledgerSum)
			b.wantStored()
			stream.signal(syscall.SIGTERM)
			if r := stream.wait(time.Minute); r.code != 0 {
				t.Fatalf("the stream: exit code %d, %s", r.code, r.stderr)
			}
			b.env, b.conn = env, before
			c = b.restoring()
			for folder, what := range map[string]struct {
				args []string
				want string
			}{
				"latest": {[]string{"--to-end"}, now}, "first": {[]string{"--timeline", "1"}, old}, "second": {[]string{"--timeline", "2"}, now},
			} {
				port := c.port()
				done, _ := c.restore(0, folder, append(what.args, "--start", "--start-port", port)...)
				if got := c.asks(port, ledgerSum); got != what.want {
					t.Errorf("%s: the ledger is %s, want %s (%+v)", folder, got, what.want, done.Plan)
				}
			}
		})
	}
}
