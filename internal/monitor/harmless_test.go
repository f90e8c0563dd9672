package monitor_test

import (
	"fmt"
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

// subscribe has a database of the same server get a publication's rows. The slot
// is made first: one server would wait for itself.
func subscribe(t *testing.T, server *scratch.Server, publisher *pgx.Conn, tables, options string) (subscriber *pgx.Conn) {
	t.Helper()
	subscriber = connect(t, scratchtest.Database(t, server))
	exec(t, subscriber, tables)
	name := look(t, subscriber, collect.Options{Sections: []string{}}).Database
	slot := "of_" + strings.ToLower(name)
	exec(t, publisher, "SELECT pg_create_logical_replication_slot('"+slot+"', 'pgoutput')")
	from := look(t, publisher, collect.Options{Sections: []string{}}).Database
	exec(t, subscriber, "CREATE SUBSCRIPTION s CONNECTION '"+strings.ReplaceAll(server.DSN(from), "'", "''")+
		"' PUBLICATION p WITH (create_slot = false, slot_name = '"+slot+"'"+options+")")
	return subscriber
}

// testFixesHurtNobodyAround pastes every fix that a database with subscribers, a
// standby, partitions and triggers gets, and sees that writes arrive everywhere.
func testFixesHurtNobodyAround(t *testing.T, dsn string, server *scratch.Server) {
	conn := connect(t, dsn)
	const tables = "CREATE TABLE nopk (a int, b text); CREATE TABLE nearly (n int NOT NULL); CREATE UNIQUE INDEX nearly_n ON nearly (n); " +
		"CREATE TABLE counted (id serial PRIMARY KEY, v int)"
	exec(t, conn, tables, "SELECT setval('counted_id_seq', 2000000000)",
		"CREATE TABLE audited (a int, b text)", "CREATE TABLE audit (a int, b text)",
		"CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO audit SELECT NEW.*; RETURN NEW; END'",
		"CREATE TRIGGER t BEFORE INSERT ON audited FOR EACH ROW EXECUTE FUNCTION keep()",
		"CREATE TABLE part (d int, p int) PARTITION BY RANGE (d)", "CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (1000)",
		"CREATE TABLE bystander (id int PRIMARY KEY, a int)", "CREATE INDEX one ON bystander (a)", "CREATE INDEX two ON bystander (a)",
		"INSERT INTO bystander SELECT i, i FROM generate_series(1, 1000) i", "ANALYZE bystander",
		"CREATE PUBLICATION p FOR TABLE nopk, nearly, counted WITH (publish = 'insert')")
	subscriber := subscribe(t, server, conn, tables, ", copy_data = false")
	defer exec(t, subscriber, "DROP SUBSCRIPTION s")
	standby := scratchtest.NewStandby(t, server, scratch.StandbyOptions{})

	findings := judgeBy(t, conn, func(l *reading.Thresholds) {
		l.UnusedIndexAge, l.UnusedIndexBytes, l.NeverAnalyzedRows, l.DeadTuplesMin, l.BloatMinBytes = 0, 0, 0, 0, 0
	})
	for _, name := range []string{"nopk", "nearly", "audited"} {
		if f := mustFind(t, findings, "table-without-primary-key", "public."+name); f.Fix != "" || !strings.Contains(f.Risk, "no fix to paste") {
			t.Errorf("%s: %s; %s", name, f.Fix, f.Risk)
		}
	}
	if f := mustFind(t, findings, "sequence-near-end", "public.counted_id_seq"); f.Fix != "" || !strings.Contains(f.Risk, "subscriber") {
		t.Errorf("%s; %s", f.Fix, f.Risk)
	}
	pasted := 0
	for _, f := range findings {
		// Of settings, that are the server's, other tests paste the fixes.
		if f.Fix == "" || f.Database != "" || strings.Contains(f.Fix, "ALTER SYSTEM") || strings.Contains(f.Fix, "backend(") {
			continue
		}
		paste(t, conn, f.Fix)
		pasted++
	}
	if pasted == 0 {
		t.Error("nothing was pasted")
	}
	exec(t, conn, "INSERT INTO nopk VALUES (1, 'x')", "INSERT INTO nearly VALUES (1)", "INSERT INTO counted (v) VALUES (1)",
		"INSERT INTO audited VALUES (1, 'x')", "INSERT INTO part VALUES (1, 2)", "INSERT INTO bystander VALUES (2000, 2000)")
	for _, name := range []string{"nopk", "nearly", "counted"} {
		testkit.Eventually(t, time.Minute, "the row of "+name+" arrives", func() bool {
			var n int
			err := subscriber.QueryRow(t.Context(), "SELECT count(*) FROM "+name).Scan(&n)
			return err == nil && n == 1
		})
	}
	standby.CatchUp(t)
	// One of two equal indexes went, and the other does the work of both.
	var indexes int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_index WHERE indrelid = 'bystander'::regclass AND NOT indisprimary AND indisvalid").Scan(&indexes); err != nil {
		t.Fatal(err)
	}
	if indexes != 1 {
		t.Errorf("%d of two equal indexes are left", indexes)
	}
}

// testAFirstCopyThatFailsIsFound has a row in the way of a subscription's first copy.
func testAFirstCopyThatFailsIsFound(t *testing.T, dsn string, server *scratch.Server) {
	conn := connect(t, dsn)
	exec(t, conn, `CREATE TABLE "T" (id int PRIMARY KEY)`, `INSERT INTO "T" VALUES (1)`, `CREATE PUBLICATION p FOR TABLE "T"`)
	subscriber := subscribe(t, server, conn, `CREATE TABLE "T" (id int PRIMARY KEY); INSERT INTO "T" VALUES (1)`, "")
	defer exec(t, subscriber, "DROP SUBSCRIPTION s")
	var earlier []*reading.Reading
	findings := func() []pgmedic.Finding {
		r := look(t, subscriber, collect.Options{})
		// The subscription may be there before its tables are, and a try be under way.
		if subscriptions := r.Replication.Subscriptions; len(earlier) == 0 && len(subscriptions) > 0 && len(subscriptions[0].NotReady) > 0 && subscriptions[0].SyncWorkers == 0 {
			before := *r
			before.TakenAt = r.TakenAt.Add(-10 * time.Minute) // as if it had been ten minutes
			earlier = append(earlier, &before)
		}
		if server.Major() >= 15 {
			return judge.Analyse(r, nil, reading.DefaultThresholds()) // one look is enough
		}
		return judge.Analyse(r, earlier, reading.DefaultThresholds())
	}
	f := comes(t, "subscription-down", "subscription s", findings)
	for f.Severity != pgmedic.SeverityWarn || !strings.Contains(f.Summary, "first copy") {
		f = comes(t, "subscription-down", "subscription s", findings)
	}
	if names := evidenceOf(f, "not_ready"); names != `public."T"` {
		t.Errorf("which table: %s", names)
	}
	paste(t, subscriber, f.Fix)
	exec(t, subscriber, `DELETE FROM "T"`)
	goes(t, "subscription-down", "subscription s", findings)
}

// testALockedTableHidesItselfOnly holds an exclusive lock on one of two tables, and
// awaits one on a third.
func testALockedTableHidesItselfOnly(t *testing.T, dsn string) {
	conn, holder, reader, waiter := connect(t, dsn), connect(t, dsn), connect(t, dsn), connect(t, dsn)
	exec(t, conn, "CREATE TABLE held (id int PRIMARY KEY, a int)", "CREATE INDEX held_half ON held (a) WHERE a > 1", "CREATE INDEX held_other ON held (a) WHERE a > 1",
		"CREATE TABLE awaited (id int PRIMARY KEY, a int)", "CREATE INDEX awaited_a ON awaited (a)", "CREATE INDEX awaited_b ON awaited (a)",
		"CREATE TABLE parent (id int PRIMARY KEY)", "CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent)", "CREATE INDEX child_p ON child (p) WHERE id > 1",
		"CREATE TABLE part (d int) PARTITION BY RANGE ((d + 1))", "CREATE TABLE free (id int PRIMARY KEY, a int)", "CREATE INDEX free_a ON free (a)",
		"CREATE SEQUENCE numbers", "SELECT nextval('numbers')")
	exec(t, holder, "BEGIN", "LOCK TABLE held, child, part IN ACCESS EXCLUSIVE MODE", "ALTER SEQUENCE numbers AS int")
	exec(t, reader, "BEGIN", "SELECT count(*) FROM awaited")
	ends := run(t, waiter, "ALTER TABLE awaited ADD COLUMN x int")
	testkit.Eventually(t, time.Minute, "somebody waits", func() bool {
		var n int
		err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'awaited'::regclass").Scan(&n)
		return err == nil && n == 1
	})
	r := look(t, conn, collect.Options{})
	exec(t, holder, "ROLLBACK")
	exec(t, reader, "ROLLBACK")
	if err := ends(); err != nil {
		t.Error(err)
	}
	for _, s := range r.Skipped {
		if strings.Contains(s.Reason, "SQLSTATE") {
			t.Errorf("the look waited, or was refused: %+v", s)
		}
	}
	for _, query := range []string{"definitions of indexes", "foreign keys without index", "values of locked sequences"} {
		if skipReason(r, query) == "" {
			t.Errorf("that %s were not read is not said: %+v", query, r.Skipped)
		}
	}
	if r.Indexes == nil || r.Indexes.Total != 11 || len(r.Indexes.Redundant) != 1 || len(r.Tables.WithoutPrimaryKey) != 1 {
		t.Fatalf("indexes: %+v", r.Indexes)
	}
	for _, x := range r.Indexes.Largest {
		if known := x.Definition != ""; known != slices.Contains([]string{"free", "parent"}, x.Table) {
			t.Errorf("%s: %q", x.Name, x.Definition)
		}
	}
	limits := reading.DefaultThresholds()
	limits.UnusedIndexAge, limits.UnusedIndexBytes = 0, 0
	for _, f := range judge.Analyse(r, nil, limits) {
		if strings.Contains(f.Object, "awaited") && strings.Contains(f.Fix, "DROP") {
			t.Errorf("an index whose definition is not known is to be dropped: %+v", f)
		}
	}
}

// testMaintenanceIsNoLongTransaction has an index build wait for a session, and a
// VACUUM work.
func testMaintenanceIsNoLongTransaction(t *testing.T, dsn string) {
	conn, idler, builder := connect(t, dsn), connect(t, dsn), connect(t, dsn)
	exec(t, conn, "CREATE TABLE big (a int)")
	exec(t, idler, "BEGIN", "INSERT INTO big VALUES (1)")
	built := run(t, builder, "CREATE INDEX CONCURRENTLY big_a ON big (a)")
	findings := func() []pgmedic.Finding {
		return judgeBy(t, conn, func(l *reading.Thresholds) { l.LongTransaction = time.Millisecond })
	}
	f := comes(t, "long-transaction", process(builder), findings)
	if f.Severity != pgmedic.SeverityInfo || !strings.Contains(f.Risk, "INVALID") || strings.Contains(f.Summary, "VACUUM can't") {
		t.Errorf("%+v", f)
	}
	paste(t, conn, f.Fix)
	exec(t, idler, "COMMIT")
	if err := built(); err != nil {
		t.Errorf("the fix ended it: %v", err)
	}
	goes(t, "long-transaction", process(builder), findings)

	exec(t, conn, "INSERT INTO big SELECT generate_series(1, 20000)")
	exec(t, builder, "SET vacuum_cost_delay = 100", "SET vacuum_cost_limit = 1")
	ends := run(t, builder, "VACUUM big")
	testkit.Eventually(t, time.Minute, "the VACUUM works", func() bool {
		var n int
		err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_progress_vacuum WHERE pid = $1", builder.PgConn().PID()).Scan(&n)
		return err == nil && n == 1
	})
	mustNotFind(t, findings(), "long-transaction", process(builder))
	exec(t, conn, fmt.Sprintf("SELECT pg_cancel_backend(%d)", builder.PgConn().PID()))
	_ = ends()
}

// testLooksRollNothingBack: what looks do is not found as an application's.
func testLooksRollNothingBack(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	var name string
	if err := conn.QueryRow(t.Context(), "SELECT current_database()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		look(t, connect(t, dsn), collect.Options{Interval: 10 * time.Millisecond})
	}
	testkit.Eventually(t, time.Minute, "the looks are counted", func() bool {
		var commits, rollbacks int
		if err := conn.QueryRow(t.Context(), "SELECT xact_commit, xact_rollback FROM pg_stat_database WHERE datname = $1", name).Scan(&commits, &rollbacks); err != nil {
			t.Fatal(err)
		}
		if rollbacks > 0 {
			t.Fatalf("%d rollbacks", rollbacks)
		}
		return commits > 6
	})
}

// testUncountedStatementsAreFound tells pg_stat_statements to count nothing.
func testUncountedStatementsAreFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE EXTENSION pg_stat_statements")
	settings := []struct{ name, off string }{{"pg_stat_statements.track", "none"}}
	if major(t, conn) >= 14 {
		settings = append(settings, struct{ name, off string }{"compute_query_id", "off"})
	}
	// Settings show in sessions that begin later.
	findings := func() []pgmedic.Finding {
		c := connect(t, dsn)
		defer func() { _ = c.Close(t.Context()) }()
		return judgeNow(t, c)
	}
	for _, s := range settings {
		restored(t, conn, s.name)
		mustNotFind(t, findings(), "statements-not-tracked", s.name)
		exec(t, conn, "ALTER SYSTEM SET "+s.name+" = "+s.off, "SELECT pg_reload_conf()")
		paste(t, conn, comes(t, "statements-not-tracked", s.name, findings).Fix)
		goes(t, "statements-not-tracked", s.name, findings)
	}
}

// testAColumnsOwnLimitCounts has sequences fill columns of domains and numerics.
func testAColumnsOwnLimitCounts(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE DOMAIN pos AS int CHECK (value > 0)", `CREATE DOMAIN "Pos 2" AS pos`, "CREATE SEQUENCE s", "CREATE SEQUENCE n", "CREATE SEQUENCE w",
		`CREATE TABLE t (id "Pos 2" PRIMARY KEY DEFAULT nextval('s'), n numeric(6, 2) DEFAULT nextval('n'), w numeric DEFAULT nextval('w'))`,
		"SELECT setval('s', 2000000000), setval('n', 9000), setval('w', 2000000000)")
	findings := judgeNow(t, conn)
	for object, percent := range map[string]string{"public.s": "93 %", "public.n": "90 %"} {
		f := mustFind(t, findings, "sequence-near-end", object)
		if !strings.HasPrefix(f.Summary, percent) || f.Fix != "" || !strings.Contains(f.Risk, "no larger number") {
			t.Errorf("%+v", f)
		}
	}
	mustNotFind(t, findings, "sequence-near-end", "public.w")
}

// testADroppedColumnIsNotCalledEmpty: an estimate can't tell what VACUUM frees from
// what it never does.
func testADroppedColumnIsNotCalledEmpty(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE TABLE t (id int PRIMARY KEY, c text) WITH (autovacuum_enabled = off)", "INSERT INTO t SELECT i, repeat('c', 200) FROM generate_series(1, 20000) i",
		"ALTER TABLE t DROP c", "VACUUM (ANALYZE) t")
	f := mustFind(t, judgeBy(t, conn, func(l *reading.Thresholds) { l.BloatMinBytes = 1 << 20 }), "table-bloat", "public.t")
	if f.Severity != pgmedic.SeverityInfo || f.Fix != "" || evidenceOf(f, "confidence") != "low" || strings.Contains(f.Summary, "VACUUM makes") {
		t.Errorf("%+v", f)
	}
}

// testTwinsAreFound: unique indexes and those of partitioned tables can have one.
func testTwinsAreFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE TABLE t (id int PRIMARY KEY, a int UNIQUE, b int, c int)", "CREATE UNIQUE INDEX twin ON t (a)",
		"CREATE UNIQUE INDEX b_1 ON t (b)", "CREATE UNIQUE INDEX b_2 ON t (b)", "CREATE UNIQUE INDEX half ON t (c) WHERE c > 0", "CREATE UNIQUE INDEX other ON t (c) WHERE c > 1",
		"CREATE TABLE p (d int, PRIMARY KEY (d)) PARTITION BY RANGE (d)", "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)",
		"CREATE INDEX p_d ON p (d)")
	findings := judgeNow(t, conn)
	for _, object := range []string{"public.twin", "public.b_2", "public.p_d"} {
		if f := mustFind(t, findings, "index-duplicate", object); f.Fix != "" || f.Severity != pgmedic.SeverityInfo {
			t.Errorf("%+v", f)
		}
	}
	if n := strings.Count(names(findings), "index-duplicate"); n != 3 {
		t.Errorf("%d twins: %s", n, names(findings))
	}
	if major(t, conn) >= 15 {
		exec(t, conn, "CREATE UNIQUE INDEX distinct_nulls ON t (b) NULLS NOT DISTINCT")
		mustNotFind(t, judgeNow(t, conn), "index-duplicate", "public.distinct_nulls")
	}
}

// testStatisticsThatAreHiddenAreSaidToBe looks as a role that may read no column.
func testStatisticsThatAreHiddenAreSaidToBe(t *testing.T, dsn string) {
	owner := connect(t, dsn)
	exec(t, owner, "CREATE ROLE reads_nothing", "GRANT pg_monitor TO reads_nothing", "CREATE TABLE t (id int PRIMARY KEY, a int)",
		"INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i", "ANALYZE t", "CREATE SCHEMA ext", "CREATE EXTENSION pg_stat_statements SCHEMA ext")
	defer exec(t, owner, "DROP OWNED BY reads_nothing", "DROP ROLE reads_nothing")
	as := func() *reading.Reading { return look(t, connect(t, dsn, "reads_nothing"), collect.Options{}) }
	r := as()
	for _, query := range []string{"bloat of tables", "bloat of indexes"} {
		if !strings.Contains(skipReason(r, query), "pg_read_all_data") {
			t.Errorf("%s: %q", query, skipReason(r, query))
		}
	}
	// An extension in a schema that is closed to the role is not asked, and how to
	// open it is said: pasting that does.
	reason := skipReason(r, "statements")
	_, grant, ok := strings.Cut(reason, ": ")
	if !ok || !strings.HasPrefix(grant, "GRANT USAGE ON SCHEMA") {
		t.Fatalf("the schema: %q", reason)
	}
	exec(t, owner, grant)
	if r := as(); r.Statements == nil || skipReason(r, "statements") != "" {
		t.Errorf("after %s: %+v", grant, r.Skipped)
	}
}
