package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// races is how often eight Puts of one key race.
func races() int { return testkit.Amount(10, 100, 100) }

// TestLocalRace: of eight Puts of one key, of two hosts, exactly one wins, small and
// larger than what is flushed at once, with hard links and without; and no file of the
// others stays.
func TestLocalRace(t *testing.T) {
	for name, prepare := range map[string]func(*store.Local) bool{"links": func(*store.Local) bool { return true }, "no links": store.ForbidLinks} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a, b := openLocal(t, dir), openLocal(t, dir)
			if !prepare(a) || !prepare(b) {
				testkit.Elsewhere(t, "no rename without replacing here")
			}
			storetest.Race(t, storetest.Hosts(a, b), races(), 1000, 1000, 1000, 9<<20)
			files, err := os.ReadDir(filepath.Join(dir, "race"))
			if err != nil || len(files) != races() {
				t.Errorf("%d files of %d objects, %v", len(files), races(), err)
			}
		})
	}
}
