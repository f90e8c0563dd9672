package monitor_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

const secret, secretNumber = "PLANTED", "907153246"

// planted are statements that leave a secret wherever a server keeps what
// statements said: in pg_stat_statements, in definitions, in settings.
var planted = []string{
	"CREATE EXTENSION pg_stat_statements", "CREATE TABLE t (id int PRIMARY KEY, s text)", "INSERT INTO t VALUES (1)",
	"CREATE ROLE planted PASSWORD 'PLANTED'", "ALTER ROLE planted PASSWORD $a$PLANTED$a$", "ALTER ROLE planted SET app.key TO planted",
	"DO $$ BEGIN PERFORM 'PLANTED'; END $$", "DO LANGUAGE plpgsql E'BEGIN PERFORM ''PLANTED''; END'",
	"COPY (SELECT 'PLANTED', 907153246) TO '/dev/null'", "SET pgmedic.x = 'PLANTED'", "SET pgmedic.x TO PLANTED", "SELECT set_config('app.x', 'PLANTED', false)",
	"SELECT /* PLANTED */ E'\\'PLANTED' -- PLANTED", "SELECT U&'\\0041PLANTED', B'0', X'9071', $q$PLANTED$q$, 907153246.5e1",
	"PREPARE p(text) AS SELECT $1", "EXECUTE p('PLANTED')", "DEALLOCATE p", "NOTIFY channel, 'PLANTED'",
	"CREATE FOREIGN DATA WRAPPER w", "CREATE SERVER far FOREIGN DATA WRAPPER w OPTIONS (host 'PLANTED')",
	"CREATE USER MAPPING FOR planted SERVER far OPTIONS (password 'PLANTED')", "ALTER USER MAPPING FOR planted SERVER far OPTIONS (SET password 'PLANTED')",
	"CREATE SUBSCRIPTION planted CONNECTION 'host=127.0.0.1 password=PLANTED' PUBLICATION p WITH (connect = false, slot_name = NONE)",
	"ALTER SUBSCRIPTION planted CONNECTION 'host=127.0.0.1 password=PLANTED'",
	"ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 password=PLANTED'",
	"CREATE INDEX partial ON t (id) WHERE s = 'PLANTED' OR id = 907153246", "CREATE INDEX partial_too ON t (id) WHERE s = 'PLANTED' OR id = 907153246",
	"CREATE INDEX expression ON t ((s || 'PLANTED'))", "COMMENT ON TABLE t IS 'PLANTED'", "COMMENT ON DATABASE postgres IS 'PLANTED'",
	"ALTER TABLE t ADD CHECK (s <> 'not PLANTED')", "ALTER TABLE t ALTER COLUMN s SET DEFAULT 'PLANTED'",
	"CREATE VIEW v AS SELECT * FROM t WHERE s = 'PLANTED' AND id > 907153246", "SELECT * FROM v",
	"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ''PLANTED''::text'", "SELECT f()",
	"CREATE TABLE parts (s text, n int) PARTITION BY LIST ((coalesce(s, 'PLANTED')))", "CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN ('PLANTED')",
	"CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES t)", "CREATE INDEX ON child (p) WHERE id <> 907153246",
}

// testNoLiteralLeavesTheServer looks for the secrets in everything that a look,
// its findings and its log hold.
func testNoLiteralLeavesTheServer(t *testing.T, dsn string, server *scratch.Server) {
	conn, idle, busy, blocked, failed := connect(t, dsn), connect(t, dsn), connect(t, dsn), connect(t, dsn), connect(t, dsn)
	restored(t, conn, "primary_conninfo")
	exec(t, conn, planted...)
	defer exec(t, conn, "RESET ALL", "DROP SUBSCRIPTION planted", "DROP SERVER far CASCADE", "DROP ROLE planted", "COMMENT ON DATABASE postgres IS NULL")
	exec(t, failed, "BEGIN")
	if _, err := failed.Exec(t.Context(), "SELECT 'PLANTED'::int"); err == nil {
		t.Fatal("it is a number")
	}
	exec(t, idle, "BEGIN", "UPDATE t SET s = 'PLANTED'")
	busyEnds := run(t, busy, "SELECT pg_sleep(600), 'PLANTED'")
	blockedEnds := run(t, blocked, "UPDATE t SET s = 'PLANTED"+strings.Repeat("x", 1100)+"'")
	limits := reading.DefaultThresholds()
	limits.LockWaitWarn, limits.LongTransaction, limits.IdleInTransaction, limits.SlowStatement, limits.SlowStatementCalls = 0, 0, 0, 0, 0
	limits.UnusedIndexBytes, limits.SmallTableRows, limits.StatementsMinTime, limits.StatementSharePercent = 0, 0, 0, 0
	all := func(opts collect.Options) string {
		var log bytes.Buffer
		opts.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		opts.Plans, opts.ExactBloat = true, true
		r := look(t, conn, opts)
		text, err := json.Marshal(map[string]any{"reading": r, "findings": judge.Analyse(r, nil, limits), "log": log.String()})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var text string
	testkit.Eventually(t, time.Minute, "both sessions are seen", func() bool {
		text = all(collect.Options{Interval: time.Millisecond})
		return strings.Contains(text, "lock-wait") && strings.Contains(text, "pg_sleep(?), ?")
	})
	for _, word := range []string{secret, strings.ToLower(secret) + `"`, secretNumber} {
		if at := strings.Index(text, word); at >= 0 && !strings.Contains(text[max(0, at-30):at], "subscription") && !strings.Contains(text[max(0, at-30):at], `"name":"`) {
			t.Errorf("a literal: …%s…", text[max(0, at-200):min(len(text), at+50)])
		}
	}
	if shown := all(collect.Options{ShowLiterals: true}); !strings.Contains(shown, secret) || !strings.Contains(shown, secretNumber) {
		t.Error("the secrets are nowhere, even where they were asked for: the test shows nothing")
	}
	exec(t, conn, "SELECT pg_terminate_backend("+itoa(busy.PgConn().PID())+")", "SELECT pg_terminate_backend("+itoa(blocked.PgConn().PID())+")")
	_, _ = busyEnds(), blockedEnds()

	// A standby is told its primary's password, and keeps it to itself.
	exec(t, conn, "ALTER SYSTEM RESET primary_conninfo")
	standby := scratchtest.NewStandby(t, server, scratch.StandbyOptions{})
	there, err := json.Marshal(look(t, connect(t, standby.DSN("postgres")), collect.Options{ShowLiterals: true}))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(there), server.Password()) || server.Password() == "" {
		t.Errorf("the standby's reading holds the primary's password: %s", there)
	}
}
