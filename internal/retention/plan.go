package retention

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/words"
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
	// Refused is true where a drill proved it in the same way, and this host refuses it
	// wherever it is: one that is not encrypted, or that no trusted signer signed.
	Refused bool
	// Unclean is true where what was backed up was damaged already: such a backup is relied
	// on where there is no other.
	Unclean bool
	// Parent is the id of the backup that an incremental one needs; empty for others.
	Parent string
	// Needed says why it is kept whatever the windows are, beside what Plan knows itself;
	// empty where it is not.
	Needed string
	// ShrunkFrom is the id of the newest backup that has far more, where this one is shrunk;
	// empty where it is not.
	ShrunkFrom string
	// Holds keep it: those of all stores that have not ended.
	Holds []catalog.Hold
	Mark  *catalog.Mark
	Bytes int64
}

func (b Backup) failed() bool { return b.Proof == pgmedic.ProofFailed }

// sound reports whether nothing bad is known of it.
func (b Backup) sound() bool { return !b.failed() && !b.Unclean }

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
	// KeptUntil is until when at least it is kept, as far as that can be said now: what is
	// kept for other reasons, such as being the newest, may go at any time later.
	KeptUntil time.Time `json:"kept_until,omitzero"`
	// LockUntil is until when the store is to lock it, and LockHold is true where that is to
	// set a legal hold: both where it does not yet. Plan leaves them out. Locked is true
	// where both were done.
	LockUntil time.Time `json:"lock_until,omitzero"`
	LockHold  bool      `json:"lock_hold,omitempty"`
	Locked    bool      `json:"locked,omitempty"`
	// Unmark is true where a mark is to be taken off.
	Unmark bool `json:"unmark,omitempty"`
	// Done is true where the verdict was carried out.
	Done bool `json:"done"`
}

// Lacks reports whether its lock is to be lengthened, or was.
func (d Decision) Lacks() bool { return !d.LockUntil.IsZero() || d.LockHold }

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
	kept, until := reasons(backups, p, c)
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
			d.KeptUntil = until[b.ID]
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
			if child, ok := childOf(b, backups); ok && d.Verdict == Delete {
				d.Verdict, d.Reasons = Wait, append(d.Reasons, "backup "+child.ID+" needs it, and is deleted first")
			}
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

// reasons returns why backups are kept, by their ids, and until when at least.
func reasons(backups []Backup, p Policy, c Circumstances) (kept map[string][]string, until map[string]time.Time) {
	kept, until = map[string][]string{}, map[string]time.Time{}
	keep := func(b Backup, why string) { kept[b.ID] = append(kept[b.ID], why) }
	now := c.Now.In(p.location())
	if p.Off() {
		for _, b := range backups {
			keep(b, "retention is off")
		}
		return kept, until
	}
	settle := func(b Backup, at time.Time) {
		if at = at.UTC(); at.After(until[b.ID]) && at.After(c.Now) {
			until[b.ID] = at
		}
	}
	for _, b := range backups {
		settle(b, p.Certain(b.StartedAt, c.Purpose))
	}
	if c.Purpose == pgmedic.PurposeSafety {
		since := p.Safety.Before(now)
		for i, b := range backups {
			switch {
			case b.StartedAt.After(since):
				keep(b, "a safety backup, younger than "+p.Safety.String())
			case i == 0 && c.Displaced && !p.withoutNewest:
				keep(b, "the newest safety backup, and the database that it is of may still be set aside")
			}
		}
	} else {
		keepTiers(backups, p, now, keep, settle)
		if !p.withoutNewest {
			keepNewest(backups, p, keep)
		}
	}
	young, spoilt := p.Days.Before(now), p.Failed.Before(now)
	for _, b := range backups {
		for _, h := range b.Holds {
			keep(b, holdWords(h))
		}
		if b.Needed != "" {
			keep(b, b.Needed)
		}
		if !p.Days.IsZero() && b.StartedAt.After(young) {
			keep(b, "younger than "+p.Days.String())
		}
		if b.failed() && b.ProofAt.After(spoilt) {
			keep(b, "found bad less than "+p.Failed.String()+" ago")
		}
	}
	keepParents(backups, kept, until)
	return kept, until
}

// keepTiers keeps one backup of each bucket that overlaps its tier's window: the newest
// that is proven, else the newest that was not found bad, else the newest. Where the
// bucket is over it is settled that it is kept as long as its window is: no newer one can
// come.
func keepTiers(backups []Backup, p Policy, now time.Time, keep func(Backup, string), settle func(Backup, time.Time)) {
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
			if t.start(now).Unix() > start {
				settle(best[start], t.window.After(best[start].StartedAt.In(now.Location())))
			}
		}
	}
}

// rank orders the backups of one bucket.
func rank(b Backup) int {
	switch {
	case !b.sound():
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
	sound := Backup.sound
	first("newest", func(Backup) bool { return true })
	if len(backups) > 0 && backups[0].ShrunkFrom != "" {
		first("has what the newest lacks, which is shrunk", func(b Backup) bool { return b.ID == backups[0].ShrunkFrom })
	}
	if len(backups) > 0 && !backups[0].sound() {
		first("newest that was not found bad", sound)
	}
	// Of several stores each keeps its own, so that no copy of the newest is lost to a
	// receipt that one of them lacks.
	proven := func(b Backup) bool { return b.Proven && b.sound() }
	first("newest proven", proven)
	authentic := func(b Backup) bool { return proven(b) && !b.Claimed }
	if i := slices.IndexFunc(backups, proven); i >= 0 && backups[i].Claimed {
		first("newest proven by receipts that are authentic", authentic)
	}
	here := func(b Backup) bool { return b.Proof == pgmedic.ProofProven }
	if i := slices.IndexFunc(backups, here); i >= 0 && i != slices.IndexFunc(backups, proven) {
		first("newest proven in this store", here)
	}
	// What this host refuses proves nothing here. It may all the same be the last good
	// backup, where trusted signers or keys were configured after it was taken.
	refused := func(b Backup) bool { return b.Refused && !b.failed() }
	first("newest proven of those that this host refuses", refused)
	if i := slices.IndexFunc(backups, refused); i >= 0 && backups[i].Claimed {
		first("newest proven by receipts that are authentic, of those that this host refuses", func(b Backup) bool { return refused(b) && !b.Claimed })
	}
	n := 0
	for _, b := range backups {
		if n < p.Last && sound(b) {
			keep(b, fmt.Sprintf("last %d", p.Last))
			n++
		}
	}
	keepChains(backups, keep)
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
		return fmt.Sprintf("backup %s began %s in the future", newest.ID, words.Duration(newest.StartedAt.Sub(c.Now))),
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
		return fmt.Sprintf("of %s that have a backup %d would have none", words.Plural(len(before), "day"), lost),
			"compare the plan with the policy; --max-share 100% allows it"
	}
	return "", ""
}
