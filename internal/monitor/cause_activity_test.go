package monitor_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
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

func testADeadlockIsCounted(t *testing.T, dsn string) {
	conn, one, two := connect(t, dsn), connect(t, dsn), connect(t, dsn)
	exec(t, conn, "CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 0), (2, 0)")
	object := "database " + look(t, conn, collect.Options{}).Database
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	mustNotFind(t, findings(), "deadlocks-seen", object)
	exec(t, one, "SET deadlock_timeout = '10ms'", "BEGIN", "UPDATE t SET n = 1 WHERE id = 1")
	exec(t, two, "SET deadlock_timeout = '10ms'", "BEGIN", "UPDATE t SET n = 1 WHERE id = 2")
	ends := run(t, one, "UPDATE t SET n = 1 WHERE id = 2")
	_, second := two.Exec(t.Context(), "UPDATE t SET n = 1 WHERE id = 1")
	first := ends()
	if (first == nil) == (second == nil) {
		t.Fatalf("not one of two failed: %v, %v", first, second)
	}
	exec(t, one, "ROLLBACK")
	exec(t, two, "ROLLBACK")
	f := comes(t, "deadlocks-seen", object, findings)
	if evidenceOf(f, "deadlocks") != "1" || !strings.Contains(f.Summary, "once") {
		t.Errorf("%+v", f)
	}
	exec(t, conn, "SELECT pg_stat_reset()")
	goes(t, "deadlocks-seen", object, findings)
}

func testTemporaryFilesAreFoundAndWorkMemIsRaised(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	database := look(t, conn, collect.Options{}).Database
	exec(t, conn, "ALTER DATABASE "+database+" SET work_mem = '64kB'")
	sort := func() {
		worker := connect(t, dsn)
		exec(t, worker, "SELECT count(*) FROM (SELECT md5(i::text) AS h FROM generate_series(1, 20000) i ORDER BY 1) s")
		_ = worker.Close(t.Context())
	}
	sort()
	object := "database " + database
	// A session of its own, for which the setting is new.
	findings := func() []pgmedic.Finding {
		c := connect(t, dsn)
		defer func() { _ = c.Close(t.Context()) }()
		return judgeBy(t, c, func(l *reading.Thresholds) { l.TempBytes = 100 << 10 })
	}
	f := comes(t, "temp-files", object, findings)
	paste(t, conn, f.Fix)
	var raised string
	if err := connect(t, dsn).QueryRow(t.Context(), "SHOW work_mem").Scan(&raised); err != nil || raised == "64kB" {
		t.Errorf("work_mem is %s, %v, after %s", raised, err, f.Fix)
	}
	exec(t, conn, "SELECT pg_stat_reset()")
	goes(t, "temp-files", object, findings)
	sort()
	for range 3 {
		mustNotFind(t, findings(), "temp-files", object)
	}
}

func testAStatementThatTakesAllTheTimeIsFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE EXTENSION pg_stat_statements")
	heavy := func() (pgmedic.Finding, bool) {
		return about(judgeBy(t, conn, func(l *reading.Thresholds) { l.StatementsMinTime = 0 }), "statement-heavy", "pg_sleep")
	}
	var f pgmedic.Finding
	seconds := 0.2
	testkit.Eventually(t, time.Minute, "statement-heavy is found, of at least half the time", func() bool {
		exec(t, conn, "SELECT pg_stat_statements_reset()", fmt.Sprintf("SELECT pg_sleep(%g)", seconds))
		seconds *= 2 // the looks themselves take time, on a busy machine much
		var found bool
		f, found = heavy()
		share, err := strconv.ParseFloat(evidenceOf(f, "share_percent"), 64)
		return found && err == nil && share >= 50
	})
	if major(t, conn) >= 16 {
		paste(t, conn, f.Fix)
	}
	exec(t, conn, "SELECT pg_stat_statements_reset()")
	testkit.Eventually(t, time.Minute, "statement-heavy goes", func() bool { _, found := heavy(); return !found })
}

func testAStatementThatGotSlowerIsFound(t *testing.T, dsn string) {
	conn, app := connect(t, dsn), connect(t, dsn)
	exec(t, conn, "CREATE EXTENSION pg_stat_statements", "SELECT pg_stat_statements_reset()")
	for range 5 {
		exec(t, app, "SELECT pg_sleep(0.001)")
	}
	limits := reading.DefaultThresholds()
	limits.RegressionCalls = 3
	watcher := &counting{Conn: conn, second: func() {
		for range 5 {
			exec(t, app, "SELECT pg_sleep(0.2)")
		}
	}}
	findings := judge.Analyse(look(t, watcher, collect.Options{Interval: time.Millisecond}), nil, limits)
	f, found := about(findings, "statement-regressed", "pg_sleep")
	if !found {
		t.Fatalf("no statement-regressed among %s", names(findings))
	}
	if f.Fix != "" {
		paste(t, conn, f.Fix)
	}
	quiet := judge.Analyse(look(t, conn, collect.Options{Interval: time.Millisecond}), nil, limits)
	mustNotFind(t, quiet, "statement-regressed", f.Object)
}

// about is the finding about a statement that has some words in it.
func about(findings []pgmedic.Finding, id, words string) (pgmedic.Finding, bool) {
	i := slices.IndexFunc(findings, func(f pgmedic.Finding) bool {
		return f.ID == id && strings.Contains(evidenceOf(f, "statement"), words)
	})
	if i < 0 {
		return pgmedic.Finding{}, false
	}
	return findings[i], true
}

// counting is a connection that tells when its second transaction begins: by then
// the counters have been read for the first time.
type counting struct {
	*pgx.Conn
	begun  int
	second func()
}

func (c *counting) BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error) {
	if c.begun++; c.begun == 2 {
		c.second()
	}
	return c.Conn.BeginTx(ctx, opts)
}

// testStatementsThatAreThrownAwayAreFound fills pg_stat_statements, which keeps
// 300 here.
func testStatementsThatAreThrownAwayAreFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	if major(t, conn) < 14 {
		return // the count of them came with version 1.9
	}
	restored(t, conn, "pg_stat_statements.max")
	exec(t, conn, "CREATE EXTENSION pg_stat_statements")
	for i := range 600 {
		exec(t, conn, "SELECT 1"+strings.Repeat(", 1", i))
	}
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	paste(t, conn, comes(t, "statements-evicted", "pg_stat_statements", findings).Fix)
	exec(t, conn, "SELECT pg_stat_statements_reset()")
	goes(t, "statements-evicted", "pg_stat_statements", findings)
}
