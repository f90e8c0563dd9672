package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// mergePoints are the named places of a restore of a chain.
func mergePoints() []string {
	return []string{"merge-member", "merge-merged", "cluster-chunk", "cluster-written", "cluster-before-control", "cluster-finished", "cluster-recovering"}
}

// replayPoints are those of a private server that recovers.
func replayPoints() []string { return []string{"scratch-recovering"} }

// noServers waits until no process works below a folder: a server that lost its parent stops.
func (b *walBench) noServers(dir string) {
	b.t.Helper()
	testkit.Eventually(b.t, time.Minute, "no server works below "+dir, func() bool {
		found, err := filepath.Glob("/proc/[0-9]*/cwd")
		if err != nil {
			b.t.Fatal(err)
		}
		return !slices.ContainsFunc(found, func(link string) bool {
			at, err := os.Readlink(link) // an error is another user's, or has ended
			return err == nil && strings.HasPrefix(at+string(filepath.Separator), dir+string(filepath.Separator))
		})
	})
}

// TestRestoreChainKilled: a restore of a chain that is killed, while it merges or writes, leaves
// nothing that starts before all of it is there, and the next one makes the right cluster of it.
func TestRestoreChainKilled(t *testing.T) {
	testkit.OnlyAll(t, "it takes PostgreSQL 17, builds the program with failpoints, and takes two restores for each of its places")
	b := newWALBench(t, replication.FirstIncremental, map[string]string{"summarize_wal": "on"})
	b.sql("INSERT INTO ledger SELECT g, repeat('x', 1000) FROM generate_series(1, 5000) AS g")
	b.physical(0, "--incremental")
	b.sql("UPDATE ledger SET note = 'changed' WHERE n % 10 = 0")
	b.sql("DELETE FROM ledger WHERE n > 4500")
	row, stderr := b.physical(0, "--incremental")
	if kind, _ := b.kindOf(row.ID); kind != "incremental" {
		t.Fatalf("the second is %s: %s", kind, stderr)
	}
	want := b.ask(ledgerSum)
	c := b.restoring()
	plain := c.program
	killed := filepath.Join(c.tmp, "pgmedic-failpoint")
	if err := os.WriteFile(killed, readFile(t, mortal(t)), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, point := range mergePoints() {
		dir, env, stored := filepath.Join(c.place, point), c.reader, sumsWithoutLeases(t, c.store)
		c.program, c.reader = killed, append(slices.Clone(env), "PGMEDIC_FAILPOINT=kill:"+point)
		r := c.asReader("restore", row.ID, "--yes", "--target-dir", dir, "--to-backup", "--start", "--start-port", c.port())
		c.program, c.reader = plain, env
		if r.code != -1 {
			t.Fatalf("%s: exit code %d: %s%s", point, r.code, r.stdout, r.stderr)
		}
		_, err := os.Stat(filepath.Join(dir, "global", "pg_control"))
		if whole := slices.Contains([]string{"cluster-finished", "cluster-recovering"}, point); whole != (err == nil) {
			t.Errorf("%s: what is left can be started: %t, %v", point, err == nil, err)
		}
		if is := sumsWithoutLeases(t, c.store); fmt.Sprint(is) != fmt.Sprint(stored) {
			t.Errorf("%s: the store is not as it was", point)
		}
		c.noServers(dir)
		port := c.port()
		done, _ := c.restore(0, point, row.ID, "--to-backup", "--delta", "--start", "--start-port", port)
		if got := c.asks(port, ledgerSum); got != want {
			t.Errorf("%s: then the ledger is %s, want %s", point, got, want)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "global", "pg_control?*")); err != nil || len(left) > 0 {
			t.Errorf("%s: %v are left, %v", point, left, err)
		}
		c.end(done.Started.PID, syscall.SIGQUIT) // nothing of it is needed
	}
	if is := b.ask(ledgerSum); is != want {
		t.Errorf("the live server has %s, want %s", is, want)
	}
}

// sumsWithoutLeases are the hashes of what is stored, without the leases of those that read it.
func sumsWithoutLeases(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := sums(t, dir)
	for name := range all {
		if strings.HasPrefix(filepath.Base(name), "lease-") {
			delete(all, name)
		}
	}
	return all
}
