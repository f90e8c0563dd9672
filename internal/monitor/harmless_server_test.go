package monitor_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// poorTables are published tables, partitions and keys that much is to be said about.
var poorTables = []string{
	"CREATE TABLE clinics (id int PRIMARY KEY, name text)", "INSERT INTO clinics SELECT i, 'c' FROM generate_series(1, 100) i",
	"CREATE TABLE visits (id int, d int, clinic int REFERENCES clinics, note text, PRIMARY KEY (id, d)) PARTITION BY RANGE (d)",
	"CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM (0) TO (1000)", "CREATE TABLE visits_2 PARTITION OF visits FOR VALUES FROM (1000) TO (9999)",
	"INSERT INTO visits SELECT i, i % 2000, 1 + i % 100, 'n' FROM generate_series(1, 20000) i", "DELETE FROM visits WHERE id % 2 = 0",
	"CREATE TABLE bills (id int PRIMARY KEY, clinic int REFERENCES clinics, a int, b int)", "INSERT INTO bills SELECT i, 1 + i % 100, i, i FROM generate_series(1, 20000) i",
	"CREATE INDEX bills_unused ON bills (b)", "CREATE INDEX bills_once ON bills (a)", "CREATE INDEX bills_twice ON bills (a)", "CREATE INDEX bills_more ON bills (a, b)",
	"UPDATE bills SET a = a + 1", "DELETE FROM bills WHERE id % 3 = 0",
	"CREATE TABLE log (a int)", "INSERT INTO log SELECT generate_series(1, 20000)", "DELETE FROM log WHERE a % 2 = 0",
	"CREATE TABLE counted (id serial PRIMARY KEY)", "SELECT setval('counted_id_seq', 2100000000)",
	"CREATE TABLE many (a int)", "INSERT INTO many VALUES (1), (1)",
	"CREATE PUBLICATION p FOR TABLE clinics, bills, visits",
}

// pastedAround are the findings whose fixes must have been pasted: all that change
// something in a database or a server's settings and need no session or slot of others,
// which the tests of locks and of slots bring about.
var pastedAround = []string{
	"autovacuum-off", "checkpoints-requested", "foreign-key-without-index", "full-page-writes-off", "index-bloat", "index-duplicate", "index-invalid",
	"sequence-near-end", "statements-not-tracked", "table-dead-tuples", "table-never-analyzed", "table-never-vacuumed",
	"table-without-primary-key", "temp-files", "wraparound-database", "wraparound-table",
}

// mustBeFirstOnStandbys are the settings that a standby must have before its primary.
var mustBeFirstOnStandbys = []string{"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction"}

// TestFixesHurtNobodyAroundOnAServer pastes every fix of a poor server with a
// subscriber, a standby, partitions, a session that holds a row and another that is
// prepared, and sees that all of them go on, and that nothing is lost.
func TestFixesHurtNobodyAroundOnAServer(t *testing.T) {
	testkit.OnlyAll(t, "it has a server and a standby of its own")
	o := options(0)
	for name, value := range map[string]string{
		"autovacuum": "off", "full_page_writes": "off", "max_wal_size": "32MB", "min_wal_size": "32MB", "pg_stat_statements.track": "none",
		"log_lock_waits": "off", "max_connections": "40",
	} {
		o.Settings[name] = value
	}
	server := scratchtest.New(t, o)
	dsn := scratchtest.Database(t, server)
	conn, holder, preparer := connect(t, dsn), connect(t, dsn), connect(t, dsn)
	exec(t, conn, poorTables...)
	if _, err := conn.Exec(t.Context(), "CREATE UNIQUE INDEX CONCURRENTLY many_a ON many (a)"); err == nil {
		t.Fatal("two equal rows are unique")
	}
	exec(t, conn, "DELETE FROM many WHERE ctid = (SELECT min(ctid) FROM many)")
	subscriber := subscribe(t, server, conn, strings.Join([]string{poorTables[0], poorTables[2], poorTables[3], poorTables[4], poorTables[7]}, "; "), "")
	defer exec(t, subscriber, "DROP SUBSCRIPTION s")
	standby := scratchtest.NewStandby(t, server, scratch.StandbyOptions{})
	counts := func(conn *pgx.Conn) (all [3]int) {
		if err := conn.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM clinics), (SELECT count(*) FROM visits), (SELECT count(*) FROM bills)").Scan(&all[0], &all[1], &all[2]); err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := counts(conn)
	testkit.Eventually(t, time.Minute, "the first copy is whole", func() bool { return counts(subscriber) == before })
	exec(t, holder, "BEGIN", "UPDATE clinics SET name = 'held' WHERE id = 1")
	exec(t, preparer, "BEGIN", "UPDATE clinics SET name = 'prepared' WHERE id = 2", "PREPARE TRANSACTION 'other'")

	// 1.4 thousand million transactions ago, which is 65 % of what there is.
	const age = "((pg_catalog.txid_current() + 4294967296 - 1400000000) % 4294967296)::text::xid"
	exec(t, conn, "UPDATE pg_class SET relfrozenxid = "+age+" WHERE oid IN ('clinics'::regclass, 'visits_1'::regclass)",
		"UPDATE pg_database SET datfrozenxid = "+age+" WHERE datname = current_database()")

	exec(t, conn, "CHECKPOINT")
	database := look(t, conn, collect.Options{Sections: []string{}}).Database
	exec(t, conn, "ALTER DATABASE "+database+" SET work_mem = '64kB'")
	sorts := connect(t, dsn)
	exec(t, sorts, "SELECT count(*) FROM (SELECT md5(i::text) AS h FROM generate_series(1, 20000) i ORDER BY 1) s")
	_ = sorts.Close(t.Context()) // what it did is counted when it ends
	testkit.Eventually(t, time.Minute, "its temporary files are counted", func() bool {
		var n int64
		err := conn.QueryRow(t.Context(), "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()").Scan(&n)
		return err == nil && n > 0
	})

	// Once autovacuum is on it is only a matter of time until it has seen to them.
	testkit.Eventually(t, time.Minute, "rows that are dead are counted", func() bool {
		var n int
		err := conn.QueryRow(t.Context(), `SELECT count(*)::int FROM pg_stat_user_tables
			WHERE relname IN ('visits_1', 'visits_2', 'bills', 'log') AND n_dead_tup > 0 AND n_live_tup > 0`).Scan(&n)
		return err == nil && n == 4
	})

	pasted := map[string]bool{}
	for range 3 { // a fix may bring about another finding
		// In a session of its own, for which settings of the database are new.
		findings := judgeBy(t, connect(t, dsn), func(l *reading.Thresholds) {
			l.UnusedIndexAge, l.UnusedIndexBytes, l.NeverAnalyzedRows, l.NeverVacuumedRows, l.DeadTuplesMin, l.BloatMinBytes = 0, 0, 0, 0, 0, 0
			l.CheckpointsMin, l.TempBytes = 1, 1
		})
		for _, f := range findings {
			if pasteable(f) && !pasted[f.ID+f.Fix] {
				pasteLikeAPerson(t, conn, f)
				pasted[f.ID], pasted[f.ID+f.Fix] = true, true
			}
			// The standby was not asked.
			if f.ID == "index-unused" && f.Fix != "" {
				t.Errorf("%s is to be dropped, and a standby may use it: %s", f.Object, f.Fix)
			}
			for _, name := range mustBeFirstOnStandbys {
				if strings.Contains(f.Fix, "ALTER SYSTEM SET "+name) {
					t.Errorf("%s on %s is to be pasted where there is a standby: %s", f.ID, f.Object, f.Fix)
				}
			}
		}
	}
	for _, id := range pastedAround {
		if !pasted[id] {
			t.Errorf("no fix of %s was pasted", id)
		}
	}

	// Those who were there before go on.
	exec(t, holder, "UPDATE clinics SET name = 'held still' WHERE id = 1", "COMMIT")
	exec(t, preparer, "COMMIT PREPARED 'other'")
	exec(t, conn, "INSERT INTO visits VALUES (30000, 1, 1), (30001, 1001, 1)", "INSERT INTO bills VALUES (30000, 1, 1, 1)", "INSERT INTO log VALUES (1)",
		"INSERT INTO counted DEFAULT VALUES", "INSERT INTO many VALUES (2)")
	after := [3]int{before[0], before[1] + 2, before[2] + 1}
	if got := counts(conn); got != after {
		t.Errorf("rows: %v, want %v", got, after)
	}
	endThoseInTheWay(t, dsn)
	enableASubscription(t, conn, subscriber)
	giveUpOnAStandby(t, dsn)
	dropALostSlot(t, conn)
	dropWhatNobodyUses(t, conn, connect(t, standby.DSN(database)), standby)
	testkit.Eventually(t, time.Minute, "the subscriber has them all", func() bool { return counts(subscriber) == after })
	standby.CatchUp(t)
	for what, query := range map[string]string{
		"indexes are not valid":           "SELECT count(*) FROM pg_index WHERE NOT indisvalid",
		"keys are not valid or not there": "SELECT 2 - count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated AND conparentid = 0",
		"settings are wrong":              "SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL AND error <> 'setting could not be applied'",
	} {
		var n int
		if err := conn.QueryRow(t.Context(), "SELECT coalesce(sum(n), 0)::int FROM ("+query+") AS x (n)").Scan(&n); err != nil || n != 0 {
			t.Errorf("%s: %d, %v", what, n, err)
		}
	}
}

// endThoseInTheWay pastes the fixes that end a session or cancel its statement, beside
// another that is in no one's way.
func endThoseInTheWay(t *testing.T, dsn string) {
	t.Helper()
	conn, blocker, waiter, long, innocent := connect(t, dsn), connect(t, dsn), connect(t, dsn), connect(t, dsn), connect(t, dsn)
	exec(t, innocent, "BEGIN", "UPDATE clinics SET name = 'innocent' WHERE id = 4")
	exec(t, blocker, "BEGIN", "UPDATE clinics SET name = 'blocker' WHERE id = 3")
	waits := run(t, waiter, "UPDATE clinics SET name = 'waiter' WHERE id = 3")
	sleeps := run(t, long, "SELECT pg_sleep(600)")
	findings := func() []pgmedic.Finding {
		return judgeBy(t, conn, func(l *reading.Thresholds) { l.LockWaitWarn, l.LongTransaction = time.Millisecond, time.Millisecond })
	}
	comes(t, "long-transaction", process(long), findings)
	comes(t, "lock-wait", process(blocker), findings)
	for _, f := range findings() {
		if strings.Contains(f.Fix, "backend(") {
			if f.Object != process(blocker) && f.Object != process(long) && f.Object != process(waiter) {
				t.Errorf("%s on %s: %s", f.ID, f.Object, f.Fix)
				continue
			}
			if f.Object != process(waiter) { // it waits no longer when the other is gone
				paste(t, conn, f.Fix)
			}
		}
	}
	if err := waits(); err != nil {
		t.Error(err)
	}
	if err := sleeps(); err == nil {
		t.Error("it still sleeps")
	}
	exec(t, innocent, "COMMIT")
}

// dropWhatNobodyUses pastes the fix of an index that the standby does not use either,
// while somebody reads there.
func dropWhatNobodyUses(t *testing.T, conn, there *pgx.Conn, standby *scratchtest.Standby) {
	t.Helper()
	exec(t, there, "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM bills")
	r := look(t, conn, collect.Options{})
	if err := collect.Replica(t.Context(), connect(t, there.Config().ConnString()), r, askWho(t, standby.URL("postgres"), r), collect.Options{}); err != nil {
		t.Fatal(err)
	}
	limits := reading.DefaultThresholds()
	limits.UnusedIndexAge, limits.UnusedIndexBytes = 0, 0
	f := mustFind(t, judge.Analyse(r, nil, limits), "index-unused", "public.bills_unused")
	paste(t, conn, f.Fix)
	exec(t, there, "SELECT count(*) FROM bills WHERE b = 7", "COMMIT")
}

// pasteable reports whether the test may paste a fix: it is SQL for this database, and
// no session's end.
func pasteable(f pgmedic.Finding) bool {
	return f.Fix != "" && f.Database == "" && !strings.HasPrefix(f.Fix, "pgmedic ") && !strings.Contains(f.Fix, "backend(")
}

// pasteLikeAPerson pastes a fix, which others may keep from working: one that gives up
// by itself is undone.
func pasteLikeAPerson(t *testing.T, conn *pgx.Conn, f pgmedic.Finding) {
	t.Helper()
	for _, line := range strings.Split(f.Fix, "\n") {
		_, err := conn.Exec(t.Context(), line, pgx.QueryExecModeSimpleProtocol)
		if err == nil {
			continue
		}
		t.Logf("%s on %s: %v", f.ID, f.Object, err)
		if conn.PgConn().TxStatus() != 'I' {
			exec(t, conn, "ROLLBACK")
		}
		if slices.Contains(pastedAround, f.ID) {
			t.Errorf("%s on %s: %s: %v", f.ID, f.Object, line, err)
		}
		return
	}
}
