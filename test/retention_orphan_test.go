package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
)

// TestPruneOrphans: what a dead run left is marked and deleted; that of one that lives is
// left alone.
func TestPruneOrphans(t *testing.T) {
	b := newBench(t, "CREATE TABLE public.visits AS SELECT generate_series(1, 500) AS id")
	if err := os.WriteFile(filepath.Join(b.dir, "pgmedic.yaml"), []byte("retention: {grace: 0s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	newest, old := b.history(3)
	folder := folderOf(t, b.store, old[0])
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	yesterday := time.Now().Add(-30 * time.Hour)
	for _, file := range files {
		switch name := filepath.Base(file); {
		case strings.HasPrefix(name, "manifest"), strings.EqualFold(strings.TrimSuffix(name, filepath.Ext(name)), "recover"):
			err = os.Remove(file)
		default:
			err = os.Chtimes(file, yesterday, yesterday)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	target, err := postgres.ParseTarget(server.URL(b.database))
	if err != nil {
		t.Fatal(err)
	}
	lock, err := databases.AcquireRunLock(t.Context(), target, "postgres", b.database)
	if err != nil {
		t.Fatal(err)
	}
	if out := b.ok("prune", "--yes", "--only", "backups", "--dry-run"); !strings.Contains(out, "a run is at work on database "+b.database) {
		t.Errorf("it says\n%s", out)
	}
	lock.Release(t.Context())
	for _, want := range []string{"marked  ", "deleted "} {
		if out := b.ok("prune", "--yes", "--only", "backups"); !strings.Contains(out, want) || !strings.Contains(out, filepath.Base(folder)) {
			t.Errorf("it says\n%s", out)
		}
	}
	if folderOf(t, b.store, old[0]) != "" || folderOf(t, b.store, newest) == "" {
		t.Error("the wrong folder is left")
	}
}
