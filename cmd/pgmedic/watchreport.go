package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/alert"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/words"
)

// watchJob is what notifications call a watch.
const watchJob = "watch"

// alertEvent begins the names of events about changes that a watch sees.
const alertEvent = "alert."

// keptEvery is how often a watch tries to send what could not be sent: our choice.
const keptEvery = time.Minute

// watchReporter prints the changes that a watch sees, and sends them if the job has a
// notifier.
type watchReporter struct {
	job
	// database is the watched one, of findings that name none.
	database string
	// printed are changes that were printed, and are not reported yet: they are not printed
	// again.
	printed map[string]bool
	// running is true once the channels know that the watch runs.
	running bool
	// triedAt is when something was last sent.
	triedAt time.Time
}

// sends reports whether there is anywhere to send to.
func (r *watchReporter) sends() bool { return r.notifier != nil && len(r.notifier.sender.Names()) > 0 }

// report prints changes and sends them, together, and returns those that are on their way:
// a channel has each of them, or it is kept to be sent again, or its route leads to no one.
func (r *watchReporter) report(ctx context.Context, changes []alert.Change) ([]alert.Change, error) {
	key := func(c alert.Change) string {
		return c.Alert.Fingerprint + " " + string(c.Kind) + " " + string(c.Alert.Severity)
	}
	for _, c := range changes {
		if r.printed[key(c)] {
			continue
		}
		switch err := r.printChanges(ctx, []alert.Change{c}); {
		case err == nil:
			r.printed[key(c)] = true
		case !r.sends():
			return nil, err
		default: // no reason not to send it
			r.log.Warn("a change could not be printed", "error", words.OneLine(err.Error()))
		}
	}
	reported, err := r.send(ctx, changes)
	for _, c := range reported {
		delete(r.printed, key(c))
	}
	return reported, err
}

// send sends changes, and returns as report does. It warns where other channels were not
// reached.
func (r *watchReporter) send(ctx context.Context, changes []alert.Change) (sent []alert.Change, err error) {
	if !r.sends() {
		return changes, nil
	}
	events := make([]notify.Event, 0, len(changes))
	for _, c := range changes {
		events = append(events, r.event(c))
	}
	r.triedAt = r.now()
	results, err := r.notifier.sender.Send(ctx, events)
	// Of each change: whether a channel has it or will, and whether one was to have it.
	taken, meant := map[string]bool{}, map[string]bool{}
	for _, result := range results {
		for _, fingerprint := range result.Fingerprints {
			meant[fingerprint] = true
			if result.Outcome == notify.OutcomeSent || result.Outcome == notify.OutcomeKept {
				taken[fingerprint] = true
			}
		}
	}
	for _, c := range changes {
		if taken[c.Alert.Fingerprint] || !meant[c.Alert.Fingerprint] {
			sent = append(sent, c)
		}
	}
	switch {
	case err == nil:
	case len(sent) == len(changes):
		r.log.Warn("not every channel was reached", "error", words.OneLine(err.Error()), "hint", pgmedic.HintOf(err))
		err = nil
	}
	return sent, err
}

// event is a change as it is sent.
func (r *watchReporter) event(c alert.Change) notify.Event {
	a := c.Alert
	database := a.Database
	if database == "" {
		database = r.database
	}
	e := notify.Event{
		Name: alertEvent + string(c.Kind), State: notify.StateFiring, Severity: a.Severity, At: c.At, Since: a.FiredAt, Fingerprint: a.Fingerprint,
		Target: r.notifier.target(database), Object: a.Object, Summary: a.ID + ": " + detailOf(c), Command: "pgmedic report " + shellWord(database), Due: true,
	}
	switch c.Kind {
	case alert.KindResolved:
		e.State, e.Severity = notify.StateResolved, pgmedic.SeverityInfo
	case alert.KindPassed:
		e.State = notify.StateInfo
	case alert.KindFiring, alert.KindWorse, alert.KindRepeat, alert.KindFlapping, alert.KindStale:
	case alert.KindEscalated:
		e.Further = true
	}
	return e
}

// steps says how many steps of its escalation an alert has reached.
func (r *watchReporter) steps(a alert.Alert) int {
	if !r.sends() {
		return 0
	}
	return r.notifier.sender.Steps(r.event(alert.Change{Kind: alert.KindEscalated, At: r.now(), Alert: a}))
}

// begun has channels that know that a watch ended know that one runs.
func (r *watchReporter) begun(ctx context.Context) {
	if r.running || !r.sends() {
		return
	}
	r.running = true
	if r.notifier.unread != nil {
		r.log.Warn("a channel can't be used", "error", words.OneLine(r.notifier.unread.Error()))
	}
	e := r.notifier.event(ctx, outcome{database: r.notifier.database(), whole: true})
	e.Once = true
	if _, err := r.notifier.sender.Send(ctx, []notify.Event{e}); err != nil {
		r.log.Warn("not every channel was reached", "error", words.OneLine(err.Error()), "hint", pgmedic.HintOf(err))
	}
}

// sendKept sends what could not be sent before, at most once in keptEvery.
func (r *watchReporter) sendKept(ctx context.Context) {
	if !r.sends() || r.now().Sub(r.triedAt) < keptEvery {
		return
	}
	waiting, err := r.notifier.sender.Waiting()
	if err == nil && waiting == 0 {
		return
	}
	r.triedAt = r.now()
	results, sendErr := r.notifier.sender.Send(ctx, nil)
	lost := slices.ContainsFunc(results, func(x notify.Result) bool {
		return x.Outcome == notify.OutcomeLost || x.Outcome == notify.OutcomeRefused
	})
	switch err = errors.Join(err, sendErr); {
	case err == nil:
		r.log.Info("messages that were kept are sent", "messages", len(results))
	case lost:
		r.log.Warn("kept messages are lost", "error", words.OneLine(err.Error()), "hint", pgmedic.HintOf(err))
	default: // which was warned about when they were kept
		r.log.Debug("messages are still kept", "error", words.OneLine(err.Error()))
	}
}
