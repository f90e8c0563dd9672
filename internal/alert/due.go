package alert

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
)

// The conditions that inhibit others of their target. Nothing inhibits a recovery goal: that
// a server does not answer makes it more urgent, not less.
const (
	// ServerUnreachable inhibits all that is known of the target.
	ServerUnreachable = "server-unreachable"
	// StoreUnreachable inhibits what is known of its backups, which have ScopeBackups.
	StoreUnreachable = "store-unreachable"
)

// ScopeBackups is the scope of conditions that a store of backups was read for.
const ScopeBackups = "backups"

// Due is what is to be reported now, grouped by target and the worst first. News of a target
// waits for half a minute for more, unless the next look comes no sooner, and for five minutes after the last report unless
// something critical is among it; reminders do not wait. The same is due again until Reported records that it was reported: if that fails, or
// the program ends before, nothing is lost.
func Due(s State, now time.Time) []Change {
	var due []Change
	for _, target := range slices.Sorted(maps.Keys(s.Targets)) {
		alerts := s.audible(target, now)
		ready := s.Targets[target].ready(now, slices.ContainsFunc(alerts, Alert.urgent))
		for _, a := range alerts {
			kind := a.repeat(now)
			if news := a.news(); news != "" {
				if kind = ""; ready {
					kind = news
				}
			}
			if kind != "" {
				due = append(due, Change{Kind: kind, At: now, Alert: a})
			}
		}
	}
	return due
}

// audible are the alerts of a target that may be reported now, the worst first: neither
// silenced nor inhibited.
func (s State) audible(target string, now time.Time) (all []Alert) {
	var sources []string
	for _, a := range s.Alerts {
		if a.Target != target {
			continue
		}
		all = append(all, a)
		if a.Phase == Firing && (a.ID == ServerUnreachable || a.ID == StoreUnreachable) {
			sources = append(sources, a.ID)
		}
	}
	all = slices.DeleteFunc(all, func(a Alert) bool {
		return slices.ContainsFunc(s.Silences, func(x Silence) bool { return x.Covers(a, now) }) ||
			slices.ContainsFunc(sources, func(source string) bool { return inhibits(source, a) })
	})
	slices.SortFunc(all, func(x, y Alert) int {
		return cmp.Or(cmp.Compare(y.Severity.Rank(), x.Severity.Rank()), cmp.Compare(x.ID, y.ID), cmp.Compare(x.Database, y.Database),
			cmp.Compare(x.Object, y.Object))
	})
	return all
}

// ready reports whether the target's news has waited for long enough.
func (t Target) ready(now time.Time, urgent bool) bool {
	grouped := t.Every >= groupWait || now.Sub(t.Waiting) >= groupWait // a look is a group, where the next comes later
	return !t.Waiting.IsZero() && grouped && (urgent || t.ToldAt.IsZero() || now.Sub(t.ToldAt) >= groupInterval)
}

// urgent reports whether the news of an alert is that something critical began: an outage does
// not wait because a warning was just reported.
func (a Alert) urgent() bool {
	news := a.news()
	return a.Severity == pgmedic.SeverityCritical && (news == KindFiring || news == KindWorse)
}

// wait notes since when there is news of each target.
func (s *State) wait(now time.Time) {
	for name, t := range s.Targets {
		news := slices.ContainsFunc(s.audible(name, now), func(a Alert) bool { return a.news() != "" })
		switch {
		case !news:
			t.Waiting = time.Time{}
		case t.Waiting.IsZero():
			t.Waiting = now
		}
		s.Targets[name] = t
	}
}

// news is what those who receive reports do not know yet of an alert, or empty.
func (a Alert) news() Kind {
	switch {
	case a.Flapping && !a.Told.Flapping:
		return KindFlapping
	case a.Flapping:
		return ""
	case a.Phase == Firing && !a.Told.Firing:
		return KindFiring
	case a.Phase == Firing && a.Severity.Rank() > a.Told.Severity.Rank():
		return KindWorse
	case a.Phase == Firing && a.Told.Flapping: // it stays now
		return KindRepeat
	case a.Phase == Firing && a.Stale && !a.Told.Stale:
		return KindStale
	case a.Phase == Resolved && a.Told.Firing:
		return KindResolved
	case a.Phase != Firing && !a.Told.Firing && a.FiredAt.After(a.Told.FiredAt):
		return KindPassed
	}
	return ""
}

// repeat is the reminder that is due, or empty.
func (a Alert) repeat(now time.Time) Kind {
	since := now.Sub(a.Told.At)
	switch {
	case a.Flapping:
		if a.Told.Flapping && since >= flapWindow {
			return KindFlapping
		}
		return ""
	case a.Phase != Firing || !a.Told.Firing || a.Told.Repeats >= mostRepeats || now.Before(a.AcknowledgedUntil):
		return ""
	}
	every := repeatWarn
	if a.Severity == pgmedic.SeverityCritical {
		every = repeatCritical
	}
	if since < every {
		return ""
	}
	return KindRepeat
}

// Reported records that changes were reported.
func Reported(s State, changes []Change, now time.Time) State {
	s = s.copy()
	for _, c := range changes {
		a, ok := s.Alerts[c.Alert.Fingerprint]
		if !ok {
			continue
		}
		a.Told = a.Told.after(c, now)
		s.Alerts[c.Alert.Fingerprint] = a
		if t := s.Targets[a.Target]; c.Kind != KindRepeat && c.Kind != KindEscalated {
			t.ToldAt, t.Waiting = now, time.Time{}
			s.Targets[a.Target] = t
		}
	}
	return s
}

// after is what is known once a change was reported.
func (t Told) after(c Change, now time.Time) Told {
	switch c.Kind {
	case KindFiring:
		return Told{Firing: true, At: now, Severity: c.Alert.Severity, FiredAt: c.Alert.FiredAt, Steps: c.Steps}
	case KindResolved, KindPassed:
		return Told{At: now, FiredAt: c.Alert.FiredAt}
	case KindWorse:
		t.Severity, t.Repeats, t.Flapping = c.Alert.Severity, 0, false
	case KindRepeat:
		if !t.Flapping {
			t.Repeats++
		}
		t.Flapping = false
	case KindFlapping:
		t.Firing, t.Flapping, t.FiredAt = true, true, c.Alert.FiredAt
		if c.Alert.Severity.Rank() > t.Severity.Rank() {
			t.Severity = c.Alert.Severity
		}
	case KindStale:
		t.Stale = true
	case KindEscalated: // which others were told, so that the repeats keep their times
		t.Steps = c.Steps
		return t
	}
	t.At, t.Steps = now, c.Steps
	return t
}

// inhibits reports whether nothing is reported of an alert while the source fires.
func inhibits(source string, a Alert) bool {
	if a.Goal {
		return false
	}
	switch source {
	case ServerUnreachable:
		return a.ID != ServerUnreachable
	case StoreUnreachable:
		return a.ID != StoreUnreachable && a.Scope == ScopeBackups
	}
	return false
}
