package main

import (
	"context"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

// checkNotify refuses a report that is to be sent and can't be.
func (cmd *reportCommand) checkNotify(ctx context.Context) error {
	if cmd.notifier == nil {
		return nil
	}
	cmd.notifier.ready(ctx)
	switch {
	case cmd.flags.input != "" || cmd.flags.format == "prometheus":
		return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--notify is for a report of now with all findings, and not for --input or for metrics")
	case !cmd.cfg.Notifications.Enabled:
		cmd.log.Warn("nothing is sent: notifications.enabled is false")
	case len(cmd.notifier.sender.Names()) > 0:
	case cmd.notifier.flawed(): // the report is made, and finish says why nothing is sent
	default:
		return pgmedic.Errorf(pgmedic.KindUsage, "set NOTIFICATION_EMAIL or NOTIFICATION_WEBHOOK, or write notifications.channels into pgmedic.yaml", "there is no channel to send findings to")
	}
	cmd.notifier.digestNow = cmd.flags.digest
	return nil
}

// findingEvent begins the names of events about findings.
const findingEvent = "finding."

// notifyFindings hands on what of the findings is new, worse or gone: warnings and
// criticals. A finding is gone where its section was read and no longer has it; what is
// muted, or no longer bad enough, is neither.
func (cmd *reportCommand) notifyFindings(ctx context.Context, report render.Report) error {
	n := cmd.notifier
	if n == nil || len(n.sender.Names()) == 0 {
		return nil
	}
	database := report.Reading.Database
	event := func(f pgmedic.Finding) notify.Event {
		at := f.Database
		if at == "" {
			at = database
		}
		e := notify.Event{
			Name: findingEvent + "firing", State: notify.StateFiring, Severity: f.Severity, At: n.now(), Target: n.target(at),
			Object: f.Object, Section: f.Section, Summary: f.ID + ": " + f.Summary, Command: "pgmedic report " + shellWord(at), Once: true,
		}
		e.Fingerprint = findingFingerprint(e.Target.Server, at, f.ID, f.Object)
		return e
	}
	present := map[string]bool{}
	for _, f := range report.Findings {
		e := event(f)
		present[e.Fingerprint] = true
		if f.Severity.Rank() >= pgmedic.SeverityWarn.Rank() {
			cmd.outcomes.events = append(cmd.outcomes.events, e)
		}
	}
	for _, m := range report.Muted {
		present[event(m.Finding).Fingerprint] = true
	}
	open, err := n.sender.Open(ctx, findingEvent, n.target("").Server)
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindDegraded, "check notifications.dir", "the report is made, and what is gone since the last one is not known: %s", words.OneLine(err.Error()))
	}
	for _, e := range open {
		if present[e.Fingerprint] || !cmd.wasRead(report, e, database) {
			continue
		}
		e.Name, e.State, e.Severity, e.At = findingEvent+"resolved", notify.StateResolved, pgmedic.SeverityInfo, n.now()
		cmd.outcomes.events = append(cmd.outcomes.events, e)
	}
	return nil
}

// wasRead reports whether the report would have the finding of an event if it were still
// there: its database and its section were read, and whole, and no full list can have left
// it out.
func (cmd *reportCommand) wasRead(report render.Report, e notify.Event, database string) bool {
	if len(cmd.flags.sections) > 0 && !slices.Contains(cmd.flags.sections, e.Section) {
		return false
	}
	got := report.Reading
	if e.Target.Database != database {
		i := slices.IndexFunc(got.Databases, func(r *reading.Reading) bool { return r.Database == e.Target.Database })
		if i < 0 {
			return false
		}
		got = got.Databases[i]
	}
	switch {
	case e.Section == reading.SectionBackups && report.Reading.Backups == nil, e.Section == reading.SectionTrends && report.Trends == nil:
		return false
	}
	if slices.ContainsFunc(slices.Concat(got.Skipped, report.Reading.Skipped), func(s reading.Skipped) bool { return s.Section == e.Section }) {
		return false
	}
	for _, id := range judge.IDs() { // an event has the id in its fingerprint only
		if e.Fingerprint == findingFingerprint(e.Target.Server, e.Target.Database, id, e.Object) {
			return cmd.covers(report, pgmedic.Finding{ID: id, Database: e.Target.Database, Object: e.Object})
		}
	}
	return true
}

// findingFingerprint tells the events about a finding from all others.
func findingFingerprint(server, database, id, object string) string {
	return notify.Fingerprint("finding", server, database, id, object)
}
