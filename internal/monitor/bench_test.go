package monitor_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// BenchmarkCollect looks at a database of 1,000 tables with two indexes each.
func BenchmarkCollect(b *testing.B) {
	conn := testkit.Connect(b, scratchtest.Database(b, shared))
	for range 2 {
		// A transaction's locks must fit into the lock table.
		_, err := conn.Exec(b.Context(), `DO $$ DECLARE n int := coalesce((SELECT count(*) FROM pg_class WHERE relname ~ '^t\d+$'), 0); BEGIN
			FOR i IN n + 1 .. n + 500 LOOP
				EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, a int REFERENCES t%s)', i, i);
				EXECUTE format('CREATE INDEX ON t%s (a)', i);
			END LOOP; END $$`)
		if err != nil {
			b.Fatal(err)
		}
	}
	if _, err := conn.Exec(b.Context(), "CREATE EXTENSION pg_stat_statements"); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r, err := collect.Collect(b.Context(), conn, collect.Options{})
		if err != nil {
			b.Fatal(err)
		}
		judge.Analyse(r, nil, reading.DefaultThresholds())
	}
}
