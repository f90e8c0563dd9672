package walstream

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/walspool"
)

// Drained is what a spool has of a timeline, all of which is stored.
type Drained struct {
	SystemIdentifier uint64
	wal.Span
}

// Drain stores what the spools of a server have, and needs no server. It fails unless all
// of it is stored; what it returns is stored in any case. Spools that could not be read
// whole are a pgmedic.KindIntegrity error, after what could be read is stored; where there
// is no spool of the server, the error is pgmedic.KindNotFound.
func Drain(ctx context.Context, o Options) (all []Drained, err error) {
	r, err := newRunner(o)
	if err != nil {
		return nil, err
	}
	spools, err := o.Spool.Existing(o.Server)
	switch {
	case err != nil:
		return nil, err
	case len(spools) == 0:
		return nil, pgmedic.Errorf(pgmedic.KindNotFound, "name the folder (--spool) and the server (--server) that `pgmedic wal stream --sync` had", "there is no spool of this server's WAL in %s", o.Spool.Dir())
	}
	err = r.drain(ctx)
	for _, s := range spools {
		for _, g := range s.Ranges() {
			if !g.Pending() {
				all = append(all, Drained{s.Cluster().SystemIdentifier, g.Span})
			} else if err == nil {
				err = fmt.Errorf("store what the spool has of timeline %d: %w", g.Timeline, cmp.Or(context.Cause(ctx), errNotStored))
			}
		}
		err = errors.Join(err, s.Damaged())
	}
	return all, err
}

// drainFirst stores what the spools have before anything is asked of the server, which may
// never come back.
func (r *runner) drainFirst(ctx context.Context) error {
	if r.o.Spool == nil {
		return nil
	}
	return r.drain(ctx)
}

// drain stores what spools have and the store does not.
func (r *runner) drain(ctx context.Context) error {
	spools, err := r.o.Spool.Existing(r.o.Server)
	if err != nil {
		return err
	}
	for _, s := range spools {
		for _, g := range s.Ranges() {
			if !g.Pending() {
				continue
			}
			err := r.drainTimeline(ctx, s, g)
			if errors.Is(err, walspool.ErrDamaged) {
				// The server may still have it. Damaged says so again.
				r.o.Logger.Error("the spool can't be read: what could be read of it is stored", "error", err)
				err = s.SetAside(g.Timeline)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// serverName is the name that WAL of a cluster is stored under.
func (r *runner) serverName(system uint64) string {
	if r.o.Server == "" {
		return strconv.FormatUint(system, 10)
	}
	return r.o.Server
}

// drainTimeline stores what a spool has of a timeline, in an epoch of its own.
func (r *runner) drainTimeline(ctx context.Context, s *walspool.Spool, g walspool.Range) error {
	c := s.Cluster()
	a := archive.New(r.o.Store, r.serverName(c.SystemIdentifier), c.SystemIdentifier)
	survey, err := a.Survey(ctx)
	if err != nil {
		return err
	}
	for _, span := range survey.Spans {
		if span.Timeline == g.Timeline {
			s.Stored(g.Timeline, span.From, span.To)
		}
	}
	if g, _ = s.Range(g.Timeline); !g.Pending() {
		return nil
	}
	if survey.SegmentSize != 0 && survey.SegmentSize != c.SegmentSize() {
		return pgmedic.Errorf(pgmedic.KindConflict, "give the server a name of its own (--server)",
			"%w", conflict("the stored WAL of this cluster has segments of %d bytes, and the spool's have %d", survey.SegmentSize, c.SegmentBytes))
	}
	texts, err := pastOf(s, g.Timeline)
	if err != nil {
		return err
	}
	if err := r.drainHistory(survey, g.Timeline, texts[g.Timeline]); err != nil {
		return err
	}
	d, err := newRunner(r.o)
	if err != nil {
		return err
	}
	d.watch, d.commits, d.spool, d.known = r.watch, r.commits, s, survey.Parts(g.Timeline, c.SegmentSize().Start(g.Stored))
	d.until = func() wal.LSN { return g.To }
	begin := archive.Resume{Found: true, Timeline: g.Timeline, From: c.SegmentSize().Start(g.Stored), Until: g.Stored}
	system := replication.System{Identifier: c.SystemIdentifier, Timeline: g.Timeline, Flushed: g.To, SegmentSize: c.SegmentSize(), Version: c.ServerVersion}
	failpoint.Hit(ctx, "wal-before-drain")
	if err := d.beginEpoch(ctx, a, system, begin); err != nil {
		return err
	}
	for _, t := range slices.Sorted(maps.Keys(texts)) {
		if err := d.epoch.PutHistory(ctx, t, texts[t]); err != nil {
			return err
		}
	}
	p := d.newPump(system, begin)
	_, err = p.move(ctx, func(both context.Context, work chan<- received) (wal.Timeline, error) {
		return 0, p.readSpool(ctx, both, s, wal.Span{Timeline: g.Timeline, From: begin.From, To: g.To}, work)
	})
	r.commits = d.commits
	if err != nil {
		return fmt.Errorf("store what the spool has of timeline %d: %w", g.Timeline, err)
	}
	failpoint.Hit(ctx, "wal-after-drain")
	r.o.Logger.Info("stored what the spool has", "timeline", g.Timeline, "from", g.Stored, "to", g.To)
	return nil
}

// drainHistory refuses a spool whose timeline has another history than the stored one. The
// history is nil where the spool has none.
func (r *runner) drainHistory(survey *archive.Survey, t wal.Timeline, history []byte) error {
	if history == nil {
		return nil
	}
	h, err := wal.ParseHistory(t, history)
	if err != nil {
		return err
	}
	if t := survey.Contradicts(h); t != 0 {
		return pgmedic.Errorf(pgmedic.KindConflict, "find out which server is the right one, and give the other a name of its own (--server)",
			"%w", conflict("the spool's history of timeline %d is not the one that is stored: two servers were promoted", t))
	}
	r.failedOver(survey, h) // before its history is stored, after which that is not news
	return nil
}

// readSpool hands on what a spool has of a span, in place of a stream.
func (p *pump) readSpool(ctx, both context.Context, s *walspool.Spool, span wal.Span, work chan<- received) error {
	return s.Read(span, func(from wal.LSN, data []byte) error {
		if err := p.note(replication.Message{From: from, Data: data}); err != nil {
			return err
		}
		select {
		case work <- received{from, bytes.Clone(data)}:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-both.Done():
			return context.Cause(both)
		}
	})
}

// pastOf returns the histories of a timeline and of those that it came from, as far as the
// spool has them.
func pastOf(s *walspool.Spool, t wal.Timeline) (map[wal.Timeline][]byte, error) {
	texts, err := s.Histories()
	if err != nil || texts[t] == nil {
		return nil, err
	}
	h, err := wal.ParseHistory(t, texts[t])
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(texts, func(other wal.Timeline, _ []byte) bool {
		_, ours := h.End(other)
		return !ours
	})
	return texts, nil
}

// place is up to where a stream has stored the WAL of a cluster.
type place struct {
	mu       sync.Mutex
	system   uint64
	timeline wal.Timeline
	stored   wal.LSN
	// known is closed once there is one.
	known chan struct{}
}

func newPlace() *place { return &place{known: make(chan struct{})} }

func (p *place) set(system uint64, t wal.Timeline, stored wal.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timeline == 0 {
		close(p.known)
	}
	p.system, p.timeline, p.stored = system, t, stored
}

// of returns the place in a cluster's WAL; it is false where that is not known.
func (p *place) of(system uint64) (wal.Timeline, wal.LSN, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.timeline, p.stored, p.timeline != 0 && p.system == system
}

// reachedStore takes account of WAL that is stored from a position on.
func (r *runner) reachedStore(t wal.Timeline, from, to wal.LSN) {
	if r.spool == nil {
		return
	}
	r.spool.Stored(t, from, to)
	if r.place != nil {
		r.place.set(r.spool.Cluster().SystemIdentifier, t, to)
	}
}

// openSpool opens the spool of the server's cluster.
func (r *runner) openSpool(system replication.System) (err error) {
	if r.o.Spool != nil {
		r.spool, err = r.o.Spool.Open(r.cluster(system))
	}
	return err
}

// cluster is what the spool says of a server.
func (r *runner) cluster(system replication.System) walspool.Cluster {
	return walspool.Cluster{Server: r.o.Server, SystemIdentifier: system.Identifier, SegmentBytes: int64(system.SegmentSize), ServerVersion: system.Version}
}
