package restore_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestAnalyzed: what has rows has statistics, the whole of a partitioned table
// among them, and what is on another server is not asked.
func TestAnalyzed(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE plain AS SELECT n, n % 3 AS m FROM generate_series(1, 500) AS n",
		"CREATE STATISTICS both_columns ON n, m FROM plain",
		"CREATE TABLE parent AS SELECT 1 AS n", "CREATE TABLE child (extra int) INHERITS (parent)", "INSERT INTO child SELECT n, n FROM generate_series(1, 500) AS n",
		"CREATE TABLE years (n int) PARTITION BY LIST (n)", "CREATE TABLE years_1 PARTITION OF years FOR VALUES IN (1) PARTITION BY LIST (n)",
		"CREATE TABLE years_1a PARTITION OF years_1 FOR VALUES IN (1)", "CREATE TABLE years_2 PARTITION OF years FOR VALUES IN (2)",
		"INSERT INTO years SELECT 1 + n % 2 FROM generate_series(1, 500) AS n",
		"CREATE MATERIALIZED VIEW \"a View\" AS SELECT n FROM plain",
		"CREATE EXTENSION postgres_fdw", "CREATE SERVER away FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '/nonesuch')",
		"CREATE TABLE far (n int) PARTITION BY LIST (n)", "CREATE FOREIGN TABLE far_1 PARTITION OF far FOR VALUES IN (1) SERVER away",
		"CREATE TABLE far_2 PARTITION OF far FOR VALUES IN (2)", "INSERT INTO far SELECT 2 FROM generate_series(1, 500)")
	c := fixture.NewCatalog(t)
	b := fixture.TakeBackup(t, dsn, c)
	o := fixture.RestoreOptions(t, server, c, b, fixture.Name(t, server))
	o.Jobs = 3
	if _, err := restore.Into(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	// far itself is what only the other server could tell of.
	without := fixture.Query[string](t, server.DSN(o.Into), `SELECT relname::text FROM pg_class AS c
		WHERE relkind IN ('r', 'p', 'm') AND relnamespace = 'public'::regnamespace AND NOT EXISTS (SELECT FROM pg_statistic WHERE starelid = c.oid) ORDER BY 1`)
	if len(without) != 1 || without[0] != "far" {
		t.Errorf("without statistics are %q", without)
	}
	inherited := fixture.Query[string](t, server.DSN(o.Into), "SELECT DISTINCT starelid::regclass::text FROM pg_statistic WHERE stainherit AND starelid >= 16384 ORDER BY 1")
	if len(inherited) != 3 || inherited[0] != "parent" || inherited[1] != "years" || inherited[2] != "years_1" {
		t.Errorf("statistics of whole trees have %q", inherited)
	}
	if n := fixture.Query[int64](t, server.DSN(o.Into), "SELECT count(*) FROM pg_statistic_ext_data")[0]; n != 1 {
		t.Errorf("%d statistics objects have data", n)
	}
	if n := fixture.Query[int64](t, server.DSN(o.Into), "SELECT count(*) FROM pg_statistic WHERE starelid = 'pg_catalog.pg_class'::regclass")[0]; n == 0 {
		t.Error("the catalogue has no statistics")
	}
}
