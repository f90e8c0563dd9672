package recovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// ErrAbsent is found in errors about a file that does not exist for the recovery. No other
// error may be passed to PostgreSQL as the end of the WAL.
var ErrAbsent = errors.New("it is not part of the recovery")

// Fetcher gives PostgreSQL the files of WAL that a plan is made of. It is not safe for
// concurrent use.
type Fetcher struct {
	plan *Plan
	wal  *archive.Fetcher
	log  *slog.Logger
	// recent are the last segments as they are stored, for records that lie in two.
	recent []segment
}

type segment struct {
	name  string
	plain []byte
}

// NewFetcher returns a Fetcher of a plan that was checked. Logger gets what is changed in
// the WAL; nil disables that.
func NewFetcher(p *Plan, stored *archive.Fetcher, logger *slog.Logger) *Fetcher {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Fetcher{plan: p, wal: stored, log: logger}
}

// Fetch writes a file of WAL, by PostgreSQL's name, to dst. What was written is right only
// if the error is nil.
func (f *Fetcher) Fetch(ctx context.Context, name string, dst io.Writer) error {
	answer, err := f.plan.Answer(name)
	if err != nil {
		return err
	}
	if answer == Absent {
		return pgmedic.Errorf(pgmedic.KindNotFound, "", "%s: %w", name, ErrAbsent)
	}
	if t, err := wal.ParseHistoryName(name); err == nil {
		return f.history(ctx, t, answer, dst)
	}
	plain, err := f.segment(ctx, name)
	if err == nil {
		_, err = dst.Write(plain)
	}
	return err
}

// history writes the history of a timeline. One of the plan is that of the plan.
func (f *Fetcher) history(ctx context.Context, t wal.Timeline, answer Answer, dst io.Writer) error {
	var text bytes.Buffer
	err := f.wal.Fetch(ctx, wal.HistoryName(t), &text)
	switch absent := errors.Is(err, archive.ErrAbsent); {
	case absent && answer == Unknown:
		return pgmedic.Errorf(pgmedic.KindNotFound, "", "%s: %w", wal.HistoryName(t), ErrAbsent)
	case absent:
		return pgmedic.Errorf(pgmedic.KindIntegrity, "use another copy of the store", "the history of timeline %d is no longer in the store, and the recovery needs it", t)
	case err != nil:
		return err
	}
	if answer == Needed {
		h, err := wal.ParseHistory(t, text.Bytes())
		if err != nil {
			return broken("%w", err)
		}
		own := f.plan.History()
		i := slices.IndexFunc(own.Switches, func(s wal.Switch) bool { return s.Timeline >= t })
		if i < 0 {
			i = len(own.Switches)
		}
		if !slices.Equal(h.Switches, own.Switches[:i]) {
			return pgmedic.Errorf(pgmedic.KindConflict, "restore the cluster again", "the history of timeline %d in the store is not that of the plan", t)
		}
	}
	_, err = dst.Write(text.Bytes())
	return err
}

// segment returns a segment as PostgreSQL gets it: with tablespaces where the plan has
// them, and with zeros behind the end of the plan.
func (f *Fetcher) segment(ctx context.Context, name string) ([]byte, error) {
	stored, err := f.stored(ctx, name)
	if err != nil {
		return nil, err
	}
	s, err := f.plan.size().Parse(name)
	if err != nil {
		return nil, err
	}
	plain := bytes.Clone(stored)
	if end := f.plan.Through; end > s.Start && end-s.Start < wal.LSN(len(plain)) {
		clear(plain[end-s.Start:])
	}
	changed, err := wal.Relocator{
		SegmentSize: f.plan.size(), SystemIdentifier: f.plan.System(), Place: f.plan.Place,
		Before: f.neighbour(ctx, s.Start-wal.LSN(f.plan.size())), After: f.neighbour(ctx, s.Start+wal.LSN(f.plan.size())),
	}.Relocate(s.Start, plain)
	var long *wal.LongPathError
	if errors.As(err, &long) {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, fmt.Sprintf("restore again with a path of at most %d bytes", len(long.From)), "%w", err)
	}
	if err != nil {
		return nil, err
	}
	for _, c := range changed {
		f.log.Info("tablespace relocated in the WAL", "lsn", c.At.String(), "oid", c.OID, "from", c.From, "to", c.To)
	}
	return plain, nil
}

// neighbour returns what reads the segment at a position, which is not there outside of
// the plan.
func (f *Fetcher) neighbour(ctx context.Context, start wal.LSN) func() ([]byte, error) {
	size := f.plan.size()
	return func() ([]byte, error) {
		if start < size.Start(f.plan.WAL.Base.Start) || start >= f.plan.Through {
			return nil, nil
		}
		return f.stored(ctx, size.Name(wal.Segment{Timeline: f.plan.timeline(start), Start: start}))
	}
}

// stored returns a segment that the plan needs as it is stored.
func (f *Fetcher) stored(ctx context.Context, name string) ([]byte, error) {
	for _, s := range f.recent {
		if s.name == name {
			return s.plain, nil
		}
	}
	s, err := f.plan.size().Parse(name)
	if err != nil {
		return nil, err
	}
	var plain bytes.Buffer
	plain.Grow(int(f.plan.size()))
	err = f.wal.FetchThrough(ctx, name, min(f.plan.Through, s.Start+wal.LSN(f.plan.size())), &plain)
	if errors.Is(err, archive.ErrAbsent) {
		err = pgmedic.Errorf(pgmedic.KindIntegrity, "see `pgmedic wal status`; use another copy of the store", "segment %s is no longer in the store, and the recovery needs it", name)
	}
	if err != nil {
		return nil, err
	}
	if len(f.recent) == 2 {
		f.recent = f.recent[1:]
	}
	f.recent = append(f.recent, segment{name, plain.Bytes()})
	return plain.Bytes(), nil
}
