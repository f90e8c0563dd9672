package prometheus

import (
	"slices"
	"strconv"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// The metrics that are there when the server is not.
const (
	metricUp    = "pgmedic_up"
	metricBuild = "pgmedic_build_info"
)

// The bounds of what is counted by name.
const (
	databaseSeries  = 50
	statementSeries = 20
	slotSeries      = 50
)

// metricTable is every metric. docs/metrics.md is held to it.
func metricTable() []metricRow {
	return slices.Concat(reportMetrics(), overviewMetrics(), connectionMetrics(), lockMetrics(), replicationMetrics(),
		slotMetrics(), replayMetrics(), archiverMetrics(), limitMetrics(), tableMetrics(), tableCounters(), indexMetrics(),
		statementMetrics(), cacheMetrics(), sizeMetrics(), transactionMetrics(), sessionMetrics(), checkpointMetrics(), walMetrics(),
		ioMetrics(), waitMetrics(), securityMetrics(), backupMetrics(), recoveryMetrics())
}

// reportMetrics are of the report itself.
func reportMetrics() []metricRow {
	return []metricRow{
		{once: true, Metric: Metric{Name: metricUp, Help: "Whether the server could be reached and read: 1 or 0."},
			read: func(_ source, put put) { put(1) }},
		{once: true, Metric: Metric{Name: metricBuild, Labels: []string{"version"}, Help: "The version of pgmedic; always 1."},
			read: func(s source, put put) { put(1, s.opts.Version) }},
		{once: true, Metric: Metric{Name: "pgmedic_reading_timestamp_seconds", Help: "When the metrics were collected."},
			read: func(s source, put put) { moment(put, &s.reading.TakenAt) }},
		{once: true, Metric: Metric{Name: "pgmedic_findings", Labels: []string{"severity"}, Help: "Findings, without those that are muted."},
			read: func(s source, put put) {
				for _, severity := range []pgmedic.Severity{pgmedic.SeverityCritical, pgmedic.SeverityWarn, pgmedic.SeverityInfo} {
					put(float64(countFindings(s.report.Findings, severity, "")), string(severity))
				}
			}},
		{once: true, Metric: Metric{Name: "pgmedic_finding", Labels: []string{"id", "severity"},
			Help: "Findings of one kind, without those that are muted; docs/findings.md explains each."},
			read: func(s source, put put) {
				for _, f := range s.report.Findings {
					put(float64(countFindings(s.report.Findings, f.Severity, f.ID)), f.ID, string(f.Severity))
				}
			}},
		{once: true, Metric: Metric{Name: "pgmedic_findings_muted", Help: "Findings that the configuration mutes."},
			read: func(s source, put put) { put(float64(len(s.report.Muted))) }},
		{Metric: Metric{Name: "pgmedic_skipped", Labels: []string{"section"}, Help: "Checks that were skipped because something could not be read."},
			read: func(s source, put put) {
				counts := map[string]int{}
				for _, x := range s.reading.Skipped {
					counts[x.Section]++
				}
				for section, n := range counts {
					put(float64(n), section)
				}
			}},
		{once: true, Metric: Metric{Name: "pgmedic_collect_duration_seconds", Help: "Time the server spent on this collection, in seconds."},
			read: func(s source, put put) { put(s.reading.Cost.Seconds) }},
		{once: true, Metric: Metric{Name: "pgmedic_collect_queries", Help: "Queries that this collection ran."},
			read: func(s source, put put) { put(float64(s.reading.Cost.Queries)) }},
		{once: true, Metric: Metric{Name: "pgmedic_collect_statements", Help: "Statements that this collection sent, including those that open, limit and close its transactions."},
			read: func(s source, put put) { counted(put, s.reading.Cost.Statements) }},
		{once: true, Metric: Metric{Name: "pgmedic_collect_connections", Help: "Connections that this collection opened, one at a time."},
			read: func(s source, put put) { counted(put, s.reading.Cost.Connections) }},
	}
}

// part reads a metric from a section, where that was read.
func part[T any](of func(*reading.Reading) *T, read func(x *T, put put)) func(source, put) {
	return func(s source, put put) {
		if x := of(s.reading); x != nil {
			read(x, put)
		}
	}
}

// counted puts what the readings of earlier versions don't have.
func counted(put put, n int) {
	if n > 0 {
		put(float64(n))
	}
}

// countFindings counts those of one severity, and of one id unless it is empty.
func countFindings(all []pgmedic.Finding, severity pgmedic.Severity, id string) (n int) {
	for _, f := range all {
		if f.Severity == severity && (id == "" || f.ID == id) {
			n++
		}
	}
	return n
}

func overviewMetrics() []metricRow {
	of := func(name, help string, labels []string, read func(x *reading.Server, put put)) metricRow {
		return metricRow{once: true, Metric: Metric{Name: name, Section: reading.SectionOverview, Labels: labels, Help: help},
			read: func(s source, put put) {
				if s.reading.Wants(reading.SectionOverview) {
					read(&s.reading.Server, put)
				}
			}}
	}
	setting := func(unit string) func(x *reading.Server, put put) {
		return func(x *reading.Server, put put) {
			for _, set := range x.Settings {
				if value, in := baseUnit(set); in == unit {
					put(value, set.Name)
				}
			}
		}
	}
	return []metricRow{
		of("pgmedic_server_info", "The server; always 1.", []string{"version", "role", "system_identifier"},
			func(x *reading.Server, put put) { put(1, x.Version, string(x.Role), x.SystemIdentifier) }),
		of("pgmedic_server_standby", "Whether the server is a standby.", nil,
			func(x *reading.Server, put put) { flag(put, x.Role == reading.RoleStandby) }),
		of("pgmedic_server_start_timestamp_seconds", "When the server was started.", nil,
			func(x *reading.Server, put put) { moment(put, &x.StartedAt) }),
		of("pgmedic_settings_pending_restart", "Settings that change at the next restart, of those that are collected.", nil,
			func(x *reading.Server, put put) {
				if x.Settings == nil {
					return
				}
				n := 0
				for _, set := range x.Settings {
					if set.PendingRestart {
						n++
					}
				}
				put(float64(n))
			}),
		of("pgmedic_setting_bytes", "Settings that are sizes, in bytes.", []string{"name"}, setting("bytes")),
		of("pgmedic_setting_seconds", "Settings that are durations, in seconds.", []string{"name"}, setting("seconds")),
	}
}

// baseUnit returns a setting in bytes or seconds, where it is a size or a time.
// A negative one means that there is none.
func baseUnit(s reading.Setting) (value float64, unit string) {
	n, err := strconv.ParseFloat(s.Value, 64)
	if err != nil || n < 0 {
		return 0, ""
	}
	switch s.Unit {
	case "B":
		return n, "bytes"
	case "kB":
		return n * (1 << 10), "bytes"
	case "8kB":
		return n * (8 << 10), "bytes"
	case "MB":
		return n * (1 << 20), "bytes"
	case "ms":
		return n / 1000, "seconds"
	case "s":
		return n, "seconds"
	case "min":
		return n * 60, "seconds"
	}
	return 0, ""
}

func connectionMetrics() []metricRow {
	of := func(name, help string, labels []string, read func(x *reading.Connections, put put)) metricRow {
		return metricRow{Metric: Metric{Name: name, Section: reading.SectionConnections, Labels: labels, Help: help},
			read: part(func(r *reading.Reading) *reading.Connections { return r.Connections }, read)}
	}
	// These numbers are of one query; the lists are of others.
	number := func(name, help string, value func(x *reading.Connections) float64) metricRow {
		return of(name, help, nil, func(x *reading.Connections, put put) {
			if x.MaxConnections > 0 {
				put(value(x))
			}
		})
	}
	return []metricRow{
		number("pgmedic_connections_used", "Client sessions, this one included.", func(x *reading.Connections) float64 { return float64(x.Used) }),
		number("pgmedic_connections_max", "The setting max_connections.", func(x *reading.Connections) float64 { return float64(x.MaxConnections) }),
		number("pgmedic_connections_usable", "Connections available to ordinary roles.", func(x *reading.Connections) float64 { return float64(x.Usable()) }),
		number("pgmedic_connections_hidden", "Sessions whose state this role may not see.", func(x *reading.Connections) float64 { return float64(x.Hidden) }),
		number("pgmedic_connections_waiting_for_lock", "Sessions waiting for a heavyweight lock.",
			func(x *reading.Connections) float64 { return float64(x.WaitingForLock) }),
		number("pgmedic_connection_oldest_seconds", "Age of the oldest session.", func(x *reading.Connections) float64 { return x.OldestConnectionSeconds }),
		number("pgmedic_transaction_oldest_seconds", "Age of the oldest open transaction; 0 if there is none.",
			func(x *reading.Connections) float64 { return x.OldestTransactionSeconds }),
		number("pgmedic_query_oldest_seconds", "Age of the oldest running statement; 0 if there is none.",
			func(x *reading.Connections) float64 { return x.OldestQuerySeconds }),
		of("pgmedic_idle_in_transaction_oldest_seconds", "Longest time that a session has been idle in a transaction; 0 if there is none.", nil,
			func(x *reading.Connections, put put) {
				if x.IdleInTransaction == nil {
					return
				}
				longest := 0.0
				for _, s := range x.IdleInTransaction {
					longest = max(longest, s.IdleSeconds)
				}
				put(longest)
			}),
		of("pgmedic_connections_by_state", "Client sessions by state; hidden is a state that the role may not see.", []string{"state"},
			func(x *reading.Connections, put put) {
				for _, c := range x.ByState {
					put(float64(c.Connections), c.State)
				}
			}),
		of("pgmedic_connections_by_user", "Client sessions by role and application: the 20 largest groups, and the others together.", []string{"user", "application"},
			func(x *reading.Connections, put put) {
				rest := x.Used
				for _, c := range x.ByUser {
					put(float64(c.Connections), c.User, c.Application)
					rest -= c.Connections
				}
				// The two counts are of two moments.
				if x.ByUser != nil && rest > 0 {
					put(float64(rest), other, other)
				}
			}),
	}
}

func lockMetrics() []metricRow {
	of := func(name, help string, labels []string, read func(x *reading.Locks, put put)) metricRow {
		return metricRow{Metric: Metric{Name: name, Section: reading.SectionLocks, Labels: labels, Help: help},
			read: part(func(r *reading.Reading) *reading.Locks { return r.Locks }, read)}
	}
	return []metricRow{
		of("pgmedic_locks", "Heavyweight locks of other sessions; the 50 most frequent kinds.", []string{"type", "mode", "granted"},
			func(x *reading.Locks, put put) {
				for _, l := range x.Counts {
					put(float64(l.Locks), l.Type, l.Mode, word(l.Granted))
				}
			}),
		of("pgmedic_lock_waiting_sessions", "Sessions waiting for a heavyweight lock.", nil,
			func(x *reading.Locks, put put) {
				if x.Waiting != nil {
					put(float64(x.WaitingTotal))
				}
			}),
		of("pgmedic_lock_longest_wait_seconds", "Longest time that a session has waited for a lock; 0 if none waits.", nil,
			func(x *reading.Locks, put put) {
				if x.Waiting == nil {
					return
				}
				longest := 0.0
				for _, w := range x.Waiting {
					longest = max(longest, w.WaitSeconds)
				}
				put(longest)
			}),
	}
}
