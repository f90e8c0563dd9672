package monitor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// testEverySectionIsRead looks at a server on which there is something for
// every query, over an interval in which something happens.
func testEverySectionIsRead(t *testing.T, dsn string) {
	conn, other := connect(t, dsn), connect(t, dsn)
	exec(t, conn, "CREATE EXTENSION pg_stat_statements",
		"CREATE TABLE patients (id serial PRIMARY KEY, name text)", "CREATE INDEX spare ON patients (name)",
		"INSERT INTO patients (name) SELECT 'n' || i FROM generate_series(1, 1000) i", "UPDATE patients SET name = 'm'", "ANALYZE patients")
	flushed(t, conn, "patients", 1000)
	// It holds its snapshot, and the other sleeps, until the look is over.
	exec(t, other, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM patients")
	busy := connect(t, dsn)
	slept := run(t, busy, "SELECT pg_sleep(600)")
	testkit.Eventually(t, time.Minute, "a session sleeps", func() bool {
		var n int
		err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", busy.PgConn().PID()).Scan(&n)
		return err == nil && n == 1
	})
	r := look(t, conn, collect.Options{Interval: time.Second})
	exec(t, conn, fmt.Sprintf("SELECT pg_cancel_backend(%d)", busy.PgConn().PID()))
	if slept() == nil {
		t.Error("the session that slept was not cancelled")
	}
	if wrong := unexpected(r.Skipped); len(wrong) > 0 {
		t.Errorf("skipped: %+v", wrong)
	}
	major := r.Server.VersionNum / 10000
	for name, missing := range map[string]bool{
		"connections":         r.Connections == nil || r.Connections.ByClient == nil || len(r.Connections.Longest) == 0,
		"locks":               r.Locks == nil || len(r.Locks.Counts) == 0 || r.Locks.Waiting == nil || r.Locks.Blockers == nil,
		"replication":         r.Replication == nil || r.Replication.Standbys == nil || r.Replication.Slots == nil || r.Replication.Subscriptions == nil,
		"WAL position":        r.Replication.CurrentBytes == nil || *r.Replication.CurrentBytes < 1<<20,
		"archiver":            r.Replication.Archiver == nil || r.Replication.ReadyFiles == nil || r.Replication.WALBytes == nil,
		"no replay":           r.Replication.Replay != nil || r.Replication.Conflicts != nil,
		"ages":                r.Limits == nil || len(r.Limits.Databases) < 3 || len(r.Limits.Tables) == 0,
		"holders":             len(r.Limits.Holders) == 0 || r.Limits.Prepared == nil || len(r.Limits.Workers) != 4,
		"sequences":           len(r.Limits.Sequences) != 1 || r.Limits.SequencesTotal != 1 || r.Limits.Sequences[0].Limit != 1<<31-1 || r.Limits.Sequences[0].LastValue != 1000,
		"bloat":               len(r.Tables.Items) != 1 || r.Tables.Items[0].Bloat == nil,
		"vacuums":             r.Tables.Vacuums == nil,
		"indexes":             r.Indexes.Total != 2 || len(r.Indexes.Largest) != 2 || len(r.Indexes.Unused) != 1 || r.Indexes.Invalid == nil || r.Indexes.InvalidPartitioned == nil || r.Indexes.Redundant == nil,
		"an index's age":      r.Indexes.Largest[0].ChangedAt == nil,
		"statements":          r.Statements == nil || len(r.Statements.Items) == 0 || r.Statements.Max != 5000 || r.Statements.ExecSeconds <= 0,
		"what statements did": !seenRecently(r),
		"cache by table":      r.Cache == nil || len(r.Cache.Tables) != 1,
		"sizes":               r.Size == nil || len(r.Size.Databases) == 0,
		"transactions":        r.Transactions == nil || r.Transactions.Commits == 0 || (r.Transactions.Sessions == nil) == (major >= 14),
		"checkpoints":         r.Checkpoints == nil,
		"WAL":                 (r.WAL == nil) == (major >= 14),
		"I/O":                 (len(r.IO) == 0) == (major >= 16),
		"waits":               r.Waits == nil || r.Waits.Samples < 2 || len(r.Waits.Events) == 0 || len(r.Waits.Statements) == 0,
		"security":            r.Security == nil || r.Security.MD5Roles == nil || r.Security.Unencrypted == nil,
		"before":              r.Before == nil || r.Before.Transactions == nil || r.Before.Cache == nil || r.Before.Checkpoints == nil || r.Before.Statements != nil,
	} {
		if missing {
			t.Errorf("%s is not as it should be", name)
		}
	}
	for _, w := range r.Waits.Events {
		if w.Type == "" && w.Event == "" && w.Seen == 0 {
			t.Errorf("an empty wait: %+v", w)
		}
	}
}

// seenRecently reports whether some statement was counted in the interval.
func seenRecently(r *reading.Reading) bool {
	for _, s := range r.Statements.Items {
		if s.Recent != nil && s.Recent.Calls > 0 {
			return true
		}
	}
	return false
}
