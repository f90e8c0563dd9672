package monitor_test

import (
	"context"
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

func testNeedlessIndexesAreFoundAndDropped(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE SCHEMA "+odd, "SET search_path = "+odd, "CREATE TABLE parent (id int PRIMARY KEY)",
		`CREATE TABLE "T" (id int PRIMARY KEY, a int, b text, p int REFERENCES parent, u int UNIQUE)`,
		`CREATE INDEX "Fir st" ON "T" (a, b)`, `CREATE INDEX "Sec ond" ON "T" (a, b)`, `CREATE INDEX prefix ON "T" (a)`,
		`CREATE INDEX same_as_key ON "T" (id)`, `CREATE INDEX descending ON "T" (a DESC)`, `CREATE INDEX partial ON "T" (a) WHERE b = 'Jane'`,
		`CREATE INDEX supporting ON "T" (p)`, `CREATE INDEX expression ON "T" (lower(b))`, `CREATE INDEX hashed ON "T" USING hash (a)`,
		`CREATE INDEX ranges ON "T" USING brin (id) WITH (pages_per_range = 4)`, `CREATE INDEX wide_ranges ON "T" USING brin (id)`)
	findings := func() []pgmedic.Finding {
		return judgeBy(t, conn, func(l *reading.Thresholds) { l.UnusedIndexAge, l.UnusedIndexBytes = 0, 0 })
	}
	all := findings()
	for _, object := range []string{odd + `."Sec ond"`, odd + ".same_as_key"} {
		paste(t, conn, mustFind(t, all, "index-duplicate", object).Fix)
		goes(t, "index-duplicate", object, findings)
	}
	if f := mustFind(t, all, "index-redundant", odd+".prefix"); f.Fix != "" {
		t.Errorf("the smaller of two is to be dropped: %s", f.Fix)
	}
	for _, name := range []string{`."Fir st"`, ".descending", ".partial", ".supporting", ".expression", ".hashed", ".ranges", ".wide_ranges", `."T_pkey"`, `."T_u_key"`} {
		mustNotFind(t, all, "index-duplicate", odd+name)
		mustNotFind(t, all, "index-redundant", odd+name)
	}
	for _, name := range []string{".supporting", `."T_pkey"`, `."T_u_key"`} {
		mustNotFind(t, all, "index-unused", odd+name)
	}
	f := mustFind(t, all, "index-unused", odd+".partial")
	if s := evidenceOf(f, "definition"); strings.Contains(s, "Jane") || !strings.Contains(s, "?") {
		t.Errorf("a literal of the definition: %s", s)
	}
	paste(t, conn, f.Fix)
	goes(t, "index-unused", odd+".partial", findings)
	// ANALYZE keeps statistics of its expression, which plans use without a scan.
	if f := mustFind(t, all, "index-unused", odd+".expression"); f.Fix != "" || !strings.Contains(f.Risk, "estimates") {
		t.Errorf("the statistics of an expression are to be dropped: %+v", f)
	}
	// Of an index that is too young nothing is advised.
	if f := mustFind(t, judgeBy(t, conn, func(l *reading.Thresholds) { l.UnusedIndexBytes = 0 }), "index-unused", odd+".hashed"); f.Fix != "" {
		t.Errorf("a new index is to be dropped: %+v", f)
	}
}

func testAMissingIndexIsFoundAndBuilt(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE EXTENSION pg_stat_statements", `CREATE TABLE visits (id int PRIMARY KEY, "Patient" int, note text)`,
		`INSERT INTO visits SELECT i, i, 'n' FROM generate_series(1, 20000) i`, "ANALYZE visits", "SELECT pg_stat_statements_reset()")
	for range 55 {
		exec(t, conn, `SELECT note FROM visits v WHERE v."Patient" = 7 AND note = 'secret'`)
	}
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	const object = `public.visits ("Patient")`
	f := comes(t, "index-missing", object, findings)
	if !strings.Contains(f.Risk, "heuristic") {
		t.Errorf("it is not said to be a heuristic: %+v", f)
	}
	paste(t, conn, f.Fix)
	goes(t, "index-missing", object, findings)
}

func testSlowStatementsAreFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE EXTENSION pg_stat_statements", "CREATE TABLE t (id int PRIMARY KEY)", "SELECT pg_stat_statements_reset()")
	for range 5 {
		if _, err := conn.Exec(t.Context(), "SELECT id, pg_sleep(0.02) FROM (SELECT 1 AS id UNION ALL SELECT id FROM t) x WHERE 'secret' <> 'x'"); err != nil {
			t.Fatal(err)
		}
	}
	findings := func() []pgmedic.Finding {
		return judgeBy(t, conn, func(l *reading.Thresholds) { l.SlowStatement, l.StatementsMinTime = 5*time.Millisecond, 0 })
	}
	f, found := about(findings(), "statement-slow", "pg_sleep")
	if !found || evidenceOf(f, "calls") != "5" {
		t.Fatalf("it was not found among %s", names(findings()))
	}
	if strings.Contains(f.Summary+f.Fix+evidenceOf(f, "statement"), "secret") {
		t.Errorf("a literal: %+v", f)
	}
	if f.Fix != "" {
		paste(t, conn, f.Fix)
	} else if major(t, conn) >= 16 {
		t.Errorf("no plan for %+v", f)
	}
	exec(t, conn, "SELECT pg_stat_statements_reset()")
	goes(t, "statement-slow", f.Object, findings)
}

func major(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	var n int
	if err := conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int / 10000").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// restored undoes an ALTER SYSTEM at the end of a test.
func restored(t *testing.T, conn *pgx.Conn, name string) {
	t.Helper()
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, s := range []string{"ALTER SYSTEM RESET " + name, "SELECT pg_reload_conf()"} {
			if _, err := conn.Exec(ctx, s); err != nil {
				t.Errorf("%s: %v", s, err)
			}
		}
	})
}

func testAFailingArchiverIsFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	restored(t, conn, "archive_command")
	exec(t, conn, "ALTER SYSTEM SET archive_command = 'false'", "SELECT pg_reload_conf()")
	findings := func() []pgmedic.Finding {
		exec(t, conn, "SELECT txid_current()", "SELECT pg_switch_wal()")
		return judgeNow(t, conn)
	}
	f := comes(t, "archiver-failing", "server", findings)
	paste(t, conn, f.Fix)
	exec(t, conn, "ALTER SYSTEM SET archive_command = 'true'", "SELECT pg_reload_conf()")
	goes(t, "archiver-failing", "server", findings)
}

func testAMissingSynchronousStandbyIsFoundAndGivenUp(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	restored(t, conn, "synchronous_standby_names")
	exec(t, conn, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	paste(t, conn, comes(t, "synchronous-standby-missing", "server", findings).Fix)
	goes(t, "synchronous-standby-missing", "server", findings)
}

func testASettingIsFoundAndMended(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	for _, s := range []struct{ name, id string }{
		{"full_page_writes", "full-page-writes-off"}, {"autovacuum", "autovacuum-off"}, {"random_page_cost", "random-page-cost-default"},
	} {
		restored(t, conn, s.name)
		if s.name == "autovacuum" {
			exec(t, conn, "ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()")
		}
		paste(t, conn, comes(t, s.id, s.name, findings).Fix)
		goes(t, s.id, s.name, findings)
	}
	mustFind(t, findings(), "fsync-off", "fsync")
}

func testStatementsThatNobodyCountsAreCounted(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	findings := judgeNow(t, conn)
	object := "database " + look(t, conn, collect.Options{}).Database
	paste(t, conn, mustFind(t, findings, "statements-not-tracked", object).Fix)
	mustNotFind(t, judgeNow(t, conn), "statements-not-tracked", object)
}

func testASuperusersApplicationIsFound(t *testing.T, dsn string) {
	conn, app := connect(t, dsn), connect(t, dsn)
	exec(t, app, "SET application_name = 'billing'")
	used := func() bool {
		return slices.ContainsFunc(judgeNow(t, conn), func(f pgmedic.Finding) bool {
			return f.ID == "superuser-sessions" && f.Object == "role postgres" && evidenceOf(f, "application") == "billing"
		})
	}
	testkit.Eventually(t, time.Minute, "superuser-sessions comes", used)
	if err := app.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, "superuser-sessions goes", func() bool { return !used() })
}

func testADisabledSubscriptionIsFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, `CREATE SUBSCRIPTION "Sub one" CONNECTION 'host=127.0.0.1 password=secret' PUBLICATION p WITH (connect = false, slot_name = NONE)`)
	defer exec(t, conn, `DROP SUBSCRIPTION "Sub one"`)
	r := look(t, conn, collect.Options{})
	f := mustFind(t, judge.Analyse(r, nil, reading.DefaultThresholds()), "subscription-down", `subscription "Sub one"`)
	if f.Severity != pgmedic.SeverityInfo || f.Fix != "" || !strings.Contains(f.Risk, "detached") {
		t.Errorf("without a slot it can't be enabled: %+v", f)
	}
}

func testRollbacksAndCheckpointsAreCounted(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	restored(t, conn, "max_wal_size")
	var before *reading.Reading
	// Before 15 a new database's statistics begin with the first report of them.
	testkit.Eventually(t, time.Minute, "the database is counted", func() bool {
		before = look(t, conn, collect.Options{})
		return before.Transactions != nil && before.Transactions.Commits > 0
	})
	// Many, for before 15 they may be counted late, and each look commits.
	for range 300 {
		exec(t, conn, "BEGIN", "SELECT txid_current()", "ROLLBACK")
	}
	exec(t, conn, "CHECKPOINT")
	limits := reading.DefaultThresholds()
	limits.RollbackMin, limits.CheckpointsMin = 10, 1
	findings := func() []pgmedic.Finding {
		return judge.Analyse(look(t, conn, collect.Options{}), []*reading.Reading{before}, limits)
	}
	object := "database " + before.Database
	testkit.Eventually(t, time.Minute, "the rollbacks of the window are counted", func() bool {
		f, _ := find(findings(), "rollbacks-high", object)
		return strings.Contains(f.Summary, "in the last")
	})
	paste(t, conn, comes(t, "checkpoints-requested", "server", findings).Fix)
}

// looksRun runs every fix that changes nothing, of findings that a look gives with
// all lines crossed.
func looksRun(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	r := look(t, conn, collect.Options{})
	r.Host = &reading.Host{MemoryBytes: 1 << 30, DiskBytes: 100, DiskFreeBytes: 1, Source: "stated"}
	if p := r.Replication.Replay; p != nil {
		p.ReceiverStatus = ""
	}
	run := 0
	for _, f := range judge.Analyse(r, nil, reading.Thresholds{HeldBackTransactions: -1, LagWarnBytes: -1, SlotRetainedBytes: -1}) {
		if strings.HasPrefix(f.Risk, "Changes nothing") {
			paste(t, conn, f.Fix)
			run++
		}
	}
	if run < 3 {
		t.Errorf("%d fixes were run", run)
	}
}

// testAStandbyIsReadAndJudged looks at a primary and its standby.
func testAStandbyIsReadAndJudged(t *testing.T, dsn string, primary *scratch.Server) {
	conn := connect(t, dsn)
	standby := scratchtest.NewStandby(t, primary, scratch.StandbyOptions{})
	there := connect(t, standby.DSN("postgres"))
	r := look(t, there, collect.Options{})
	if wrong := unexpected(r.Skipped); len(wrong) > 0 {
		t.Errorf("skipped on the standby: %+v", wrong)
	}
	if r.Server.Role != reading.RoleStandby || r.Replication.Replay == nil || r.Replication.Replay.ReceiverStatus != "streaming" ||
		r.Replication.Conflicts == nil || r.Replication.CurrentBytes == nil {
		t.Errorf("standby: %+v", r.Replication)
	}
	name := look(t, conn, collect.Options{}).Replication.Standbys[0].Application
	here := func() []pgmedic.Finding {
		return judgeBy(t, conn, func(l *reading.Thresholds) { l.LagWarnBytes = 1 << 16 })
	}
	goes(t, "standby-lagging", "standby "+name, here)
	mustNotFind(t, judgeNow(t, there), "replay-paused", "server")
	for _, c := range []*pgx.Conn{conn, there} {
		looksRun(t, c)
	}

	exec(t, there, "SELECT pg_wal_replay_pause()")
	exec(t, conn, "CREATE TABLE written AS SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i")
	comes(t, "standby-lagging", "standby "+name, here)
	f := comes(t, "replay-paused", "server", func() []pgmedic.Finding { return judgeNow(t, there) })
	paste(t, there, f.Fix)
	mustFind(t, judgeNow(t, there), "replay-paused", "server")
	exec(t, there, "SELECT pg_wal_replay_resume()")
	goes(t, "replay-paused", "server", func() []pgmedic.Finding { return judgeNow(t, there) })
	goes(t, "standby-lagging", "standby "+name, here)
	// With a replica that nobody has looked at, no index is called droppable.
	exec(t, conn, "CREATE TABLE t (id int PRIMARY KEY, a int)", "CREATE INDEX maybe ON t (a)")
	unused := judgeBy(t, conn, func(l *reading.Thresholds) { l.UnusedIndexAge, l.UnusedIndexBytes = 0, 0 })
	if f := mustFind(t, unused, "index-unused", "public.maybe"); f.Fix != "" || !strings.Contains(f.Summary, "replicas") {
		t.Errorf("%+v", f)
	}
}
