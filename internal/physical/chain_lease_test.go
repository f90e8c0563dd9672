package physical_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestParentDeletedMeanwhile: no listing says that a backup needs another one before it is
// committed, so what it needs is announced first, and looked at again before the commit.
func TestParentDeletedMeanwhile(t *testing.T) {
	testkit.OnlyAll(t, "it takes PostgreSQL 17 and 18")
	scratchtest.EachCompleteFrom(t, replication.FirstIncremental, func(t *testing.T, installation scratch.Installation) {
		b := newChainBench(t, scratch.Options{Major: installation.Major, BinDir: installation.BinDir})
		mark := func(of *pgmedic.Backup) {
			err := b.o.Catalog.Mark(t.Context(), catalog.Folder("clinic", "", of.ID), catalog.Mark{At: b.o.Now(), Reason: "a test"})
			if err != nil {
				t.Error(err)
			}
		}
		first, second := b.take(), b.take()
		var told []string
		released := 0
		b.o.Incremental.Reading = func(_ context.Context, needed []*pgmedic.Backup) func() {
			told = nil
			for _, m := range needed {
				told = append(told, m.ID)
			}
			return func() { released++ }
		}
		third := b.take()
		if want := []string{second.ID, first.ID}; !slices.Equal(told, want) || released != 1 || third.Physical.Parent != second.ID {
			t.Errorf("told of %v, want %v; released %d times; %+v", told, want, released, third.Physical)
		}

		// Deleted while it is taken, in spite of what was said.
		manifest := b.o.Incremental.Manifest
		b.o.Incremental.Manifest = func(ctx context.Context, m *pgmedic.Backup) (r io.ReadCloser, err error) {
			r, err = manifest(ctx, m)
			mark(first)
			return r, err
		}
		before := len(b.all())
		_, err := physical.Take(t.Context(), b.o)
		if pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(err.Error(), "backup "+first.ID+", which this one needs, was deleted meanwhile") || len(b.all()) != before || released != 2 {
			t.Errorf("%v; %d backups, %d before; released %d times", err, len(b.all()), before, released)
		}

		// Deleted before it was said.
		b.o.Incremental.Manifest = manifest
		whole := b.take()
		if whole.Physical.Kind != pgmedic.PhysicalFull {
			t.Fatalf("%+v", whole.Physical)
		}
		b.o.Incremental.Reading = func(context.Context, []*pgmedic.Backup) func() {
			mark(whole)
			return func() { released++ }
		}
		if m := b.take(); m.Physical.Kind != pgmedic.PhysicalFull || m.Physical.Parent != "" || released != 3 {
			t.Errorf("%+v; released %d times", m.Physical, released)
		}
	})
}
