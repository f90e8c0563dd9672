package alert

import (
	"maps"
	"slices"
	"time"
)

// Escalated are the alerts that have reached further steps of their escalation: those that
// fire, were reported, and are not acknowledged. Steps says how many steps an alert
// has reached; only those that were not reported count. What is silenced, inhibited or
// flapping reaches none.
func Escalated(s State, now time.Time, steps func(Alert) int) (all []Change) {
	for _, target := range slices.Sorted(maps.Keys(s.Targets)) {
		for _, a := range s.audible(target, now) {
			if a.Phase != Firing || !a.Told.Firing || a.Flapping || now.Before(a.AcknowledgedUntil) {
				continue
			}
			if n := steps(a); n > a.Told.Steps {
				all = append(all, Change{Kind: KindEscalated, At: now, Alert: a, Steps: n})
			}
		}
	}
	return all
}

// WithSteps notes of changes how many steps their alerts have reached: what is reported of
// an alert that fires goes to the channels of these steps, too, so that they need not hear
// of it again. A step is counted from the route that the alert has now, because one that
// gets worse may take another.
func WithSteps(changes []Change, steps func(Alert) int) []Change {
	all := slices.Clone(changes)
	for i, c := range all {
		if c.Alert.Phase == Firing {
			all[i].Steps = steps(c.Alert)
		}
	}
	return all
}
