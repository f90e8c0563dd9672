package judge

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// window is what was counted between two moments, and how to say which.
type window struct {
	before *reading.Reading // nil for the lifetime
	says   string
}

// windows returns those of the last day that the earlier Readings give, the
// shortest first, and at last the lifetime since a reset, unless they reach back
// a whole day: then what happened before is not news.
func (a *analysis) windows(reset *time.Time) []window {
	var all []window
	for _, e := range a.earlier {
		if a.continues(e) {
			all = append(all, window{e, a.inTheLast(e)})
		}
	}
	// The newest reading is the shortest window.
	slices.SortFunc(all, func(x, y window) int { return y.before.TakenAt.Compare(x.before.TakenAt) })
	all = recentWindows(all, a.reading.TakenAt)
	if n := len(all); n > 0 && a.reading.TakenAt.Sub(all[n-1].before.TakenAt) >= newAfter {
		return all
	}
	return append(all, window{nil, sinceReset(reset)})
}

// inTheLast says how long ago an earlier Reading was.
func (a *analysis) inTheLast(e *reading.Reading) string {
	return "in the last " + words.Long(a.reading.TakenAt.Sub(e.TakenAt))
}

// sinceReset says since when statistics are counted.
func sinceReset(reset *time.Time) string {
	if reset == nil {
		return "since statistics were first kept"
	}
	return "since " + reset.UTC().Format(time.DateOnly)
}

// Less is what was counted after other.
func lessTransactions(t reading.Transactions, other *reading.Transactions) reading.Transactions {
	t.Commits -= other.Commits
	t.Rollbacks -= other.Rollbacks
	t.Deadlocks -= other.Deadlocks
	t.TempFiles -= other.TempFiles
	t.TempBytes -= other.TempBytes
	return t
}

// transactions finds too many rollbacks, deadlocks, files of sorts that did not
// fit into memory, and pages with wrong checksums.
func (a *analysis) transactions() {
	now := a.reading.Transactions
	if now == nil {
		return
	}
	object := "database " + sqltext.Readable(a.reading.Database)
	if now.ChecksumFailures != nil && *now.ChecksumFailures > 0 {
		a.add(serverWide, pgmedic.Finding{
			ID: "checksum-failures", Section: reading.SectionTransactions, Severity: pgmedic.SeverityCritical, Object: object,
			Summary:  "Pages were read whose checksum is wrong: the disk, or something between, has damaged data.",
			Evidence: []pgmedic.Evidence{evidence("failures", *now.ChecksumFailures)},
			Fix:      "SELECT datname, checksum_failures, checksum_last_failure FROM pg_catalog.pg_stat_database WHERE checksum_failures OPERATOR(pg_catalog.>) 0;",
			Risk: "Changes nothing. Take a copy of the data folder before anything else, don't set ignore_checksum_failure, look for the " +
				"file in the server's log, and restore a proven backup to another place.",
		})
	}
	judgedRollbacks, judgedDeadlocks, judgedTemp := false, false, false
	for _, w := range a.windows(now.StatsReset) {
		t := *now
		if w.before != nil {
			if w.before.Transactions == nil {
				continue
			}
			t = lessTransactions(t, w.before.Transactions)
		}
		all := t.Commits + t.Rollbacks
		if all >= a.limits.RollbackMin && !judgedRollbacks {
			judgedRollbacks = true
			a.rollbacks(object, t, w)
		}
		// A window in which nothing happened says nothing of the rest.
		if t.Deadlocks > 0 && !judgedDeadlocks {
			judgedDeadlocks = true
			a.deadlocks(object, t, w)
		}
		if t.TempBytes > a.limits.TempBytes && !judgedTemp {
			judgedTemp = true
			a.tempFiles(object, t, w)
		}
	}
}

func (a *analysis) rollbacks(object string, t reading.Transactions, w window) {
	percent := 100 * float64(t.Rollbacks) / float64(max(1, t.Commits+t.Rollbacks))
	if percent <= a.limits.RollbackPercent {
		return
	}
	a.add(0, pgmedic.Finding{
		ID: "rollbacks-high", Section: reading.SectionTransactions, Severity: pgmedic.SeverityWarn, Object: object,
		Summary: fmt.Sprintf("%.0f %% of its transactions were rolled back (%s).", percent, w.says),
		Evidence: []pgmedic.Evidence{
			evidence("rollbacks", t.Rollbacks), evidence("commits", t.Commits), evidencePercent("rollback_percent", percent),
			evidenceText("window", w.says), evidencePercent("threshold_percent", a.limits.RollbackPercent),
		},
		Risk: "There is no fix to paste: the server's log has the errors. An application that always ends a reading transaction with " +
			"ROLLBACK shows here too, and is in good health.",
	})
}

func (a *analysis) deadlocks(object string, t reading.Transactions, w window) {
	severity := pgmedic.SeverityInfo
	if w.before != nil {
		severity = pgmedic.SeverityWarn
	}
	a.add(0, pgmedic.Finding{
		ID: "deadlocks-seen", Section: reading.SectionTransactions, Severity: severity, Object: object,
		Summary: fmt.Sprintf("Sessions waited for each other, and the server ended one of them, %s (%s).", words.Times(t.Deadlocks), w.says),
		Evidence: []pgmedic.Evidence{
			evidence("deadlocks", t.Deadlocks), evidenceText("window", w.says),
		},
		Risk: "There is no fix to paste: the server's log names the statements. Have every transaction take its locks in the same order, " +
			"and the application try again what failed with SQLSTATE 40P01.",
	})
}

func (a *analysis) tempFiles(object string, t reading.Transactions, w window) {
	mean := t.TempBytes / max(1, t.TempFiles)
	f := pgmedic.Finding{
		ID: "temp-files", Section: reading.SectionTransactions, Severity: pgmedic.SeverityInfo, Object: object,
		Summary: fmt.Sprintf("Sorts and hashes wrote %s to disk, in files of %s on average (%s): they didn't fit into work_mem.",
			words.Size(t.TempBytes), words.Size(mean), w.says),
		Evidence: []pgmedic.Evidence{
			evidence("temp_bytes", t.TempBytes), evidence("temp_files", t.TempFiles), evidence("mean_bytes", mean),
			evidenceText("window", w.says), evidence("threshold_bytes", a.limits.TempBytes),
		},
	}
	// Twice the mean file, for memory holds rows less densely than a file does;
	// more than 64 MB for every sort of every session is nothing to advise.
	suggested := int64(4)
	for suggested < 2*mean>>20 {
		suggested *= 2
	}
	workMem := int64(numberSetting(&a.reading.Server, "work_mem", 0)) << 10
	if workMem > 0 {
		f.Evidence = append(f.Evidence, evidence("work_mem_bytes", workMem))
	}
	if suggested <= 64 && workMem > 0 && suggested<<20 > workMem {
		f.Fix = fmt.Sprintf("ALTER DATABASE %s SET work_mem = '%dMB';", sqltext.PrintableIdent(a.reading.Database), suggested)
		f.Risk = "New sessions take it. Each sort and hash of each session may use that much: with many connections that can be more " +
			"memory than there is. Better set it for the role of the statements that need it (see the statements by temporary bytes)."
	} else {
		f.Risk = "Files of that size need no larger work_mem for everybody: set it for the statements or the role that write them, or give " +
			"them an index to sort by. See the statements by temporary bytes."
	}
	a.add(0, f)
}

// checkpoints finds a server that runs out of max_wal_size again and again.
func (a *analysis) checkpoints() {
	now := a.reading.Checkpoints
	if now == nil {
		return
	}
	for _, w := range a.windows(now.StatsReset) {
		timed, requested := now.Timed, now.Requested
		if w.before != nil {
			if w.before.Checkpoints == nil || !sameMoment(w.before.Checkpoints.StatsReset, now.StatsReset) {
				continue
			}
			timed, requested = timed-w.before.Checkpoints.Timed, requested-w.before.Checkpoints.Requested
		}
		if timed < 0 || requested < 0 || timed+requested < a.limits.CheckpointsMin {
			continue
		}
		percent := 100 * float64(requested) / float64(timed+requested)
		if percent <= a.limits.CheckpointsRequestedPercent {
			return
		}
		f := pgmedic.Finding{
			ID: "checkpoints-requested", Section: reading.SectionCheckpoints, Severity: pgmedic.SeverityWarn, Object: "server",
			Summary: fmt.Sprintf("%.0f %% of checkpoints came early (%s): usually because max_wal_size was full, which makes for more "+
				"and heavier writes.", percent, w.says),
			Evidence: []pgmedic.Evidence{
				evidence("requested", requested), evidence("timed", timed), evidencePercent("requested_percent", percent),
				evidenceText("window", w.says), evidencePercent("threshold_percent", a.limits.CheckpointsRequestedPercent),
			},
		}
		if size := int64(numberSetting(&a.reading.Server, "max_wal_size", 0)); size > 0 {
			f.Evidence = append(f.Evidence, evidence("max_wal_size_bytes", size<<20))
			f.Fix = fmt.Sprintf("ALTER SYSTEM SET max_wal_size = '%dMB';\nSELECT pg_catalog.pg_reload_conf();", 2*size)
			f.Risk = "pg_wal may take twice the disk space, and recovery after a crash longer. Base backups, CREATE DATABASE and " +
				"CHECKPOINT ask for checkpoints too: if those are the cause, leave it."
			h := a.reading.Host
			known := h != nil && h.DiskBytes > 0
			r := a.reading.Replication
			switch {
			case r != nil && slices.ContainsFunc(r.Slots, keepsTooMuch):
				f.Fix = ""
				f.Risk = "There is no fix to paste: an inactive replication slot keeps more WAL than max_wal_size, and the disk " +
					"fills up. Deal with the slot first."
			case !known:
				f.Risk += fmt.Sprintf(" How much room the disk has could not be read: see first that it has %s for pg_wal.", words.Size(2*size<<20))
			case h.DiskFreeBytes < 4*size<<20:
				f.Fix = ""
				f.Risk = fmt.Sprintf("There is no fix to paste: with twice max_wal_size pg_wal may take %s, and the disk has %s left. Make room first.",
					words.Size(2*size<<20), words.Size(h.DiskFreeBytes))
			}
		}
		a.add(serverWide, f)
		return
	}
}

// statementsFound bounds the findings of each kind about statements.
const statementsFound = 10

// statements finds statements that take long, or much of all time.
func (a *analysis) statements() {
	s := a.reading.Statements
	if s == nil {
		if e := a.reading.Server.Extensions; e != nil {
			a.statementsMissing()
		}
		return
	}
	a.statementsUncounted()
	slow, heavy := 0, 0
	day := a.dayOfStatements()
	for i := range s.Items {
		if s.Items[i].Own {
			continue // a look's own, of which the report says what it cost
		}
		a.regressed(&s.Items[i])
		x, total, since := recentStatement(s, &s.Items[i], a.reading.TakenAt, day)
		share := 100 * x.ExecSeconds / max(total, 1e-9)
		if share > a.limits.StatementSharePercent && total >= a.limits.StatementsMinTime.Seconds() && heavy < statementsFound {
			heavy++
			a.add(serverWide/8, a.statement(x, "statement-heavy", statementSeverity(x),
				fmt.Sprintf("It takes %.0f %% of the time of all statements (%s).", share, since),
				evidencePercent("share_percent", share), evidencePercent("threshold_percent", a.limits.StatementSharePercent)))
		}
		if x.MeanSeconds() > a.limits.SlowStatement.Seconds() && x.Calls >= a.limits.SlowStatementCalls && slow < statementsFound {
			slow++
			a.add(serverWide/8, a.statement(x, "statement-slow", statementSeverity(x),
				fmt.Sprintf("It takes %s on average (%s).", words.FineSeconds(x.MeanSeconds()), since),
				evidence("threshold_ms", a.limits.SlowStatement.Milliseconds())))
		}
	}
	a.evicted(s)
}

// statementSeverity is a note for what backups do: to read whole tables out takes
// what it takes.
func statementSeverity(x *reading.Statement) pgmedic.Severity {
	if regexp.MustCompile(`(?is)^\s*copy\s.*\sto\s+stdout\b`).MatchString(x.Query) {
		return pgmedic.SeverityInfo
	}
	return pgmedic.SeverityWarn
}

// evicted finds a pg_stat_statements that is too small.
func (a *analysis) evicted(s *reading.Statements) {
	if s.Evicted == nil {
		return
	}
	evicted, since := *s.Evicted, sinceReset(s.StatsReset)
	if day := a.dayAgo(func(e *reading.Reading) bool {
		return e.Statements != nil && e.Statements.Evicted != nil && continued(e.Statements, s)
	}); day != nil {
		evicted, since = evicted-*day.Statements.Evicted, a.inTheLast(day)
	}
	if s.Max > 0 && evicted > 0 && s.Total >= s.Max*9/10 {
		a.add(0, pgmedic.Finding{
			ID: "statements-evicted", Section: reading.SectionStatements, Severity: pgmedic.SeverityInfo, Object: "pg_stat_statements",
			Summary: fmt.Sprintf("More kinds of statements run than it keeps: the least used were thrown away %s (%s), and their counts "+
				"with them.", words.Times(evicted), since),
			Evidence: []pgmedic.Evidence{evidence("evicted", evicted), evidence("entries", s.Total), evidence("max", s.Max)},
			Fix:      fmt.Sprintf("ALTER SYSTEM SET pg_stat_statements.max = %d;", 2*s.Max),
			Risk:     "Needs a restart, and some memory. Statements that differ only in the length of a list are the usual cause.",
		})
	}
}

// statement makes a finding about a statement.
func (a *analysis) statement(x *reading.Statement, id string, severity pgmedic.Severity, summary string, more ...pgmedic.Evidence) pgmedic.Finding {
	f := pgmedic.Finding{
		ID: id, Section: reading.SectionStatements, Severity: severity, Object: "statement " + x.QueryID, Summary: summary,
		Evidence: append([]pgmedic.Evidence{
			evidenceText("statement", words.Shortened(x.Query)), evidenceText("database", x.Database), evidenceText("role", x.User),
			evidence("calls", x.Calls), evidenceText("mean", words.FineSeconds(x.MeanSeconds())), evidenceSeconds("total_seconds", x.ExecSeconds),
			evidence("rows", x.Rows), evidence("read_bytes", x.ReadBytes), evidence("temp_bytes", x.TempBytes),
		}, more...),
		Risk: "There is no fix to paste: look at its plan with EXPLAIN, for rows read and thrown away, and for estimates that are far off.",
	}
	if x.QueryID == "" {
		f.Object = "a statement of role " + sqltext.Readable(x.User) + " that is hidden from this role"
	}
	explainable := regexp.MustCompile(`(?i)^(select|with|insert|update|delete)\s`).MatchString(x.Query) &&
		!strings.ContainsAny(x.Query, "?;\n") && len(x.Query) < 8000
	if a.reading.Server.VersionNum >= 160000 && explainable {
		f.Fix = "EXPLAIN (GENERIC_PLAN) " + x.Query + ";"
		f.Risk = "Changes nothing and doesn't run the statement: it shows the plan for any parameters. Run it as the role that runs " +
			"it, never as a superuser: to plan calls functions that are declared IMMUTABLE. Have the application's search_path."
		if x.Database != a.reading.Database {
			f.Database = x.Database
		}
	}
	return f
}

// regressed finds a statement that is slower now than it was before.
func (a *analysis) regressed(x *reading.Statement) {
	recent := x.Recent
	if recent == nil || recent.Calls < a.limits.RegressionCalls || x.Calls <= recent.Calls {
		return
	}
	was := x.Less(recent)
	before, now := was.MeanSeconds(), recent.MeanSeconds()
	if was.Calls < a.limits.RegressionCalls || now < 0.005 || now < a.limits.RegressionFactor*before {
		return
	}
	a.add(serverWide/8, a.statement(x, "statement-regressed", pgmedic.SeverityWarn,
		fmt.Sprintf("It took %s on average while we watched, and %s before.", words.FineSeconds(now), words.FineSeconds(before)),
		evidenceText("recent_mean", words.FineSeconds(now)), evidence("recent_calls", recent.Calls), evidenceText("earlier_mean", words.FineSeconds(before))))
}

// statementsUncounted finds a pg_stat_statements that is there and told not to
// count. What one role or database has set for itself says nothing of the others.
func (a *analysis) statementsUncounted() {
	for _, x := range []struct{ name, off, on, why string }{
		{"pg_stat_statements.track", "none", "top", "it is set to count no statements"},
		{"compute_query_id", "off", "auto", "the server computes no query identifiers to count statements by"},
	} {
		i := slices.IndexFunc(a.reading.Server.Settings, func(s reading.Setting) bool { return s.Name == x.name })
		if i < 0 || a.reading.Server.Settings[i].Value != x.off {
			continue
		}
		if source := a.reading.Server.Settings[i].Source; slices.Contains([]string{"user", "database", "database user", "client", "session"}, source) {
			continue
		}
		f := pgmedic.Finding{
			ID: "statements-not-tracked", Section: reading.SectionStatements, Severity: pgmedic.SeverityInfo, Object: x.name,
			Summary: "The extension pg_stat_statements is installed, and " + x.why + ": which statements take the time now is not known.",
			Evidence: []pgmedic.Evidence{
				evidenceText("current", x.off), evidenceText("suggested", x.on), evidence("entries", a.reading.Statements.Total),
			},
			Fix:  fmt.Sprintf("ALTER SYSTEM SET %s = %s;\nSELECT pg_catalog.pg_reload_conf();", x.name, sqltext.PrintableLiteral(x.on)),
			Risk: "Takes effect at once, in sessions that have not set it for themselves. It counts statements at a cost of a few percent at most.",
		}
		if x.name == "compute_query_id" {
			f.Risk += " Where another library numbers statements, they are counted after all: leave it."
		}
		a.add(0, f)
	}
}

// statementsMissing says how to see statements at all.
func (a *analysis) statementsMissing() {
	if _, ok := a.reading.Server.Extension("pg_stat_statements"); ok {
		return // it is there and could not be read, which is among what was skipped
	}
	f := pgmedic.Finding{
		ID: "statements-not-tracked", Section: reading.SectionStatements, Severity: pgmedic.SeverityInfo,
		Object:  "database " + sqltext.Readable(a.reading.Database),
		Summary: "The extension pg_stat_statements is not installed in it, so it is not known which statements take the time.",
		Fix:     "CREATE EXTENSION pg_stat_statements;",
		Risk:    "A moment. It counts statements at a cost of a few percent at most.",
	}
	libraries, known := a.reading.Server.Setting("shared_preload_libraries")
	switch {
	case !known:
		// Hidden from a plain role: a list without those that are there would
		// take them from the server.
		f.Fix = "SELECT pg_catalog.current_setting('shared_preload_libraries');"
		f.Risk = "Changes nothing: it shows what the server loads, to a member of pg_read_all_settings. If pg_stat_statements is among it, " +
			"CREATE EXTENSION pg_stat_statements is all there is to do; otherwise add it to the list, keep the rest, and restart first."
	case !strings.Contains(libraries, "pg_stat_statements") && !a.reading.Server.StatementsAvailable:
		f.Fix = ""
		f.Risk = "There is no fix to paste: the server's machine doesn't have the extension, and a server whose shared_preload_libraries names a missing library " +
			"does not start. Install its package (postgresql-contrib) first, and then add pg_stat_statements to shared_preload_libraries."
	case !strings.Contains(libraries, "pg_stat_statements"):
		all := "pg_stat_statements"
		if libraries != "" {
			all = libraries + ", " + all
		}
		f.Fix = fmt.Sprintf("ALTER SYSTEM SET shared_preload_libraries = %s;", libraryList(all))
		f.Risk = "Needs a restart of the server, and then CREATE EXTENSION pg_stat_statements in this database. " +
			"It counts statements at a cost of a few percent at most."
	}
	f.Evidence = []pgmedic.Evidence{evidenceText("shared_preload_libraries", libraries)}
	a.add(0, f)
}

// libraryList writes the value of a list setting: each name quoted by itself,
// for ALTER SYSTEM takes one string for one name.
func libraryList(names string) string {
	var out []string
	for n := range strings.SplitSeq(names, ",") {
		if n = strings.Trim(strings.TrimSpace(n), `"`); n != "" {
			out = append(out, sqltext.PrintableLiteral(n))
		}
	}
	return strings.Join(out, ", ")
}
