package scratchtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// ManyOptions are the settings of a server for Many.
func ManyOptions() scratch.Options {
	return scratch.Options{Settings: map[string]string{
		"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.max": "6000", "autovacuum": "off",
		"max_locks_per_transaction": "256",
	}}
}

// Many makes a database of so many small tables, each with two indexes and a
// foreign key, on a server of ManyOptions, and has so many statements of
// 16 kB, at most one a table, in pg_stat_statements. It returns the connection
// string; the database ends with the test.
func Many(tb testing.TB, server *scratch.Server, tables, statements int) (dsn string) {
	tb.Helper()
	dsn = Database(tb, server)
	ctx := tb.Context()
	conn := testkit.Dial(tb, dsn)
	defer testkit.End(conn)
	run := func(sql string) {
		if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			tb.Fatalf("%.80s: %v", sql, err)
		}
	}
	run("CREATE EXTENSION pg_stat_statements")
	for first := 1; first <= tables; first += 1000 {
		run(fmt.Sprintf(`DO $$ BEGIN FOR i IN %d..%d LOOP
			EXECUTE format('CREATE TABLE t%%s (id int PRIMARY KEY, parent int REFERENCES t%%s, note text)', i, i);
			EXECUTE format('CREATE INDEX ON t%%s (parent)', i);
			EXECUTE format('INSERT INTO t%%s SELECT n, 1, repeat(''x'', 50) FROM generate_series(1, 20) AS n', i);
		END LOOP; END $$`, first, min(first+999, tables)))
	}
	run("ANALYZE")
	run("SELECT pg_stat_statements_reset()")
	padding := strings.Repeat("x", 16<<10)
	for i := 1; i <= statements; i++ {
		run(fmt.Sprintf("SELECT count(*) /* %s */ FROM t%d WHERE note = 'n'", padding, i))
	}
	return dsn
}
