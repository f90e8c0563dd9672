package restore_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestWithout restores a database of a role's into a server that does not have
// the role, and definitions without rows.
func TestWithout(t *testing.T) {
	fixture.Exec(t, server.DSN("postgres"), `DROP ROLE IF EXISTS "night nurse"`, `CREATE ROLE "night nurse"`)
	there := scratchtest.New(t, scratch.Options{})
	for name, method := range fixture.Methods(t, 2) {
		t.Run(name, func(t *testing.T) {
			dsn, c, b := fixture.Ward(t, server, method, `ALTER TABLE patients OWNER TO "night nurse"`, `GRANT SELECT ON notes TO "night nurse"`,
				`ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO "night nurse"`, "SELECT lo_from_bytea(7, 'x')", "COMMENT ON LARGE OBJECT 7 IS 'x'",
				"CREATE SEQUENCE s", "SELECT nextval('s')", "CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM patients")
			t.Cleanup(func() { fixture.Exec(t, dsn, `DROP OWNED BY "night nurse" CASCADE`) })

			o := fixture.RestoreOptions(t, there, c, b, "ownerless_"+name)
			_, err := restore.Into(t.Context(), o)
			fixture.WantKind(t, err, pgmedic.KindNotFound, `"night nurse"`)
			o.Without = dumpsql.Without{Owners: true}
			done, err := restore.Into(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if done.Checks[0].Outcome != pgmedic.OutcomeOK || done.Checks[2].Outcome != pgmedic.OutcomeOK || !strings.Contains(done.Checks[2].Detail, "without owners") {
				t.Errorf("checks %+v", done.Checks)
			}
			if got := fixture.Query[string](t, there.DSN(o.Into), "SELECT count(*) || ' ' || min(md5(name)) FROM patients"); !slices.Equal(got,
				fixture.Query[string](t, dsn, "SELECT count(*) || ' ' || min(md5(name)) FROM patients")) {
				t.Errorf("patients %q", got)
			}

			o = fixture.RestoreOptions(t, server, c, b, fixture.Name(t, server))
			o.Without = dumpsql.Without{Rows: true}
			done, err = restore.Into(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if done.Checks[0].Outcome != pgmedic.OutcomeSkipped || done.Checks[1].Outcome != pgmedic.OutcomeOK {
				t.Errorf("checks %+v", done.Checks)
			}
			source, copied := fixture.Place{Server: server, Database: fixture.Target(t, dsn).Database()}, fixture.Place{Server: server, Database: o.Into}
			fixture.WantSame(t, "schema", strings.Split(fixture.SchemaText(t, source), "\n"), strings.Split(fixture.SchemaText(t, copied), "\n"))
			got := fixture.Query[int](t, server.DSN(o.Into), `SELECT (SELECT count(*) FROM patients) + (SELECT count(*) FROM notes) +
				(SELECT count(*) FROM pg_largeobject_metadata) + (SELECT count(*) FROM pg_sequences WHERE last_value IS NOT NULL)`)[0]
			if got != 0 {
				t.Errorf("%d rows, large objects and values came along", got)
			}
		})
	}
}
