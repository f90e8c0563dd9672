package monitor_test

import (
	"fmt"
	"os"
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
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var shared *scratch.Server

func TestMain(m *testing.M) {
	os.Exit(scratchtest.Main(m, options(0), func(s *scratch.Server) { shared = s }))
}

// options are of a server on which every section has something to read.
func options(major int) scratch.Options {
	return scratch.Options{Major: major, Password: "of the scratch server", Settings: map[string]string{
		"shared_preload_libraries": "pg_stat_statements", "max_prepared_transactions": "10", "track_commit_timestamp": "on",
		"wal_level": "logical", "archive_mode": "on", "archive_command": "true", "track_io_timing": "on",
	}}
}

// connect opens a session, as a role other than the superuser if one is named.
func connect(t *testing.T, dsn string, role ...string) *pgx.Conn {
	t.Helper()
	conn := testkit.Connect(t, dsn)
	for _, r := range role {
		// Unlike SET ROLE, this changes what the session's own privileges are.
		exec(t, conn, "SET SESSION AUTHORIZATION "+sqltext.QuoteIdent(r))
	}
	return conn
}

// connectAs opens a session that began as the role: unlike one of connect's, it
// can't become anything else again.
func connectAs(t *testing.T, dsn, role string) *pgx.Conn {
	t.Helper()
	return testkit.Connect(t, dsn, func(c *pgx.ConnConfig) { c.User = role })
}

// connectTo opens a session outside of the test's goroutine.
func exec(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := conn.Exec(t.Context(), s, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// paste applies a fix as somebody at a psql prompt would: line by line.
func paste(t *testing.T, conn *pgx.Conn, fix string) {
	t.Helper()
	if fix == "" {
		t.Fatal("there is no fix to apply")
	}
	exec(t, conn, strings.Split(fix, "\n")...)
}

func look(t *testing.T, conn collect.Conn, opts collect.Options) *reading.Reading {
	t.Helper()
	got, err := collect.Collect(t.Context(), conn, opts)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// judgeNow looks and analyses with the default thresholds.
func judgeNow(t *testing.T, conn collect.Conn) []pgmedic.Finding {
	t.Helper()
	return judge.Analyse(look(t, conn, collect.Options{}), nil, reading.DefaultThresholds())
}

func find(findings []pgmedic.Finding, id, object string) (pgmedic.Finding, bool) {
	i := slices.IndexFunc(findings, func(f pgmedic.Finding) bool { return f.ID == id && f.Object == object })
	if i < 0 {
		return pgmedic.Finding{}, false
	}
	return findings[i], true
}

func mustFind(t *testing.T, findings []pgmedic.Finding, id, object string) pgmedic.Finding {
	t.Helper()
	f, ok := find(findings, id, object)
	if !ok {
		t.Fatalf("no finding %s on %s; have %s", id, object, names(findings))
	}
	return f
}

func mustNotFind(t *testing.T, findings []pgmedic.Finding, id, object string) {
	t.Helper()
	if _, ok := find(findings, id, object); ok {
		t.Fatalf("finding %s on %s is there and should not be", id, object)
	}
}

func names(findings []pgmedic.Finding) string {
	var out []string
	for _, f := range findings {
		out = append(out, fmt.Sprintf("%s on %s", f.ID, f.Object))
	}
	return strings.Join(out, "; ")
}

// flushed waits until the statistics say that a table has dead rows.
func flushed(t *testing.T, conn *pgx.Conn, table string, least int64) {
	t.Helper()
	testkit.Eventually(t, time.Minute, table+" has dead rows in the statistics", func() bool {
		exec(t, conn, "DO $$ BEGIN IF current_setting('server_version_num')::int >= 150000 THEN "+
			"PERFORM pg_stat_force_next_flush(); END IF; END $$")
		var dead int64
		if err := conn.QueryRow(t.Context(), "SELECT pg_stat_get_dead_tuples($1::regclass)", table).Scan(&dead); err != nil {
			t.Fatal(err)
		}
		return dead >= least
	})
}

// skipReason returns why a query was skipped.
func skipReason(r *reading.Reading, query string) string {
	for _, s := range r.Skipped {
		if s.Query == query {
			return s.Reason
		}
	}
	return ""
}
