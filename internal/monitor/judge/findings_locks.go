package judge

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// blocked is one session that others wait for and that waits for nobody.
type blocked struct {
	pid     int
	waiting []reading.LockWait // longest first
}

// roots finds who is at the bottom of every wait: ending anybody in between
// would help nobody. Sessions that wait for each other are a deadlock, which
// the server ends by itself.
func roots(l *reading.Locks) []blocked {
	waits := map[int]reading.LockWait{}
	for _, w := range l.Waiting {
		waits[w.PID] = w
	}
	behind := map[int][]reading.LockWait{}
	for _, w := range l.Waiting {
		seen := map[int]bool{w.PID: true}
		queue := slices.Clone(w.BlockedBy)
		for len(queue) > 0 {
			pid := queue[0]
			queue = queue[1:]
			if seen[pid] {
				continue
			}
			seen[pid] = true
			if next, ok := waits[pid]; ok {
				queue = append(queue, next.BlockedBy...)
				continue
			}
			behind[pid] = append(behind[pid], w)
		}
	}
	var all []blocked
	for pid, waiting := range behind {
		slices.SortStableFunc(waiting, func(a, b reading.LockWait) int {
			if a.WaitSeconds > b.WaitSeconds {
				return -1
			}
			return 1
		})
		all = append(all, blocked{pid, waiting})
	}
	slices.SortFunc(all, func(a, b blocked) int { return a.pid - b.pid })
	return all
}

// lockWaits finds sessions that keep others waiting.
func (a *analysis) lockWaits() {
	l := a.reading.Locks
	if l == nil {
		return
	}
	for _, b := range roots(l) {
		longest := b.waiting[0]
		wait := time.Duration(longest.WaitSeconds * float64(time.Second))
		if wait <= a.limits.LockWaitWarn {
			continue
		}
		f := pgmedic.Finding{
			ID: "lock-wait", Section: reading.SectionLocks, Severity: pgmedic.SeverityWarn,
			Summary: fmt.Sprintf("%s waiting for it, the longest for %s.", are(len(b.waiting), "session"), words.LongSeconds(longest.WaitSeconds)),
			Evidence: []pgmedic.Evidence{
				evidence("waiting", len(b.waiting)), evidenceSeconds("longest_wait_seconds", longest.WaitSeconds),
				evidenceText("lock", longest.Mode), evidenceText("on", longest.Object),
				evidenceText("waiting_statement", longest.Query),
			},
		}
		limit := a.limits.LockWaitWarn
		advisory := !slices.ContainsFunc(b.waiting, func(w reading.LockWait) bool { return w.LockType != "advisory" })
		if wait > a.limits.LockWaitCritical && !advisory {
			f.Severity, limit = pgmedic.SeverityCritical, a.limits.LockWaitCritical
		}
		a.blocker(&f, b.pid)
		if advisory {
			// Who waits to lead, or for its turn to migrate, does so on purpose.
			f.Severity, f.Fix = pgmedic.SeverityInfo, showAdvisory
			f.Summary += " The lock is an advisory one, which an application takes to take turns: to wait for it may be what is meant."
			f.Risk = "Changes nothing: it shows who holds and who awaits advisory locks. To end the holder would give its turn, or its " +
				"lead, to another while it may still be at work."
		}
		f.Evidence = append(f.Evidence, evidenceSeconds("threshold_seconds", limit.Seconds()))
		a.add(sessionWide+int64(longest.WaitSeconds), f)
	}
}

// showAdvisory shows who takes turns by locks of an application's own.
const showAdvisory = "SELECT l.pid, a.application_name, a.state, l.classid, l.objid, l.granted FROM pg_catalog.pg_locks l " +
	"JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) l.pid WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' ORDER BY l.classid, l.objid, l.granted DESC;"

// are begins a sentence about a number of things.
func are(n int, thing string) string {
	if n == 1 {
		return "1 " + thing + " is"
	}
	return words.Plural(n, thing) + " are"
}

// blocker says who blocks and how to end it.
func (a *analysis) blocker(f *pgmedic.Finding, pid int) {
	if pid == 0 {
		f.Object = "prepared transaction"
		f.Fix = "SELECT gid, prepared, owner, database FROM pg_catalog.pg_prepared_xacts ORDER BY prepared;"
		f.Risk = "Changes nothing: it shows the prepared transactions, which hold locks without a session. Finish the right one " +
			"with COMMIT PREPARED or ROLLBACK PREPARED, as its coordinator has decided."
		return
	}
	i := slices.IndexFunc(a.reading.Locks.Blockers, func(s reading.Session) bool { return s.PID == pid })
	if i < 0 {
		f.Object = reading.ProcessName(pid, "")
		return
	}
	s := a.reading.Locks.Blockers[i]
	f.Object = reading.ProcessName(pid, s.User)
	f.Evidence = append(f.Evidence, evidenceText("application", s.Application), evidenceText("state", s.State),
		evidenceSeconds("transaction_seconds", s.TransactionSeconds), evidenceText("statement", s.Query))
	switch {
	case isBackup(s.Application):
		f.Summary += " It is a backup: what waits wants a lock that no reader allows, such as DDL."
	case strings.HasPrefix(s.BackendType, "logical replication") || s.BackendType == "walsender":
		f.Summary += " It is a process of replication, which begins again where it was ended."
		f.Risk = "There is no fix to paste: a subscription may disable itself at what looks like an error. If what waits is DDL, let it give up " +
			"(lock_timeout) and try again."
	case s.Gentle():
		f.Summary += " It is " + s.Maintenance + ", which keeps no reads or writes waiting: what waits is DDL, or other maintenance."
		f.Risk = "There is no fix to paste: it ends by itself. To cancel it loses its work, and an index build that is cancelled leaves an INVALID " +
			"index behind, to be dropped."
	case s.User == "":
		f.Summary += " It is one of the server's own processes, such as autovacuum, and ends by itself."
	case s.State == "":
		f.Risk = "There is no fix to paste: what it does is hidden from this role. Look again as a member of pg_monitor."
	case s.State == "active":
		f.Fix = guarded("pg_cancel_backend", s)
		f.Risk = "Cancels the statement that runs, with which its transaction fails and lets go of its locks. It touches only " +
			"this transaction. Needs the session's role, or pg_signal_backend."
	default:
		f.Fix = guarded("pg_terminate_backend", s)
		f.Risk = "Rolls back what the session has not committed and closes its connection. It ends only this transaction, " +
			"and nothing if the session has gone on meanwhile. Needs the session's role, or pg_signal_backend."
	}
}

// guarded signals a session if it is still in the same transaction.
func guarded(function string, s reading.Session) string {
	where := fmt.Sprintf("pid OPERATOR(pg_catalog.=) %d", s.PID)
	if s.BackendStart != nil {
		where += " AND backend_start OPERATOR(pg_catalog.=) '" + timestamp(*s.BackendStart) + "'"
	}
	if s.TransactionStart != nil {
		where += " AND xact_start OPERATOR(pg_catalog.=) '" + timestamp(*s.TransactionStart) + "'"
	} else {
		where += " AND xact_start IS NULL"
	}
	return "SELECT pg_catalog." + function + "(pid) FROM pg_catalog.pg_stat_activity WHERE " + where + ";"
}

// longTransactions finds transactions that have worked for very long. Those
// that idle are found as such.
func (a *analysis) longTransactions() {
	if a.reading.Connections == nil {
		return
	}
	for _, s := range a.reading.Connections.Longest {
		if time.Duration(s.TransactionSeconds*float64(time.Second)) <= a.limits.LongTransaction ||
			s.State != "active" || isBackup(s.Application) || s.Maintenance == reading.MaintenanceVacuum || s.Maintenance == reading.MaintenanceAnalyze {
			continue
		}
		if s.Maintenance == reading.MaintenanceIndex || s.Maintenance == reading.MaintenanceIndexConcurrently {
			a.longIndexBuild(s)
			continue
		}
		a.add(sessionWide+int64(s.TransactionSeconds), pgmedic.Finding{
			ID: "long-transaction", Section: reading.SectionConnections, Severity: pgmedic.SeverityWarn,
			Object: reading.ProcessName(s.PID, s.User),
			Summary: fmt.Sprintf("A transaction has been at work for %s; until it ends, VACUUM can't remove rows that were deleted since.",
				words.LongSeconds(s.TransactionSeconds)),
			Evidence: []pgmedic.Evidence{
				evidenceText("database", s.Database), evidenceText("application", s.Application),
				evidenceSeconds("transaction_seconds", s.TransactionSeconds), evidenceSeconds("statement_seconds", s.QuerySeconds),
				evidenceText("waits_for", s.WaitEvent), evidenceText("statement", s.Query),
				evidenceSeconds("threshold_seconds", a.limits.LongTransaction.Seconds()),
			},
			Fix: guarded("pg_cancel_backend", s),
			Risk: "Cancels the statement, and its transaction with it: all its work so far is lost. Let it end if it is meant to " +
				"take long. Needs the session's role, or pg_signal_backend.",
		})
	}
}

// longIndexBuild notes a build that has taken long, which is in its nature.
func (a *analysis) longIndexBuild(s reading.Session) {
	f := pgmedic.Finding{
		ID: "long-transaction", Section: reading.SectionConnections, Severity: pgmedic.SeverityInfo,
		Object:  reading.ProcessName(s.PID, s.User),
		Summary: fmt.Sprintf("It has been building an index for %s.", words.LongSeconds(s.TransactionSeconds)),
		Evidence: []pgmedic.Evidence{
			evidenceText("database", s.Database), evidenceText("application", s.Application), evidenceText("work", s.Maintenance),
			evidenceSeconds("transaction_seconds", s.TransactionSeconds), evidenceText("waits_for", s.WaitEvent),
			evidenceText("statement", s.Query), evidenceSeconds("threshold_seconds", a.limits.LongTransaction.Seconds()),
		},
		Fix: fmt.Sprintf("SELECT pid, datname, relid::pg_catalog.regclass AS table, phase, blocks_done, blocks_total, current_locker_pid "+
			"FROM pg_catalog.pg_stat_progress_create_index WHERE pid OPERATOR(pg_catalog.=) %d;", s.PID),
		Risk: "Changes nothing: it shows how far it is, and whose transaction it waits for. ",
	}
	if s.Maintenance == reading.MaintenanceIndexConcurrently {
		f.Risk += "Let it end: to cancel it leaves an INVALID index behind, which every write pays for, to be dropped with DROP INDEX " +
			"CONCURRENTLY. Reads and writes go on meanwhile. Before PostgreSQL 14, or with an expression or a condition, VACUUM can't remove rows " +
			"that were deleted since it began."
	} else {
		f.Risk += "Writes to the table are blocked meanwhile, and VACUUM can't remove rows that were deleted since it began. To cancel it " +
			"leaves nothing behind, and loses its work; then build the index with CONCURRENTLY."
	}
	a.add(sessionWide+int64(s.TransactionSeconds), f)
}

// prepared finds transactions that nobody has finished.
func (a *analysis) preparedTransactions() {
	if a.reading.Limits == nil {
		return
	}
	for _, p := range a.reading.Limits.Prepared {
		if time.Duration(p.AgeSeconds*float64(time.Second)) <= a.limits.PreparedTransaction {
			continue
		}
		f := pgmedic.Finding{
			ID: "prepared-transaction-old", Section: reading.SectionLimits, Severity: pgmedic.SeverityWarn,
			Object: "prepared transaction " + sqltext.Readable(p.GID),
			Summary: fmt.Sprintf("A transaction was prepared for a two-phase commit %s ago and never finished; it holds its locks and "+
				"keeps VACUUM from removing rows, over restarts too.", words.LongSeconds(p.AgeSeconds)),
			Evidence: []pgmedic.Evidence{
				evidenceText("database", p.Database), evidenceText("owner", p.Owner), evidenceTime("prepared", &p.Prepared),
				evidence("transactions_since", p.XIDAge), evidenceSeconds("threshold_seconds", a.limits.PreparedTransaction.Seconds()),
			},
			// Only its coordinator knows how it ends: to paste either end could lose what was promised.
			Fix: fmt.Sprintf("SELECT gid, prepared, owner, database FROM pg_catalog.pg_prepared_xacts WHERE gid OPERATOR(pg_catalog.=) %s;", sqltext.PrintableLiteral(p.GID)),
			Risk: fmt.Sprintf("Changes nothing: it shows whether it is still there. Ask its coordinator what it decided, and finish it so: "+
				"COMMIT PREPARED %[1]s, or ROLLBACK PREPARED %[1]s, which throws away what the transaction did. Either must be run in the "+
				"transaction's database, as its owner or a superuser.", sqltext.PrintableLiteral(p.GID)),
		}
		if p.Database != a.reading.Database {
			f.Database = p.Database
		}
		a.add(sessionWide, f)
	}
}

// heldBack finds what has kept VACUUM from removing rows for very many
// transactions.
func (a *analysis) heldBack() {
	if a.reading.Limits == nil {
		return
	}
	for _, h := range a.reading.Limits.Holders {
		age := max(h.XIDAge, h.CatalogXIDAge)
		if age <= a.limits.HeldBackTransactions {
			continue
		}
		f := pgmedic.Finding{
			ID: "vacuum-held-back", Section: reading.SectionLimits, Severity: pgmedic.SeverityWarn,
			Object: h.Name,
			Summary: fmt.Sprintf("A %s keeps VACUUM from removing any row that was deleted in the last %s transactions.",
				h.Kind, pgmedic.Count(age)),
			Evidence: []pgmedic.Evidence{
				evidenceText("kind", h.Kind), evidenceText("database", h.Database), evidence("transactions", h.XIDAge),
				evidence("catalog_transactions", h.CatalogXIDAge), evidence("threshold_transactions", a.limits.HeldBackTransactions),
			},
		}
		switch h.Kind {
		case "session":
			f.Fix = "SELECT pid, usename, application_name, state, xact_start, pg_catalog.age(backend_xmin) FROM pg_catalog.pg_stat_activity " +
				"WHERE backend_xmin IS NOT NULL ORDER BY pg_catalog.age(backend_xmin) DESC;"
			f.Risk = "Changes nothing: it shows the sessions that hold old snapshots. Have the oldest end its transaction."
		case "standby":
			f.Summary = "A standby's queries, which hot_standby_feedback reports, " + f.Summary[len("A standby "):]
			f.Fix = "SELECT pid, usename, application_name, state, xact_start, pg_catalog.age(backend_xmin) FROM pg_catalog.pg_stat_activity " +
				"WHERE backend_xmin IS NOT NULL ORDER BY pg_catalog.age(backend_xmin) DESC;"
			f.Risk = "Changes nothing. Run it on the standby: it shows the queries that hold old snapshots there."
		case "replication slot":
			f.Fix, f.Risk = showSlot(h.Name), slotRisk(h.Name)
			f.Object = "replication slot " + sqltext.Readable(h.Name)
		case "prepared transaction":
			f.Fix = "SELECT gid, prepared, owner, database FROM pg_catalog.pg_prepared_xacts ORDER BY prepared;"
			f.Risk = "Changes nothing: it shows the prepared transactions. Finish the oldest as its coordinator has decided."
			f.Object = "prepared transaction " + sqltext.Readable(h.Name)
		}
		a.add(sessionWide, f)
	}
}
