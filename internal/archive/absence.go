package archive

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// goesOnError says that later WAL is stored. It may have come since a segment was looked
// up, as the rest of that segment then has.
type goesOnError struct{ error }

// Unwrap returns the error, with its kind.
func (e goesOnError) Unwrap() error { return e.error }

// proveEnd returns nil if the whole listing shows that nothing continues a recovery that
// has read a segment up to a position. A timeline that left the segment's at that
// position, or before, does not need more of it.
func (f *Fetcher) proveEnd(ctx context.Context, s wal.Segment, end wal.LSN) error {
	name, t, next := f.size.Name(s), s.Timeline, s.Start+wal.LSN(f.size)
	survey, err := f.a.Survey(ctx)
	if err != nil {
		return err
	}
	if len(survey.Odd) > 0 {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "see `pgmedic wal status`", "the rest of segment %s from %v on is not in %s, which may hold more than can be read: %s", name, end, f.a.store, survey.Odd[0])
	}
	const hint = "recover to a moment before it, or from a base backup after it: `pgmedic wal status` shows the gaps"
	for _, g := range survey.Gaps {
		if g.Timeline == t && g.From < next && g.To > end {
			return pgmedic.Errorf(pgmedic.KindIntegrity, hint, "segment %s is lost: WAL from %v to %v is a recorded gap", name, g.From, g.To)
		}
	}
	if begin, ok := survey.history(t).Begin(t); ok && begin >= next {
		return nil // versions before 13 ask for a timeline also before it begins
	}
	for _, later := range survey.known(t) {
		h := survey.history(later)
		if len(h.Switches) == 0 && later > t && survey.Listed[later] > end {
			return goesOnError{pgmedic.Errorf(pgmedic.KindIntegrity, "stream from a server that has its history in pg_wal", "segment %s is missing in %s from %v on, and WAL of timeline %d may come after it: its history is not stored", name, f.a.store, end, later)}
		}
		if left, ok := h.End(t); !ok || left <= end {
			continue
		}
		for on, listed := range survey.Listed {
			if used, ok := h.End(on); ok && on >= t && min(listed, used) > end {
				return goesOnError{pgmedic.Errorf(pgmedic.KindIntegrity, hint, "segment %s is missing in %s from %v on, and there is, or was, WAL after it", name, f.a.store, end)}
			}
		}
	}
	return nil
}

// known returns the timelines that the listing has anything of, and t.
func (s *Survey) known(t wal.Timeline) []wal.Timeline {
	all := []wal.Timeline{t}
	for listed := range s.Listed {
		all = append(all, listed)
	}
	for _, h := range s.Histories {
		all = append(all, h.Timeline)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// history returns the history of a timeline, its own or as that of a later timeline has
// it. Without either it has no switches.
func (s *Survey) history(t wal.Timeline) wal.History {
	for _, h := range s.Histories {
		if h.Timeline == t {
			return h
		}
	}
	for _, h := range s.Histories {
		if before, ok := historyWithin(h, t); ok {
			return before
		}
	}
	return wal.History{Timeline: t}
}

// historyWithin returns the history of a timeline as that of a later one has it. It is
// false where the later one did not come from the timeline.
func historyWithin(h wal.History, t wal.Timeline) (wal.History, bool) {
	i := slices.IndexFunc(h.Switches, func(s wal.Switch) bool { return s.Timeline == t })
	if i < 0 {
		return wal.History{}, false
	}
	return wal.History{Timeline: t, Switches: h.Switches[:i]}, true
}

// history writes the history of a timeline. Where it is not stored, those of later
// timelines have it. PostgreSQL takes a number without a history for one that no server
// has used, and may use it again.
func (f *Fetcher) history(ctx context.Context, t wal.Timeline, dst io.Writer) error {
	own, text, err := f.histories(ctx, historyKey(t), t)
	if err != nil {
		return err
	}
	if len(own) > 0 {
		_, err = dst.Write(text)
		return err
	}
	if t > 1 {
		later, _, err := f.histories(ctx, "hist/", t)
		if err != nil {
			return err
		}
		if len(later) > 0 {
			for _, s := range later[0].Switches {
				if _, err := fmt.Fprintf(dst, "%d\t%v\tas in the history of a later timeline\n", s.Timeline, s.End); err != nil {
					return err
				}
			}
			return nil
		}
		for _, folder := range []string{"seg", "tail"} {
			stored, err := f.find(ctx, fmt.Sprintf("%s/%08X", folder, uint32(t)))
			if err != nil {
				return err
			}
			if len(stored) > 0 {
				return pgmedic.Errorf(pgmedic.KindIntegrity, "stream from a server that has it in pg_wal", "the history of timeline %d is not in %s, and WAL of the timeline is", t, f.a.store)
			}
		}
	}
	return pgmedic.Errorf(pgmedic.KindNotFound, "", "the history of timeline %d: %w", t, ErrAbsent)
}

// histories returns what the stored histories under a prefix say of the timelines before
// t, and the first of the texts. They must agree.
func (f *Fetcher) histories(ctx context.Context, prefix string, t wal.Timeline) (all []wal.History, first []byte, err error) {
	found, err := f.find(ctx, prefix)
	if err != nil {
		return nil, nil, err
	}
	for _, o := range found {
		text, err := f.a.read(ctx, o.epoch+"/"+o.name, wal.MaxHistoryBytes)
		if err != nil {
			return nil, nil, fmt.Errorf("read the history of timeline %d: %w", o.timeline, err)
		}
		h, err := wal.ParseHistory(o.timeline, text)
		if err != nil {
			return nil, nil, damaged("%w", err)
		}
		if o.timeline != t {
			var ok bool
			if h, ok = historyWithin(h, t); !ok {
				continue
			}
		}
		if len(all) == 0 {
			first = text
		} else if !slices.Equal(all[0].Switches, h.Switches) {
			return nil, nil, pgmedic.Errorf(pgmedic.KindConflict, "find out which server is the right one; delete the object of the other",
				"the history of timeline %d is stored with different content: two servers were promoted", t)
		}
		all = append(all, h)
	}
	return all, first, nil
}
