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
// is restored and checked, and a database backed up and restored, over those that there are.
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
	id := strings.TrimSpace(b.ok("backup", "-q", "--jobs", "20"))
	b.ok("restore", id, "--into", "again", "--jobs", "20", "--yes")
}
