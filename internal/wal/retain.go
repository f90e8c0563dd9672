package wal

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// RetainedBackup is a base backup in a store, as RetainWAL and Anchors take it.
type RetainedBackup struct {
	Base
	// At is when it ended, by the clock of the host that took it.
	At time.Time
	// Kept is true where it stays in the store.
	Kept bool
	// Bad is true where it was found bad: it is relied on only where there is no other.
	Bad bool
}

// StoredTime is a time at which WAL up to a position was stored, by the store's clock.
type StoredTime struct {
	Timeline Timeline
	LSN      LSN
	At       time.Time
}

// RetainInputs are what it depends on which WAL is needed.
type RetainInputs struct {
	Stored
	Backups []RetainedBackup
	// Times are when WAL was stored: at each position the newest time of all before it, on
	// the same timeline, as far as it is another than before. Their order does not matter.
	Times []StoredTime
	// Since is the moment from which on any other stays reachable. Zero is that of the
	// oldest backup that is kept: then no backup is kept for its WAL, and WAL goes when
	// the backups before it have gone.
	Since time.Time
	// Young is how new WAL is that a base backup may need which is being taken.
	Young time.Time
}

// Retention is which WAL is needed.
type Retention struct {
	// all is why everything is, where it is.
	all string
	// kept are by timeline, in order, and do not overlap.
	kept map[Timeline][]keptSpan
}

type keptSpan struct {
	from, to LSN
	why      string
}

// Why returns why WAL of a timeline between two positions is needed, and false where it
// is not.
func (r Retention) Why(t Timeline, from, to LSN) (why string, needed bool) {
	if r.all != "" {
		return r.all, true
	}
	kept := r.kept[t]
	i, _ := slices.BinarySearchFunc(kept, from, func(k keptSpan, l LSN) int {
		if k.to <= l {
			return -1
		}
		return 1
	})
	if i < len(kept) && kept[i].from < to {
		return kept[i].why, true
	}
	return "", false
}

// Begins returns the position from which on everything of a timeline is needed. It is
// false where nothing is needed without an end.
func (r Retention) Begins(t Timeline) (from LSN, ok bool) {
	if kept := r.kept[t]; len(kept) > 0 && kept[len(kept)-1].to == math.MaxUint64 {
		return kept[len(kept)-1].from, true
	}
	return 0, false
}

func (r Retention) keep(t Timeline, from, to LSN, why string) {
	r.kept[t] = append(r.kept[t], keptSpan{from, to, why})
}

// merge orders and joins what is kept.
func (r Retention) merge() Retention {
	for t, all := range r.kept {
		slices.SortFunc(all, func(a, b keptSpan) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
		var merged []keptSpan
		for _, k := range all {
			n := len(merged)
			if n == 0 || k.from >= merged[n-1].to {
				merged = append(merged, k)
				continue
			}
			if last := &merged[n-1]; k.to > last.to {
				last.to, last.why = k.to, k.why
			}
		}
		r.kept[t] = merged
	}
	return r
}

// NoBackup is why all WAL is needed where there is no base backup to say which is.
const NoBackup = "no base backup of this cluster is in the store, so that it is not known which WAL is needed"

// Anchors returns the backups with which the recovery to moments since in.Since begins:
// of each stretch of WAL without a gap, on the way along each timeline that was written
// since then, the newest that ended before, or else the oldest. Where Since is zero they
// are the oldest of those that are kept. Ages are by the store's clock where it knows
// more: a backup is as old as the newest WAL before its end.
//
// From the backups of each stretch those that were found bad are left out, if there is
// another one.
func Anchors(in RetainInputs) (anchors []Base) {
	for _, t := range in.relevant() {
		for _, span := range in.Path(t) {
			if b, ok := in.anchor(t, span); ok && !slices.Contains(anchors, b) {
				anchors = append(anchors, b)
			}
		}
	}
	slices.SortFunc(anchors, func(a, b Base) int {
		return cmp.Or(cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.Start, b.Start), cmp.Compare(a.ID, b.ID))
	})
	return anchors
}

// RetainWAL returns which WAL is needed: of each backup that is kept what makes it
// consistent, and from the anchors on everything, on all timelines that come from them.
// Of a stretch without a backup everything is needed while it is young.
//
// A moment whose WAL was stored since in.Since, and that could be reached, can be reached
// with the WAL that is needed, the backups that are kept, and the Anchors.
func RetainWAL(in RetainInputs) Retention {
	if !slices.ContainsFunc(in.Backups, func(b RetainedBackup) bool { return b.Kept }) {
		return Retention{all: NoBackup}
	}
	r := Retention{kept: map[Timeline][]keptSpan{}}
	size := LSN(in.SegmentSize)
	for _, b := range in.Backups {
		if !b.Kept {
			continue
		}
		from, to := in.SegmentSize.Start(b.Start), in.SegmentSize.Start(b.Stop-1)+size
		for _, t := range in.Timelines() {
			if in.related(t, b.Timeline) {
				r.keep(t, from, to, "backup "+b.ID+" needs it")
			}
		}
	}
	why := "recovery to any moment since the oldest backup that is kept needs it"
	if !in.Since.IsZero() {
		why = "recovery to any moment since " + in.Since.UTC().Format("2006-01-02 15:04Z") + " needs it"
	}
	for _, a := range Anchors(in) {
		for _, t := range in.Timelines() {
			h := in.history(t)
			if end, ok := h.End(a.Timeline); !ok || end <= a.Start {
				continue
			}
			for _, on := range in.onPath(t) {
				if end, _ := h.End(on); end > a.Start {
					r.keep(on, in.SegmentSize.Start(a.Start), math.MaxUint64, why)
				}
			}
		}
	}
	for _, t := range in.Timelines() {
		if t > 1 && !in.known(t) {
			r.keep(t, 0, math.MaxUint64, fmt.Sprintf("the history of timeline %d is not stored, so that it may continue what is needed", t))
		}
		for _, span := range in.Path(t) {
			if _, anchored := in.anchor(t, span); anchored || !in.newest(t, span.To).After(in.Young) {
				continue
			}
			for _, on := range in.onPath(t) {
				r.keep(on, in.SegmentSize.Start(span.From), span.To, "it is new, and a base backup that is being taken may need it")
			}
		}
	}
	return r.merge()
}

// known reports whether it is known what a timeline came from.
func (in RetainInputs) known(t Timeline) bool {
	return slices.ContainsFunc(in.Histories, func(h History) bool {
		_, ok := h.End(t)
		return ok
	})
}

// onPath returns the timelines that the way along one leads over.
func (in RetainInputs) onPath(t Timeline) []Timeline {
	all := []Timeline{t}
	for _, s := range in.history(t).Switches {
		all = append(all, s.Timeline)
	}
	return all
}

// related reports whether one of the timelines came from the other.
func (in RetainInputs) related(a, b Timeline) bool {
	_, before := in.history(a).End(b)
	_, after := in.history(b).End(a)
	return before || after
}

// relevant returns the timelines whose moments are to be reachable: those on the way along
// which anything was stored since in.Since, and the one that was written last.
func (in RetainInputs) relevant() (all []Timeline) {
	var last Timeline
	var lastAt time.Time
	for _, t := range in.Timelines() {
		at := in.newest(t, math.MaxUint64)
		if !at.Before(lastAt) {
			last, lastAt = t, at
		}
		if in.Since.IsZero() || at.IsZero() || !at.Before(in.Since) {
			all = append(all, t)
		}
	}
	if last != 0 && !slices.Contains(all, last) {
		all = append(all, last)
	}
	return all
}

// newest returns when the newest WAL on the way along a timeline was stored that begins
// before a position. That it was stored later than what follows it makes it no older.
func (in RetainInputs) newest(t Timeline, to LSN) (at time.Time) {
	h, size := in.history(t), LSN(in.SegmentSize)
	for _, s := range in.Times {
		begin, ok := h.Begin(s.Timeline)
		end, _ := h.End(s.Timeline)
		limit := min(to, end, math.MaxUint64-size) + size
		if ok && s.LSN > in.SegmentSize.Start(begin) && s.LSN < limit && s.At.After(at) {
			at = s.At
		}
	}
	return at
}

// anchor returns the backup with which recovery within a stretch begins. It is false
// where no backup is in it.
func (in RetainInputs) anchor(t Timeline, span Span) (Base, bool) {
	h := in.history(t)
	var within []RetainedBackup
	for _, b := range in.Backups {
		end, ok := h.End(b.Timeline)
		if !ok || b.Stop > end || b.Start < span.From || b.Stop > span.To || in.Since.IsZero() && !b.Kept {
			continue
		}
		within = append(within, b)
	}
	if good := slices.DeleteFunc(slices.Clone(within), func(b RetainedBackup) bool { return b.Bad }); len(good) > 0 {
		within = good
	}
	if len(within) == 0 {
		return Base{}, false
	}
	slices.SortFunc(within, func(a, b RetainedBackup) int {
		return cmp.Or(cmp.Compare(a.Stop, b.Stop), cmp.Compare(a.Start, b.Start), cmp.Compare(a.ID, b.ID))
	})
	chosen := within[0]
	for _, b := range within[1:] {
		at := in.newest(t, b.Stop)
		if b.At.After(at) {
			at = b.At
		}
		if !in.Since.IsZero() && at.Before(in.Since) {
			chosen = b
		}
	}
	return chosen.Base, true
}
