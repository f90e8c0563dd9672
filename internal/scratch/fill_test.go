package scratch_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch"
)

// TestFill: a cluster that was not made here runs in a cage alone, and when it can't be put
// there, or is none, nothing is left.
func TestFill(t *testing.T) {
	parent, err := os.MkdirTemp("", "fill-") //nolint:usetesting // the server's user must be able to enter it
	if err == nil {
		err = os.Chmod(parent, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(parent) })
	failed := errors.New("it can't be put there")
	fill := func(_ context.Context, f scratch.Filling) error {
		for _, dir := range []string{f.DataDir, f.TablespacesDir, f.WALDir} {
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
				t.Errorf("%s has %v, %v", dir, entries, err)
			}
		}
		if rel, err := filepath.Rel(f.DataDir, f.WALDir); err != nil || rel != scratch.WALFolder {
			t.Errorf("the WAL is at %s, %v", rel, err)
		}
		return failed
	}
	if _, err := scratch.Start(t.Context(), scratch.Options{Parent: parent, Fill: fill}); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("without a cage: %v", err)
	}
	if _, err := scratch.Start(t.Context(), scratch.Options{Parent: parent, Fill: fill, Cage: &scratch.Cage{}}); !errors.Is(err, failed) {
		t.Errorf("the error of what fills: %v", err)
	}
	empty := func(context.Context, scratch.Filling) error { return nil }
	_, err = scratch.Start(t.Context(), scratch.Options{Parent: parent, Fill: empty, Cage: &scratch.Cage{}})
	if !errors.Is(err, scratch.ErrEnded) || scratch.LogOf(err) == "" {
		t.Errorf("without a cluster: %v, %q", err, scratch.LogOf(err))
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
