package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// TestFewConnections: where the server has fewer connections left than --jobs asks for, a dump
// is restored and checked, and a database backed up and restored, over those that there are,
// which warnings say.
func TestFewConnections(t *testing.T) {
	b := newBench(t, patients("2000")...)
	if err := os.WriteFile(filepath.Join(b.dir, "clinic.dump"), b.dumped(), 0o600); err != nil {
		t.Fatal(err)
	}
	small := scratchtest.New(t, scratch.Options{Settings: map[string]string{"max_connections": "8"}})
	b.env = append(b.env, "DATABASE_URL="+small.URL("postgres"))
	out := b.ok("restore", "--file", "clinic.dump", "--into", "copy", "--jobs", "20", "--yes")
	for _, want := range []string{"row counts  2,000 rows", "B-trees are sound", "tables and their TOAST are sound"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	b.env = append(b.env, "DATABASE_URL="+small.URL("copy"))
	for _, run := range []struct {
		args  []string
		words string
	}{
		{[]string{"backup", "--jobs", "20"}, "the server has few connections left: the backup takes longer"},
		{[]string{"restore", "latest", "--into", "again", "--jobs", "20", "--yes"}, "the server has few connections left: the restore takes longer"},
	} {
		if r := b.run(run.args...); r.code != 0 || strings.Count(r.stderr, run.words) != 1 || !strings.Contains(r.stderr, "asked=20") {
			t.Errorf("%s: exit code %d, want one warning %q:\n%s", run.args[0], r.code, run.words, r.stderr)
		}
	}
	// With as many as are there, nothing is said.
	for _, args := range [][]string{{"backup", "--jobs", "1"}, {"restore", "latest", "--into", "once more", "--jobs", "1", "--yes"}} {
		if r := b.run(args...); r.code != 0 || strings.Contains(r.stderr, "few connections") {
			t.Errorf("%s: exit code %d:\n%s", args[0], r.code, r.stderr)
		}
	}
}
