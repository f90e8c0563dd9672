package wal

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// State says how far what is stored can be relied on.
type State string

// The states.
const (
	// StateOK: what the server wrote is stored up to a moment ago.
	StateOK State = "ok"
	// StateBehind: the server has written more than is stored, for longer than allowed.
	StateBehind State = "behind"
	// StateUnknown: there is no recent observation, so that the server may have written
	// more than is stored.
	StateUnknown State = "unknown"
	// StateBroken: WAL is missing, and no base backup is known to have begun after it.
	StateBroken State = "broken"
	// StateNone: nothing is stored.
	StateNone State = "none"
)

// Base is a base backup: what a recovery begins with.
type Base struct {
	// ID is the backup's, or empty for one that only the WAL tells of.
	ID       string   `json:"id,omitempty"`
	Timeline Timeline `json:"timeline"`
	// Start and Stop are where it began and ended: a recovery reads from Start on, and
	// can stop from Stop on.
	Start LSN `json:"start"`
	Stop  LSN `json:"stop"`
}

// Mark is the newest time at which a transaction committed before a position.
type Mark struct {
	Timeline Timeline
	LSN      LSN
	Time     time.Time
	// Since is where the WAL begins that the transactions ended in, or zero for a single one,
	// which ended at LSN.
	Since LSN
}

// Point is a position, and a time up to which all commits are before it. The time is by
// the server's clock, and zero where it is not known.
type Point struct {
	LSN  LSN       `json:"lsn"`
	Time time.Time `json:"time,omitzero"`
}

// Window is a range of moments to which a cluster can be recovered.
type Window struct {
	Timeline Timeline `json:"timeline"`
	// From is where the first base backup is consistent. Its time is one from which on all
	// can be reached; times before it, since that backup ended, may be, too.
	From  Point `json:"from"`
	Until Point `json:"until"`
	// Bases are the backups in it, oldest first.
	Bases []Base `json:"bases"`
}

// Inputs are what is known of an archive.
type Inputs struct {
	Stored
	Bases []Base
	// Marks are of commits, and Seen of servers. Their order does not matter.
	Marks []Mark
	Seen  []Observation
	// Lost is WAL that was recorded to be lost, and Contradictions are sentences about what
	// is stored twice, with different content.
	Lost           []Gap
	Contradictions []string
}

// Windows returns to which moments a cluster can be recovered, by timeline and position.
// A backup whose own WAL is not all stored is none; the ranges of those that the next one
// is within are joined. A range that ends before a timeline begins is that of an earlier
// timeline alone.
func Windows(in Inputs) (windows []Window) {
	for _, t := range in.Timelines() {
		h := in.history(t)
		begin, _ := h.Begin(t)
		var onPath []Window
		for _, b := range in.Bases {
			end, ok := h.End(b.Timeline)
			if !ok || b.Stop > end || b.Start > b.Stop {
				continue
			}
			if reach := in.Reach(t, b.Start); reach >= b.Stop && (reach > begin || t == b.Timeline) {
				onPath = append(onPath, Window{Timeline: t, From: in.from(h, b.Timeline, b.Stop), Until: in.at(h, reach), Bases: []Base{b}})
			}
		}
		slices.SortFunc(onPath, func(x, y Window) int {
			return cmp.Or(cmp.Compare(x.From.LSN, y.From.LSN), cmp.Compare(x.Bases[0].ID, y.Bases[0].ID))
		})
		for i, w := range onPath {
			if n := len(windows); i > 0 && w.From.LSN <= windows[n-1].Until.LSN {
				windows[n-1].Bases = append(windows[n-1].Bases, w.Bases...)
				if w.Until.LSN > windows[n-1].Until.LSN {
					windows[n-1].Until = w.Until
				}
				continue
			}
			windows = append(windows, w)
		}
	}
	for i := range windows {
		// A clock that was set back has not come to where it was: no time is known to be in it.
		if w := &windows[i]; !w.Until.Time.IsZero() && w.From.Time.After(w.Until.Time) {
			w.From.Time = time.Time{}
		}
	}
	return windows
}

// At returns a position of a timeline as a point of a later one that came from it, or of the
// same. It is false where the later one does not lead over the position.
func (in Inputs) At(later, t Timeline, l LSN) (Point, bool) {
	h := in.history(later)
	end, ok := h.End(t)
	if !ok || l > end {
		return Point{}, false
	}
	return in.at(h, l), true
}

// at returns a position with the time that is known of it: that of the newest observation
// of a server that had written no more, or of a commit between that and the position.
// Without the first an idle server would seem to be left behind. A clock that was set back
// does not make it later: the newest observation is the one that was stored last, and what
// was written behind the position was not before.
func (in Inputs) at(h History, l LSN) Point {
	p := Point{LSN: l}
	var behind time.Time // the earliest that is known of what follows
	follows := func(t Timeline, position LSN, at time.Time) {
		if end, ok := h.End(t); ok && position > l && position <= end && (behind.IsZero() || at.Before(behind)) {
			behind = at
		}
	}
	for _, m := range in.Marks {
		follows(m.Timeline, m.LSN, m.Time)
	}
	for _, o := range in.Seen {
		follows(o.Timeline, o.LSN, o.Time)
	}
	counts := func(t Timeline, position LSN, at time.Time) bool {
		end, ok := h.End(t)
		return ok && position <= min(l, end) && (behind.IsZero() || !at.After(behind))
	}
	var newest Observation
	for _, o := range in.Seen {
		later := cmp.Or(o.At.Compare(newest.At), cmp.Compare(o.LSN, newest.LSN), o.Time.Compare(newest.Time)) > 0
		if (newest.Timeline == 0 || later) && counts(o.Timeline, o.LSN, o.Time) && !in.replaced(h, l, o) {
			newest, p.Time = o, o.Time
		}
	}
	for _, m := range in.Marks {
		if (newest.Timeline == 0 || m.LSN > newest.LSN) && counts(m.Timeline, m.LSN, m.Time) && m.Time.After(p.Time) {
			p.Time = m.Time
		}
	}
	return p
}

// replaced reports whether an observation may be of a server that goes on beside the one
// that wrote what is before a position: it is of an earlier timeline, and nothing says that
// the later one began after it.
func (in Inputs) replaced(h History, l LSN, o Observation) bool {
	end, _ := h.End(o.Timeline)
	if end > l {
		return false
	}
	after, before := false, false
	note := func(t Timeline, at time.Time) {
		if begin, ok := h.Begin(t); ok && t != o.Timeline && begin >= end {
			before = before || at.Before(o.Time)
			after = after || !at.Before(o.Time)
		}
	}
	for _, m := range in.Marks {
		note(m.Timeline, m.Time)
	}
	for _, other := range in.Seen {
		note(other.Timeline, other.Time)
	}
	return before || !after
}

// from returns the end of a base backup, of a timeline, with the earliest time from there on.
// One that is earlier than what was known of the server before is of a clock that was set
// back: it was that time before the backup, too, and what follows is not read any more.
func (in Inputs) from(h History, t Timeline, l LSN) Point {
	p := Point{LSN: l}
	all := slices.Clone(in.Seen)
	for _, m := range in.Marks {
		if m.Since == 0 {
			all = append(all, Observation{Timeline: m.Timeline, LSN: m.LSN, Time: m.Time})
		}
	}
	slices.SortStableFunc(all, func(a, b Observation) int {
		return cmp.Or(cmp.Compare(a.LSN, b.LSN), a.At.Compare(b.At), a.Time.Compare(b.Time))
	})
	var before time.Time
	for _, o := range all {
		end, ok := h.End(o.Timeline)
		switch {
		case ok && o.LSN < l && o.Timeline == t:
			before = o.Time
		case ok && o.LSN >= l && o.LSN <= end && p.Time.IsZero() && !o.Time.Before(before):
			p.Time = o.Time
		}
	}
	// What ended in the WAL of the backup itself says it at once.
	for _, m := range in.Marks {
		at := m.Time
		if at.Before(before) {
			at = before // nothing has ended since
		}
		if end, ok := h.End(m.Timeline); ok && m.Since > 0 && m.Since <= l && l <= m.LSN && m.LSN <= end && (p.Time.IsZero() || at.Before(p.Time)) {
			p.Time = at
		}
	}
	return p
}

// Condition is the state of an archive, with the reason in words.
type Condition struct {
	State State  `json:"state"`
	Why   string `json:"why"`
	// Until is the end of what is stored without a gap, on the timeline that the server is on:
	// the one that was seen last, or one that followed it.
	Timeline Timeline `json:"timeline,omitempty"`
	Until    Point    `json:"until,omitzero"`
	// Seen is the newest observation on it, if there is any, and LagBytes by how much its
	// position is beyond Until.
	Seen     *Observation `json:"seen,omitempty"`
	LagBytes uint64       `json:"lag_bytes"`
}

// Judge returns the state of an archive. An observation that is older than limit says
// nothing about now. Between states that apply it takes the worse one: broken, unknown,
// behind, ok.
func Judge(in Inputs, now time.Time, limit time.Duration) Condition {
	if len(in.Spans) == 0 && len(in.Contradictions) > 0 {
		return Condition{State: StateBroken, Why: in.Contradictions[0]}
	}
	if len(in.Spans) == 0 {
		return Condition{State: StateNone, Why: "no WAL is stored"}
	}
	timeline, seen := in.serving()
	c := Condition{State: StateOK, Timeline: timeline}
	if len(seen) > 0 {
		c.Seen = &seen[len(seen)-1]
	}
	h := in.history(c.Timeline)
	path := in.Path(c.Timeline)
	if len(path) == 0 {
		c.State, c.Why = StateBroken, fmt.Sprintf("the server is on timeline %d, of which no WAL is stored", c.Timeline)
		return c
	}
	last := path[len(path)-1]
	c.Until = in.at(h, last.To)
	if c.Seen != nil && c.Seen.LSN > last.To {
		c.LagBytes = uint64(c.Seen.LSN - last.To)
	}
	// The oldest of the observations in a row that are beyond what is stored.
	behind := time.Time{}
	for i := len(seen) - 1; i >= 0 && seen[i].LSN > last.To; i-- {
		behind = seen[i].At
	}
	based := slices.ContainsFunc(in.Bases, func(b Base) bool {
		end, ok := h.End(b.Timeline)
		return ok && b.Start >= last.From && b.Stop <= min(last.To, end)
	})
	// Lost behind the last that is stored.
	lost := slices.IndexFunc(in.Lost, func(g Gap) bool {
		end, ok := h.End(g.Timeline)
		return ok && g.From <= end && g.To > last.To
	})
	switch {
	case len(in.Contradictions) > 0:
		c.State, c.Why = StateBroken, in.Contradictions[0]
	case lost >= 0:
		c.State = StateBroken
		c.Why = fmt.Sprintf("WAL from %v to %v is lost, and nothing after it is stored", in.Lost[lost].From, in.Lost[lost].To)
	case len(path) > 1 && !based:
		before := path[len(path)-2]
		c.State = StateBroken
		c.Why = fmt.Sprintf("WAL from %v to %v is missing, and no base backup is known to have been taken after it", before.To, last.From)
	case c.Seen == nil && len(in.Seen) > 0:
		c.State, c.Why = StateUnknown, fmt.Sprintf("timeline %d followed the one that a server was last seen on, and no observation of a server on it is stored", c.Timeline)
	case c.Seen == nil:
		c.State, c.Why = StateUnknown, "no observation of the server is stored"
	case now.Sub(c.Seen.At) > limit:
		c.State, c.Why = StateUnknown, "the server was last seen at "+c.Seen.At.UTC().Format(time.RFC3339)+": nothing streams WAL, or the server is away"
	case c.Seen.At.Sub(now) > limit:
		c.State, c.Why = StateUnknown, "the server was last seen at "+c.Seen.At.UTC().Format(time.RFC3339)+", which is in the future: a clock is wrong, here or where the store is"
	case !behind.IsZero() && now.Sub(behind) > limit:
		c.State, c.Why = StateBehind, "the server has written more than is stored since "+behind.UTC().Format(time.RFC3339)
	case c.LagBytes > 0:
		c.Why = fmt.Sprintf("WAL is stored up to %v; the server has written %d bytes more, not longer ago than allowed", last.To, c.LagBytes)
	default:
		c.Why = "all WAL is stored up to a moment ago"
	}
	return c
}

// serving returns the timeline that the server is on, and what was seen of it there, oldest
// first. It is the one that was seen last, or one that followed it: a server that was replaced
// can run on beside its successor, and be seen later, and says nothing of what that writes.
func (in Inputs) serving() (Timeline, []Observation) {
	seen := slices.Clone(in.Seen)
	slices.SortFunc(seen, func(a, b Observation) int { return cmp.Or(a.At.Compare(b.At), a.Time.Compare(b.Time)) })
	timelines := in.Timelines()
	if len(seen) == 0 {
		return timelines[len(timelines)-1], nil
	}
	t := seen[len(seen)-1].Timeline
	for next := in.successor(t, seen); next != 0; next = in.successor(t, seen) {
		t = next
	}
	return t, slices.DeleteFunc(seen, func(o Observation) bool { return o.Timeline != t })
}

// successor returns the timeline that followed another: of several the one that was seen last,
// else the newest. It is 0 where none is known. What was seen is in order.
func (in Inputs) successor(t Timeline, seen []Observation) (next Timeline) {
	newest := -1
	for _, h := range in.Histories {
		if _, ok := h.Begin(t); !ok || h.Timeline <= t {
			continue
		}
		at := -1
		for i, o := range seen {
			if o.Timeline == h.Timeline {
				at = i
			}
		}
		if at > newest || at == newest && h.Timeline > next {
			next, newest = h.Timeline, at
		}
	}
	return next
}
