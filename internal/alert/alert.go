// Package alert decides what to report of conditions that come and go: findings of a
// server, recovery goals, stores. It is a pure function of a state, of what was observed and
// of the time; the state is plain data that goes to JSON and back.
//
//	         seen for long enough                not seen in 2 looks
//	absent ──► pending ──────────────► firing ──────────────────► resolved ──► absent
//
// A look that did not check a condition says nothing about it: the alert keeps its state,
// and is stale once that lasts. What is acknowledged, silenced or inhibited keeps its state
// too, and is only not reported.
package alert

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/pgmedic/pgmedic"
)

// The rules, each our choice where nothing else is said.
const (
	// A critical condition fires after two looks that are at least criticalFor apart: one
	// look can meet a moment. A warning fires after three looks, or once it has lasted.
	criticalLooks, criticalFor = 2, 30 * time.Second
	warnLooks, warnFor         = 3, 5 * time.Minute
	// goneLooks is in how many looks in a row a condition must be gone.
	goneLooks = 2
	// staleLooks is after how many intervals without a look an alert is stale.
	staleLooks = 3
	// More than flapChanges changes in flapWindow are flapping (healthchecks warns of the
	// same). It ends when there was none for that long.
	flapChanges, flapWindow = 4, time.Hour
	// A target's first change waits for others, and later ones that are not critical keep a
	// distance: Alertmanager's defaults of group_wait and group_interval.
	groupWait, groupInterval = 30 * time.Second, 5 * time.Minute
	// A firing alert is repeated, mostRepeats times at most.
	repeatCritical, repeatWarn = 4 * time.Hour, 24 * time.Hour
	mostRepeats                = 6
	// keptResolved is how long a resolved alert is remembered.
	keptResolved = 30 * 24 * time.Hour
	// Acknowledged is how long an acknowledgement lasts.
	Acknowledged = 24 * time.Hour
)

// Unwatched is the id of the condition that a target was not looked at for three intervals.
const Unwatched = "target-unwatched"

// Condition is something that was seen in a look and should not be.
type Condition struct {
	// ID is stable: a finding's id, or a goal's.
	ID string `json:"id"`
	// Database and Object are what it is about, as in a finding.
	Database string           `json:"database,omitempty"`
	Object   string           `json:"object,omitempty"`
	Severity pgmedic.Severity `json:"severity"`
	// Summary is one plain sentence, Fix what mends it.
	Summary string `json:"summary"`
	Fix     string `json:"fix,omitempty"`
	// Scope is the part of a look that it was seen in.
	Scope string `json:"scope,omitempty"`
	// Goal is true of a recovery goal, which nothing inhibits.
	Goal bool `json:"goal,omitempty"`
}

// Skip is something that a look did not check: a query, a store.
type Skip struct {
	// Scope is the part of the look that lacks it. Empty is the whole look.
	Scope string
	// What names it, the same in each look.
	What string
}

// Observation is one look at one target.
type Observation struct {
	// Target names what was looked at: a server and its database.
	Target string
	// Every is how often the target is looked at.
	Every time.Duration
	// Failed is true where the look failed. Then what is in Seen was seen, and nothing else
	// was checked.
	Failed  bool
	Seen    []Condition
	Skipped []Skip
	// Covers reports whether a condition that was not seen is gone, as far as nothing was
	// skipped: it may only have dropped out of a list that was full. Nil is true of all.
	Covers func(Condition) bool
}

// Phase is how far an alert is.
type Phase string

// The phases of alerts.
const (
	Pending  Phase = "pending"
	Firing   Phase = "firing"
	Resolved Phase = "resolved"
)

// Alert is one condition of one target, with what became of it.
type Alert struct {
	// Fingerprint tells it from all others: see Fingerprint.
	Fingerprint string `json:"fingerprint"`
	Target      string `json:"target"`
	Condition
	Phase Phase `json:"phase"`
	// Since is when it was first seen, LastSeen when last, FiredAt and ResolvedAt when it
	// fired and was resolved last.
	Since      time.Time `json:"since"`
	LastSeen   time.Time `json:"last_seen"`
	FiredAt    time.Time `json:"fired_at,omitzero"`
	ResolvedAt time.Time `json:"resolved_at,omitzero"`
	// Looks counts the looks in a row that saw it, Gone those that checked and did not.
	Looks int `json:"looks"`
	Gone  int `json:"gone,omitempty"`
	// LastChecked is when a look last checked it. Stale is true where that is too long ago.
	LastChecked time.Time `json:"last_checked"`
	Stale       bool      `json:"stale,omitempty"`
	// Without is what the look skipped that last saw it: it does not depend on that.
	Without []string `json:"without,omitempty"`
	// Changes are when it fired and was resolved in the last hour. Flapping is true where
	// those are too many to be reported one by one.
	Changes  []time.Time `json:"changes,omitempty"`
	Flapping bool        `json:"flapping,omitempty"`
	// AcknowledgedUntil is until when it is not repeated.
	AcknowledgedUntil time.Time `json:"acknowledged_until,omitzero"`
	AcknowledgedBy    string    `json:"acknowledged_by,omitempty"`
	// Told is what was reported of it.
	Told Told `json:"told"`
}

// Told is what those who receive reports know of an alert.
type Told struct {
	// Firing is true where the last that they heard is that it fires; At is when that was.
	Firing bool      `json:"firing,omitempty"`
	At     time.Time `json:"at,omitzero"`
	// Severity is the worst that they heard of since it fired.
	Severity pgmedic.Severity `json:"severity,omitempty"`
	// Repeats counts how often it was repeated.
	Repeats int `json:"repeats,omitempty"`
	// Flapping and Stale are true where they heard so.
	Flapping bool `json:"flapping,omitempty"`
	Stale    bool `json:"stale,omitempty"`
	// FiredAt is when the last firing began that they heard of, whether it is over or not.
	FiredAt time.Time `json:"fired_at,omitzero"`
	// Steps is how many steps of its escalation were reported.
	Steps int `json:"steps,omitempty"`
}

// StateFormat is the number of the form of a State.
const StateFormat = 1

// State is all that is known. The zero State is that of a first look.
type State struct {
	Format int `json:"format"`
	// Alerts are by their fingerprints.
	Alerts map[string]Alert `json:"alerts"`
	// Targets are what was looked at.
	Targets map[string]Target `json:"targets"`
	// Silences that have ended are left out by Next.
	Silences []Silence `json:"silences,omitempty"`
}

// Target is when a target was looked at and reported on.
type Target struct {
	Every      time.Duration `json:"every_nanoseconds"`
	LastLooked time.Time     `json:"last_looked"`
	// Waiting is since when a change waits to be reported.
	Waiting time.Time `json:"waiting,omitzero"`
	// ToldAt is when something was last reported.
	ToldAt time.Time `json:"told_at,omitzero"`
}

// Check refuses a state that this version does not understand.
func (s State) Check() error {
	if s.Format != StateFormat {
		return pgmedic.Errorf(pgmedic.KindUsage, "move the file away to begin again, or use the version of pgmedic that wrote it",
			"the state of alerts has format %d, and this version reads %d", s.Format, StateFormat)
	}
	for key, a := range s.Alerts {
		if key != a.Fingerprint || key != Fingerprint(a.Target, a.Condition) {
			return pgmedic.Errorf(pgmedic.KindUsage, "move the file away to begin again", "the state of alerts contradicts itself: alert %.80q", key)
		}
		switch a.Phase {
		case Pending, Firing, Resolved:
		default:
			return pgmedic.Errorf(pgmedic.KindUsage, "move the file away to begin again", "the state of alerts contradicts itself: phase %.80q", a.Phase)
		}
	}
	return nil
}

// Fingerprint is half of a SHA-256, in hex, over what tells alerts apart: target, id,
// database and object. The severity is not part of it: a condition that gets worse is the same.
func Fingerprint(target string, c Condition) string {
	h := sha256.New()
	for _, part := range []string{target, c.ID, c.Database, c.Object} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Kind is what a Change reports.
type Kind string

// The kinds of changes.
const (
	// KindFiring: it fires, and has not been reported yet.
	KindFiring Kind = "firing"
	// KindWorse: its severity went up since it was reported.
	KindWorse Kind = "worse"
	// KindRepeat: it still fires.
	KindRepeat Kind = "repeat"
	// KindResolved: it fired, that was reported, and it is gone.
	KindResolved Kind = "resolved"
	// KindPassed: it fired and was resolved before either was reported.
	KindPassed Kind = "passed"
	// KindFlapping: it comes and goes. Further changes are not reported one by one.
	KindFlapping Kind = "flapping"
	// KindStale: it fires as far as is known, and has not been checked for a while.
	KindStale Kind = "stale"
	// KindEscalated: it still fires, is not acknowledged, and is reported to others.
	KindEscalated Kind = "escalated"
)

// Change is one thing to report.
type Change struct {
	Kind Kind `json:"kind"`
	// At is when it was decided.
	At    time.Time `json:"at"`
	Alert Alert     `json:"alert"`
	// Steps is how many steps of its escalation an alert that fires has reached, so that
	// their channels hear of the change.
	Steps int `json:"steps,omitempty"`
}
