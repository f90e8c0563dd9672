package walstream

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// indexEvery is how long what is known of a segment waits to be stored.
const indexEvery = 10 * time.Minute

// indexing collects what the records of segments say, once those are stored. WAL never
// waits for its index: without that, a plan reads the segments.
type indexing struct {
	mu    sync.Mutex
	lines []wal.Summary
	since time.Time // the oldest line
	// free has an element while nothing is on its way into the store.
	free chan struct{}
}

func newIndexing() *indexing {
	x := &indexing{free: make(chan struct{}, 1)}
	x.free <- struct{}{}
	return x
}

// add takes account of a segment that is stored.
func (x *indexing) add(sum wal.Summary, plain []byte) {
	sum.SHA256 = archive.SegmentSum(plain)
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.lines) == 0 {
		x.since = time.Now()
	}
	x.lines = append(x.lines, sum)
}

// take returns what is due of one object, in order: what fills one, or what there is where
// it has waited for long, or no more comes.
func (x *indexing) take(last bool) (lines []wal.Summary) {
	x.mu.Lock()
	defer x.mu.Unlock()
	slices.SortFunc(x.lines, func(a, b wal.Summary) int { return cmp.Compare(a.Start, b.Start) })
	n := archive.IndexLines(x.lines)
	if n == 0 && (last || time.Since(x.since) >= indexEvery) {
		n = len(x.lines)
	}
	lines = slices.Clone(x.lines[:n])
	x.lines = slices.Delete(x.lines, 0, n)
	return lines
}

// putIndex stores what is due of the index, without waiting for it.
func (a *assembler) putIndex() {
	select {
	case <-a.index.free:
	default:
		return // the one before is on its way
	}
	lines := a.index.take(false)
	if len(lines) == 0 {
		a.index.free <- struct{}{}
		return
	}
	put := a.indexed(lines)
	a.g.Go(func() error {
		put()
		a.index.free <- struct{}{}
		return nil
	})
}

// lastIndex stores what is left of the index.
func (a *assembler) lastIndex() {
	for lines := a.index.take(true); len(lines) > 0; lines = a.index.take(true) {
		a.indexed(lines)()
	}
}

// indexed returns what stores an object of the index. Where that can't be done it is said.
func (a *assembler) indexed(lines []wal.Summary) func() {
	seq := a.r.indexes
	a.r.indexes++
	return func() {
		failpoint.Hit(a.ctx, "wal-before-index")
		err := a.retry(func(ctx context.Context) error { return a.epoch.PutIndex(ctx, seq, lines) })
		failpoint.Hit(a.ctx, "wal-after-index")
		if err != nil {
			a.r.o.Logger.Warn("the index of stored WAL could not be stored: a plan of a recovery reads the segments instead", "segments", len(lines), "error", err)
		}
	}
}
