package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/words"
)

// checkJob is what notifications call check.
const checkJob = "check"

// checkEvent begins the names of events about single checks. Those about stores have names of
// their own, so that a route can tell them apart.
const (
	checkEvent       = "check."
	storeUnreachable = "store.unreachable"
	storeReached     = "store.reached"
)

// reportChecks tries the channels with a quiet message, and hands on what of the checks fails
// and what no longer does. It does nothing without --notify.
func (cmd *checkCommand) reportChecks(ctx context.Context, l *checklist) {
	n := cmd.notifier
	if n == nil {
		return
	}
	n.ready(ctx)
	cmd.tryChannels(ctx, l)
	if len(n.sender.Names()) == 0 {
		return
	}
	database := n.database()
	failed := failedChecks(l)
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		cmd.outcomes.events = append(cmd.outcomes.events, cmd.checkEvent(failed[name], l.kinds[name], database))
	}
	for _, prefix := range []string{checkEvent + "failed", storeUnreachable} {
		open, err := n.sender.Open(ctx, prefix, n.target("").Server)
		if err != nil {
			l.fail("notifications", pgmedic.Errorf(pgmedic.KindDegraded, "check notifications.dir", "what is mended since the last check is not known: %w", err))
			return
		}
		for _, e := range open {
			if e.Object == "" || e.Target.Database != database || !l.passed(e.Object) {
				continue
			}
			e.State, e.Severity, e.At, e.Name = notify.StateResolved, pgmedic.SeverityInfo, cmd.now(), checkEvent+"passed"
			if prefix == storeUnreachable {
				e.Name = storeReached
			}
			cmd.outcomes.events = append(cmd.outcomes.events, e)
		}
	}
}

// failedChecks are the names of checks that failed, with what the first of each says.
func failedChecks(l *checklist) map[string]pgmedic.Check {
	all := map[string]pgmedic.Check{}
	for _, c := range l.checks {
		if _, known := all[c.Name]; !known && c.Outcome == pgmedic.OutcomeFailed {
			all[c.Name] = c
		}
	}
	return all
}

// passed reports whether all checks of a name were made, and none failed.
func (l *checklist) passed(name string) (passed bool) {
	for _, c := range l.checks {
		switch {
		case c.Name != name:
		case c.Outcome == pgmedic.OutcomeFailed, c.Outcome == pgmedic.OutcomeSkipped:
			return false
		default:
			passed = true
		}
	}
	return passed
}

// checkEvent is the event about the failed checks of a name, of which c is the first.
func (cmd *checkCommand) checkEvent(c pgmedic.Check, kind pgmedic.Kind, database string) notify.Event {
	name := c.Name
	e := notify.Event{
		Name: checkEvent + "failed", State: notify.StateFiring, Severity: pgmedic.SeverityCritical, At: cmd.now(), Target: cmd.notifier.target(database),
		Object: name, Summary: "the check of " + name + " failed: " + c.Detail, Hint: c.Hint, Exit: exitCode(kind),
		Command: strings.TrimSpace("pgmedic check " + shellWord(database)), Once: true,
	}
	if kind == pgmedic.KindUnreachable && (name == "store" || name == "copy") {
		e.Name = storeUnreachable
	}
	if name == "notifications" { // what fails of a channel is reported by the others
		e.Severity = pgmedic.SeverityWarn
	}
	e.Fingerprint = notify.Fingerprint("check", e.Target.Server, database, name)
	return e
}

// tryChannels sends each channel a quiet message, whatever the routes are, and adds to the
// list what became of it.
func (cmd *checkCommand) tryChannels(ctx context.Context, l *checklist) {
	n := cmd.notifier
	if len(n.sender.Names()) == 0 {
		return // which is said by another line
	}
	counts := map[pgmedic.Outcome]int{}
	for _, c := range l.checks {
		counts[c.Outcome]++
	}
	e := notify.Event{
		Name: checkEvent + "made", State: notify.StateInfo, Severity: pgmedic.SeverityInfo, At: cmd.now(), Target: n.target(n.database()), Test: true,
		Summary: fmt.Sprintf("this message tries the channel; of the checks %d are ok, %d are warnings, %d failed, and %d were skipped",
			counts[pgmedic.OutcomeOK], counts[pgmedic.OutcomeWarn], counts[pgmedic.OutcomeFailed], counts[pgmedic.OutcomeSkipped]),
		Command: strings.TrimSpace("pgmedic check " + shellWord(n.database())),
	}
	e.Fingerprint = notify.Fingerprint("check", e.Target.Server, n.database(), "made", n.run)
	results, err := n.sender.Test(ctx, nil, e)
	if results == nil && err != nil {
		l.fail("channel", err)
	}
	for _, r := range results {
		if r.Err != nil {
			l.fail("channel", pgmedic.Errorf(pgmedic.KindDegraded, "`pgmedic notify test "+r.Channel+"` tries it again", "channel %s (%s): %w", r.Channel, r.Type, r.Err))
			continue
		}
		l.ok("channel", "channel %s (%s) took a message in %s", r.Channel, r.Type, words.Duration(r.Took))
	}
}
