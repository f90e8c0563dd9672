package judge

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

// recently is how far back Analyse looks for what happens now.
const recently = 25 * time.Hour

// recentWindows keeps, of windows that come shortest first, those of the last
// day, or the shortest where all are longer.
func recentWindows(all []window, now time.Time) []window {
	n := slices.IndexFunc(all, func(w window) bool { return now.Sub(w.before.TakenAt) > recently })
	if n < 0 {
		return all
	}
	return all[:max(1, n)]
}

// trends judges what only earlier Readings tell: where the server is going.
func (a *analysis) trends() {
	all := sameDatabase(a.reading, a.earlier)
	if len(all) == 0 {
		return
	}
	all = append(all, a.reading)
	a.diskFull(all)
	a.statementChanges(all)
	a.lockEpisodes(all)
}

// diskFull finds a disk that will be full at the present pace. A forecast that
// reaches much further than what was observed, or that may as well be never, is
// no finding.
func (a *analysis) diskFull(all []*reading.Reading) {
	f := diskForecast(all)
	if f == nil || f.LatestDays == nil {
		return
	}
	days := func(n float64) time.Duration { return time.Duration(min(n, 36500) * 24 * float64(time.Hour)) }
	used := diskUsed(all)
	observed := a.reading.TakenAt.Sub(used[0].at)
	if days(f.Days) > a.limits.DiskFullWarn || days(f.Days) > forecastSpans*observed {
		return
	}
	severity, limit := pgmedic.SeverityWarn, a.limits.DiskFullWarn
	if days(f.Days) <= a.limits.DiskFullCritical {
		severity, limit = pgmedic.SeverityCritical, a.limits.DiskFullCritical
	}
	seconds := func(n float64) float64 { return days(n).Seconds() }
	a.add(serverWide, pgmedic.Finding{
		ID: "disk-full-soon", Section: reading.SectionSize, Severity: severity, Object: "server",
		Summary: fmt.Sprintf("At the pace of the last %s the disk that holds the data is full in %s (between %s and %s); then the server stops.",
			words.Long(observed), words.Long(days(f.Days)), words.Long(days(f.SoonestDays)), words.Long(days(*f.LatestDays))),
		Evidence: []pgmedic.Evidence{
			evidence("free_bytes", f.FreeBytes), evidence("growth_per_day_bytes", int64(float64(f.FreeBytes)/f.Days)),
			evidenceSeconds("full_in_seconds", seconds(f.Days)), evidenceSeconds("soonest_seconds", seconds(f.SoonestDays)),
			evidenceSeconds("latest_seconds", seconds(*f.LatestDays)), evidence("readings", len(used)),
			evidenceSeconds("threshold_seconds", limit.Seconds()),
		},
		Fix: "SELECT relid::pg_catalog.regclass AS table, pg_catalog.pg_size_pretty(pg_catalog.pg_total_relation_size(relid)) AS size " +
			"FROM pg_catalog.pg_stat_user_tables ORDER BY pg_catalog.pg_total_relation_size(relid) DESC LIMIT 20;",
		Risk: "Changes nothing: it shows the largest tables; the report's trends name those that grow. It measures every table, which takes " +
			"some seconds where there are thousands. Look at WAL kept for slots and at logs, too. Never delete files in pg_wal by hand.",
	})
}

// statementChanges finds statements that are slower than in the same hours of
// the days before, and new ones that take much of the time.
func (a *analysis) statementChanges(all []*reading.Reading) {
	s := spanOfStatements(all)
	if s == nil {
		return
	}
	slower, fresh := 0, 0
	for _, c := range s.changes(all, a.limits) {
		if c.statement != nil && c.statement.Own {
			continue
		}
		object := "statement " + c.QueryID
		switch {
		case c.isNew:
			if c.share <= a.limits.StatementSharePercent || c.seconds < a.limits.StatementsMinTime.Seconds() || fresh == statementsFound {
				continue
			}
			fresh++
			a.add(serverWide/8, a.statement(c.statement, "statement-new", pgmedic.SeverityInfo,
				fmt.Sprintf("It is new since yesterday and has taken %.0f %% of the time of all statements since.", c.share),
				evidencePercent("share_percent", c.share), evidencePercent("threshold_percent", a.limits.StatementSharePercent)))
		case slower < statementsFound && !a.has("statement-regressed", object):
			slower++
			a.add(serverWide/8, a.statement(c.statement, "statement-regressed", pgmedic.SeverityWarn,
				fmt.Sprintf("It took %s on average in the last %s, and %s in the same hours of %s before.", words.FineSeconds(c.MeanSeconds),
					words.Long(s.end.Sub(s.begin)), words.FineSeconds(c.BeforeMeanSeconds), words.Plural(s.days, "day")),
				evidenceText("recent_mean", words.FineSeconds(c.MeanSeconds)), evidence("recent_calls", c.Calls),
				evidenceText("earlier_mean", words.FineSeconds(c.BeforeMeanSeconds)), evidence("earlier_calls", c.BeforeCalls)))
		}
	}
}

// has reports whether a finding was made already.
func (a *analysis) has(id, object string) bool {
	return slices.ContainsFunc(a.found, func(f judged) bool { return f.ID == id && f.Object == object })
}

// episode is what was seen of waits for one object.
type episode struct {
	object      string
	readings    int
	episodes    int // runs of Readings with a wait, one after the other
	longest     float64
	mode        string // of the longest
	first, last time.Time
	lastIndex   int
}

// episodeLeast is how long a wait must have lasted to count, in seconds:
// deadlock_timeout's default, after which the server itself would log it.
const episodeLeast = 1

// lockEpisodes finds objects that sessions wait for again and again, of which
// each single look sees little.
func (a *analysis) lockEpisodes(all []*reading.Reading) {
	looks := 0
	byObject := map[string]*episode{}
	for _, r := range all {
		if r.Locks == nil || a.reading.TakenAt.Sub(r.TakenAt) > recently {
			continue
		}
		looks++
		for _, w := range r.Locks.Waiting {
			if w.Object == "" || w.WaitSeconds < episodeLeast {
				continue
			}
			e := byObject[w.Object]
			if e == nil {
				e = &episode{object: w.Object, first: r.TakenAt}
				byObject[w.Object] = e
			}
			e.saw(w, looks, r.TakenAt)
		}
	}
	for _, e := range byObject {
		// One long wait is found as such.
		if e.episodes < a.limits.LockEpisodes {
			continue
		}
		a.add(sessionWide+int64(e.longest), pgmedic.Finding{
			ID: "lock-waits-recurring", Section: reading.SectionLocks, Severity: pgmedic.SeverityWarn, Object: e.object,
			Summary: fmt.Sprintf("Sessions wait for it again and again: %s in %d of %d readings of the last day, the longest for %s.",
				words.Times(int64(e.episodes)), e.readings, looks, words.LongSeconds(e.longest)),
			Evidence: []pgmedic.Evidence{
				evidence("episodes", e.episodes), evidence("readings_with_waits", e.readings), evidence("readings", looks),
				evidenceSeconds("longest_wait_seconds", e.longest), evidenceText("lock", e.mode),
				evidenceTime("first", &e.first), evidenceTime("last", &e.last), evidence("threshold_episodes", a.limits.LockEpisodes),
			},
			Fix: "ALTER SYSTEM SET log_lock_waits = on;\nSELECT pg_catalog.pg_reload_conf();",
			Risk: "Logs each wait longer than deadlock_timeout, with the statements, which can hold data. Then look at what takes the lock " +
				"that is named: DDL and LOCK TABLE at busy hours, or transactions that stay open after an update.",
		})
	}
}

// saw counts a wait that the n-th look saw.
func (e *episode) saw(w reading.LockWait, n int, at time.Time) {
	if e.lastIndex != n {
		e.readings++
		if e.lastIndex != n-1 || e.episodes == 0 {
			e.episodes++
		}
	}
	e.lastIndex, e.last = n, at
	if w.WaitSeconds >= e.longest {
		e.longest, e.mode = w.WaitSeconds, w.Mode
	}
}

// dayOfStatements is what statements had done a day ago, or when the history
// begins, if that is an hour ago at least; nil without.
func (a *analysis) dayOfStatements() *reading.Reading {
	var best *reading.Reading
	for _, e := range sameDatabase(a.reading, a.earlier) { // oldest first
		if e.Statements == nil || e.Statements.Items == nil || !continued(e.Statements, a.reading.Statements) {
			continue
		}
		age := a.reading.TakenAt.Sub(e.TakenAt)
		if best == nil && age >= spanLeast || age >= newAfter {
			best = e
		}
	}
	return best
}

// recentStatement returns a statement with what it did since an earlier Reading,
// the time that all took, and a word on since when; or as it is, where the
// Reading says nothing of it.
func recentStatement(s *reading.Statements, x *reading.Statement, taken time.Time, day *reading.Reading) (recent *reading.Statement, total float64, since string) {
	if day == nil || x.Hidden() {
		return x, s.ExecSeconds, sinceReset(s.StatsReset)
	}
	i := slices.IndexFunc(day.Statements.Items, func(y reading.Statement) bool { return reading.KeyOf(&y) == reading.KeyOf(x) })
	if i < 0 {
		return x, s.ExecSeconds, sinceReset(s.StatsReset)
	}
	y := *x
	y.StatementCounts = x.Less(&day.Statements.Items[i].StatementCounts)
	return &y, s.ExecSeconds - day.Statements.ExecSeconds, "in the last " + words.Long(taken.Sub(day.TakenAt))
}
