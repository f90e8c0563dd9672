package drill_test

import (
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestOwnersReadThroughGroups drills a database whose views and indexes can be
// made by their owner only with what a group of a group may read.
func TestOwnersReadThroughGroups(t *testing.T) {
	source := scratchtest.New(t, scratch.Options{})
	dsn := scratchtest.Database(t, source)
	fixture.Exec(t, dsn,
		`CREATE ROLE "all WITH readers"`, `CREATE ROLE readers`, `CREATE ROLE reporter`, `CREATE ROLE guard BYPASSRLS`,
		`GRANT "all WITH readers" TO readers`, `GRANT readers TO reporter`,
		"CREATE TABLE claims (id int, amount int)", "INSERT INTO claims SELECT n, n FROM generate_series(1, 50) AS n",
		`GRANT SELECT ON claims TO "all WITH readers"`, "GRANT CREATE, USAGE ON SCHEMA public TO reporter, guard",
		"CREATE TABLE secrets (id int)", "INSERT INTO secrets VALUES (1), (2)", "ALTER TABLE secrets ENABLE ROW LEVEL SECURITY",
		"GRANT SELECT ON secrets TO guard",
		"CREATE FUNCTION total(int) RETURNS bigint IMMUTABLE LANGUAGE sql AS 'SELECT count(*) + $1 FROM public.claims'",
		"SET ROLE reporter", "CREATE MATERIALIZED VIEW sums AS SELECT sum(amount) FROM claims",
		"CREATE TABLE notes (id int)", "INSERT INTO notes VALUES (1)",
		"SET ROLE guard", "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM secrets",
	)
	for name, method := range fixture.Methods(t, 2) {
		t.Run(name, func(t *testing.T) {
			if name == "parallel" { // in a plain dump privileges come after indexes
				fixture.Exec(t, dsn, "SET ROLE reporter", "CREATE INDEX by_total ON notes (public.total(id))")
				defer fixture.Exec(t, dsn, "DROP INDEX by_total")
			}
			c, b, _ := take(t, dsn, method)
			receipt, err := run(t.Context(), t, options(t, c, b))
			if err != nil || receipt.Proof != pgmedic.ProofProven {
				t.Fatalf("%+v, %v", receipt, err)
			}
		})
	}
}
