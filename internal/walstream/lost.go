package walstream

import (
	"context"
	"errors"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// recover does what an error of a stream asks for, and returns it, or one that is tried
// again.
func (r *runner) recover(ctx context.Context, system replication.System, begin archive.Resume, why error) error {
	switch {
	case ctx.Err() != nil || r.epoch == nil:
		return why
	case errors.Is(why, replication.ErrSlotLost):
		// Perhaps the WAL is still there.
		r.o.Logger.Warn("the replication slot is lost and is made again", "slot", r.o.Slot, "error", why)
		r.watch.news(NoticeSlotLost, "the server has given up replication slot %s, and it is made again: %s", r.o.Slot, why)
		if err := r.renewSlot(ctx); err != nil {
			return err
		}
		return pgmedic.Errorf(pgmedic.KindUnreachable, "", "begin again with a new slot: %s", why)
	case errors.Is(why, replication.ErrRemoved) && r.overlaps:
		r.o.Logger.Info("the server has removed the last segment that is stored: it is not compared with it")
		r.noOverlap = true
		return errAgain
	case errors.Is(why, replication.ErrRemoved):
		return r.gap(ctx, system, begin, why)
	}
	return why
}

// gap records that WAL is lost, and has the next attempt begin where the server is. The
// slot is made again: up to PostgreSQL 15 a lost slot keeps nothing and looks as before.
func (r *runner) gap(ctx context.Context, system replication.System, begin archive.Resume, why error) error {
	if r.spool != nil && !r.tried && r.spool.Pending() {
		r.tried = true // perhaps the spool has what the server has no more
		return errAgain
	}
	to := system.SegmentSize.Start(system.Flushed)
	if !begin.Found || to <= begin.Until {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "see the server's log", "the server does not have the WAL that it has just written: %w", &cause{why})
	}
	if err := r.renewSlot(ctx); err != nil {
		return err
	}
	g := wal.Gap{Timeline: begin.Timeline, From: begin.Until, To: to, Why: "the server had removed it"}
	if err := r.epoch.PutGap(ctx, g, r.o.Now()); err != nil {
		return err
	}
	r.o.Logger.Error("WAL is lost: take a base backup now, or nothing after the gap can be recovered", "timeline", g.Timeline, "from", g.From, "to", g.To)
	r.watch.gap(g)
	// The epoch that follows begins behind the gap.
	r.epoch = nil
	a, err := r.archive(ctx, system)
	if err == nil {
		err = r.beginEpoch(ctx, a, system, archive.Resume{Timeline: system.Timeline, From: to, Until: to})
	}
	if err != nil {
		return err
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable, "", "WAL from %v to %v is lost: %w", g.From, g.To, &cause{why})
}

// cause is an error as a reason, by which nothing is decided any more.
type cause struct{ error }

// Unwrap hides what the error wraps.
func (c *cause) Unwrap() error { return nil }

// renewSlot drops the slot and makes it again.
func (r *runner) renewSlot(ctx context.Context) error {
	conn, err := replication.Connect(ctx, r.o.Target)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if err := conn.DropSlot(ctx, r.o.Slot); err != nil && !errors.Is(err, replication.ErrSlotMissing) {
		return err
	}
	return conn.CreateSlot(ctx, r.o.Slot)
}
