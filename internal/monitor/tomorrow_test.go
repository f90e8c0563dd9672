package monitor_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

func collectTexts(rows pgx.Rows) ([]string, error) { return pgx.CollectRows(rows, pgx.RowTo[string]) }

// testTheServerOfTomorrowIsRead has the server say that it is PostgreSQL 19, and
// takes a view, a column and a function from it that nobody knew would go.
func testTheServerOfTomorrowIsRead(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE EXTENSION pg_stat_statements", "CREATE TABLE t (id int)",
		"ALTER FUNCTION pg_catalog.current_setting(text) RENAME TO true_setting",
		"CREATE FUNCTION pg_catalog.current_setting(text) RETURNS text STABLE LANGUAGE sql AS "+
			"$$ SELECT CASE $1 WHEN 'server_version_num' THEN '190001' WHEN 'server_version' THEN '19.1' ELSE pg_catalog.true_setting($1) END $$")
	today := look(t, connect(t, dsn), collect.Options{})
	if today.Server.VersionNum != 190001 || today.Server.Version != "19.1" {
		t.Fatalf("it says it is %s", today.Server.Version)
	}
	if major(t, conn) == 19 && today.Connections == nil || today.Tables == nil || today.Locks == nil || today.Limits == nil || today.Statements == nil {
		t.Errorf("sections are missing: %+v", today.Skipped)
	}
	exec(t, conn, "ALTER FUNCTION pg_catalog.pg_stat_get_numscans(oid) RENAME TO gone_numscans",
		"ALTER FUNCTION pg_catalog.pg_ls_waldir() RENAME TO gone_waldir")
	r := look(t, connect(t, dsn), collect.Options{})
	mustSkip(t, r, map[string]string{"size of WAL": "no such view, column or function", "indexes": "no such view, column or function"})
	if r.Connections == nil || r.Limits == nil || r.Cache == nil {
		t.Errorf("the rest is lost: %+v", r.Skipped)
	}
	for _, f := range judge.Analyse(r, nil, reading.DefaultThresholds()) {
		if strings.HasPrefix(f.ID, "version-") {
			t.Errorf("of a version that it doesn't know it says %+v", f)
		}
	}
}

// testALookUnderLocksIsQuick holds the strongest lock on everything that a look
// could wait for.
func testALookUnderLocksIsQuick(t *testing.T, dsn string) {
	conn, locker := connect(t, dsn), connect(t, dsn)
	exec(t, conn, "CREATE EXTENSION pg_stat_statements", "CREATE EXTENSION pgstattuple", "CREATE TABLE a (id serial PRIMARY KEY)",
		"CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a)", "CREATE INDEX ON b (a)", "CREATE MATERIALIZED VIEW m AS SELECT * FROM a",
		"INSERT INTO a SELECT FROM generate_series(1, 100)", "ANALYZE")
	exec(t, locker, "BEGIN", "LOCK TABLE a, b IN ACCESS EXCLUSIVE MODE", "REINDEX TABLE b", "ALTER SEQUENCE a_id_seq CACHE 2", "ALTER MATERIALIZED VIEW m RENAME TO n")
	opts := collect.Options{ExactBloat: true, Plans: true}
	r := look(t, conn, opts)
	if r.Tables == nil || len(r.Tables.Items) != 3 || r.Indexes == nil || r.Limits == nil {
		t.Errorf("sections are missing: %+v", r.Skipped)
	}
	for _, x := range r.Tables.Items {
		if x.Exact {
			t.Errorf("%s was measured under a lock", x.Name)
		}
	}
	for _, s := range unexpected(r.Skipped) {
		if !strings.Contains(s.Reason, "55P03") && !strings.Contains(s.Reason, "lock") && !strings.HasPrefix(s.Query, "plan") {
			t.Errorf("%+v", s)
		}
	}
	exec(t, locker, "ROLLBACK", "BEGIN", "LOCK TABLE pg_catalog.pg_class, pg_catalog.pg_index, pg_catalog.pg_statistic IN ACCESS EXCLUSIVE MODE")
	r = look(t, conn, opts)
	exec(t, locker, "ROLLBACK")
	for _, query := range []string{"tables", "indexes", "foreign keys without index", "tables without primary key"} {
		if reason := skipReason(r, query); !strings.Contains(reason, "55P03") {
			t.Errorf("%s: %q", query, reason)
		}
	}
	if r.Connections == nil || r.Cache == nil || r.Transactions == nil {
		t.Errorf("the rest is lost: %+v", r.Skipped)
	}
}
