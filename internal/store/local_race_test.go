package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
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

// TestLocalPutAndDelete: an object that another host deletes at once, with the folder that this
// leaves empty, was put all the same. Where the whole folder of the store has gone, it was not.
func TestLocalPutAndDelete(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	a, b := openLocal(t, dir), openLocal(t, dir)
	store.AfterLink(a, func() {
		// What a Put has beside its object until it ends keeps the folder.
		left, err := filepath.Glob(filepath.Join(dir, "x", "y", store.TempPrefix+"*"))
		for _, file := range left {
			err = errors.Join(err, os.Remove(file))
		}
		if err = errors.Join(err, b.Delete(t.Context(), "x/y/z")); err != nil || len(left) != 1 {
			t.Errorf("%v, %q", err, left)
		}
	})
	if o, err := a.Put(t.Context(), "x/y/z", strings.NewReader("x")); err != nil || o.SizeBytes != 1 {
		t.Errorf("%+v, %v", o, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	store.AfterLink(a, func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if _, err := a.Put(t.Context(), "x/y/z", strings.NewReader("x")); pgmedic.KindOf(err) != pgmedic.KindUnreachable {
		t.Errorf("into a folder that has gone: %v", err)
	}
}
