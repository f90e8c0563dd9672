package monitor_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// TestNoLiteralLeavesTheServer plants a secret wherever statements keep
// literals, and looks for it in everything that a look and its findings hold.
func TestNoLiteralLeavesTheServer(t *testing.T) {
	const secret = "PLANTED"
	dsn := scratchtest.Database(t, shared)
	conn, idle, busy, blocked := connect(t, dsn), connect(t, dsn), connect(t, dsn), connect(t, dsn)
	exec(t, conn, "CREATE EXTENSION pg_stat_statements", "CREATE TABLE t (id int PRIMARY KEY, s text)", "INSERT INTO t VALUES (1)",
		"CREATE ROLE planted PASSWORD '"+secret+"'", "DROP ROLE planted", "DO $$ BEGIN PERFORM '"+secret+"'; END $$",
		"COPY (SELECT '"+secret+"') TO '/dev/null'", "SET pgmedic.x = '"+secret+"'", "SELECT /* "+secret+" */ E'\\'"+secret+"'",
		"CREATE INDEX partial ON t (id) WHERE s = '"+secret+"'", "COMMENT ON TABLE t IS '"+secret+"'")
	exec(t, idle, "BEGIN", "UPDATE t SET s = '"+secret+"'")
	busyEnds := run(t, busy, "SELECT pg_sleep(600), '"+secret+"'")
	blockedEnds := run(t, blocked, "UPDATE t SET s = '"+secret+strings.Repeat("x", 1100)+"'")
	limits := monitor.DefaultThresholds()
	limits.LockWaitWarn, limits.LongTransaction, limits.IdleInTransaction, limits.SlowStatement, limits.SlowStatementCalls = 0, 0, 0, 0, 0
	limits.UnusedIndexBytes = 0
	all := func(opts monitor.CollectOptions) string {
		r := look(t, conn, opts)
		text, err := json.Marshal(map[string]any{"reading": r, "findings": monitor.Analyse(r, nil, limits)})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var text string
	eventually(t, "both sessions are seen", func() bool {
		text = all(monitor.CollectOptions{Interval: time.Millisecond})
		return strings.Contains(text, "lock-wait") && strings.Contains(text, "pg_sleep(?), ?")
	})
	if at := strings.Index(text, secret); at >= 0 {
		t.Errorf("a literal: …%s…", text[max(0, at-200):at+50])
	}
	if !strings.Contains(all(monitor.CollectOptions{ShowLiterals: true}), secret) {
		t.Error("the secret is nowhere, even where it was asked for: the test shows nothing")
	}
	exec(t, conn, "SELECT pg_terminate_backend("+itoa(busy.PgConn().PID())+")", "SELECT pg_terminate_backend("+itoa(blocked.PgConn().PID())+")")
	_, _ = busyEnds(), blockedEnds()
}

// TestRolesSeeWhatTheyMay looks as pg_monitor and as a role with nothing.
func TestRolesSeeWhatTheyMay(t *testing.T) {
	dsn := scratchtest.Database(t, shared)
	owner := connect(t, dsn)
	exec(t, owner, "CREATE EXTENSION pg_stat_statements", "CREATE ROLE watcher", "GRANT pg_monitor TO watcher", "CREATE ROLE nothing",
		"CREATE TABLE t (id serial PRIMARY KEY)", "INSERT INTO t VALUES (DEFAULT)", "ANALYZE t")
	defer exec(t, owner, "DROP ROLE watcher, nothing")
	watcher := look(t, connect(t, dsn, "watcher"), monitor.CollectOptions{})
	for _, query := range []string{"values of sequences", "how passwords are kept"} {
		if skipReason(watcher, query) == "" {
			t.Errorf("%s is not among what pg_monitor could not look at", query)
		}
	}
	if watcher.Replication.WALBytes == nil || watcher.Replication.ReadyFiles == nil || watcher.Connections.Hidden != 0 ||
		len(watcher.Statements.Items) == 0 || watcher.Statements.Items[0].QueryID == "" {
		t.Errorf("pg_monitor sees too little: %+v", watcher.Skipped)
	}
	nothing := look(t, connect(t, dsn, "nothing"), monitor.CollectOptions{})
	for _, query := range []string{"values of sequences", "how passwords are kept", "size of WAL", "WAL awaiting archiving", "sessions of other roles", "statements of other roles"} {
		if skipReason(nothing, query) == "" {
			t.Errorf("%s is not among what a role without privileges could not look at: %+v", query, nothing.Skipped)
		}
	}
	if nothing.Tables == nil || nothing.Indexes == nil || nothing.Limits == nil || nothing.Transactions == nil || nothing.Size == nil {
		t.Errorf("sections are missing: %+v", nothing)
	}
}
