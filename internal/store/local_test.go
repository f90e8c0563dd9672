package store_test

import (
	"os"
	"testing"

	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// newLocal returns an empty store in a folder of its own.
func newLocal(t testing.TB) (*store.Local, string) {
	t.Helper()
	dir := t.TempDir()
	return openLocal(t, dir), dir
}

// openLocal returns the store in dir.
func openLocal(t testing.TB, dir string) *store.Local {
	t.Helper()
	l, err := store.NewLocal(store.LocalOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestLocalConforms(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		l, _ := newLocal(t)
		return l
	})
}

// TestLocalWithoutLinksConforms runs the suite as on a file system that has no
// hard links, and in memory where there is such a folder: another file system
// than that of the other run, and a quick one.
func TestLocalWithoutLinksConforms(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		dir, err := os.MkdirTemp("/dev/shm", "pgmedic-store-") //nolint:usetesting // in memory, not in the folder of tests
		if err != nil {
			dir = t.TempDir()
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		l := openLocal(t, dir)
		if !store.ForbidLinks(l) {
			testkit.Elsewhere(t, "no rename without replacing here")
		}
		return l
	})
}
