package drill_test

import (
	"strconv"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestVersions drills on servers of each version: backups of that version where
// the installed pg_dump takes them, and otherwise an older one's on a server of
// that version, whose definitions can't be compared.
func TestVersions(t *testing.T) {
	statements := []string{
		"CREATE TABLE visits (id int, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
		"CREATE TABLE visits_2025 PARTITION OF visits FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
		"CREATE TABLE visits_2026 PARTITION OF visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
		"INSERT INTO visits SELECT n, date '2025-06-01' + n % 400, repeat('x', 3000) FROM generate_series(1, 1000) AS n",
		"CREATE INDEX ON visits (lower(note))",
		"CREATE MATERIALIZED VIEW days AS SELECT day, count(*) FROM visits GROUP BY day", "CREATE UNIQUE INDEX ON days (day)",
	}
	for _, major := range scratchtest.Ends(t) {
		there := scratchtest.New(t, scratch.Options{Major: major})
		foreign := major > server.Major()
		source := there
		if foreign {
			source = server
		}
		dsn := scratchtest.Database(t, source)
		fixture.Exec(t, dsn, statements...)
		name, method := "parallel", backup.Method(backup.Parallel{Jobs: 2})
		if major%2 == 0 { // nothing of it depends on both
			name, method = "plain", backup.Plain{}
		}
		t.Run(strconv.Itoa(major)+" "+name, func(t *testing.T) {
			c, b, _ := take(t, dsn, method)
			o := options(t, c, b)
			o.ServerDirs = scratchtest.SearchDirs() // with the real initdb
			if foreign {
				o.Kind, o.Target = pgmedic.ScratchGiven, fixture.Target(t, there.DSN("postgres"))
			}
			receipt, err := run(t.Context(), t, o)
			if err != nil || receipt.Proof != pgmedic.ProofProven {
				t.Fatalf("%+v, %v", receipt, err)
			}
			for name, skipped := range map[string]bool{"schema": foreign, "indexes": false, "heaps": major < 14} {
				want := pgmedic.OutcomeOK
				if skipped {
					want = pgmedic.OutcomeSkipped
				}
				if got := check(t, receipt, name); got.Outcome != want {
					t.Errorf("%s: %+v", name, got)
				}
			}
		})
	}
}
