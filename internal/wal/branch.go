package wal

import (
	"cmp"
	"slices"
	"time"
)

// Branch is WAL of a timeline from behind the position at which another one began: what a
// server wrote that was replaced meanwhile. It is not part of the new timeline.
type Branch struct {
	Timeline Timeline `json:"timeline"`
	// Next is the timeline that began at From, and To how far what is stored of the old one
	// goes from there without a gap.
	Next Timeline `json:"next_timeline"`
	From LSN      `json:"from"`
	To   LSN      `json:"to"`
}

// Branches returns what is stored of timelines behind the positions at which others began,
// by timeline and position. What begins behind a gap is not among it.
func (s Stored) Branches() (branches []Branch) {
	for _, h := range s.Histories {
		for i, left := range h.Switches {
			next := h.Timeline
			if i+1 < len(h.Switches) {
				next = h.Switches[i+1].Timeline
			}
			b := Branch{Timeline: left.Timeline, Next: next, From: left.End, To: left.End}
			for _, span := range s.Spans {
				if span.Timeline == left.Timeline && span.From <= left.End && span.To > b.To {
					b.To = span.To
				}
			}
			if b.To > b.From && !slices.Contains(branches, b) {
				branches = append(branches, b)
			}
		}
	}
	slices.SortFunc(branches, func(a, b Branch) int {
		return cmp.Or(cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.From, b.From), cmp.Compare(a.Next, b.Next))
	})
	return branches
}

// Commits are the transactions that committed in a range of WAL.
type Commits struct {
	Count int `json:"count"`
	// First and Last are the earliest and the latest time at which one did, by the server's
	// clock. They are zero where none did.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
}

// Add takes account of a commit.
func (c Commits) Add(at time.Time) Commits {
	if c.Count++; c.Count == 1 || at.Before(c.First) {
		c.First = at
	}
	if c.Count == 1 || at.After(c.Last) {
		c.Last = at
	}
	return c
}
