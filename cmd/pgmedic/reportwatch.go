package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/alert"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	// shortestWatch is the shortest time between two looks: one is some fifty queries.
	shortestWatch = 5 * time.Second
	longestWatch  = time.Hour
	// storeEvery is how often a watch lists the backups of a store: a listing reads each
	// manifest, and a store of a cloud has a price for each request.
	storeEvery = 5 * time.Minute
)

// checkWatch refuses flags that a watch can't obey.
func (cmd *reportCommand) checkWatch() error {
	f := cmd.flags
	switch {
	case f.watch < shortestWatch || f.watch > longestWatch:
		return pgmedic.Errorf(pgmedic.KindUsage, "give a time from 5s to 1h, such as 30s", "--watch %s is out of range", f.watch)
	case f.input != "" || f.output != "" || f.save:
		return pgmedic.Errorf(pgmedic.KindUsage, "leave them out, and redirect standard output", "--input, --output and --save are for one report, and --watch prints changes as they come")
	case f.format != "text" && f.format != "json":
		return pgmedic.Errorf(pgmedic.KindUsage, "use --format text or --json", "--watch prints lines of text or of JSON, not %s", f.format)
	case f.failOn != "":
		return pgmedic.Errorf(pgmedic.KindUsage, "leave it out", "--fail-on is for one report, and --watch ends when it is interrupted")
	case f.interval >= f.watch:
		return pgmedic.Errorf(pgmedic.KindUsage, "make --interval shorter than --watch", "--interval %s does not fit into --watch %s", f.interval, f.watch)
	case cmd.cfg.Report.History == historyOff && f.watchState == "":
		return pgmedic.Errorf(pgmedic.KindUsage, "name a file with --watch-state", "--watch keeps what it reported beside the history, and report.history is off")
	}
	return nil
}

// watch looks again and again, and reports what changed, until it is interrupted.
func (cmd *reportCommand) watch(ctx context.Context) error {
	if err := cmd.checkWatch(); err != nil {
		return err
	}
	if err := cmd.checkNotify(ctx); err != nil {
		return err
	}
	target, database, err := cmd.watched()
	if err != nil {
		return err
	}
	path, err := cmd.alertsPath(target)
	if err != nil {
		return err
	}
	file, err := openAlerts(path, cmd.now, cmd.log)
	if err != nil {
		return err
	}
	defer file.close()
	cmd.list = cachedListing(cmd.listBackups, cmd.now)
	if !cmd.global.quiet {
		fmt.Fprintf(cmd.stderr, "watching %s every %s; what was reported is kept in %s; Ctrl-C ends it\n", words.Clean(target), cmd.flags.watch, words.Clean(path))
	}
	r := &watchReporter{job: cmd.job, database: database, printed: map[string]bool{}}
	w := &watcher{
		every: cmd.flags.watch, file: file, now: cmd.now, log: cmd.log, wait: waitFor, send: r.report, idle: r.sendKept, steps: r.steps,
		look: func(ctx context.Context) (alert.Observation, error) {
			o, err := cmd.look(ctx, target)
			if err == nil {
				r.begun(ctx)
			}
			return o, err
		},
	}
	return w.run(ctx)
}

// alertsPath is the file that a watch of a target keeps its state in.
func (cmd *reportCommand) alertsPath(target string) (string, error) {
	if cmd.flags.watchState != "" {
		return cmd.absolute(cmd.flags.watchState, ""), nil
	}
	history, err := cmd.historyPath()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(target))
	return filepath.Join(filepath.Dir(cmd.absolute(history, "")), "alerts-"+hex.EncodeToString(sum[:8])+".json"), nil
}

// watched names the target, which is the server and the database, and the database.
func (cmd *reportCommand) watched() (target, database string, err error) {
	named := ""
	if len(cmd.args) > 0 {
		named = cmd.args[0]
	}
	t, err := cmd.servers.databaseTarget(named)
	if err != nil {
		return "", "", err
	}
	server := cmd.cfg.Server
	if server == "" {
		server = cmd.node()
	}
	return server + "/" + databaseName(t), databaseName(t), nil
}

// look makes one reading and judges it. An error is why it could not, beside what the
// observation says of that.
func (cmd *reportCommand) look(ctx context.Context, target string) (alert.Observation, error) {
	o := alert.Observation{Target: target, Every: cmd.flags.watch}
	got, err := cmd.reading(ctx)
	if err == nil {
		var report render.Report
		if report, err = cmd.judged(ctx, got); err == nil {
			o.Seen, o.Skipped = conditions(report.Findings), skips(got.Skipped)
			o.Covers = func(c alert.Condition) bool {
				return cmd.covers(report, pgmedic.Finding{ID: c.ID, Database: c.Database, Object: c.Object})
			}
			if c, unread := cmd.unreadStore(got.Skipped); unread {
				o.Seen = append(o.Seen, c)
			}
			return o, nil
		}
	}
	o.Failed = true
	if pgmedic.KindOf(err) == pgmedic.KindUnreachable {
		o.Seen = []alert.Condition{{
			ID: alert.ServerUnreachable, Object: "server", Severity: pgmedic.SeverityCritical, Scope: scopeServer,
			Summary: "The server can't be reached: " + words.OneLine(err.Error()),
		}}
	}
	return o, err
}

// judged is a reading with its findings, apart from those that the configuration mutes.
func (cmd *reportCommand) judged(ctx context.Context, got *reading.Reading) (render.Report, error) {
	since, err := cmd.sinceOf()
	if err != nil {
		return render.Report{}, err
	}
	earlier, err := cmd.remember(ctx, got, since)
	if err != nil {
		return render.Report{}, err
	}
	findings := judge.Analyse(got, earlier.Judged, cmd.thresholds())
	return render.NewReport(cmd.now(), got, findings, cmd.mutes()...), nil
}

// covers reports whether a finding that a report does not have is gone, and not only left
// out of a list that was full.
func (cmd *reportCommand) covers(report render.Report, f pgmedic.Finding) bool {
	found := slices.Clone(report.Findings)
	for _, m := range report.Muted {
		found = append(found, m.Finding)
	}
	return judge.Covers(report.Reading, found, f, cmd.thresholds())
}

// scopeServer is the scope of all that is not alert.ScopeBackups. Findings of one section
// rest on queries of others, too.
const scopeServer = "server"

func scopeOf(section string) string {
	if section == reading.SectionBackups {
		return alert.ScopeBackups
	}
	return scopeServer
}

// goals are the findings that say to when the database can be recovered. As information they
// say that it can.
func goals() []string { return []string{"backup-missing", "backup-old", "backup-unproven"} }

func conditions(findings []pgmedic.Finding) []alert.Condition {
	all := make([]alert.Condition, 0, len(findings))
	for _, f := range findings {
		all = append(all, alert.Condition{
			ID: f.ID, Database: f.Database, Object: f.Object, Severity: f.Severity, Summary: f.Summary, Fix: f.Fix,
			Scope: scopeOf(f.Section), Goal: f.Severity != pgmedic.SeverityInfo && slices.Contains(goals(), f.ID),
		})
	}
	return all
}

func skips(skipped []reading.Skipped) []alert.Skip {
	all := make([]alert.Skip, 0, len(skipped))
	for _, s := range skipped {
		all = append(all, alert.Skip{Scope: scopeOf(s.Section), What: s.Section + " " + s.Query})
	}
	return all
}

// unreadStore is the condition that the configured store could not be read. That none is
// configured is not one.
func (cmd *reportCommand) unreadStore(skipped []reading.Skipped) (alert.Condition, bool) {
	if !cmd.storeGiven() {
		return alert.Condition{}, false
	}
	for _, s := range skipped {
		if s.Section == reading.SectionBackups && s.Query == "store" {
			return alert.Condition{
				ID: alert.StoreUnreachable, Object: "store", Severity: pgmedic.SeverityWarn, Scope: scopeServer,
				Summary: "The store of backups can't be read: " + s.Reason,
			}, true
		}
	}
	return alert.Condition{}, false
}

// cachedListing lists the backups at most once in storeEvery; an error is not kept.
func cachedListing(list listing, now func() time.Time) listing {
	var kept catalog.Listing
	var of catalog.Filter
	var at time.Time
	return func(ctx context.Context, f catalog.Filter) (catalog.Listing, error) {
		same := of.Server == f.Server && of.Database == f.Database
		if age := now().Sub(at); same && !at.IsZero() && age >= 0 && age < storeEvery {
			return kept, nil
		}
		l, err := list(ctx, f)
		if err == nil {
			kept, of, at = l, f, now()
		}
		return l, err
	}
}

// waitFor waits, or returns earlier where ctx ends.
func waitFor(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
