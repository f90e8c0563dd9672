package main

import (
	"context"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/walstream"
	"github.com/pgmedic/pgmedic/internal/words"
)

// walReporter sends what a stream notices, beside the stream: a channel that hangs must not
// keep WAL from being stored.
type walReporter struct {
	watchReporter
	notices chan walstream.Notice
}

// waitingNotices is how many notices wait to be sent. There are a few in an hour.
const waitingNotices = 100

func newWALReporter(j job) *walReporter {
	return &walReporter{watchReporter: watchReporter{job: j}, notices: make(chan walstream.Notice, waitingNotices)}
}

// notice takes a notice. It returns at once.
func (r *walReporter) notice(n walstream.Notice) {
	select {
	case r.notices <- n:
	default:
		if n.Kind != walstream.NoticeStored {
			r.log.Error("a notification is lost: too many wait to be sent", "event", walEventName(n), "summary", n.Summary)
		}
	}
}

// run sends notices until there are no more to come, and within bounds what waits then.
func (r *walReporter) run(ctx context.Context) {
	ctx = context.WithoutCancel(ctx) // a notice is sent also when the stream is asked to stop
	kept := time.NewTicker(keptEvery)
	defer kept.Stop()
	for {
		select {
		case n, more := <-r.notices:
			if !more {
				return
			}
			bounded, cancel := context.WithTimeout(ctx, sendWithin)
			r.handle(bounded, n)
			cancel()
		case <-kept.C:
			bounded, cancel := context.WithTimeout(ctx, sendWithin)
			r.sendKept(bounded)
			cancel()
		}
	}
}

func (r *walReporter) handle(ctx context.Context, n walstream.Notice) {
	if n.Kind == walstream.NoticeStored {
		r.begun(ctx)
		r.ping(ctx)
		return
	}
	if !r.sends() {
		return
	}
	r.triedAt = r.now()
	if _, err := r.notifier.sender.Send(ctx, []notify.Event{r.event(n)}); err != nil {
		r.log.Warn("not every channel was reached", "error", words.OneLine(err.Error()), "hint", pgmedic.HintOf(err))
	}
}

// ping tells the dead man's switch that all WAL is stored.
func (r *walReporter) ping(ctx context.Context) {
	n := r.notifier
	if n == nil {
		return
	}
	n.starting.Wait() // which reads the address
	if n.pingURL == "" {
		return
	}
	err := n.sender.Ping(ctx, notify.Ping{Job: n.name, URL: n.pingURL, Signal: notify.SignalSuccess, Run: n.run, Body: "pgmedic wal stream: all WAL is stored\n"})
	if err != nil {
		r.log.Warn("the dead man's switch was not reached", "error", words.OneLine(err.Error()))
	}
}

// walEventName is the name of the event of a notice.
func walEventName(n walstream.Notice) string {
	name := walJob + "." + string(n.Kind)
	if n.Over {
		switch n.Kind {
		case walstream.NoticeBehind:
			return "wal.caught_up"
		case walstream.NoticeStoreAway:
			return "wal.store_back"
		case walstream.NoticeInterrupted:
			return "wal.resumed"
		case walstream.NoticeLost:
			return "wal.whole"
		case walstream.NoticeSyncAway:
			return "wal.sync_back"
		case walstream.NoticeSlotLost, walstream.NoticeFailover, walstream.NoticeStored:
		}
	}
	return name
}

// event is a notice as it is sent.
func (r *walReporter) event(n walstream.Notice) notify.Event {
	e := notify.Event{
		Name: walEventName(n), State: notify.StateFiring, Severity: pgmedic.SeverityWarn, At: n.At, Target: r.notifier.target(""),
		Summary: n.Summary, Command: "pgmedic wal status",
	}
	e.Fingerprint = notify.Fingerprint("job", walJob, e.Target.Server, r.notifier.place(), r.slot(), string(n.Kind))
	switch n.Kind {
	case walstream.NoticeLost:
		e.Severity, e.Hint = pgmedic.SeverityCritical, "take a base backup now"
	case walstream.NoticeSlotLost:
		e.State, e.Due, e.Hint = notify.StateInfo, true, "raise max_slot_wal_keep_size if the disk has the room"
	case walstream.NoticeFailover:
		e.State, e.Due, e.Hint = notify.StateInfo, true, "docs/emergency.md has the steps to get them back"
	case walstream.NoticeStoreAway:
		e.Hint = "the server's disk fills meanwhile: `pgmedic check` says how far"
	case walstream.NoticeSyncAway:
		e.Severity, e.Hint = pgmedic.SeverityCritical, "clients may be waiting: see the log of `pgmedic wal stream`; as a last resort take pgmedic_sync out of synchronous_standby_names"
	case walstream.NoticeBehind, walstream.NoticeInterrupted, walstream.NoticeStored:
	}
	if n.Over {
		e.State, e.Severity, e.Hint, e.Once = notify.StateInfo, pgmedic.SeverityInfo, "", true
	}
	return e
}
