package alert

import (
	"maps"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Next is the state after some looks, at most one of each target. It changes neither of its
// arguments. What is to be reported then is Due.
func Next(s State, looks []Observation, now time.Time) State {
	s = s.copy()
	for _, o := range looks {
		s.look(o, now)
	}
	s.overdue(now)
	for key, a := range s.Alerts {
		a.Changes = slices.DeleteFunc(a.Changes, func(at time.Time) bool { return now.Sub(at) >= flapWindow })
		if len(a.Changes) > flapChanges {
			a.Flapping = true
		} else if len(a.Changes) == 0 {
			a.Flapping = false
		}
		a.Told.Stale = a.Told.Stale && a.Stale
		s.Alerts[key] = a
	}
	maps.DeleteFunc(s.Alerts, func(_ string, a Alert) bool {
		return a.Phase == Resolved && a.news() == "" && now.Sub(a.ResolvedAt) >= keptResolved
	})
	s.Silences = slices.DeleteFunc(s.Silences, func(x Silence) bool { return !now.Before(x.Until) })
	s.wait(now)
	return s
}

// copy is deep where Next and Reported write.
func (s State) copy() State {
	s.Format = StateFormat
	alerts, targets := make(map[string]Alert, len(s.Alerts)), make(map[string]Target, len(s.Targets))
	for key, a := range s.Alerts {
		a.Changes = slices.Clone(a.Changes)
		alerts[key] = a
	}
	maps.Copy(targets, s.Targets)
	s.Alerts, s.Targets, s.Silences = alerts, targets, slices.Clone(s.Silences)
	return s
}

// look takes in what one look saw, and what it checked and did not see.
func (s *State) look(o Observation, now time.Time) {
	t := s.Targets[o.Target]
	t.Every = o.Every
	if !o.Failed || t.LastLooked.IsZero() {
		t.LastLooked = now // a target that never answers is unwatched from the first look on
	}
	s.Targets[o.Target] = t
	seen := map[string]bool{}
	for _, c := range o.Seen {
		key := Fingerprint(o.Target, c)
		if seen[key] {
			continue // two findings that nothing tells apart
		}
		seen[key] = true
		a, known := s.Alerts[key]
		if !known {
			if c.Severity == pgmedic.SeverityInfo {
				continue // of which no report is made, and there can be thousands
			}
			a = Alert{Fingerprint: key, Target: o.Target, Phase: Pending, Since: now}
		}
		s.Alerts[key] = a.see(c, o.without(c.Scope), now)
	}
	for key, a := range s.Alerts {
		if a.Target != o.Target || seen[key] || a.ID == Unwatched || !o.checked(a) {
			continue
		}
		if a = a.miss(now); a.Phase == "" {
			delete(s.Alerts, key)
			continue
		}
		s.Alerts[key] = a
	}
}

// without names what a look skipped in a scope, sorted.
func (o Observation) without(scope string) []string {
	var all []string
	for _, skip := range o.Skipped {
		if skip.Scope == "" || skip.Scope == scope {
			all = append(all, skip.What)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// checked reports whether a look that did not see an alert's condition would have: it
// skipped nothing in its scope but what the look skipped, too, that saw it last, and no full
// list may have left it out.
func (o Observation) checked(a Alert) bool {
	if o.Failed {
		return false
	}
	for _, what := range o.without(a.Scope) {
		if !slices.Contains(a.Without, what) {
			return false
		}
	}
	return o.Covers == nil || o.Covers(a.Condition)
}

// see is the alert after a look that saw its condition.
func (a Alert) see(c Condition, without []string, now time.Time) Alert {
	if a.Phase == Resolved {
		a.Phase, a.Since, a.Looks = Pending, now, 0
	}
	if c.Severity.Rank() > a.Severity.Rank() {
		a.AcknowledgedUntil, a.AcknowledgedBy = time.Time{}, "" // that was not acknowledged
	}
	a.Condition, a.Without = c, without
	a.LastSeen, a.LastChecked, a.Stale = now, now, false
	a.Looks++
	a.Gone = 0
	if a.Phase == Pending && a.lasted(now) {
		a.Phase, a.FiredAt = Firing, now
		a.Changes = append(a.Changes, now)
	}
	return a
}

// lasted reports whether a condition was seen for long enough.
func (a Alert) lasted(now time.Time) bool {
	since := now.Sub(a.Since)
	switch a.Severity {
	case pgmedic.SeverityCritical:
		return a.ID == Unwatched || a.Looks >= criticalLooks && since >= criticalFor
	case pgmedic.SeverityWarn:
		return a.Looks >= warnLooks || a.Looks > 1 && since >= warnFor
	case pgmedic.SeverityInfo: // of which no report is made
	}
	return false
}

// miss is the alert after a look that checked its condition and did not see it; without a
// phase it is to be forgotten.
func (a Alert) miss(now time.Time) Alert {
	a.LastChecked, a.Stale, a.Looks = now, false, 0
	switch a.Phase {
	case Pending:
		if a.Told == (Told{}) && a.ResolvedAt.IsZero() {
			return Alert{}
		}
		a.Phase = Resolved // as it was before it was seen again
	case Firing:
		if a.Gone++; a.Gone >= goneLooks {
			a.Phase, a.ResolvedAt, a.Gone = Resolved, now, 0
			a.Changes = append(a.Changes, now)
		}
	case Resolved:
	}
	return a
}

// overdue marks what no look has checked for too long, and says so of whole targets.
func (s *State) overdue(now time.Time) {
	for key, a := range s.Alerts {
		every := s.Targets[a.Target].Every
		if a.Phase == Firing && a.ID != Unwatched && now.Sub(a.LastChecked) > staleLooks*every {
			a.Stale = true
			s.Alerts[key] = a
		}
	}
	for name, t := range s.Targets {
		c := Condition{
			ID: Unwatched, Object: name, Severity: pgmedic.SeverityCritical,
			Summary: "The target could not be checked for " + words.Duration(now.Sub(t.LastLooked)) + ": what is reported of it may be out of date.",
		}
		key := Fingerprint(name, c)
		a, known := s.Alerts[key]
		// Where it is known why, that says it all.
		late := now.Sub(t.LastLooked) > staleLooks*t.Every && (known && a.Phase != Resolved || !s.fires(name, ServerUnreachable))
		switch {
		case late:
			if !known {
				a = Alert{Fingerprint: key, Target: name, Phase: Pending, Since: now}
			}
			s.Alerts[key] = a.see(c, nil, now)
		case known && a.Phase == Firing: // one look is enough to know better
			a.Gone = goneLooks
			s.Alerts[key] = a.miss(now)
		}
	}
}

// fires reports whether a condition of a target fires.
func (s *State) fires(target, id string) bool {
	for _, a := range s.Alerts {
		if a.Target == target && a.ID == id && a.Phase == Firing {
			return true
		}
	}
	return false
}
