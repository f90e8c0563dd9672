package monitor_test

import (
	"context"
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
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// judgeBy looks and analyses with thresholds that are changed.
func judgeBy(t *testing.T, conn collect.Conn, change func(*reading.Thresholds)) []pgmedic.Finding {
	t.Helper()
	limits := reading.DefaultThresholds()
	change(&limits)
	return judge.Analyse(look(t, conn, collect.Options{}), nil, limits)
}

// comes waits until a finding is there.
func comes(t *testing.T, id, object string, findings func() []pgmedic.Finding) pgmedic.Finding {
	t.Helper()
	var f pgmedic.Finding
	var have string
	defer func() {
		if t.Failed() {
			t.Logf("had %s", have)
		}
	}()
	testkit.Eventually(t, time.Minute, id+" on "+object+" comes", func() bool {
		all := findings()
		have = names(all)
		var ok bool
		f, ok = find(all, id, object)
		return ok
	})
	return f
}

// goes waits until a finding is no longer there.
func goes(t *testing.T, id, object string, findings func() []pgmedic.Finding) {
	t.Helper()
	testkit.Eventually(t, time.Minute, id+" on "+object+" goes", func() bool {
		_, there := find(findings(), id, object)
		return !there
	})
}

// process is how a session is named in findings.
func process(c *pgx.Conn) string { return fmt.Sprintf("process %d (role postgres)", c.PgConn().PID()) }

// run starts a statement in a session and returns a function that waits for
// its end.
func run(t *testing.T, conn *pgx.Conn, statement string) (wait func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), statement)
		done <- err
	}()
	return func() error { return <-done }
}

func evidenceOf(f pgmedic.Finding, name string) string {
	for _, e := range f.Evidence {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

func testASessionThatBlocksIsFoundAndEnded(t *testing.T, dsn string) {
	conn, root, middle, last := connect(t, dsn), connect(t, dsn), connect(t, dsn), connect(t, dsn)
	exec(t, conn, "CREATE SCHEMA "+odd, "CREATE TABLE "+odd+`."T 1" (id int PRIMARY KEY, ssn text)`, "INSERT INTO "+odd+`."T 1" VALUES (1)`)
	exec(t, root, "BEGIN", "UPDATE "+odd+`."T 1" SET ssn = '078-05-1120'`)
	middleEnds := run(t, middle, "UPDATE "+odd+`."T 1" SET ssn = '078-05-1120'`)
	findings := func() []pgmedic.Finding {
		return judgeBy(t, conn, func(l *reading.Thresholds) { l.LockWaitWarn = time.Millisecond })
	}
	comes(t, "lock-wait", process(root), findings)
	lastEnds := run(t, last, "TRUNCATE "+odd+`."T 1"`)
	var f pgmedic.Finding
	testkit.Eventually(t, time.Minute, "both wait for the root", func() bool {
		f, _ = find(findings(), "lock-wait", process(root))
		return evidenceOf(f, "waiting") == "2"
	})
	if on := evidenceOf(f, "on"); on != odd+`."T 1"` {
		t.Errorf("it waits for %q", on)
	}
	if s := fmt.Sprintf("%+v", f); strings.Contains(s, "078-05") || !strings.Contains(s, "SET ssn = ?") {
		t.Errorf("literals: %s", s)
	}
	mustNotFind(t, findings(), "lock-wait", process(middle))
	paste(t, conn, f.Fix)
	goes(t, "lock-wait", process(root), findings)
	for _, ends := range []func() error{middleEnds, lastEnds} {
		if err := ends(); err != nil {
			t.Error(err)
		}
	}
}

func testALongTransactionIsFoundAndCancelled(t *testing.T, dsn string) {
	conn, long := connect(t, dsn), connect(t, dsn)
	ends := run(t, long, "SELECT pg_sleep(600)")
	findings := func() []pgmedic.Finding {
		return judgeBy(t, conn, func(l *reading.Thresholds) { l.LongTransaction = time.Millisecond })
	}
	f := comes(t, "long-transaction", process(long), findings)
	paste(t, conn, f.Fix)
	if err := ends(); err == nil {
		t.Error("it was not cancelled")
	}
	goes(t, "long-transaction", process(long), findings)
}

func testAPreparedTransactionIsFoundAndFinished(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE TABLE t (id int PRIMARY KEY)", "BEGIN", "INSERT INTO t VALUES (1)", `PREPARE TRANSACTION 'O''dd \ one'`)
	findings := func() []pgmedic.Finding {
		return judgeBy(t, conn, func(l *reading.Thresholds) { l.PreparedTransaction, l.HeldBackTransactions = time.Millisecond, -1 })
	}
	const object = `prepared transaction "O'dd \ one"`
	paste(t, conn, comes(t, "vacuum-held-back", object, findings).Fix)
	paste(t, conn, comes(t, "prepared-transaction-old", object, findings).Fix)
	// What it did is its coordinator's to decide: pasting the fix loses nothing.
	f := comes(t, "prepared-transaction-old", object, findings)
	if !strings.Contains(f.Risk, `ROLLBACK PREPARED  E'O''dd \\ one'`) {
		t.Errorf("how to finish it is not said: %s", f.Risk)
	}
	exec(t, conn, `COMMIT PREPARED 'O''dd \ one'`)
	goes(t, "prepared-transaction-old", object, findings)
	mustNotFind(t, findings(), "vacuum-held-back", object)
}

func testASlotThatNobodyReadsIsFoundAndDropped(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "SELECT pg_create_physical_replication_slot('left_behind', true)")
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	f := comes(t, "slot-inactive", "replication slot left_behind", findings)
	if f.Severity != pgmedic.SeverityInfo || evidenceOf(f, "retained_bytes") == "" {
		t.Errorf("%+v", f)
	}
	// While it keeps little, its standby may only be restarting.
	paste(t, conn, f.Fix)
	f = comes(t, "slot-inactive", "replication slot left_behind", func() []pgmedic.Finding {
		return judgeBy(t, conn, func(l *reading.Thresholds) { l.SlotRetainedBytes = -1 })
	})
	if f.Severity != pgmedic.SeverityWarn {
		t.Errorf("%+v", f)
	}
	// Nor does it lose the slot that it has filled the disk for: how to drop it is said.
	paste(t, conn, f.Fix)
	_, drop, _ := strings.Cut(f.Risk, "made again: ")
	mustFind(t, findings(), "slot-inactive", "replication slot left_behind")
	paste(t, conn, drop)
	goes(t, "slot-inactive", "replication slot left_behind", findings)
}

func testATableNearWraparoundIsFoundAndFrozen(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE SCHEMA "+odd, "CREATE TABLE "+odd+`."O ld" (id int PRIMARY KEY)`)
	// 1.4 thousand million transactions ago, which is 65 % of what there is.
	const age = `((pg_catalog.txid_current() + 4294967296 - 1400000000) % 4294967296)::text::xid`
	exec(t, conn, "UPDATE pg_class SET relfrozenxid = "+age+" WHERE oid = '"+strings.ReplaceAll(odd+`."O ld"`, "'", "''")+"'::regclass")
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	f := mustFind(t, findings(), "wraparound-table", odd+`."O ld"`)
	if f.Severity != pgmedic.SeverityWarn {
		t.Errorf("%+v", f)
	}
	paste(t, conn, f.Fix)
	goes(t, "wraparound-table", odd+`."O ld"`, findings)
}

func testASequenceNearItsEndIsFoundAndWidened(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE SCHEMA "+odd, "SET search_path = "+odd, `CREATE TABLE "T" ("I d" serial PRIMARY KEY)`,
		`SELECT setval('"T_I d_seq"', 2040109465)`,
		`CREATE TABLE identity (id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)`, `SELECT setval('identity_id_seq', 14000)`,
		// Wide enough by itself, and not what it fills.
		`CREATE SEQUENCE free`, `CREATE TABLE taken (id int PRIMARY KEY DEFAULT nextval('free'))`, `SELECT setval('free', 1400000000)`,
		`CREATE SEQUENCE bounded MAXVALUE 100`, `SELECT setval('bounded', 90)`,
		`CREATE SEQUENCE round MAXVALUE 100 CYCLE`, `SELECT setval('round', 90)`)
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	all := findings()
	for object, want := range map[string]struct {
		severity pgmedic.Severity
		says     string
	}{
		odd + `."T_I d_seq"`:     {pgmedic.SeverityCritical, "95 % of the values that the column " + odd + `."T"."I d" (integer)`},
		odd + `.identity_id_seq`: {pgmedic.SeverityInfo, "43 %"},
		odd + `.free`:            {pgmedic.SeverityWarn, "65 %"},
		odd + `.bounded`:         {pgmedic.SeverityCritical, "90 %"},
	} {
		f := mustFind(t, all, "sequence-near-end", object)
		if f.Severity != want.severity || !strings.Contains(f.Summary, want.says) {
			t.Errorf("%s: %s, %s", object, f.Severity, f.Summary)
		}
		paste(t, conn, f.Fix)
		goes(t, "sequence-near-end", object, findings)
	}
	mustNotFind(t, all, "sequence-near-end", odd+".round")
}

func testABloatedTableIsFoundAndRewritten(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE TABLE swollen (id int PRIMARY KEY, t text) WITH (autovacuum_enabled = off)",
		"INSERT INTO swollen SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i",
		"DELETE FROM swollen WHERE id % 10 <> 0", "VACUUM (ANALYZE) swollen",
		"CREATE TABLE dense (id int PRIMARY KEY, t text)", "INSERT INTO dense SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i", "VACUUM (ANALYZE) dense")
	findings := func() []pgmedic.Finding {
		return judgeBy(t, conn, func(l *reading.Thresholds) { l.BloatMinBytes = 1 << 20 })
	}
	f := mustFind(t, findings(), "table-bloat", "public.swollen")
	mustNotFind(t, findings(), "table-bloat", "public.dense")
	paste(t, conn, f.Fix)
	goes(t, "table-bloat", "public.swollen", findings)
}

func testABloatedIndexIsFoundAndRebuilt(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE TABLE t (id int PRIMARY KEY, n bigint) WITH (autovacuum_enabled = off)", "CREATE INDEX spread ON t (n)",
		"INSERT INTO t SELECT i, i FROM generate_series(1, 50000) i", "DELETE FROM t WHERE id % 20 <> 0", "VACUUM (ANALYZE) t")
	findings := func() []pgmedic.Finding {
		return judgeBy(t, conn, func(l *reading.Thresholds) { l.BloatMinBytes = 256 << 10 })
	}
	paste(t, conn, mustFind(t, findings(), "index-bloat", "public.spread").Fix)
	goes(t, "index-bloat", "public.spread", findings)
}

func testATableNeverAnalyzedIsFoundAndAnalyzed(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, `CREATE TABLE "Un known" (id int PRIMARY KEY) WITH (autovacuum_enabled = off)`,
		`INSERT INTO "Un known" SELECT generate_series(1, 5000)`, `DELETE FROM "Un known"`)
	flushed(t, conn, `"Un known"`, 5000)
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	paste(t, conn, comes(t, "table-never-analyzed", `public."Un known"`, findings).Fix)
	goes(t, "table-never-analyzed", `public."Un known"`, findings)
}

func testATableNeverVacuumedIsFoundAndVacuumed(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, `CREATE TABLE "Log" (id int PRIMARY KEY) WITH (autovacuum_enabled = off)`, `INSERT INTO "Log" SELECT generate_series(1, 5000)`)
	findings := func() []pgmedic.Finding {
		return judgeBy(t, conn, func(l *reading.Thresholds) { l.NeverVacuumedRows = 4000 })
	}
	paste(t, conn, comes(t, "table-never-vacuumed", `public."Log"`, findings).Fix)
	goes(t, "table-never-vacuumed", `public."Log"`, findings)
}

func testAnIndexInvalidByItsMarkIsFoundAndSetRight(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE SCHEMA "+odd, "SET search_path = "+odd,
		`CREATE TABLE "T" (id int NOT NULL) PARTITION BY RANGE (id)`,
		"CREATE TABLE t1 PARTITION OF \"T\" FOR VALUES FROM (0) TO (10)",
		"CREATE TABLE t2 PARTITION OF \"T\" FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id)",
		"CREATE TABLE t21 PARTITION OF t2 FOR VALUES FROM (10) TO (20)",
		// One that lacks a partition's is somebody's unfinished work.
		`CREATE INDEX begun ON ONLY "T" (id)`, "CREATE INDEX begun1 ON t1 (id)", "ALTER INDEX begun ATTACH PARTITION begun1",
		`CREATE UNIQUE INDEX "Whole key" ON "T" (id)`,
		`UPDATE pg_index SET indisvalid = false WHERE indexrelid = '"Whole key"'::regclass`)
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	const insert = `INSERT INTO "T" VALUES (1) ON CONFLICT (id) DO NOTHING`
	if _, err := conn.Exec(t.Context(), insert); err == nil {
		t.Error("ON CONFLICT was not refused, as the finding says")
	}
	f := mustFind(t, findings(), "index-partitioned-invalid", odd+`."Whole key"`)
	if slices.ContainsFunc(findings(), func(f pgmedic.Finding) bool { return strings.HasSuffix(f.Object, ".begun") }) {
		t.Error("an index that lacks a partition's is found")
	}
	if major(t, conn) < 14 {
		if f.Fix != "" {
			t.Errorf("a fix that changes nothing: %s", f.Fix)
		}
		return
	}
	paste(t, conn, f.Fix)
	goes(t, "index-partitioned-invalid", odd+`."Whole key"`, findings)
	exec(t, conn, insert)
}

func testAnInvalidIndexIsFoundAndRebuilt(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE SCHEMA "+odd, "SET search_path = "+odd, `CREATE TABLE "T" (id int)`, `INSERT INTO "T" VALUES (1), (1)`)
	if _, err := conn.Exec(t.Context(), `CREATE UNIQUE INDEX CONCURRENTLY "Bro ken" ON "T" (id)`); err == nil {
		t.Fatal("the index was built")
	}
	exec(t, conn, `DELETE FROM "T"`)
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	f := mustFind(t, findings(), "index-invalid", odd+`."Bro ken"`)
	if strings.Contains(f.Fix, "DROP") {
		t.Errorf("what somebody wanted is to be dropped: %s", f.Fix)
	}
	paste(t, conn, f.Fix)
	goes(t, "index-invalid", odd+`."Bro ken"`, findings)

	exec(t, conn, `INSERT INTO "T" VALUES (1)`, `CREATE INDEX plain ON "T" (id)`,
		"UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'plain'::regclass", "ALTER INDEX plain RENAME TO plain_ccnew1")
	f = mustFind(t, findings(), "index-invalid", odd+`.plain_ccnew1`)
	paste(t, conn, f.Fix)
	goes(t, "index-invalid", odd+`.plain_ccnew1`, findings)
}
