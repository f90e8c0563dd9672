package walstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	// queued is how many messages wait to be put together: up to 16 MiB.
	queued = 128
	// tick is how often a stream that waits looks whether there is something to say.
	tick = 100 * time.Millisecond
	// statusEvery is how often the server hears from us though nothing has changed: well
	// within any wal_sender_timeout, which is 60 seconds unless it is set.
	statusEvery = 2 * time.Second
)

// pump is one stream on its way into the store.
type pump struct {
	r     *runner
	size  wal.SegmentSize
	epoch *archive.Epoch
	tli   wal.Timeline
	// observes is true where the server's messages say how far its WAL is, and somebody
	// goes on streaming it, as a Range does not: it is not a standby, and this is its timeline.
	observes bool
	// known is what is stored already of what comes, by segment.
	known map[wal.LSN][]archive.Part
	free  chan []byte // buffers of segments
	// from is where the stream began: from there on all up to progress.Stored is stored.
	from wal.LSN

	mu       sync.Mutex
	progress Progress
	seen     wal.Observation
	// newest is the furthest that the server is known to have been.
	newest wal.LSN
	// hurry is true where the server waits for what it has sent to be stored.
	hurry bool
}

// received is WAL of one message.
type received struct {
	from wal.LSN
	data []byte
}

// pump moves WAL until the timeline ends; it returns the one that follows, or 0 where the
// server only stopped.
func (r *runner) pump(ctx context.Context, stream *replication.Stream, system replication.System, begin archive.Resume) (wal.Timeline, error) {
	p := r.newPump(system, begin)
	next, err := p.move(ctx, func(both context.Context, work chan<- received) (wal.Timeline, error) {
		return p.receive(ctx, both, stream, work)
	})
	if err == nil || errors.Is(err, errRotate) {
		_ = stream.Send(p.status(false)) // the server may be gone
	}
	return next, err
}

func (r *runner) newPump(system replication.System, begin archive.Resume) *pump {
	n := uploads(system.SegmentSize)
	r.commits.begin(begin.Timeline, begin.From)
	p := &pump{
		r: r, size: system.SegmentSize, epoch: r.epoch, tli: begin.Timeline, free: make(chan []byte, n+1),
		observes: r.until == nil && begin.Timeline == system.Timeline && !system.Standby, newest: system.Flushed, known: r.known,
		from: begin.From, progress: NewProgress(begin.From).Store(begin.From, begin.Until),
	}
	for range n + 1 {
		p.free <- nil
	}
	r.reachedStore(p.tli, p.from, begin.Until)
	return p
}

// move stores what receive puts into work, until that returns.
func (p *pump) move(ctx context.Context, receive func(both context.Context, work chan<- received) (wal.Timeline, error)) (wal.Timeline, error) {
	// What has arrived is stored also when ctx has ended, within a time.
	storing, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	defer context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(flushTimeout, func() { stop(errNotStored) })
		context.AfterFunc(storing, func() { timer.Stop() })
	})()
	work := make(chan received, queued)
	var next wal.Timeline
	var problem error
	g, both := errgroup.WithContext(storing)
	g.Go(func() error { return p.store(both, p.from, work) })
	g.Go(func() error {
		defer close(work)
		// What arrived before a connection broke is stored all the same: the server may
		// never come back.
		next, problem = receive(both, work)
		return nil
	})
	if err := g.Wait(); err != nil {
		if done(ctx) && !errors.Is(err, errNotStored) && !errors.Is(err, errDiffers) {
			err = fmt.Errorf("%w: %w", errNotStored, err)
		}
		return 0, err
	}
	return next, problem
}

// receive reads the stream, and tells the server how far we are, also when nothing can be
// taken at the moment: a server that hears nothing ends the connection.
func (p *pump) receive(ctx, both context.Context, stream *replication.Stream, work chan<- received) (wal.Timeline, error) {
	now := time.Now()
	heard, told, asked := now.Add(-p.r.o.MaxDelay), time.Time{}, time.Time{} // it is asked at once
	last := wal.LSN(0)
	tell := func(reply bool) error {
		status := p.status(reply)
		failpoint.Hit(both, "wal-before-status")
		told, last = time.Now(), status.Flushed
		return stream.Send(status)
	}
	for {
		if done(ctx) || done(both) { // the other one says why
			return 0, nil
		}
		if p.r.until == nil && p.r.o.Now().Sub(p.r.began) >= epochAge {
			return 0, errRotate
		}
		if p.reached() {
			return 0, nil
		}
		now = time.Now()
		ask := now.Sub(heard) >= p.r.o.MaxDelay && now.Sub(asked) >= p.r.o.MaxDelay
		if ask {
			asked = now
		}
		if p.status(false).Flushed != last || now.Sub(told) >= statusEvery || ask {
			if err := tell(ask); err != nil {
				return 0, err
			}
		}
		if now.Sub(heard) > p.r.o.silence+p.r.o.MaxDelay {
			return 0, pgmedic.Errorf(pgmedic.KindUnreachable, "check the server and the network", "the server has been silent for %s", words.Duration(now.Sub(heard)))
		}
		wait, cancel := context.WithTimeout(ctx, tick)
		m, err := stream.Receive(wait)
		timedOut := err != nil && wait.Err() != nil
		cancel()
		if timedOut {
			continue
		}
		if err != nil {
			return 0, err
		}
		if m.Ended {
			return m.Next, nil
		}
		heard = time.Now()
		if err := p.note(m); err != nil {
			return 0, err
		}
		if m.Data == nil {
			if m.Reply {
				if err := tell(false); err != nil {
					return 0, err
				}
			}
			continue
		}
		chunk := received{m.From, bytes.Clone(m.Data)}
		failpoint.Hit(both, "wal-received")
		for sent := false; !sent; {
			select {
			case work <- chunk:
				// A store that is away does not make the server silent.
				sent, heard = true, time.Now()
			case <-both.Done():
				return 0, nil
			case <-time.After(statusEvery):
				if err := tell(false); err != nil {
					return 0, err
				}
			}
		}
	}
}

func done(ctx context.Context) bool { return ctx.Err() != nil }

// note takes account of a message.
func (p *pump) note(m replication.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	// A message without WAL has the position up to which WAL was sent, which can be less
	// than the server has written.
	if p.observes && !m.ServerTime.IsZero() && m.ServerEnd >= p.newest {
		p.newest = m.ServerEnd
		p.seen = wal.Observation{Time: m.ServerTime, Timeline: p.tli, LSN: m.ServerEnd}
	}
	// A server that stops waits until what it has sent is stored.
	p.hurry = p.hurry || m.Reply && m.Data == nil && m.ServerEnd == p.progress.Received
	if m.Data == nil {
		return nil
	}
	if m.From != p.progress.Received {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "", "the server sent WAL from %v, and %v was to come", m.From, p.progress.Received)
	}
	p.progress.Received += wal.LSN(len(m.Data))
	p.r.total += int64(len(m.Data))
	return nil
}

// status is what the server receives.
func (p *pump) status(reply bool) replication.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return replication.Status{Written: max(p.progress.Received, p.progress.Stored), Flushed: p.progress.Stored, Reply: reply, Now: p.r.o.Now()}
}

// store puts messages, which begin at a position, together to segments, and stores those
// and their tails, until work ends.
func (p *pump) store(ctx context.Context, from wal.LSN, work <-chan received) error {
	g, both := errgroup.WithContext(ctx)
	g.SetLimit(cap(p.free) - 1)
	a := &assembler{pump: p, ctx: both, g: g, tailed: make(chan struct{}, 1), index: newIndexing()}
	a.tailed <- struct{}{}
	var err error
	if a.walker, err = wal.NewIndexer(p.tli, wal.WalkerOptions{Start: from, SegmentSize: p.size}, a.event); err != nil {
		return err
	}
	err = a.run(work)
	err = errors.Join(g.Wait(), err)
	a.ctx = ctx // the other one ends with the group
	a.lastIndex()
	return err
}

// assembler has the segment that is being received.
type assembler struct {
	*pump
	ctx context.Context //nolint:containedctx // that of one call of store
	g   *errgroup.Group

	segment []byte // what has arrived of the current segment
	start   wal.LSN
	stored  int // how much of it is in tails, or on its way
	since   time.Time
	// tailed has an element while no tail is on its way.
	tailed chan struct{}
	// walker finds base backups, which are rare, and what the index has. Where it stops the
	// WAL is stored all the same.
	walker *wal.Indexer
	bases  []wal.Base
	index  *indexing
	// sum is what the records of the segment say that is whole, and unread is true where
	// some of the current one could not be read.
	sum    wal.Summary
	unread bool
	// parts are those of the current segment that are still to be compared, and same is
	// true once all of it is known to be stored.
	parts []archive.Part
	same  bool
}

func (a *assembler) event(e wal.Event) {
	switch {
	case e.Kind == wal.BaseBackupEnd && e.From < e.End:
		a.bases = append(a.bases, wal.Base{Timeline: a.tli, Start: e.From, Stop: e.End})
	case e.Committed():
		a.r.commits.add(e.Start, e.End, e.Time)
	}
}

func (a *assembler) run(work <-chan received) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case chunk, ok := <-work:
			if !ok {
				return a.finish()
			}
			if err := a.take(chunk); err != nil {
				return err
			}
		case <-ticker.C:
		case <-a.ctx.Done():
			return context.Cause(a.ctx)
		}
		if err := a.due(); err != nil {
			return err
		}
	}
}

// take adds WAL to its segment.
func (a *assembler) take(chunk received) error {
	for b := chunk.data; len(b) > 0; {
		if a.segment == nil {
			if err := a.begin(a.size.Start(chunk.from)); err != nil {
				return err
			}
		}
		n := min(len(b), int(a.size)-len(a.segment))
		if err := a.walk(b[:n]); err != nil {
			return err
		}
		if a.stored == len(a.segment) {
			a.since = time.Now()
		}
		a.segment, b = append(a.segment, b[:n]...), b[n:]
		chunk.from += wal.LSN(n)
		if err := a.compare(); err != nil {
			return err
		}
		if len(a.segment) == int(a.size) {
			a.putSegment()
		}
	}
	return nil
}

// walk finds the base backups of which WAL of the current segment says that they ended.
func (a *assembler) walk(b []byte) error {
	if len(a.segment) == 0 && a.unread {
		a.r.commits.forget(a.start)
		a.unread = false
	}
	_, _ = a.walker.Write(b) // which never fails
	done := a.walker.Done()
	stop := a.walker.Stopped()
	if len(done) > 0 { // the last bytes of the segment
		a.sum = done[len(done)-1]
		stop = a.sum.Stopped
	}
	switch {
	case stop == nil:
		a.r.commits.read(a.walker.Position())
	case !a.r.stopped:
		a.r.stopped = true
		a.r.o.Logger.Warn("WAL could not be read on the way to the store, where it goes all the same: a base backup that ended there is not noted", "problem", stop.String())
	}
	a.unread = stop != nil
	for _, base := range a.bases {
		// Before the WAL that says so: after a kill it is found again.
		if err := a.retry(func(ctx context.Context) error { return a.epoch.PutBase(ctx, base) }); err != nil {
			return err
		}
		a.r.sightings.hasten()
	}
	a.bases = a.bases[:0]
	return nil
}

// compare compares what has come again of the current segment with what is stored: a
// server that was set back writes something else.
func (a *assembler) compare() error {
	left := a.parts[:0]
	for _, p := range a.parts {
		if p.To > a.start+wal.LSN(len(a.segment)) {
			left = append(left, p)
			continue
		}
		if !p.Is(a.segment[p.From-a.start : p.To-a.start]) {
			return pgmedic.Errorf(pgmedic.KindConflict, "if the server was set back to an earlier state, or is a copy of another, give it a name of its own (--server) and take a base backup",
				"compare WAL of timeline %d from %v to %v: %w", a.tli, p.From, p.To, errDiffers)
		}
		a.same = a.same || p.From == a.start && p.To == a.start+wal.LSN(a.size)
	}
	a.parts = left
	return nil
}

// begin waits for a buffer: where the store is slow this is where the stream waits.
func (a *assembler) begin(at wal.LSN) error {
	select {
	case b := <-a.free:
		if b == nil {
			b = make([]byte, 0, a.size)
		}
		a.segment, a.start, a.stored = b[:0], at, 0
		a.parts, a.same = slices.Clone(a.known[at]), false
		return nil
	case <-a.ctx.Done():
		return context.Cause(a.ctx)
	}
}

func (a *assembler) putSegment() {
	plain, at, sum := a.segment, a.start, a.sum
	a.segment = nil
	if a.same {
		a.isStored(at, at+wal.LSN(a.size))
		a.index.add(sum, plain)
		a.free <- plain
		return
	}
	a.g.Go(func() error {
		failpoint.Hit(a.ctx, "wal-before-segment")
		err := a.retry(func(ctx context.Context) error {
			return a.epoch.PutSegment(ctx, wal.Segment{Timeline: a.tli, Start: at}, plain)
		})
		failpoint.Hit(a.ctx, "wal-after-segment")
		if err == nil {
			a.isStored(at, at+wal.LSN(a.size))
			a.index.add(sum, plain)
		}
		a.free <- plain
		return err
	})
}

// isStored takes account of what is stored.
func (p *pump) isStored(from, to wal.LSN) {
	p.mu.Lock()
	p.progress = p.progress.Store(from, to)
	stored := p.progress.Stored
	p.mu.Unlock()
	p.r.reachedStore(p.tli, p.from, stored)
}

// due stores what is due: a tail, and how far the server is.
func (a *assembler) due() error {
	a.mu.Lock()
	hurry, seen := a.hurry, a.seen
	a.hurry = false
	stored, newest := a.progress.Stored, max(a.newest, a.progress.Received)
	a.mu.Unlock()
	if a.r.until == nil { // a Range, and what a spool has, is not all that the server writes
		a.r.watch.position(stored, newest)
	}
	if a.segment != nil && len(a.segment) > a.stored && (hurry || time.Since(a.since) >= a.r.o.MaxDelay) {
		select {
		case <-a.tailed:
			a.putTail()
		default: // the one before is not stored yet
		}
	}
	if a.r.sightings.due(seen, stored, time.Now()) {
		a.putSeen(seen)
	}
	a.putIndex()
	return nil
}

// putTail stores what has arrived of the segment since the last tail.
func (a *assembler) putTail() {
	from, at, plain := a.stored, a.start, a.segment[a.stored:len(a.segment):len(a.segment)]
	plain = bytes.Clone(plain) // the buffer may be used again before this is stored
	a.stored = len(a.segment)
	a.g.Go(func() error {
		failpoint.Hit(a.ctx, "wal-before-tail")
		err := a.retry(func(ctx context.Context) error {
			return a.epoch.PutTail(ctx, wal.Segment{Timeline: a.tli, Start: at}, from, plain)
		})
		failpoint.Hit(a.ctx, "wal-after-tail")
		if err == nil {
			a.isStored(at+wal.LSN(from), at+wal.LSN(from+len(plain)))
		}
		a.tailed <- struct{}{}
		return err
	})
}

func (a *assembler) putSeen(seen wal.Observation) {
	a.g.Go(func() error {
		return a.retry(func(ctx context.Context) error { return a.epoch.PutSeen(ctx, seen) })
	})
}

// finish stores what is left when no more comes.
func (a *assembler) finish() error {
	if a.segment != nil && len(a.segment) > a.stored {
		select {
		case <-a.tailed:
		case <-a.ctx.Done():
			return context.Cause(a.ctx)
		}
		a.putTail()
	}
	a.mu.Lock()
	seen := a.seen
	a.mu.Unlock()
	if a.r.sightings.ends(seen, time.Now()) {
		a.putSeen(seen)
	}
	return nil
}
