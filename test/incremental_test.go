package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// kindOf says what a backup is, as show does.
func (b *walBench) kindOf(id string) (kind, parent string) {
	b.t.Helper()
	r := b.run("show", "--json", id)
	var got struct {
		Backup struct {
			Physical struct{ Kind, Parent string }
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || r.code != 0 {
		b.t.Fatalf("show %s: exit code %d, %v, %s%s", id, r.code, err, r.stdout, r.stderr)
	}
	return got.Backup.Physical.Kind, got.Backup.Physical.Parent
}

// TestIncremental is the whole way by the command line, on a host that can only write: a chain,
// which is restored and listed as one, and refused where a part of it is gone.
func TestIncremental(t *testing.T) {
	testkit.OnlyAll(t, "it takes PostgreSQL 17 or 18")
	for _, major := range []int{17, 18} {
		t.Run(map[int]string{17: "17", 18: "18"}[major], func(t *testing.T) { incrementalChain(t, major) })
	}
}

func incrementalChain(t *testing.T, major int) {
	b := newWALBench(t, major, map[string]string{"summarize_wal": "on"})
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	b.wantStreaming()
	b.sql("INSERT INTO ledger SELECT g, repeat('x', 200) FROM generate_series(1, 5000) AS g")
	full, stderr := b.physical(0, "--incremental")
	if kind, _ := b.kindOf(full.ID); kind != "full" || !strings.Contains(stderr, "a full backup is taken, not an incremental one") {
		t.Errorf("the first is %s: %s", kind, stderr)
	}
	b.sql("UPDATE ledger SET note = 'first' WHERE n = 7")
	first, stderr := b.physical(0, "--incremental")
	if kind, parent := b.kindOf(first.ID); kind != "incremental" || parent != full.ID {
		t.Fatalf("the second is %s of %q: %s", kind, parent, stderr)
	}
	b.sql("DELETE FROM ledger WHERE n > 4000")
	b.sql("VACUUM ledger")
	b.sql("INSERT INTO ledger VALUES (10000, 'second')")
	second, stderr := b.physical(0, "--incremental", "--max-chain", "3")
	if kind, parent := b.kindOf(second.ID); kind != "incremental" || parent != first.ID {
		t.Fatalf("the third is %s of %q: %s", kind, parent, stderr)
	}
	at := b.ask("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'")
	b.sql("INSERT INTO ledger VALUES (10001, 'third')")
	want := b.ask(ledgerSum)
	third, stderr := b.physical(0, "--incremental", "--max-chain", "3")
	if kind, _ := b.kindOf(third.ID); kind != "full" || !strings.Contains(stderr, "the chain has 3 backups, which is its limit") {
		t.Errorf("the fourth is %s: %s", kind, stderr)
	}
	if r := b.run("backup", "--method", "physical", "--max-chain", "3"); r.code != 2 || !strings.Contains(r.stderr, "--incremental") {
		t.Errorf("--max-chain alone: exit code %d, %s", r.code, r.stderr)
	}
	for _, id := range []string{first.ID, second.ID} {
		if r := b.asReader("verify", id); r.code != 0 {
			t.Errorf("verify %s: exit code %d, %s%s", id, r.code, r.stdout, r.stderr)
		}
	}
	if r := b.asReader("show", second.ID); !strings.Contains(r.stdout, "incremental, number 3 of a chain; needs backup "+first.ID) {
		t.Errorf("show: %s", r.stdout)
	}
	b.wantStored()
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		t.Fatalf("the stream: exit code %d, %s", r.code, r.stderr)
	}
	b.reader = append(b.reader, "PGMEDIC_POSTGRES_DIRS="+b.server.BinDir())
	var drilled pgmedic.Receipt
	r := b.asReader("drill", "--at", at, "--json")
	if err := json.Unmarshal([]byte(r.stdout), &drilled); r.code != 0 || err != nil || drilled.BackupID != second.ID || drilled.Proof != pgmedic.ProofProven || drilled.PITR == nil {
		t.Errorf("drill of a moment from a chain: exit code %d, %v, %s%s", r.code, err, r.stdout, r.stderr)
	}
	if p := drilled.PITR; p == nil || !slices.Equal(p.Chain, []string{second.ID, first.ID, full.ID}) {
		t.Errorf("the drill read %+v, want %s, %s and %s", p, second.ID, first.ID, full.ID)
	}
	c := b.restoring()
	port := c.port()
	done, r := c.restore(0, "chain", second.ID, "--start", "--start-port", port)
	if done.Backup != second.ID || done.Started == nil || !done.Started.Running {
		t.Fatalf("restore: %s", r.stdout)
	}
	if got := c.asks(port, ledgerSum); got != want {
		t.Errorf("the ledger is %s, want %s", got, want)
	}
	// A part that is gone, and one whose bytes are not its own.
	folder := filepath.Join(b.store, "clinic", "@cluster", first.ID)
	if err := os.Rename(folder, folder+"-away"); err != nil {
		t.Fatal(err)
	}
	_, r = c.restore(11, "broken", second.ID, "--to-backup")
	if !strings.Contains(r.stderr, "needs backup "+first.ID) || strings.Count(strings.TrimSpace(r.stderr), "\n") > 1 {
		t.Errorf("without its parent: %s", r.stderr)
	}
	if _, err := os.Stat(filepath.Join(c.place, "broken", "global", "pg_control")); !os.IsNotExist(err) {
		t.Errorf("what is restored without a parent can be started: %v", err)
	}
	// What can't be restored is not what latest means.
	if done, r := c.restore(0, "latest", "--to-backup"); done.Backup != third.ID {
		t.Errorf("latest without a whole chain is %s: %s", done.Backup, r.stdout)
	}
}

// incrementalPoints are the named places of an incremental backup alone.
func incrementalPoints() []string { return []string{"incremental-chosen", "incremental-begun"} }

// TestIncrementalKilled: killed at each step, an incremental backup is there or not, the next one
// is of a chain that is whole, and what is restored from it is what the server has.
func TestIncrementalKilled(t *testing.T) {
	testkit.OnlyAll(t, "it takes PostgreSQL 17, builds the program with failpoints, and takes two backups for each")
	b := newWALBench(t, replication.FirstIncremental, map[string]string{"summarize_wal": "on"})
	plain, env := b.program, b.env
	b.sql("INSERT INTO ledger SELECT g, repeat('x', 200) FROM generate_series(1, 2000) AS g")
	last, _ := b.physical(0, "--incremental")
	points := slices.Concat(incrementalPoints(), physicalPoints())
	slices.Reverse(points) // so that a chain is what is left
	for i, point := range points {
		b.sql("UPDATE ledger SET note = $1 WHERE n % 40 = $2", point, i)
		b.sql("DELETE FROM ledger WHERE n = $1", 1000+i)
		b.program, b.env = mortal(t), append(slices.Clone(env), "PGMEDIC_FAILPOINT=kill:"+point)
		r := b.run("backup", "--method", "physical", "--incremental", "--max-chain", "30")
		b.program, b.env = plain, env
		if r.code == 0 {
			t.Fatalf("%s: it was not killed: %s%s", point, r.stdout, r.stderr)
		}
		testkit.Eventually(t, time.Minute, "the server has let go", func() bool {
			return b.ask("SELECT count(*)::text FROM pg_replication_slots") == "0"
		})
		next, stderr := b.physical(0, "--incremental", "--max-chain", "30")
		kind, parent := b.kindOf(next.ID)
		wantKind, wantParent := "incremental", last.ID
		if point == "physical-committed" { // it is there, and this host has not kept its manifest
			wantKind, wantParent = "full", ""
		}
		if kind != wantKind || parent != wantParent {
			t.Errorf("%s: the next one is %s of %q, want %s of %q: %s", point, kind, parent, wantKind, wantParent, stderr)
		}
		last = next
	}
	if r := b.asReader("verify", "--all"); r.code != 0 {
		t.Errorf("verify: exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
	b.reader = append(b.reader, "PGMEDIC_POSTGRES_DIRS="+b.server.BinDir())
	c := b.restoring()
	port := c.port()
	done, r := c.restore(0, "killed", last.ID, "--to-backup", "--start", "--start-port", port)
	if done.Backup != last.ID || done.Started == nil || !done.Started.Running {
		t.Fatalf("restore: %s", r.stdout)
	}
	if got, want := c.asks(port, ledgerSum), b.ask(ledgerSum); got != want {
		t.Errorf("the ledger is %s, want %s", got, want)
	}
}
