package main

import (
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/schedule"
)

// checkRetention says for how long backups are kept, and whether something deletes
// expired ones, as far as this account can see.
func (cmd *checkCommand) checkRetention(l *checklist) {
	const name = "retention"
	deletes := false
	var kept []string
	stores := cmd.cfg.Stores()
	for _, s := range stores {
		words := retentionWords(s.Retention)
		deletes = deletes || words != ""
		if words == "" {
			words = "every backup without end"
		}
		if len(stores) > 1 && !s.Primary {
			words = s.Name + " " + words
		}
		kept = append(kept, words)
	}
	detail := "keeps " + strings.Join(kept, "; ")
	pruned := false
	for _, e := range cmd.plan.plan {
		pruned = pruned || e.Job == schedule.JobPrune
	}
	switch {
	case !deletes:
		l.ok(name, "%s", detail)
	case cmd.cfg.Retention.AfterBackup:
		l.ok(name, "%s; pruned after each backup", detail)
	case cmd.planErr != nil:
		l.add(name, pgmedic.OutcomeSkipped, detail+"; not checked, because schedules can't be read: whether something runs prune", "")
	case pruned && !cmd.plan.byDefault:
		l.ok(name, "%s; pruned by schedules", detail)
	case cmd.plan.byDefault && cmd.plan.host.Source() == "": // nothing is configured: no job could read anything
		l.ok(name, "%s; only `pgmedic prune --yes` deletes expired backups", detail)
	default:
		l.add(name, pgmedic.OutcomeWarn, detail+"; nothing that pgmedic can see deletes expired backups: neither retention.after_backup nor a job in schedules",
			"add a job prune to schedules, set retention.after_backup, or run `pgmedic prune --yes` from a scheduler of your own")
	}
}

// retentionWords says what a policy keeps, or nothing where it keeps everything.
func retentionWords(r config.Retention) string {
	var all []string
	for _, tier := range []struct{ what, length string }{
		{"each for", r.Days}, {"one an hour for", r.Hourly}, {"one a day for", r.Daily}, {"one a week for", r.Weekly}, {"one a month for", r.Monthly}, {"one a year for", r.Yearly},
	} {
		if l, err := pgmedic.ParseLength(tier.length); err == nil && !l.IsZero() {
			all = append(all, tier.what+" "+l.String())
		}
	}
	return strings.Join(all, ", ")
}
