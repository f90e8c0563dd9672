package monitor_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// testRolesSeeWhatTheyMay looks as a superuser, as pg_monitor and as a role with
// nothing. What each can't see is said.
func testRolesSeeWhatTheyMay(t *testing.T, dsn string) {
	owner := connect(t, dsn)
	exec(t, owner, "CREATE EXTENSION pg_stat_statements", "CREATE EXTENSION pgstattuple", "CREATE ROLE watcher", "GRANT pg_monitor TO watcher", "CREATE ROLE nothing",
		"CREATE TABLE t (id serial PRIMARY KEY)", "INSERT INTO t VALUES (DEFAULT)", "ANALYZE t")
	defer exec(t, owner, "DROP ROLE watcher, nothing")
	opts := collect.Options{ExactBloat: true}
	if r := look(t, owner, opts); len(unexpected(r.Skipped)) > 0 || *r.Security.MD5Roles < 0 {
		t.Errorf("a superuser did not see %+v", r.Skipped)
	}

	watcher := look(t, connect(t, dsn, "watcher"), opts)
	mustSkip(t, watcher, map[string]string{"values of sequences": "SELECT", "how passwords are kept": "pg_authid"})
	for _, s := range unexpected(watcher.Skipped) {
		if !slices.Contains([]string{"values of sequences", "how passwords are kept", "subscriptions", "bloat of tables", "bloat of indexes"}, s.Query) {
			t.Errorf("pg_monitor did not see %+v", s)
		}
	}
	if watcher.Replication.WALBytes == nil || watcher.Replication.ReadyFiles == nil || watcher.Connections.Hidden != 0 ||
		len(watcher.Statements.Items) == 0 || watcher.Statements.Items[0].QueryID == "" || tableOf(t, watcher, "t").Bloat.Method != "pgstattuple" {
		t.Errorf("pg_monitor sees too little: %+v", watcher.Skipped)
	}

	nothing := look(t, connect(t, dsn, "nothing"), opts)
	mustSkip(t, nothing, map[string]string{
		"values of sequences": "pg_read_all_data", "how passwords are kept": "pg_authid", "size of WAL": "pg_monitor",
		"WAL awaiting archiving": "pg_monitor", "sessions of other roles": "pg_monitor", "statements of other roles": "pg_monitor",
		"exact bloat of tables (public.t)": "pg_stat_scan_tables",
	})
	if nothing.Connections == nil || nothing.Locks == nil || nothing.Replication == nil || nothing.Tables == nil || nothing.Indexes == nil ||
		nothing.Limits == nil || nothing.Transactions == nil || nothing.Size == nil || nothing.Cache == nil || nothing.Checkpoints == nil {
		t.Errorf("sections are missing: %+v", nothing)
	}
	// Nothing that a role can't see is an accusation.
	for _, f := range judge.Analyse(nothing, nil, reading.DefaultThresholds()) {
		if f.ID == "standby-silent" || f.ID == "synchronous-standby-missing" || f.ID == "statements-not-tracked" || f.ID == "index-unused" {
			t.Errorf("found without a look: %+v", f)
		}
	}
}

// mustSkip wants queries to have been skipped, for reasons that hold some words.
func mustSkip(t *testing.T, r *reading.Reading, want map[string]string) {
	t.Helper()
	for query, words := range want {
		if reason := skipReason(r, query); !strings.Contains(reason, words) {
			t.Errorf("%s: %q, of %+v", query, reason, r.Skipped)
		}
	}
}

// testEveryVersionOfTheStatements reads pg_stat_statements in every version that
// the server can install, back to 1.4, and without it.
func testEveryVersionOfTheStatements(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	without := look(t, conn, collect.Options{})
	if without.Statements != nil || !strings.Contains(skipReason(without, "statements"), "not installed") {
		t.Errorf("without the extension: %+v, %+v", without.Statements, without.Skipped)
	}
	rows, err := conn.Query(t.Context(), "SELECT version FROM pg_available_extension_versions WHERE name = 'pg_stat_statements' AND NOT installed "+
		"AND string_to_array(version, '.')::int[] >= '{1,4}' ORDER BY string_to_array(version, '.')::int[]")
	if err != nil {
		t.Fatal(err)
	}
	versions, err := collectTexts(rows)
	if err != nil || len(versions) < 4 {
		t.Fatalf("versions %v, %v", versions, err)
	}
	for _, v := range versions {
		t.Run(v, func(t *testing.T) {
			exec(t, conn, `CREATE EXTENSION pg_stat_statements VERSION '`+v+`'`)
			defer exec(t, conn, "DROP EXTENSION pg_stat_statements")
			exec(t, conn, "SELECT pg_stat_statements_reset()", "SELECT 'marked', count(*) FROM pg_class a, pg_class b")
			r := look(t, connect(t, dsn), collect.Options{})
			if wrong := unexpected(r.Skipped); len(wrong) > 0 || r.Statements == nil || r.Statements.Version != v || r.Statements.ExecSeconds <= 0 {
				t.Fatalf("skipped %+v, %+v", wrong, r.Statements)
			}
			var marked *reading.Statement
			for i := range r.Statements.Items {
				if strings.HasPrefix(r.Statements.Items[i].Query, "SELECT $1, count(*) FROM pg_class a") {
					marked = &r.Statements.Items[i]
				}
			}
			if marked == nil || marked.Calls < 1 || marked.ExecSeconds <= 0 || marked.HitBytes <= 0 {
				t.Errorf("%+v", marked)
			}
		})
	}
}
