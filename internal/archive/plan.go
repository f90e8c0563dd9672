package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// readSegment returns the plain bytes of what a survey found of a segment, up to where it
// is stored from its start on without a gap.
func (f *Fetcher) readSegment(ctx context.Context, s *Survey, segment wal.Segment) ([]byte, error) {
	if at, ok := s.found.segments[segment]; ok && !at.split {
		epoch := s.found.ids[at.epoch]
		name := segmentPrefix(f.size, segment) + at.hash.String() + at.suffix.text()
		plain := limited{most: int(f.size)}
		n, err := f.plain(ctx, located{object{seal: sealOf(at.suffix.text()), hash: at.hash}, epoch, name, 0}, int64(f.size), &plain)
		if err == nil && n != int64(f.size) {
			err = damaged("segment %s of epoch %s has %d bytes", f.size.Name(segment), epoch, n)
		}
		return plain.b, err
	}
	tails, err := f.find(ctx, tailPrefix(f.size, segment))
	if err != nil {
		return nil, err
	}
	slices.SortFunc(tails, func(a, b located) int { return cmp.Compare(a.from, b.from) })
	end := segment.Start
	tails = slices.DeleteFunc(tails, func(o located) bool {
		gone := o.from > end
		if !gone {
			end = max(end, o.to)
		}
		return gone
	})
	plain, end, err := f.joined(ctx, segment, tails)
	if err != nil || len(plain) == 0 {
		return nil, err
	}
	return plain[:end-segment.Start], nil
}

// Walk reads segments that follow one another, as wal.PlanInputs.Walk does, out of what a
// survey of the same archive found. A segment that is damaged is where the WAL stops.
func (f *Fetcher) Walk(ctx context.Context, s *Survey, segments []wal.Segment, record func(*wal.Record) bool) (*wal.Stop, error) {
	if len(segments) == 0 {
		return nil, nil
	}
	more := true
	w, err := wal.NewWalker(wal.WalkerOptions{Start: segments[0].Start, SegmentSize: f.size, SystemIdentifier: f.a.system, Record: func(r *wal.Record) {
		more = more && record(r)
	}})
	if err != nil {
		return nil, err
	}
	for _, segment := range segments {
		plain, err := f.readSegment(ctx, s, segment)
		if pgmedic.KindOf(err) == pgmedic.KindIntegrity || pgmedic.KindOf(err) == pgmedic.KindConflict || errors.Is(err, store.ErrNotFound) {
			return &wal.Stop{Reason: wal.StopInvalid, At: segment.Start, What: err.Error()}, nil
		}
		if err != nil {
			return nil, err
		}
		// In pieces, so that what is not asked for is not read.
		for b := plain; len(b) > 0 && more && w.Stopped() == nil; b = b[min(len(b), wal.PageSize):] {
			_, _ = w.Write(b[:min(len(b), wal.PageSize)]) // which never fails
		}
		if stop := w.Stopped(); !more || stop != nil {
			if !more {
				stop = nil
			}
			return stop, nil
		}
		if len(plain) < int(f.size) {
			break
		}
	}
	return nil, nil
}

// Plan plans a recovery of the archive's cluster, to a target, from base backups. It reads
// the index, and the segments of which that does not say enough. A target that can't be
// reached is a pgmedic.KindNotFound error, with a *wal.OutsideError in it; one that is not
// valid is a pgmedic.KindUsage error.
func (f *Fetcher) Plan(ctx context.Context, s *Survey, bases []wal.Base, target wal.Target) (wal.Plan, error) {
	index := f.NewIndex(s)
	in := wal.PlanInputs{
		Inputs:  s.Inputs(),
		Summary: func(segment wal.Segment) (wal.Summary, bool) { return index.Summary(ctx, segment) },
		Walk: func(segments []wal.Segment, record func(*wal.Record) bool) (*wal.Stop, error) {
			if err := ctx.Err(); err != nil {
				return nil, context.Cause(ctx)
			}
			return f.Walk(ctx, s, segments, record)
		},
	}
	in.Bases = bases
	plan, err := wal.PlanTarget(in, target)
	var outside *wal.OutsideError
	if errors.As(err, &outside) {
		return plan, pgmedic.Errorf(pgmedic.KindNotFound, outside.Hint(), "plan the recovery: %w", err)
	}
	if err != nil {
		return plan, fmt.Errorf("plan the recovery: %w", err)
	}
	return plan, nil
}
