package walstream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/walspool"
	"github.com/pgmedic/pgmedic/internal/words"
)

// SyncName is the application name of the connection that fills the spool: the name that
// synchronous_standby_names has where commits are to wait for it.
const SyncName = "pgmedic_sync"

// placeWait is how long it is waited for the store to say where its WAL ends, until that is
// an error that is reported and tried again.
const placeWait = 30 * time.Second

// runSync streams into the spool and into the store, over a connection each. What the one
// into the spool has flushed is all that it tells the server, and it has no slot: a slot
// would move with that, and the server would no longer keep what is not stored. The other
// connection has the slot, as without a spool. A store that is slow or away holds up no
// commit.
func (r *runner) runSync(ctx context.Context) error {
	r.place = newPlace()
	s, err := newSyncer(r)
	if err != nil {
		return err
	}
	both, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() {
		err := s.run(both)
		stop()
		done <- err
	}()
	err = r.run(both)
	stop()
	if syncErr := <-done; syncErr != nil || err != nil {
		return errors.Join(syncErr, err)
	}
	// The server may be gone by the time that the next stream begins.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := r.drain(last); err != nil {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "`pgmedic wal stream --drain` stores it, without the server, once the store can be reached", "stop streaming WAL: the spool has WAL that is not stored: %w", &cause{err})
	}
	return nil
}

// syncer fills the spool.
type syncer struct {
	o     Options
	place *place
	watch *watch
	// own reads histories.
	own *runner
	// flushed is how often the spool was flushed.
	flushed int
}

func newSyncer(r *runner) (*syncer, error) {
	own, err := newRunner(r.o)
	return &syncer{o: r.o, place: r.place, watch: r.watch, own: own}, err
}

// run fills the spool until ctx ends. It tries again what can pass, as Run does.
func (s *syncer) run(ctx context.Context) error {
	var first time.Time
	for attempts := 0; ; {
		before := s.flushed
		err := s.once(ctx)
		if done(ctx) {
			return nil
		}
		if s.flushed > before {
			attempts = 0
		}
		if attempts++; attempts == 1 {
			first = s.o.Now()
		}
		s.watch.syncInterrupted(err)
		wait, again := replication.Retry(err, attempts, s.o.Now().Sub(first))
		if errors.Is(err, replication.ErrRemoved) { // until the stream into the store is behind it
			wait, again = time.Second, true
		}
		if !again {
			return err
		}
		s.o.Logger.Warn("nothing is written into the spool, and commits that wait for it go on waiting; this is tried again", "error", err, "wait", wait)
		if !pause(ctx, wait) {
			return nil
		}
	}
}

// once fills the spool until the connection ends.
func (s *syncer) once(ctx context.Context) error {
	conn, err := replication.Connect(ctx, s.o.Target.With("application_name", SyncName))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for {
		system, err := conn.Identify(ctx)
		if err != nil {
			return err
		}
		if system.Standby {
			return pgmedic.Errorf(pgmedic.KindUnreachable, "connect to the primary: name all hosts and target_session_attrs=read-write", "the server is a standby, and no commit waits for what it sends")
		}
		spool, err := s.o.Spool.Open(s.own.cluster(system))
		if err != nil {
			return err
		}
		// A connection that can take nothing would only keep another candidate from its turn.
		if err := spool.Room(); err != nil {
			return err
		}
		h, texts, err := s.own.past(ctx, conn, system.Timeline)
		if err != nil {
			return err
		}
		for t, text := range texts {
			if err := spool.PutHistory(t, text); err != nil {
				return err
			}
		}
		begin, err := s.begin(ctx, spool, h, system)
		if errors.Is(err, walspool.ErrDamaged) {
			if err := spool.SetAside(begin.Timeline); err != nil {
				return err
			}
			return pgmedic.Errorf(pgmedic.KindUnreachable, "", "%w", &cause{err}) // the server sends it again
		}
		if err != nil {
			return err
		}
		stream, err := conn.Start(ctx, replication.StartOptions{Timeline: begin.Timeline, From: begin.from})
		if err != nil {
			return err
		}
		s.o.Logger.Info("writing WAL into the spool", "timeline", begin.Timeline, "from", begin.from, "folder", s.o.Spool.Dir())
		next, err := s.receive(ctx, stream, spool, begin)
		switch {
		case err != nil:
			return err
		case done(ctx):
			return nil
		case next == 0:
			return pgmedic.Errorf(pgmedic.KindUnreachable, "", "the server has stopped")
		}
	}
}

// beginning is where a stream into the spool begins.
type beginning struct {
	// Span is what the spool has of the timeline.
	wal.Span
	// from is the start of the segment in which that ends. What comes again up to there is
	// compared by its hash.
	from wal.LSN
	hash []byte
}

// begin finds out where to go on. Between what is stored and what the spool begins with
// nothing may be missing: the server is not needed for what it has acknowledged.
func (s *syncer) begin(ctx context.Context, spool *walspool.Spool, h wal.History, system replication.System) (beginning, error) {
	size := system.SegmentSize
	t, at, found := spooled(spool, h)
	_, _, known := s.place.of(system.Identifier)
	if !found && !known {
		s.o.Logger.Info("waiting for the store to say where its WAL ends, before the spool begins there")
		timer := time.NewTimer(placeWait)
		defer timer.Stop()
		select {
		case <-s.place.known:
		case <-timer.C:
		case <-ctx.Done():
			return beginning{}, context.Cause(ctx)
		}
	}
	st, stored, known := s.place.of(system.Identifier)
	if end, ok := h.End(st); !ok || stored > end {
		known = false // a branch that the server is not on
	} else if stored == end {
		st = h.At(stored)
	}
	if !found && !known {
		return beginning{}, pgmedic.Errorf(pgmedic.KindUnreachable, "check the store", "the spool is empty, and where the stored WAL ends is not known yet")
	}
	if !found || known && size.Start(stored) > size.Start(at) {
		t, at = st, size.Start(stored)
		if err := spool.Begin(t, at); err != nil {
			return beginning{}, pgmedic.Errorf(pgmedic.KindUnreachable, "", "%w", err)
		}
	} else if _, ok := spool.Range(t); !ok {
		if err := spool.Begin(t, at); err != nil {
			return beginning{}, err
		}
	}
	for _, g := range spool.Ranges() {
		if g.Timeline != t {
			spool.Drop(g.Timeline) // where all of it is stored
		}
	}
	if t == system.Timeline && at > system.Flushed {
		return beginning{}, pgmedic.Errorf(pgmedic.KindConflict, "if the server was restored from an older backup without a new timeline, or this is a copy of it, give it a name (--server) and a spool (--spool) of its own",
			"%w", conflict("the server's WAL ends at %v, before what the spool has of timeline %d, which ends at %v", system.Flushed, t, at))
	}
	b := beginning{Span: wal.Span{Timeline: t, From: size.Start(at), To: at}, from: size.Start(at)}
	sum := sha256.New()
	err := spool.Read(b.Span, func(_ wal.LSN, data []byte) error {
		_, err := sum.Write(data)
		return err
	})
	b.hash = sum.Sum(nil)
	return b, err
}

// spooled returns up to where a spool has the WAL of a server with a history. Where a
// timeline is there up to its end, that is where the segment of the next one begins.
func spooled(spool *walspool.Spool, h wal.History) (t wal.Timeline, at wal.LSN, found bool) {
	path := []wal.Timeline{h.Timeline}
	for _, s := range slices.Backward(h.Switches) {
		path = append(path, s.Timeline)
	}
	for _, t := range path {
		g, ok := spool.Range(t)
		if !ok {
			continue
		}
		if end, _ := h.End(t); g.To >= end {
			return h.At(end), spool.Cluster().SegmentSize().Start(end), true
		}
		return t, g.To, true
	}
	return 0, 0, false
}

// receive writes a stream into the spool until that ends; it returns the timeline that
// follows, or 0.
func (s *syncer) receive(ctx context.Context, stream *replication.Stream, spool *walspool.Spool, begin beginning) (next wal.Timeline, err error) {
	f := &flusher{s: s, spool: spool, begin: begin, again: sha256.New(), at: begin.from, flushed: begin.from, queue: make(chan received, queued), woken: make(chan struct{}, 1)}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		f.run(ctx)
	}()
	next, received, err := s.listen(ctx, stream, f)
	close(f.queue)
	<-finished
	flushed, problem := f.state()
	if problem != nil {
		return 0, problem
	}
	if err == nil {
		// Commits may wait for the last of it.
		_ = stream.Send(replication.Status{Written: received, Flushed: flushed, Now: s.o.Now()})
	}
	return next, err
}

// listen passes what arrives on to be flushed, and tells the server what is, at once.
func (s *syncer) listen(ctx context.Context, stream *replication.Stream, f *flusher) (next wal.Timeline, received wal.LSN, err error) {
	heard := time.Now()
	var told, asked time.Time
	last := wal.LSN(0)
	received = f.begin.from
	tell := func(reply bool) error {
		flushed, problem := f.state()
		if problem != nil {
			return problem
		}
		failpoint.Hit(ctx, "wal-spool-before-status")
		told, last = time.Now(), flushed
		return stream.Send(replication.Status{Written: received, Flushed: flushed, Reply: reply, Now: s.o.Now()})
	}
	for !done(ctx) {
		now := time.Now()
		ask := now.Sub(heard) >= s.o.MaxDelay && now.Sub(asked) >= s.o.MaxDelay
		if ask {
			asked = now
		}
		flushed, problem := f.state()
		if problem != nil {
			return 0, received, problem
		}
		if flushed != last || now.Sub(told) >= statusEvery || ask {
			if err := tell(ask); err != nil {
				return 0, received, err
			}
		}
		if now.Sub(heard) > s.o.silence+s.o.MaxDelay {
			return 0, received, pgmedic.Errorf(pgmedic.KindUnreachable, "check the server and the network", "the server has been silent for %s", words.Duration(now.Sub(heard)))
		}
		wait, cancel := context.WithTimeout(ctx, tick)
		f.interrupt(cancel, last)
		m, err := stream.Receive(wait)
		timedOut := err != nil && wait.Err() != nil
		f.interrupt(nil, 0)
		cancel()
		switch {
		case timedOut:
			continue
		case err != nil:
			return 0, received, err
		case m.Ended:
			return m.Next, received, nil
		}
		heard = time.Now()
		if m.Data != nil {
			if m.From != received {
				return 0, received, pgmedic.Errorf(pgmedic.KindUnreachable, "", "the server sent WAL from %v, and %v was to come", m.From, received)
			}
			if err := s.pass(ctx, f, m, tell); err != nil {
				return 0, received, err
			}
			received += wal.LSN(len(m.Data))
		}
		if m.Reply {
			if err := tell(false); err != nil {
				return 0, received, err
			}
		}
	}
	return 0, received, nil
}

// pass hands WAL on to be flushed. Meanwhile what is flushed is reported to the server.
func (s *syncer) pass(ctx context.Context, f *flusher, m replication.Message, tell func(reply bool) error) error {
	chunk := received{m.From, bytes.Clone(m.Data)}
	for {
		select {
		case f.queue <- chunk:
			return nil
		case <-ctx.Done():
			return nil
		case <-f.woken:
		case <-time.After(statusEvery):
		}
		if err := tell(false); err != nil {
			return err
		}
	}
}
