package drill_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestAssertionsOnlyRead asks assertions that call what the content of the backup
// put into their way: it can read every row, and do nothing else.
func TestAssertionsOnlyRead(t *testing.T) {
	for _, major := range scratchtest.Ends(t) {
		if major > server.Major() {
			continue // the installed pg_dump refuses it
		}
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			source := server
			if major != server.Major() {
				source = scratchtest.New(t, scratch.Options{Major: major})
			}
			dsn := scratchtest.Database(t, source)
			fixture.Exec(t, dsn, "CREATE TABLE hidden (id int)", "INSERT INTO hidden SELECT generate_series(1, 10)",
				"ALTER TABLE hidden ENABLE ROW LEVEL SECURITY", "ALTER TABLE hidden FORCE ROW LEVEL SECURITY", "REVOKE ALL ON hidden FROM PUBLIC",
				"CREATE SCHEMA locked", "CREATE TABLE locked.t AS SELECT 1 AS id", "CREATE VIEW locked.v AS SELECT count(*) AS n FROM hidden",
				`CREATE FUNCTION climb() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
					EXECUTE 'ALTER ROLE ' || quote_ident(current_user) || ' SUPERUSER'; RETURN 'climbed';
				EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$`,
				`CREATE FUNCTION run() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
					COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'; RETURN 'ran';
				EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$`,
				`CREATE FUNCTION again() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
					RESET SESSION AUTHORIZATION; RESET ROLE; RETURN current_setting('is_superuser'); END $$`)
			c, b, _ := take(t, dsn, backup.Parallel{Jobs: 1})
			o := options(t, c, b)
			o.ServerDirs = scratchtest.SearchDirs()
			o.AssertionTimeout = time.Minute
			o.Assertions = []drill.Assertion{
				{Name: "reads all rows", SQL: "SELECT count(*) FROM hidden", Expect: []string{"10"}},
				{Name: "reads all schemas", SQL: "SELECT id FROM locked.t", Expect: []string{"1"}},
				{Name: "reads views", SQL: "SELECT n FROM locked.v", Expect: []string{"10"}},
				{Name: "is no superuser", SQL: "SELECT current_setting('is_superuser')", Expect: []string{"off"}},
				{Name: "can't become one", SQL: "SELECT climb()", Expect: []string{"25006"}},
				{Name: "can't be one again", SQL: "SELECT again()", Expect: []string{"off"}},
				{Name: "runs no programs", SQL: "SELECT run()", Expect: []string{"42501"}},
			}
			receipt, err := run(t.Context(), t, o)
			if err != nil || receipt.Proof != pgmedic.ProofProven || receipt.Counted.Assertions != len(o.Assertions) {
				t.Fatalf("%+v, %v", receipt, err)
			}
		})
	}
}
