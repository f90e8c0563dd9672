package wal

import (
	"cmp"
	"slices"
	"time"
)

// Span is WAL of one timeline that is stored without a gap.
type Span struct {
	Timeline Timeline `json:"timeline"`
	From     LSN      `json:"from"`
	To       LSN      `json:"to"`
}

// Gap is WAL of a timeline that is not stored, between WAL that is.
type Gap struct {
	Timeline Timeline `json:"timeline"`
	From     LSN      `json:"from"`
	To       LSN      `json:"to"`
	// Why is empty where it is not known.
	Why string `json:"why,omitempty"`
}

// Observation is how far a server's WAL went.
type Observation struct {
	// Time is by the server's clock.
	Time     time.Time `json:"time"`
	Timeline Timeline  `json:"timeline"`
	LSN      LSN       `json:"lsn"`
	// At is when it was stored, by the clock of the store.
	At time.Time `json:"at"`
}

// MergeSpans joins the spans of a timeline that touch or overlap, and returns them by
// timeline and position.
func MergeSpans(spans []Span) (merged []Span) {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b Span) int {
		return cmp.Or(cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.From, b.From))
	})
	for _, s := range spans {
		if s.From >= s.To {
			continue
		}
		if n := len(merged); n > 0 && merged[n-1].Timeline == s.Timeline && s.From <= merged[n-1].To {
			merged[n-1].To = max(merged[n-1].To, s.To)
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// Stored is what an archive holds.
type Stored struct {
	SegmentSize SegmentSize
	Spans       []Span
	// Histories are those that are stored. A timeline without one is taken to have
	// nothing before it.
	Histories []History
}

// history returns that of a timeline.
func (s Stored) history(t Timeline) History {
	for _, h := range s.Histories {
		if h.Timeline == t {
			return h
		}
	}
	return History{Timeline: t}
}

// Timelines returns the timelines of which WAL is stored, in order.
func (s Stored) Timelines() (all []Timeline) {
	for _, span := range s.Spans {
		all = append(all, span.Timeline)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Path returns the WAL that a recovery along the timeline can use: of each timeline in
// its history the part that belongs to it. The segment in which a timeline begins holds
// also what was before; a server copies it.
func (s Stored) Path(t Timeline) (path []Span) {
	h := s.history(t)
	for _, span := range s.Spans {
		begin, ok := h.Begin(span.Timeline)
		end, _ := h.End(span.Timeline)
		if !ok {
			continue
		}
		path = append(path, Span{t, max(span.From, s.SegmentSize.Start(begin)), min(span.To, end)})
	}
	return MergeSpans(path)
}

// Reach returns up to where a recovery along a timeline gets that begins at a position:
// that position where nothing is stored there.
func (s Stored) Reach(t Timeline, from LSN) LSN {
	for _, span := range s.Path(t) {
		if span.From <= from && from <= span.To {
			return span.To
		}
	}
	return from
}

// Gaps returns what is missing on the way along each timeline, between the first and the
// last WAL that is stored. Each gap is that of the timeline on which it begins.
func (s Stored) Gaps() (gaps []Gap) {
	for _, t := range s.Timelines() {
		h := s.history(t)
		path := s.Path(t)
		for i := 1; i < len(path); i++ {
			gaps = append(gaps, Gap{Timeline: h.At(path[i-1].To), From: path[i-1].To, To: path[i].From})
		}
	}
	slices.SortFunc(gaps, func(a, b Gap) int {
		return cmp.Or(cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return slices.Compact(gaps)
}
