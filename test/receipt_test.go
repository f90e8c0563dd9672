package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

// receipts are those that show prints, newest last.
func (b *bench) receipts(id string) []pgmedic.Receipt {
	b.t.Helper()
	var shown struct {
		Receipts []pgmedic.Receipt `json:"receipts"`
	}
	if err := json.Unmarshal([]byte(b.ok("show", id, "--json")), &shown); err != nil {
		b.t.Fatal(err)
	}
	slices.SortFunc(shown.Receipts, func(x, y pgmedic.Receipt) int { return x.At.Compare(y.At) })
	return shown.Receipts
}

// TestRestoreReceipts: each says no more than its run has seen. One that goes on
// with the copy of a run that was killed has read no rows.
func TestRestoreReceipts(t *testing.T) {
	b := newBench(t, patients("300")...)
	id := strings.TrimSpace(b.ok("backup", "-q"))
	left := b.database + "__restore_0000beef"
	b.ok("restore", id, "--into", left)
	mustExec(t, "postgres", "COMMENT ON DATABASE "+left+` IS '{"pgmedic":"ready","name":"`+left+`","of":"`+b.database+`","by":"restore","backup":"`+id+`","since":"2026-01-01T00:00:00Z"}'`)
	if out := b.ok("restore", "--resume", "--yes"); !strings.Contains(out, "skipped bytes read") {
		t.Errorf("it does not say what was not read:\n%s", out)
	}
	all := b.receipts(id)
	if len(all) != 2 {
		t.Fatalf("%d receipts", len(all))
	}
	into, resumed := all[0], all[1]
	outside := 0.0 // comparing is no part of the time to recover
	for _, s := range into.Steps {
		if s.Name == "compare" {
			outside += s.Seconds
		}
	}
	if into.Proof != pgmedic.ProofVerified || into.RecoverySeconds == 0 || outside == 0 {
		t.Errorf("the restore that loaded it: %+v", into)
	}
	skipped := slices.ContainsFunc(resumed.Checks, func(c pgmedic.Check) bool { return c.Name == "bytes read" && c.Outcome == pgmedic.OutcomeSkipped })
	if resumed.Proof != pgmedic.ProofTaken || resumed.RecoverySeconds != 0 || !skipped || resumed.Swap == nil {
		t.Errorf("the restore that went on: %+v", resumed)
	}
}

// TestSweepTemp: a backup removes what a run that was killed left in the store
// long ago, and not what one that lives is writing.
func TestSweepTemp(t *testing.T) {
	b := newBench(t, patients("3")...)
	id := strings.TrimSpace(b.ok("backup", "-q"))
	folder := filepath.Dir(b.manifests()[0])
	dead, alive := filepath.Join(folder, store.TempPrefix+"dead"), filepath.Join(folder, store.TempPrefix+"alive")
	gone := filepath.Join(b.store, "server", "other", store.TempPrefix+"dead")
	if err := os.MkdirAll(filepath.Dir(gone), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dead, alive, gone} {
		if err := os.WriteFile(name, []byte("rows"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-25 * time.Hour)
	for _, name := range []string{dead, gone} {
		if err := os.Chtimes(name, long, long); err != nil {
			t.Fatal(err)
		}
	}
	b.ok("verify", id) // which only reads
	if _, err := os.Stat(dead); err != nil {
		t.Error("a verify has removed a file")
	}
	b.ok("backup", "-q")
	for name, want := range map[string]bool{dead: false, gone: false, alive: true, filepath.Dir(gone): false} {
		if _, err := os.Stat(name); (err == nil) != want {
			t.Errorf("%s: %v, want it to be there: %t", name, err, want)
		}
	}
	b.ok("verify", id)
}
