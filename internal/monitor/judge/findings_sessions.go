package judge

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// connections finds a server that is about to refuse connections.
func (a *analysis) connections() {
	c := a.reading.Connections
	if c == nil || c.Usable() <= 0 {
		return
	}
	percent := 100 * float64(c.Used) / float64(c.Usable())
	severity := pgmedic.SeverityWarn
	limit := a.limits.ConnectionsWarnPercent
	switch {
	case percent > a.limits.ConnectionsCriticalPercent:
		severity, limit = pgmedic.SeverityCritical, a.limits.ConnectionsCriticalPercent
	case percent <= limit:
		return
	}
	a.add(serverWide, pgmedic.Finding{
		ID: "connections-near-limit", Section: reading.SectionConnections, Severity: severity,
		Object: "server",
		Summary: fmt.Sprintf("%.0f %% of the connections that ordinary roles can have are taken; when none is left, clients are refused.",
			percent),
		Evidence: []pgmedic.Evidence{
			evidence("used", c.Used), evidence("usable", c.Usable()), evidence("max_connections", c.MaxConnections),
			evidence("reserved", c.SuperuserReserved+c.Reserved), evidencePercent("used_percent", percent),
			evidencePercent("threshold_percent", limit),
		},
		Fix: "SELECT usename, application_name, state, pg_catalog.count(*) FROM pg_catalog.pg_stat_activity " +
			"WHERE backend_type OPERATOR(pg_catalog.=) 'client backend' GROUP BY 1, 2, 3 ORDER BY 4 DESC;",
		Risk: "Changes nothing: it shows who holds them. The cure is usually a smaller pool in the application, or a " +
			"pooler. Raising max_connections needs a restart and memory for each connection, and every standby needs the " +
			"higher value first.",
	})
}

// idleSessions finds transactions that nobody works in.
func (a *analysis) idleSessions() {
	if a.reading.Connections == nil {
		return
	}
	for _, s := range a.reading.Connections.IdleInTransaction {
		if time.Duration(s.IdleSeconds*float64(time.Second)) <= a.limits.IdleInTransaction {
			continue
		}
		a.add(sessionWide+int64(s.IdleSeconds), idleFinding(s, a.limits))
	}
}

// idleFinding judges one session. A dump's leading session idles while its
// workers read: ending it would end the backup, so it is only noted.
func idleFinding(s reading.IdleSession, limits reading.Thresholds) pgmedic.Finding {
	f := pgmedic.Finding{
		ID: "idle-in-transaction", Section: reading.SectionConnections, Severity: pgmedic.SeverityWarn,
		Object: fmt.Sprintf("process %d (role %s)", s.PID, sqltext.Readable(s.User)),
		Summary: fmt.Sprintf("A session has done nothing for %s with a transaction open, which holds its locks and keeps "+
			"VACUUM from removing rows.", words.LongSeconds(s.IdleSeconds)),
		Evidence: []pgmedic.Evidence{
			evidenceText("database", s.Database), evidenceText("application", s.Application),
			evidenceSeconds("idle_seconds", s.IdleSeconds), evidenceSeconds("transaction_seconds", s.TransactionSeconds),
			evidenceSeconds("threshold_seconds", limits.IdleInTransaction.Seconds()),
		},
	}
	if isBackup(s.Application) {
		f.Severity = pgmedic.SeverityInfo
		f.Summary = fmt.Sprintf("A backup has held its snapshot open for %s, which keeps VACUUM from removing rows until "+
			"it ends.", words.LongSeconds(s.TransactionSeconds))
		return f
	}
	f.Fix, f.Risk = endIdle(s.PID, s.BackendStart, s.TransactionStart), endIdleRisk
	return f
}

// endIdle ends a session that idles in a transaction, if it still does in the same one.
func endIdle(pid int, connected, began time.Time) string {
	return fmt.Sprintf("SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) %d "+
		"AND backend_start OPERATOR(pg_catalog.=) '%s' AND xact_start OPERATOR(pg_catalog.=) '%s' AND pg_catalog.starts_with(state, 'idle in transaction');",
		pid, timestamp(connected), timestamp(began))
}

// endIdleRisk is the risk of that.
const endIdleRisk = "Rolls back what the session has not committed and closes its connection. It ends only this transaction, " +
	"and nothing if the session has gone on meanwhile. Needs the session's role, or pg_signal_backend."

// isBackup reports whether an application holds a snapshot on purpose.
func isBackup(application string) bool {
	return strings.HasPrefix(application, "pg_dump") || strings.HasPrefix(application, "pgmedic")
}

// timestamp writes a moment as PostgreSQL reads it under every DateStyle, to
// the microsecond that it keeps.
func timestamp(t time.Time) string {
	return t.UTC().Format("2006-01-02 15:04:05.999999") + "+00"
}

// cache finds a database that reads more from outside shared_buffers than a
// transactional load should.
func (a *analysis) cache() {
	w, ok := a.cacheWindow()
	total := w.hits + w.reads
	if !ok || total < max(1, a.limits.CacheMinAccesses) {
		return
	}
	percent := 100 * float64(w.hits) / float64(total)
	severity, limit := pgmedic.SeverityWarn, a.limits.CacheWarnPercent
	switch {
	// A nightly job may read everything once, and is over when somebody has got up.
	case percent < a.limits.CacheCriticalPercent && !w.brief:
		severity, limit = pgmedic.SeverityCritical, a.limits.CacheCriticalPercent
	case percent >= limit:
		return
	}
	server := &a.reading.Server
	shared := int64(numberSetting(server, "shared_buffers", 0) * numberSetting(server, "block_size", 8192))
	found := pgmedic.Finding{
		ID: "cache-hit-low", Section: reading.SectionCache, Severity: severity,
		Object: "database " + sqltext.Readable(a.reading.Database),
		Summary: fmt.Sprintf("%.1f %% of block accesses were found in shared_buffers (%s); the rest came from the "+
			"operating system, whose own cache PostgreSQL cannot see.", percent, w.since),
		Evidence: []pgmedic.Evidence{
			evidencePercent("hit_percent", percent), evidence("hits", w.hits), evidence("reads", w.reads),
			evidenceText("window", w.since), evidencePercent("threshold_percent", limit),
		},
		Fix: "SELECT relid::pg_catalog.regclass AS table, heap_blks_read OPERATOR(pg_catalog.+) coalesce(idx_blks_read, 0) AS blocks_read " +
			"FROM pg_catalog.pg_statio_user_tables ORDER BY 2 DESC LIMIT 10;",
		Risk: "Changes nothing: it shows which tables the reads are of. Look there for missing indexes first; a larger " +
			"shared_buffers needs a restart and memory that the operating system's cache then lacks.",
	}
	if shared > 0 {
		found.Evidence = append(found.Evidence, evidence("shared_buffers_bytes", shared))
	}
	a.add(serverWide, found)
}

// blockAccesses are those of some time.
type blockAccesses struct {
	hits, reads int64
	// since says of which time.
	since string
	// brief is true for less than an hour.
	brief bool
}

// cacheWindow returns the block accesses since the newest earlier Reading that
// leaves enough of them to judge, else those of the lifetime, said as such; none
// where a day has not been enough.
func (a *analysis) cacheWindow() (w blockAccesses, ok bool) {
	now := a.reading.Cache
	if now == nil {
		return w, false
	}
	var best *reading.Reading
	for _, e := range a.earlier {
		if !a.continues(e) || e.Cache == nil || (best != nil && !e.TakenAt.After(best.TakenAt)) {
			continue
		}
		h, r := now.LifetimeHits-e.Cache.LifetimeHits, now.LifetimeReads-e.Cache.LifetimeReads
		if h < 0 || r < 0 || h+r < a.limits.CacheMinAccesses {
			continue
		}
		best, w.hits, w.reads = e, h, r
	}
	if best != nil {
		span := a.reading.TakenAt.Sub(best.TakenAt)
		w.since, w.brief = "in the last "+words.Long(span), span < time.Hour
		return w, true
	}
	if a.dayAgo(func(e *reading.Reading) bool { return e.Cache != nil }) != nil {
		return w, false
	}
	w = blockAccesses{hits: now.LifetimeHits, reads: now.LifetimeReads, since: "since statistics were first kept, a lifetime average"}
	if now.StatsReset != nil {
		w.since = "since " + now.StatsReset.UTC().Format(time.DateOnly) + ", a lifetime average"
	}
	return w, true
}

// continues reports whether counters run on from an earlier Reading to this
// one: the same database of the same server, with no statistics reset between.
func (a *analysis) continues(e *reading.Reading) bool {
	r := a.reading
	if e == nil || !e.TakenAt.Before(r.TakenAt) || e.Database != r.Database ||
		e.Server.SystemIdentifier != r.Server.SystemIdentifier || !sameStatistics(e, r) {
		return false
	}
	// Both sections tell when the database's statistics were reset.
	if x, y := e.Cache, r.Cache; x != nil && y != nil {
		return sameMoment(x.StatsReset, y.StatsReset)
	}
	if x, y := e.Transactions, r.Transactions; x != nil && y != nil {
		return sameMoment(x.StatsReset, y.StatsReset)
	}
	return false
}

// dayAgo returns the newest earlier Reading of at least a day ago from which
// counters run on, of those that have something; nil without one.
func (a *analysis) dayAgo(has func(*reading.Reading) bool) *reading.Reading {
	var best *reading.Reading
	for _, e := range a.earlier {
		if a.continues(e) && a.reading.TakenAt.Sub(e.TakenAt) >= newAfter && has(e) && (best == nil || e.TakenAt.After(best.TakenAt)) {
			best = e
		}
	}
	return best
}
