package emergency

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/words"
)

// xidLimit is how many transactions a row may stay unfrozen before the server refuses
// writes, less a safety margin of 3 million: https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND
const xidLimit = 1<<31 - 3_000_000

// mostSteps is how many sessions, holders or databases get a step of their own.
const mostSteps = 5

func wraparound(p *planner) {
	p.say("Keep the server running", "Reads go on, and so do writes until 3 million transaction numbers are left. Don't restart it in single-user mode, and don't run VACUUM FULL: neither is needed, and both cost time. "+
		"Don't use pg_resetwal: it makes rows vanish.")
	p.sql("See how near it is", fmt.Sprintf("The server refuses writes at %s.", words.Count(xidLimit)), p.maintenance(),
		"SELECT datname, age(datfrozenxid) AS transactions, mxid_age(datminmxid) AS multixacts FROM pg_database ORDER BY greatest(age(datfrozenxid), mxid_age(datminmxid)) DESC")
	for _, h := range p.Server.Holders[:min(len(p.Server.Holders), mostSteps)] {
		p.holder(h)
	}
	if len(p.Server.Holders) == 0 {
		p.sql("See what keeps VACUUM from freezing rows", "Old transactions, prepared transactions, slots and standbys do. End those first: VACUUM is of no use before.", p.maintenance(), holdersSQL)
	}
	if len(p.Server.Ages) == 0 {
		p.vacuum(p.database(), "")
	}
	for i, a := range p.Server.Ages {
		if i == 0 || a.Transactions > xidLimit/5 && i < mostSteps { // the first warning of autovacuum_freeze_max_age is at a tenth
			p.vacuum(a.Database, fmt.Sprintf("Its oldest row is %s old: %.0f %% of the limit.", words.Plural(a.Transactions, "transaction"), a.Used()))
		}
	}
	p.pgmedic("See that it has worked", "", usesConnection|usesStore, "report", "--section", "limits", "--no-history")
}

func (p *planner) vacuum(database, how string) {
	if database == "template0" {
		p.say("Let autovacuum freeze template0", how+" Nothing can connect to it: only autovacuum freezes it, even where it is turned off.")
		return
	}
	p.sql("Vacuum database "+words.Clean(database), strings.TrimSpace(how+" VACUUM without FULL and FREEZE does the least that is needed, and reads and writes go on. Run it as a superuser: it passes over tables of others otherwise."), database, "VACUUM")
}

const holdersSQL = "SELECT 'session ' || pid AS what, datname, age(backend_xmin) AS transactions, xact_start::text AS since FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() " +
	"UNION ALL SELECT 'prepared transaction ' || gid, database, age(transaction), prepared::text FROM pg_prepared_xacts " +
	"UNION ALL SELECT 'slot ' || slot_name, database, greatest(age(xmin), age(catalog_xmin)), NULL FROM pg_replication_slots WHERE coalesce(xmin, catalog_xmin) IS NOT NULL " +
	"UNION ALL SELECT 'standby ' || application_name, NULL, age(backend_xmin), NULL FROM pg_stat_replication WHERE backend_xmin IS NOT NULL ORDER BY transactions DESC"

// holder is the step by which something stops keeping rows from being frozen.
func (p *planner) holder(h Holder) {
	why := "It keeps rows of the last " + words.Plural(h.XIDAge, "transaction") + " from being frozen. "
	name := words.Clean(h.Name)
	switch h.Kind {
	case "prepared transaction":
		database := h.Database
		if database == "" {
			database = p.database()
		}
		p.sql("Finish prepared transaction "+name, why+"Ask the application that made it whether it is to be committed: then write COMMIT PREPARED. A rollback loses what it changed.", database, "ROLLBACK PREPARED "+literal(h.Name))
	case "replication slot":
		p.sql("Start the consumer of slot "+name+", or drop the slot", why+"`pgmedic emergency slot-inactive` has the steps.", p.maintenance(), slotsSQL)
	case "standby":
		p.say("Look after standby "+name, why+"It sends its oldest transaction (hot_standby_feedback). End the long query there.")
	default:
		p.sql("Find out what "+name+" does, and end it", why+"`SELECT pg_terminate_backend(PID);` ends it; its transaction is rolled back.", p.maintenance(),
			"SELECT pid, usename, datname, state, xact_start, left(query, 80) AS query FROM pg_stat_activity WHERE backend_xmin IS NOT NULL ORDER BY age(backend_xmin) DESC LIMIT 5")
	}
}

func serverSlow(p *planner) {
	p.say("Don't restart the server yet", "A restart loses the cache and the evidence, and a crash recovery can take longer than what you wait for.")
	p.pgmedic("See what is wrong", "Each finding has its fix. Findings come first.", usesConnection|usesStore, "report", "--section", "connections,locks,waits,replication,limits", "--interval", "10s", "--no-history")
	for _, b := range p.Server.Blockers[:min(len(p.Server.Blockers), mostSteps)] {
		p.blocker(b)
	}
	if len(p.Server.Blockers) == 0 {
		p.sql("See which sessions wait for which", "End the one at the head of the chain, not those that wait.", p.maintenance(),
			"SELECT pid, usename, datname, state, now() - xact_start AS since, pg_blocking_pids(pid) AS waits_for, left(query, 80) AS query FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0 OR state <> 'idle' ORDER BY xact_start LIMIT 20")
	}
	p.sql("See whether statistics are missing", "After a restore, an upgrade or a large load the planner may know nothing of a table. ANALYZE without a name reads a sample of each table of the database, and blocks no reads or writes.", p.database(), "ANALYZE")
	p.pgmedic("See what maintenance is due", "This shows the plan, and changes nothing.", usesConnection, "maintain", "--dry-run")
}

// blocker is the step by which a session lets others go on.
func (p *planner) blocker(b Blocker) {
	if b.Prepared != "" {
		p.sql("Finish prepared transaction "+words.Clean(b.Prepared), "It keeps "+words.Plural(b.Waiting, "session")+" waiting. Ask the application that made it whether it is to be committed: then write COMMIT PREPARED.",
			b.Database, "ROLLBACK PREPARED "+literal(b.Prepared))
		return
	}
	since := "."
	if b.TransactionSeconds >= 1 {
		since = ", in a transaction of " + words.Duration(time.Duration(b.TransactionSeconds)*time.Second) + "."
	}
	why := fmt.Sprintf("Process %d of role %s (%s) keeps %s waiting%s", b.PID, words.Clean(b.User), words.Clean(cmp.Or(b.Application, "no application name")), words.Plural(b.Waiting, "session"), since)
	function, what := "pg_cancel_backend", "This cancels its statement"
	if strings.HasPrefix(b.State, "idle") {
		function, what = "pg_terminate_backend", "It runs no statement that could be cancelled: this ends the session, and rolls its transaction back"
	}
	if b.Maintenance != "" {
		why += " It runs " + b.Maintenance + ": let it end if you can. A cancelled concurrent index build leaves an invalid index."
	}
	p.sql(fmt.Sprintf("Let process %d end, or end it", b.PID), why+" "+what+", only if it is still the same session.", p.maintenance(),
		fmt.Sprintf("SELECT %s(pid) FROM pg_stat_activity WHERE pid = %d AND backend_start = %s", function, b.PID, literal(b.BackendStart.UTC().Format("2006-01-02 15:04:05.999999+00"))))
}

func serverLost(p *planner) {
	if p.Server.Reached {
		p.say("Make sure that it is gone", "The configured server answers. If that is another one, name the lost one's backups with --server.")
	}
	p.say("Keep the old server away", "Don't start an old copy of its disk for the application while another server may come back: both would accept writes. Delete nothing of it.")
	if p.WAL != nil && !p.WAL.Until.IsZero() {
		folder := wordFolder
		p.pgmedic("Check what will be done", "The stored WAL reaches "+moment(p.WAL.Until)+": all databases come back up to there. Do this on the new machine, which has the same major version of PostgreSQL, as the user that PostgreSQL runs as. This changes nothing.",
			usesStore, "restore", "--target-dir", folder, "--to-end", "--dry-run")
		p.pgmedic("Restore the cluster and start it", "PostgreSQL replays the WAL, and listens on a port of its own until you have checked it.", usesStore|changes, "restore", "--target-dir", folder, "--to-end", "--start", "--start-port", "5544")
		p.shell("Check the data", "See the newest rows of a busy table.", "psql -X -p 5544 -d "+Quote(p.database()))
		p.say("Bring back what the restore set aside", "It printed the statement for each setting. Until then the server does not archive WAL (archive_mode), commits wait for no standby (synchronous_standby_names: set it only once standbys follow), and subscriptions do not run.")
		p.say("Put it in the place of the old one", "Stop it, give it the old port, and have your service manager start it. Write the new host into pgmedic.yaml and into the application.")
		p.pgmedic("Start the stream of WAL again", "", usesConnection|usesStore|changes, "wal", "stream")
		p.pgmedic("Take a base backup", "", usesConnection|usesStore|changes, "backup", "--method", "physical")
		return
	}
	id, why := wordBackup, "Changes since the backup that you choose are lost."
	if b, ok := p.backup(); ok {
		id, why = b.ID, p.backupWords(b)+" What was written since then is lost."
	} else {
		p.findBackup()
	}
	why += " You need an empty server of the same major version of PostgreSQL or a later one, and a superuser's role there."
	args := []string{"restore", id, "--into=" + p.database(), "--globals", "--host=" + wordHost}
	p.pgmedic("Check what will be done", why+" This changes nothing.", usesStore, append(args, "--dry-run")...)
	p.pgmedic("Restore into the new server", "With the roles and their passwords, if a superuser took the backup.", usesStore|changes, args...)
	p.pgmedic("Check the new server", "Then write its host into pgmedic.yaml and into the application, and start that.", usesStore, "check", "--host="+wordHost)
	p.pgmedic("Take a backup of it", "", usesStore|changes, "backup", "--host="+wordHost)
}

func failoverFailed(p *planner) {
	p.say("Let one server take writes, and only one", "Stop the application. Two primaries write different data under the same keys, and that can't be merged.")
	role := "a primary"
	if p.Server.Standby {
		role = "a standby"
	}
	if p.Server.Reached {
		p.say("Know what answers", "The configured server answers, and is "+role+".")
	}
	p.shell("Ask each server", "standby is false on a primary. Of standbys, the one with the highest position has the most data.",
		emptyPath+"psql -X -h "+wordServer+" -d "+Quote(p.maintenance())+" -c "+Quote("SELECT pg_is_in_recovery() AS standby, CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_lsn() END AS position, CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint()) ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END AS timeline"))
	p.say("Two primaries: stop one of them", "Stop the one on the lower timeline, and keep it from starting again by itself. Leave its disk alone: it may have changes that the other lacks.")
	p.shell("No primary: promote the standby with the most data", "First make sure that the old primary can't come back: switch it off, or take it off the network.",
		emptyPath+"psql -X -h "+wordServer+" -d "+Quote(p.maintenance())+" -c "+Quote("SELECT pg_promote()"))
	p.pgmedic("See whether changes are lost", "A line `branch` says how many transactions the new primary lacks, on a host with the key.", usesConnection|usesStore, "wal", "status")
	p.pgmedic("Look at the lost changes", "This recovers the old primary as it was at its end, beside the new one, in a folder of its own. Enter what is missing by hand: rows with the same key need a decision.", usesStore|changes,
		"restore", "--target-dir", wordFolder, "--to-end", "--timeline", wordTimeline, "--start", "--start-port", "5544")
	p.say("Make the old primary a standby", "With pg_rewind after a clean stop, else from a new base backup. Never start it as it is.")
	p.pgmedic("Start the stream of WAL again", "The new primary has no slot of the old one.", usesConnection|usesStore|changes, "wal", "stream")
	p.pgmedic("Take a base backup of the new primary", "", usesConnection|usesStore|changes, "backup", "--method", "physical")
}

// Used is how many per cent of the transaction numbers are used up.
func (a Age) Used() float64 { return 100 * float64(a.Transactions) / xidLimit }
