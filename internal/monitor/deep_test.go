package monitor_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

func testExactBloatIsMeasuredOnRequest(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE SCHEMA "+odd, "CREATE TABLE "+odd+`."Swol len" (id int PRIMARY KEY, t text) WITH (autovacuum_enabled = off)`,
		"INSERT INTO "+odd+`."Swol len" SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i`,
		"DELETE FROM "+odd+`."Swol len" WHERE id % 10 <> 0`, "VACUUM (ANALYZE) "+odd+`."Swol len"`,
		"CREATE TABLE half (id int PRIMARY KEY, t text) WITH (fillfactor = 50)", "INSERT INTO half SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i")
	r := look(t, conn, collect.Options{ExactBloat: true})
	for _, query := range []string{"exact bloat of tables", "exact bloat of indexes"} {
		if reason := skipReason(r, query); query == "exact bloat of tables" && !strings.Contains(reason, "CREATE EXTENSION pgstattuple;") {
			t.Errorf("%s: %q of %+v", query, reason, r.Skipped)
		}
	}
	// In a schema that is on nobody's search path.
	exec(t, conn, "CREATE EXTENSION pgstattuple SCHEMA "+odd)
	if b := tableOf(t, look(t, conn, collect.Options{}), "Swol len").Bloat; b.Method != "estimate" {
		t.Errorf("measured without being asked: %+v", b)
	}
	r = look(t, conn, collect.Options{ExactBloat: true})
	if wrong := unexpected(r.Skipped); len(wrong) > 0 {
		t.Errorf("skipped: %+v", wrong)
	}
	swollen, half := tableOf(t, r, "Swol len"), tableOf(t, r, "half")
	for _, x := range []*reading.Table{swollen, half} {
		if x.Bloat == nil || x.Bloat.Method != "pgstattuple" || x.Bloat.Confidence != "high" {
			t.Fatalf("%s: %+v", x.Name, x.Bloat)
		}
	}
	if share := float64(swollen.Bloat.Bytes) / float64(swollen.TableBytes); share < 0.85 || share > 0.95 {
		t.Errorf("%.2f of a table is empty of which 0.9 of the rows are gone", share)
	}
	if share := float64(half.Bloat.Bytes) / float64(half.TableBytes); share > 0.05 {
		t.Errorf("%.2f of a table is called empty that is filled as far as it is meant to be", share)
	}
	for _, x := range r.Indexes.Largest {
		if x.Name == "Swol len_pkey" && (x.BloatBytes == nil || x.BloatMethod != "pgstattuple" || float64(*x.BloatBytes) < 0.5*float64(x.EstimatedBytes)) {
			t.Errorf("%+v", x)
		}
	}
	limits := reading.DefaultThresholds()
	limits.BloatMinBytes = 100 << 10
	findings := judge.Analyse(r, nil, limits)
	if f := mustFind(t, findings, "table-bloat", odd+`."Swol len"`); evidenceOf(f, "method") != "pgstattuple" || evidenceOf(f, "confidence") != "high" {
		t.Errorf("%+v", f)
	}
	if f := mustFind(t, findings, "index-bloat", odd+`."Swol len_pkey"`); evidenceOf(f, "method") != "pgstattuple" || strings.Contains(f.Summary, "estimated") {
		t.Errorf("%+v", f)
	}
	// A lock that somebody holds costs that one table and nothing else, and each
	// that is locked is said.
	locker := connect(t, dsn)
	exec(t, conn, "CREATE TABLE empty (id int)")
	exec(t, locker, "BEGIN", "LOCK TABLE half, empty IN ACCESS EXCLUSIVE MODE")
	r = look(t, conn, collect.Options{ExactBloat: true})
	exec(t, locker, "ROLLBACK")
	mustSkip(t, r, map[string]string{"exact bloat of tables (public.half)": "55P03", "exact bloat of tables (public.empty)": "55P03"})
	if tableOf(t, r, "Swol len").Bloat.Method != "pgstattuple" {
		t.Error("the other table was not measured")
	}
}

func tableOf(t *testing.T, r *reading.Reading, name string) *reading.Table {
	t.Helper()
	for i := range r.Tables.Items {
		if r.Tables.Items[i].Name == name {
			return &r.Tables.Items[i]
		}
	}
	t.Fatalf("no table %s", name)
	return nil
}

func testPlansAreShownOnRequest(t *testing.T, dsn string) {
	const secret = "PLANTED"
	conn := connect(t, dsn)
	exec(t, conn, "CREATE EXTENSION pg_stat_statements", "CREATE SCHEMA clinic", "SET search_path = clinic",
		"CREATE TABLE visits (id int PRIMARY KEY, patient int, note text)", "INSERT INTO visits SELECT i, i, 'n' FROM generate_series(1, 5000) i",
		"CREATE VIEW secret_visits AS SELECT * FROM visits WHERE note <> E'"+secret+"\\n' AND note <> 'it''s "+secret+"'",
		"CREATE ROLE other_app", "CREATE ROLE app LOGIN IN ROLE pg_read_all_stats", "GRANT USAGE ON SCHEMA clinic TO app",
		"GRANT ALL ON ALL TABLES IN SCHEMA clinic TO app", "GRANT USAGE ON SCHEMA clinic TO other_app", "GRANT SELECT ON visits TO other_app", "ANALYZE visits")
	defer exec(t, conn, "DROP OWNED BY other_app, app", "DROP ROLE other_app, app")
	r := look(t, conn, collect.Options{})
	exec(t, conn, "ALTER DATABASE "+r.Database+" SET search_path = clinic", "SELECT public.pg_stat_statements_reset()")
	app, other := connectAs(t, dsn, "app"), connect(t, dsn, "other_app")
	for range 50 {
		exec(t, app, "SELECT count(*) FROM secret_visits WHERE patient > 17", "UPDATE visits SET note = 'm' WHERE id = 3", "DELETE FROM visits WHERE patient = -1")
	}
	exec(t, other, "SELECT max(patient) FROM visits WHERE note = 'x'")

	// A session that is set up as pgmedic's are.
	looker := connectAs(t, dsn, "app")
	exec(t, looker, "SET search_path = ''")
	r = look(t, looker, collect.Options{Plans: true})
	if major(t, conn) < 16 {
		if reason := skipReason(r, "plans of statements"); reason != "needs PostgreSQL 16 or later" {
			t.Errorf("%q", reason)
		}
		return
	}
	for start, want := range map[string]string{
		"SELECT count(*) FROM secret_visits": "Seq Scan on visits", "UPDATE visits": "Index Scan using visits_pkey on visits",
		"DELETE FROM visits": "Delete on visits",
	} {
		if plan := planOf(r, start); !strings.Contains(plan, want) || !strings.Contains(plan, "rows ") {
			t.Errorf("%s: %q, skipped %+v", start, plan, r.Skipped)
		}
	}
	super := look(t, conn, collect.Options{Plans: true})
	if reason := skipReason(super, "plans of statements"); !strings.Contains(reason, "superuser") || planOf(super, "UPDATE visits") != "" {
		t.Errorf("a superuser: %q", reason)
	}
	if plan := planOf(r, "SELECT max(patient)"); plan != "" {
		t.Errorf("another role's statement was planned: %s", plan)
	}
	if reason := skipReason(r, "plans of other roles' statements"); !strings.Contains(reason, "connect as the role") {
		t.Errorf("%q of %+v", reason, r.Skipped)
	}
	if s, err := json.Marshal(r); err != nil || strings.Contains(string(s), secret) {
		t.Errorf("a literal of a view: %v, %s", err, planOf(r, "SELECT count(*) FROM secret"))
	}
	shown := look(t, looker, collect.Options{Plans: true, ShowLiterals: true})
	if !strings.Contains(planOf(shown, "SELECT count(*) FROM secret"), secret) {
		t.Error("the secret is nowhere, even where it was asked for: the test shows nothing")
	}
	var rows int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM clinic.visits WHERE note = 'm'").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("%d rows were changed, %v", rows, err)
	}
}

// planOf is the plan of the statement that begins with start.
func planOf(r *reading.Reading, start string) string {
	for _, s := range r.Statements.Items {
		if strings.HasPrefix(s.Query, start) {
			return strings.Join(s.Plan, "\n")
		}
	}
	return ""
}

// testAPlanRunsNothingOfAnotherRole offers a statement whose function is called
// when it is planned. The function tells who calls it by a notice.
func testAPlanRunsNothingOfAnotherRole(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	if major(t, conn) < 16 {
		return // there are no plans
	}
	exec(t, conn, "CREATE EXTENSION pg_stat_statements", "CREATE ROLE schemer", "CREATE SCHEMA trap AUTHORIZATION schemer",
		"CREATE ROLE reader LOGIN IN ROLE pg_read_all_stats", "GRANT ALL ON SCHEMA trap TO reader", "SELECT pg_stat_statements_reset()")
	defer exec(t, conn, "DROP OWNED BY schemer, reader CASCADE", "DROP ROLE schemer, reader")
	trap := func(name string) string {
		return "CREATE FUNCTION trap." + name + "() RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '" + name + "'; RETURN 1; END $$"
	}
	exec(t, connect(t, dsn, "schemer"), trap("theirs"), "SELECT trap.theirs(), pg_sleep(0.05)")
	exec(t, connectAs(t, dsn, "reader"), trap("ours"), "SELECT trap.ours(), pg_sleep(0.05)")

	var called []string
	looker := testkit.Dial(t, dsn, func(c *pgx.ConnConfig) {
		c.User, c.OnNotice = "reader", func(_ *pgconn.PgConn, n *pgconn.Notice) { called = append(called, n.Message) }
	})
	defer testkit.End(looker)
	look(t, looker, collect.Options{Plans: true})
	if !slices.Contains(called, "ours") {
		t.Errorf("planning calls no function: the test shows nothing: %v", called)
	}
	if slices.Contains(called, "theirs") {
		t.Error("planning called a function of another role")
	}
}
