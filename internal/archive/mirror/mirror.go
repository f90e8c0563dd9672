// Package mirror brings the WAL of a cluster into another store, and checks what is stored.
package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// Options say what is copied.
type Options struct {
	// Wants reports whether a segment or a tail is to be in the copy. Nil is all.
	Wants func(archive.Object) bool
	// Jobs is how many objects are copied at once. Zero is 4. Each holds what a Put of the
	// store that is copied to holds.
	Jobs int
}

// Copied says what a copy came to.
type Copied struct {
	// Copied and Kept count objects: those that were written, and those that were there
	// already.
	Copied      int   `json:"copied"`
	Kept        int   `json:"kept"`
	CopiedBytes int64 `json:"copied_bytes"`
}

// Copy brings what another archive lacks of one, sealed as it is: no key is needed. Of
// each epoch the keys come first, then epoch.json, the histories and the rest, so that the
// copy has nothing that could not be opened. Segments come in the order in which they were
// written. Nothing is overwritten: an object that is there with another size is an error of
// KindConflict. Of an epoch that has nothing that is wanted, nothing is copied.
//
// Epochs whose epoch.json is missing or damaged are left out, and are an error of
// KindIntegrity when all others have been copied, but for those that have nothing yet.
func Copy(ctx context.Context, from, to *archive.Archive, o Options) (Copied, error) {
	c := &copying{from: from, to: to, o: o}
	epochs, err := from.Epochs(ctx)
	if err != nil {
		return c.done, err
	}
	var problem error
	for _, id := range epochs {
		err := c.epoch(ctx, id)
		if err != nil && (pgmedic.KindOf(err) != pgmedic.KindIntegrity || ctx.Err() != nil) {
			return c.done, fmt.Errorf("copy the WAL of cluster %d to %s: %w", from.System(), to.Store(), err)
		}
		problem = errors.Join(problem, err)
	}
	return c.done, problem
}

type copying struct {
	from, to *archive.Archive
	o        Options

	mu   sync.Mutex
	done Copied
}

// first is the order in which the kinds of objects are copied.
func first() []archive.Kind {
	return []archive.Kind{
		archive.KindKey, archive.KindEpoch, archive.KindHistory, archive.KindGap, archive.KindSegment,
		archive.KindTail, archive.KindIndex, archive.KindBase, archive.KindOther, archive.KindObservation,
	}
}

// batch is how many objects of an epoch are held in memory, to be copied in order.
const batch = 4096

func (c *copying) epoch(ctx context.Context, id string) error {
	info, err := c.from.Epoch(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		bare, err := c.from.Bare(ctx, id)
		if err != nil || bare {
			return err
		}
		return pgmedic.Errorf(pgmedic.KindIntegrity, "if it is recent, it is being made; else find out what deletes files in the store", "epoch %s of the WAL has no epoch.json and is not copied", id)
	}
	if err != nil {
		return err
	}
	size := wal.SegmentSize(info.SegmentBytes)
	there := map[string]int64{}
	for o, err := range c.to.Objects(ctx, id, size) {
		if err != nil {
			return err
		}
		there[o.Name] = o.SizeBytes
	}
	wanted, err := c.wants(ctx, id, size)
	if err != nil || !wanted {
		return err
	}
	for _, kind := range first() {
		if err := c.kind(ctx, id, size, kind, there); err != nil {
			return err
		}
	}
	return nil
}

// wants reports whether anything of an epoch is wanted: its newest WAL always is, if there
// is nothing that says otherwise.
func (c *copying) wants(ctx context.Context, id string, size wal.SegmentSize) (bool, error) {
	if c.o.Wants == nil {
		return true, nil
	}
	empty := true
	for o, err := range c.from.Objects(ctx, id, size) {
		if err != nil {
			return false, err
		}
		if o.Kind != archive.KindSegment && o.Kind != archive.KindTail {
			continue
		}
		if empty = false; c.o.Wants(o) {
			return true, nil
		}
	}
	return empty, nil
}

// kind copies the objects of an epoch that are of one kind.
func (c *copying) kind(ctx context.Context, id string, size wal.SegmentSize, kind archive.Kind, there map[string]int64) error {
	var todo []archive.Object
	var last archive.Object
	for o, err := range c.from.Objects(ctx, id, size) {
		if err != nil {
			return err
		}
		if o.Kind != kind {
			continue
		}
		if kind == archive.KindObservation {
			last = o // the newest says where the server was; those before it say no more of the copy
			continue
		}
		if (kind == archive.KindSegment || kind == archive.KindTail) && c.o.Wants != nil && !c.o.Wants(o) {
			continue
		}
		if todo = append(todo, o); len(todo) == batch {
			if err := c.all(ctx, todo, there); err != nil {
				return err
			}
			todo = todo[:0]
		}
	}
	if last.Key != "" {
		todo = append(todo, last)
	}
	// epoch.json before what signs it.
	slices.SortStableFunc(todo, func(a, b archive.Object) int { return cmp.Compare(a.Name, b.Name) })
	return c.all(ctx, todo, there)
}

func (c *copying) all(ctx context.Context, objects []archive.Object, there map[string]int64) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(cmp.Or(max(c.o.Jobs, 0), 4))
	for _, o := range objects {
		group.Go(func() error { return c.object(groupCtx, o, there) })
	}
	return group.Wait()
}

func (c *copying) object(ctx context.Context, o archive.Object, there map[string]int64) error {
	if size, is := there[o.Name]; is {
		if size != o.SizeBytes {
			return c.differs(o, size)
		}
		c.count(0, 1, 0)
		return nil
	}
	r, err := c.from.Store().Open(ctx, o.Key, 0, -1)
	if errors.Is(err, store.ErrNotFound) {
		return nil // it was pruned meanwhile
	}
	if err != nil {
		return fmt.Errorf("read %s of epoch %s of the WAL: %w", o.Name, o.Epoch, err)
	}
	put, err := c.to.Store().Put(ctx, c.to.Folder()+o.Epoch+"/"+o.Name, r)
	switch {
	case errors.Is(err, store.ErrExists):
		// Another copy was faster, or an attempt of this one that seemed to fail.
		there, statErr := c.to.Store().Stat(ctx, c.to.Folder()+o.Epoch+"/"+o.Name)
		if err = statErr; err == nil && there.SizeBytes != o.SizeBytes {
			err = c.differs(o, there.SizeBytes)
		}
		c.count(0, 1, 0)
	case err == nil && put.SizeBytes != o.SizeBytes:
		err = c.differs(o, put.SizeBytes)
	case err == nil:
		c.count(1, 0, o.SizeBytes)
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("copy %s of epoch %s of the WAL: %w", o.Name, o.Epoch, err)
	}
	return nil
}

func (c *copying) differs(o archive.Object, size int64) error {
	return pgmedic.Errorf(pgmedic.KindConflict, "find out which of the two is right, with `pgmedic verify --all --deep` on each store; delete the other",
		"%s of epoch %s has %d bytes in %s, and %d in %s", o.Name, o.Epoch, o.SizeBytes, c.from.Store(), size, c.to.Store())
}

func (c *copying) count(copied, kept int, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done.Copied, c.done.Kept, c.done.CopiedBytes = c.done.Copied+copied, c.done.Kept+kept, c.done.CopiedBytes+size
}
