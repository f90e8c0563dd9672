package walstream

import (
	"context"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// Range is WAL that is streamed for a base backup: from a position to one that becomes
// known later.
type Range struct {
	// Conn is a connection whose slot, that of Options.Slot, keeps the WAL. It is the
	// stream's until RunRange has returned.
	Conn   *replication.Conn
	System replication.System
	// Timeline and From are where it begins: in the segment of From.
	Timeline wal.Timeline
	From     wal.LSN
	// Until returns up to where it goes, or 0 as long as that is not known.
	Until func() wal.LSN
	// Alone is true where nothing else streams the server's WAL: what is missing between what
	// is stored and the range is recorded as lost, because nothing will ever stream it.
	Alone bool
}

// RunRange streams a range, in an epoch of its own, over one connection, and returns when all
// of it is stored. It tries nothing again. Where ctx ends first it stores what has arrived and
// returns the cause.
func RunRange(ctx context.Context, o Options, g Range) error {
	r, err := newRunner(o)
	if err != nil {
		return err
	}
	if err := CheckSegmentSize(g.System.SegmentSize); err != nil {
		return err
	}
	r.until = g.Until
	h, texts, err := r.past(ctx, g.Conn, g.Timeline)
	if err != nil {
		return err
	}
	a, err := r.archive(ctx, g.System)
	if err != nil {
		return err
	}
	from := g.System.SegmentSize.Start(g.From)
	begin := archive.Resume{Found: true, Timeline: g.Timeline, From: from, Until: from}
	if err := r.beginEpoch(ctx, a, g.System, begin); err != nil {
		return err
	}
	for t, text := range texts {
		if err := r.epoch.PutHistory(ctx, t, text); err != nil {
			return err
		}
	}
	if g.Alone {
		if err := r.recordSkipped(ctx, a, h, from); err != nil {
			return err
		}
	}
	stream, err := g.Conn.Start(ctx, replication.StartOptions{Slot: o.Slot, Timeline: g.Timeline, From: from})
	if err != nil {
		return err
	}
	next, err := r.pump(ctx, stream, g.System, begin)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case r.reached:
		return nil
	case next != 0:
		return pgmedic.Errorf(pgmedic.KindFailed, "run it again", "the server went over to timeline %d", next)
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable, "see the server's log", "the server has stopped")
}

// recordSkipped records the WAL between what is stored and a range as lost.
func (r *runner) recordSkipped(ctx context.Context, a *archive.Archive, h wal.History, from wal.LSN) error {
	survey, err := a.Survey(ctx)
	if err != nil {
		return err
	}
	stored := survey.Stored
	stored.Histories = append([]wal.History{h}, stored.Histories...)
	until, covered := wal.LSN(0), false
	for _, span := range stored.Path(h.Timeline) {
		covered = covered || span.From <= from && from <= span.To
		if span.To < from {
			until = max(until, span.To)
		}
	}
	if covered || until == 0 {
		return nil
	}
	return r.epoch.PutGap(ctx, wal.Gap{Timeline: h.At(until), From: until, To: from, Why: "nothing streamed it between two base backups"}, r.o.Now())
}

// reached reports whether all of a range is stored.
func (p *pump) reached() bool {
	if p.r.until == nil {
		return false
	}
	until := p.r.until()
	p.r.reached = until > 0 && p.status(false).Flushed >= until
	return p.r.reached
}
