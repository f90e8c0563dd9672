package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestSQLReaderKept: backups whose list names files that only their parents have are copied with
// these, also from one copy to another, restored over what is there, and pruned from their newest
// end on.
func TestSQLReaderKept(t *testing.T) {
	testkit.OnlyAll(t, "four backups, copies and three restores for each version")
	for _, major := range []int{12, 18} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newWALBench(t, major)
			ids, _ := b.sqlChain()
			k := &keptChain{walBench: b, ids: ids, second: filepath.Join(b.tmp, "second"), third: filepath.Join(b.tmp, "third")}
			k.copies()
			k.deltas()
			k.prunes()
		})
	}
}

// keptChain is a chain of three whose files were read by SQL, and two stores of copies.
type keptChain struct {
	*walBench
	ids           []string
	second, third string
}

// sorted are ids as listed has them: of one second they are in no order of time.
func sorted(ids []string) []string { return slices.Sorted(slices.Values(ids)) }

// listed are the backups of a store, sorted; the first one's if it is empty.
func (k *keptChain) listed(at string) []string {
	k.t.Helper()
	args := []string{"list", "-q"}
	if at != "" {
		args = append(args, "--store", at)
	}
	return idsIn(k.ok(args...))
}

// copies copies the newest of the chain, which brings what that needs; if a member can't be
// copied, nothing is listed that needs it.
func (k *keptChain) copies() {
	k.t.Helper()
	t := k.t
	pack := filepath.Join(k.store, "clinic", "@cluster", k.ids[0], "pack-0001")
	if err := os.Rename(pack, pack+"-away"); err != nil {
		t.Fatal(err)
	}
	if r := k.run("copy", k.ids[2], "--to", k.third); r.code == 0 || !strings.Contains(r.stderr, k.ids[0]) {
		t.Errorf("copy of a chain whose full backup lacks its pack: exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
	if got := storedFiles(t, k.third, "/manifest.json"); len(got) > 0 {
		t.Errorf("copied were %v", got)
	}
	if err := os.Rename(pack+"-away", pack); err != nil {
		t.Fatal(err)
	}
	k.ok("copy", k.ids[2], "--to", k.second)
	k.ok("copy", k.ids[2], "--store", k.second, "--to", k.third)
	for _, at := range []string{k.second, k.third} {
		if got := k.listed(at); !slices.Equal(got, sorted(k.ids)) {
			t.Errorf("%s has %q, want %q", at, got, k.ids)
		}
		if r := k.asReader("verify", "--all", "--deep", "--store", at); r.code != 0 {
			t.Errorf("verify of %s: exit code %d, %s%s", at, r.code, r.stdout, r.stderr)
		}
	}
}

// deltas restores the full backup from the copy of the copy, and then others over it: over a file
// of the chain that was damaged meanwhile, and over a cluster that has been used.
func (k *keptChain) deltas() {
	k.t.Helper()
	t := k.t
	want, still := k.ask(ledgerSum), k.ask(stillSum)
	_, inSpace, _ := strings.Cut(strings.TrimPrefix(k.ask("SELECT pg_relation_filepath('still')"), "pg_tblspc/"), "/")
	c := k.restoring()
	if out, err := exec.CommandContext(t.Context(), "chown", "-R", "--reference="+k.server.DataDir(), k.third).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	moved := filepath.Join(c.place, "moved")
	options := []string{"--to-backup", "--store", k.third, "--tablespace", filepath.Join(k.tmp, "space") + "=" + moved}
	c.restore(0, "data", append([]string{k.ids[0]}, options...)...)
	stray := filepath.Join(c.place, "data", "base", "stray")
	damaged, err := os.OpenFile(filepath.Join(moved, inSpace), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = damaged.WriteAt([]byte("spoilt"), 2*8192+100); err == nil {
		err = damaged.Close()
	}
	if err == nil {
		err = os.WriteFile(stray, []byte("x"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		id, ledger string
	}{{k.ids[2], want}, {k.ids[1], ""}, {k.ids[2], want}} {
		port := c.port()
		done, r := c.restore(0, "data", append([]string{step.id, "--delta", "--start", "--start-port", port}, options...)...)
		if done.Backup != step.id || done.Done == nil || done.Done.State != "cluster" || done.Started == nil || !done.Started.Running {
			t.Fatalf("delta %d: %s%s", i, r.stdout, r.stderr)
		}
		if got := c.asks(port, ledgerSum); step.ledger != "" && got != step.ledger {
			t.Errorf("delta %d: the ledger is %s, want %s", i, got, step.ledger)
		}
		if got := c.asks(port, "SELECT string_agg(note, ' ' ORDER BY n) FROM ledger WHERE n IN (7, 10000)"); step.ledger == "" && got != "first" {
			t.Errorf("delta %d: the rows of the second backup are %s", i, got)
		}
		if got := c.asks(port, stillSum); got != still {
			t.Errorf("delta %d: the table that was not written to is %s, want %s", i, got, still)
		}
		if _, err := os.Stat(stray); !os.IsNotExist(err) {
			t.Errorf("delta %d: what is not of the backup is there: %v", i, err)
		}
		c.stop(done.Started.PID)
	}
}

// prunes deletes the chain once a full backup came after it and was proven, one member in each
// run, and never one that another needs.
func (k *keptChain) prunes() {
	k.t.Helper()
	t := k.t
	if err := os.WriteFile(filepath.Join(k.dir, "pgmedic.yaml"), []byte("retention: {yearly: 1y, last: 1, grace: 0s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	prune := func() string {
		return k.ok("prune", "--yes", "--only", "backups", "--max-share", "100%")
	}
	prune()
	if r := k.run("prune", "--dry-run", "--json", "--only", "backups"); r.code != 0 || strings.Count(r.stdout, k.ids[2]+" needs it") != 1 || strings.Count(r.stdout, k.ids[1]+" needs it") != 1 {
		t.Errorf("prune does not say what keeps the chain: exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
	if got := k.listed(""); !slices.Equal(got, sorted(k.ids)) {
		t.Errorf("after a prune that keeps the newest there are %q, want %q", got, k.ids)
	}
	for _, id := range k.ids[:2] {
		if r := k.run("delete", id, "--yes"); r.code == 0 || !strings.Contains(r.stderr, "need") {
			t.Errorf("delete %s, which another needs: exit code %d, %s%s", id, r.code, r.stdout, r.stderr)
		}
	}
	full, _ := k.physical(0, "--reader", "sql")
	if kind, _ := k.kindOf(full.ID); kind != "full" {
		t.Fatalf("without --incremental it is %s", kind)
	}
	k.undrilled(full.ID, prune)
	before := k.listed("")
	for runs := 0; len(before) > 1; runs++ {
		if runs == 8 {
			t.Fatalf("after %d runs of prune there are %q: %s", runs, before, k.run("prune", "--dry-run", "--json", "--only", "backups").stdout)
		}
		prune()
		now := k.listed("")
		// A member goes only when nothing that needs it is left.
		chain := slices.DeleteFunc(slices.Clone(now), func(id string) bool { return id == full.ID })
		if !slices.Contains(now, full.ID) || !slices.Equal(chain, sorted(k.ids[:len(chain)])) {
			t.Fatalf("run %d left %q of %q", runs, now, before)
		}
		if r := k.asReader("verify", "--all"); r.code != 0 {
			t.Fatalf("verify after run %d: exit code %d, %s%s", runs, r.code, r.stdout, r.stderr)
		}
		before = now
	}
	// What was deleted here is whole in the copies.
	for _, at := range []string{k.second, k.third} {
		if got := k.listed(at); !slices.Equal(got, sorted(k.ids)) {
			t.Errorf("%s has %q, want %q", at, got, k.ids)
		}
	}
}

// undrilled sees that the chain stays until a drill has proven the full backup after it: for prune,
// and for delete unless it is said that it is meant.
func (k *keptChain) undrilled(full string, prune func() string) {
	k.t.Helper()
	t := k.t
	for range 2 {
		prune()
	}
	if got, want := k.listed(""), sorted(append([]string{full}, k.ids...)); !slices.Equal(got, want) {
		t.Fatalf("before a drill of the full backup there are %q, want %q", got, want)
	}
	why := "no backup of the chain of " + full + " is proven yet"
	if r := k.run("delete", k.ids[2], "--yes", "--reason", "a test"); r.code != 14 || !strings.Contains(r.stderr, why) || !strings.Contains(r.stderr, "--newest") {
		t.Errorf("delete of the newest of the chain before: exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
	if r := k.run("delete", k.ids[2], "--dry-run", "--newest", "--reason", "a test"); r.code != 0 {
		t.Errorf("delete of it, if it is meant: exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
	k.reader = append(k.reader, "PGMEDIC_POSTGRES_DIRS="+k.server.BinDir())
	var drilled pgmedic.Receipt
	r := k.asReader("drill", "--at", "latest", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &drilled); r.code != 0 || err != nil || drilled.BackupID != full || drilled.Proof != pgmedic.ProofProven {
		t.Fatalf("drill of the full backup: exit code %d, %v, %s%s", r.code, err, r.stdout, r.stderr)
	}
}
