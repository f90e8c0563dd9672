package retention

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
)

// Verdict is what becomes of a backup.
type Verdict string

// The verdicts. What is to go is marked first, and deleted by a run that finds the
// mark older than the grace.
const (
	Keep   Verdict = "keep"
	Mark   Verdict = "mark"
	Wait   Verdict = "wait"
	Delete Verdict = "delete"
)

// Backup is what the plan takes of a backup in one store.
type Backup struct {
	ID        string
	StartedAt time.Time
	// Proof is what is known of it in this store, ProofAt since when.
	Proof   pgmedic.Proof
	ProofAt time.Time
	// Proven is true where a drill proved it in any store and it was found bad in none,
	// Claimed where nothing tells who wrote the receipts that say so.
	Proven, Claimed bool
	// Holds keep it: those of all stores that have not ended.
	Holds []catalog.Hold
	Mark  *catalog.Mark
	Bytes int64
}

func (b Backup) failed() bool { return b.Proof == pgmedic.ProofFailed }

// Decision is what becomes of one backup, and why.
type Decision struct {
	ID        string        `json:"id"`
	StartedAt time.Time     `json:"started_at"`
	Verdict   Verdict       `json:"verdict"`
	Reasons   []string      `json:"reasons"`
	Proof     pgmedic.Proof `json:"proof"`
	Bytes     int64         `json:"bytes"`
	// MarkedAt is since when it is marked, DeleteAfter when it may go.
	MarkedAt    time.Time `json:"marked_at,omitzero"`
	DeleteAfter time.Time `json:"delete_after,omitzero"`
	// Unmark is true where a mark is to be taken off.
	Unmark bool `json:"unmark,omitempty"`
	// Done is true where the verdict was carried out.
	Done bool `json:"done"`
}

// Why is the reasons in one line.
func (d Decision) Why() string { return strings.Join(d.Reasons, "; ") }

// Series are backups of one scope and purpose, of one database of one system, in one
// store. Nothing is compared across series.
type Series struct {
	Store    string `json:"store"`
	Server   string `json:"server"`
	System   string `json:"system_identifier,omitempty"`
	Database string `json:"database"`
	// Scope tells parts of a database apart; it is empty for the whole.
	Scope     string          `json:"scope,omitempty"`
	Purpose   pgmedic.Purpose `json:"purpose"`
	Decisions []Decision      `json:"decisions"`
	// Stopped says why nothing is marked and nothing deleted, though the policy would.
	Stopped string `json:"stopped,omitempty"`
	// Hint says what to do about that.
	Hint string `json:"hint,omitempty"`

	entries map[string]catalog.Entry
}

// Count returns how many backups have a verdict.
func (s Series) Count(v Verdict) (n int, size int64) {
	for _, d := range s.Decisions {
		if d.Verdict == v {
			n++
			size += d.Bytes
		}
	}
	return n, size
}

// Entry returns the entry of a backup in the series.
func (s Series) Entry(id string) catalog.Entry { return s.entries[id] }

// Circumstances are what the plan of a series depends on beside its backups.
type Circumstances struct {
	Now     time.Time
	Purpose pgmedic.Purpose
	// Displaced is true where the newest safety backup is that of a database that a
	// swap set aside and that is still there, or where that is not known.
	Displaced bool
	// Stop says why nothing may be deleted, and Hint what to do; both empty else.
	Stop, Hint string
}

// Plan decides for each backup of one series, newest first. It depends on nothing but
// its arguments, and not on the order of the backups.
func Plan(series []Backup, p Policy, c Circumstances) (decisions []Decision, stopped, hint string) {
	backups := slices.Clone(series)
	slices.SortFunc(backups, newestFirst)
	kept := reasons(backups, p, c)
	decisions = make([]Decision, 0, len(backups))
	goes := false
	for _, b := range backups {
		d := Decision{ID: b.ID, StartedAt: b.StartedAt, Verdict: Keep, Reasons: kept[b.ID], Proof: b.Proof, Bytes: b.Bytes}
		if b.Mark != nil {
			d.MarkedAt = b.Mark.Since()
		}
		switch {
		case len(d.Reasons) > 0:
			d.Unmark = b.Mark != nil
		case b.Mark == nil:
			d.Verdict, goes = Mark, true
			d.Reasons = []string{dropped(p, c)}
		default:
			goes = true
			d.DeleteAfter = d.MarkedAt.Add(p.Grace)
			d.Verdict = Wait
			if !c.Now.Before(d.DeleteAfter) {
				d.Verdict = Delete
			}
			d.Reasons = []string{dropped(p, c)}
		}
		decisions = append(decisions, d)
	}
	if !goes {
		return decisions, "", ""
	}
	if stopped, hint = stop(backups, kept, p, c); stopped == "" {
		return decisions, "", ""
	}
	for i := range decisions {
		d := &decisions[i]
		if d.Verdict != Keep {
			d.Verdict, d.DeleteAfter, d.Reasons = Keep, time.Time{}, []string{"nothing is deleted now; else: " + d.Why()}
		}
	}
	return decisions, stopped, hint
}

func newestFirst(a, b Backup) int {
	if n := b.StartedAt.Compare(a.StartedAt); n != 0 {
		return n
	}
	return cmp.Compare(b.ID, a.ID)
}

func dropped(p Policy, c Circumstances) string {
	switch {
	case c.Purpose == pgmedic.PurposeSafety:
		return "a safety backup, older than " + p.Safety.String()
	case len(p.tiers()) == 0:
		return "older than " + p.Days.String()
	}
	return "no tier needs it"
}

// reasons returns why backups are kept, by their ids.
func reasons(backups []Backup, p Policy, c Circumstances) map[string][]string {
	kept := map[string][]string{}
	keep := func(b Backup, why string) { kept[b.ID] = append(kept[b.ID], why) }
	now := c.Now.In(p.location())
	if p.Off() {
		for _, b := range backups {
			keep(b, "retention is off")
		}
		return kept
	}
	if c.Purpose == pgmedic.PurposeSafety {
		since := p.Safety.Before(now)
		for i, b := range backups {
			switch {
			case b.StartedAt.After(since):
				keep(b, "a safety backup, younger than "+p.Safety.String())
			case i == 0 && c.Displaced:
				keep(b, "the newest safety backup, and the database that it is of may still be set aside")
			}
		}
	} else {
		keepTiers(backups, p, now, keep)
		keepNewest(backups, p, keep)
	}
	young, spoilt := p.Days.Before(now), p.Failed.Before(now)
	for _, b := range backups {
		for _, h := range b.Holds {
			keep(b, holdWords(h))
		}
		if !p.Days.IsZero() && b.StartedAt.After(young) {
			keep(b, "younger than "+p.Days.String())
		}
		if b.failed() && b.ProofAt.After(spoilt) {
			keep(b, "found bad less than "+p.Failed.String()+" ago")
		}
	}
	return kept
}

// keepTiers keeps one backup of each bucket that overlaps its tier's window: the newest
// that is proven, else the newest that was not found bad, else the newest.
func keepTiers(backups []Backup, p Policy, now time.Time, keep func(Backup, string)) {
	for _, t := range p.tiers() {
		first := t.start(t.window.Before(now))
		best := map[int64]Backup{}
		var order []int64
		for _, b := range backups { // newest first
			start := t.start(b.StartedAt.In(now.Location()))
			if start.Before(first) {
				continue
			}
			other, taken := best[start.Unix()]
			if !taken {
				order = append(order, start.Unix())
			}
			if !taken || rank(b) > rank(other) {
				best[start.Unix()] = b
			}
		}
		for _, start := range order {
			keep(best[start], t.words(time.Unix(start, 0).In(now.Location())))
		}
	}
}

// rank orders the backups of one bucket.
func rank(b Backup) int {
	switch {
	case b.failed():
		return 0
	case b.Proven:
		return 2
	}
	return 1
}

// keepNewest keeps what is never deleted, whatever the windows.
func keepNewest(backups []Backup, p Policy, keep func(Backup, string)) {
	first := func(why string, is func(Backup) bool) {
		if i := slices.IndexFunc(backups, is); i >= 0 {
			keep(backups[i], why)
		}
	}
	sound := func(b Backup) bool { return !b.failed() }
	first("newest", func(Backup) bool { return true })
	if len(backups) > 0 && backups[0].failed() {
		first("newest that was not found bad", sound)
	}
	// Of several stores each keeps its own, so that no copy of the newest is lost to a
	// receipt that one of them lacks.
	proven := func(b Backup) bool { return b.Proven && !b.failed() }
	first("newest proven", proven)
	authentic := func(b Backup) bool { return proven(b) && !b.Claimed }
	if i := slices.IndexFunc(backups, proven); i >= 0 && backups[i].Claimed {
		first("newest proven by receipts that are authentic", authentic)
	}
	here := func(b Backup) bool { return b.Proof == pgmedic.ProofProven }
	if i := slices.IndexFunc(backups, here); i >= 0 && i != slices.IndexFunc(backups, proven) {
		first("newest proven in this store", here)
	}
	n := 0
	for _, b := range backups {
		if n < p.Last && sound(b) {
			keep(b, fmt.Sprintf("last %d", p.Last))
			n++
		}
	}
}

func holdWords(h catalog.Hold) string {
	if h.Odd != "" {
		return fmt.Sprintf("held %q, of which nothing else is known: %s", h.Name, h.Odd)
	}
	words := fmt.Sprintf("held %q by %s: %s", h.Name, h.By, h.Reason)
	if !h.Until.IsZero() {
		words += ", until " + h.Until.UTC().Format("2006-01-02 15:04Z")
	}
	return words
}

// stop returns why a plan that would delete something must not.
func stop(backups []Backup, kept map[string][]string, p Policy, c Circumstances) (why, hint string) {
	if c.Stop != "" {
		return c.Stop, c.Hint
	}
	if newest := backups[0]; newest.StartedAt.Sub(c.Now) > maxAhead {
		return fmt.Sprintf("backup %s began %s in the future", newest.ID, newest.StartedAt.Sub(c.Now).Round(time.Minute)),
			"compare the clocks of this host and of the one that took it"
	}
	if c.Purpose == pgmedic.PurposeSafety {
		return "", ""
	}
	share := p.MaxShare
	if share <= 0 {
		share = 0.5
	}
	before, after := map[string]bool{}, map[string]bool{}
	for _, b := range backups {
		day := b.StartedAt.In(p.location()).Format(time.DateOnly)
		if b.Mark == nil || len(kept[b.ID]) > 0 { // what an earlier plan marked was judged then
			before[day] = true
		}
		if len(kept[b.ID]) > 0 {
			after[day] = true
		}
	}
	lost := 0
	for day := range before {
		if !after[day] {
			lost++
		}
	}
	if lost > fewDays && share < 1 && float64(lost) > share*float64(len(before)) {
		return fmt.Sprintf("of %d days that have a backup %d would have none", len(before), lost),
			"compare the plan with the policy; --max-share 100% allows it"
	}
	return "", ""
}
