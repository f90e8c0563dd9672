package inplace_test

import (
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore/inplace"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// owned makes a database with a table of a role that is no superuser. What the role has
// attached to the table notes as whom it runs.
func owned(t *testing.T) (dsn, role string) {
	t.Helper()
	dsn = scratchtest.Database(t, server)
	role = fixture.Name(t, server) + "_owner"
	fixture.Exec(t, server.DSN("postgres"), `CREATE ROLE "`+role+`" LOGIN`)
	t.Cleanup(func() {
		fixture.Exec(t, dsn, `DROP OWNED BY "`+role+`" CASCADE`)
		fixture.Exec(t, server.DSN("postgres"), `DROP ROLE "`+role+`"`)
	})
	fixture.Exec(t, dsn, `GRANT CREATE ON DATABASE "`+fixture.Target(t, dsn).Database()+`" TO "`+role+`"`, `GRANT ALL ON SCHEMA public TO "`+role+`"`)
	fixture.Exec(t, dsn, `SET ROLE "`+role+`"`, "CREATE TABLE who (name text)", "GRANT ALL ON who TO PUBLIC", "CREATE TYPE feeling AS ENUM ('well', 'ill')",
		"CREATE FUNCTION noted(int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.who VALUES (current_user); RETURN true; END'",
		"CREATE FUNCTION spelled(feeling) RETURNS text LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.who VALUES (current_user); RETURN pg_catalog.enum_out($1); END'",
		"CREATE CAST (feeling AS text) WITH FUNCTION spelled(feeling)",
		"CREATE FUNCTION upped(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM public.noted(1); RETURN $1; END'",
		"CREATE TABLE trap (n int PRIMARY KEY CHECK (noted(n)), f feeling, t text)", "CREATE INDEX ON trap (upped(t))",
		"INSERT INTO trap SELECT n, 'ill', 't' || n FROM generate_series(1, 20) AS n", "TRUNCATE who")
	return dsn, role
}

// TestTablesOwnerRunsItsCode has the code that the owner of a table attached to it run as
// the owner and not as the superuser who puts the table back.
func TestTablesOwnerRunsItsCode(t *testing.T) {
	dsn, role := owned(t)
	c, b := fixture.TakeBy(t, dsn, backup.Parallel{})
	for _, sql := range []string{"DELETE FROM trap WHERE n > 15", "UPDATE trap SET t = 'wrong' WHERE n < 5", "DROP TABLE trap"} {
		fixture.Exec(t, dsn, sql, "TRUNCATE who")
		done := mustRun(t, options(t, dsn, c, b, "trap"))
		if done.Degraded() != nil {
			t.Errorf("left out: %+v", done.LeftOut)
		}
		if got := fixture.Query[string](t, dsn, "SELECT DISTINCT name FROM who"); !slices.Equal(got, []string{role}) {
			t.Errorf("after %s it ran as %q, want only %s", sql, got, role)
		}
		if got := fixture.Query[string](t, dsn, "SELECT count(*) || min(t) || max(t) FROM trap"); !slices.Equal(got, []string{"20t1t9"}) {
			t.Errorf("rows %q", got)
		}
		if got := fixture.Query[bool](t, dsn, "SELECT pg_catalog.has_schema_privilege($1, $2, 'USAGE')", role, done.Schema); got[0] {
			t.Error("the owner may still read the rescued copies")
		}
	}
}

// TestAsOwner puts a table back as the role that owns it, which is no superuser.
func TestAsOwner(t *testing.T) {
	testkit.OnlyAll(t, "the superuser's way is tested in make test")
	dsn, role := owned(t)
	c, b := fixture.TakeBy(t, dsn, backup.Parallel{})
	schema, rows := schemaAndRows(t, server, dsn)
	for _, sql := range []string{"DELETE FROM trap WHERE n > 15", "DROP TABLE trap"} {
		fixture.Exec(t, dsn, sql)
		o := options(t, dsn, c, b, "trap")
		o.Target = o.Target.With("user", role)
		if done := mustRun(t, o); done.Degraded() != nil || done.Tables[0].Action == inplace.ActionMissing {
			t.Errorf("it did %+v", done)
		}
		fixture.Exec(t, dsn, "TRUNCATE who")
		wantSchema(t, server, dsn, schema, rows)
	}
}
