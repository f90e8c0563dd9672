package restore_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
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
			dsn, c, b := ward(t, method, `ALTER TABLE patients OWNER TO "night nurse"`, `GRANT SELECT ON notes TO "night nurse"`,
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

// TestForesee makes nothing, and names what stands in the way.
func TestForesee(t *testing.T) {
	dsn, c, b := clinic(t)
	live := fixture.Target(t, dsn).Database()
	names := fixture.Databases(t, server)
	foresee := func(into, live string, change func(*pgmedic.Backup)) *restore.Preview {
		t.Helper()
		changed := *b
		change(&changed)
		p, err := restore.Foresee(t.Context(), restore.SwapOptions{Options: fixture.RestoreOptions(t, server, c, &changed, into), Live: live})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := foresee("new_one", "", func(*pgmedic.Backup) {}); p.Obstacle() != nil || p.FetchBytes == 0 || p.Steps[0] != "create" || p.DataDirectory == "" {
		t.Errorf("into: %+v", p)
	}
	if p := foresee("", live, func(*pgmedic.Backup) {}); p.Obstacle() != nil || !slices.Contains(p.Steps, "swap") {
		t.Errorf("swap: %+v", p)
	}
	fixture.WantKind(t, foresee(live, "", func(*pgmedic.Backup) {}).Obstacle(), pgmedic.KindConflict, "exists already")
	fixture.WantKind(t, foresee("new_one", "", func(b *pgmedic.Backup) {
		b.Database.Roles = []pgmedic.Role{{Name: "nobody here"}}
		b.Database.Tablespaces = []string{"fast"}
	}).Obstacle(), pgmedic.KindNotFound, "nobody here")
	fixture.WantKind(t, foresee("", live, func(b *pgmedic.Backup) { b.Server.SystemIdentifier = "7" }).Obstacle(), pgmedic.KindUsage, "another server")
	fixture.WantKind(t, foresee("", "postgres", func(*pgmedic.Backup) {}).Obstacle(), pgmedic.KindUsage, "connect through")
	fixture.WantKind(t, foresee("", "template1", func(*pgmedic.Backup) {}).Obstacle(), pgmedic.KindUsage, "the server's own")
	same := func(*pgmedic.Backup) {}
	for _, name := range []string{live, "new_one"} {
		lock, err := databases.AcquireRunLock(t.Context(), fixture.Target(t, dsn), "postgres", name)
		if err != nil {
			t.Fatal(err)
		}
		if name == live {
			fixture.WantKind(t, foresee("", live, same).Obstacle(), pgmedic.KindConflict, "another pgmedic run")
		} else {
			fixture.WantKind(t, foresee(name, "", same).Obstacle(), pgmedic.KindConflict, "another pgmedic run")
		}
		lock.Release(t.Context())
	}
	if now := fixture.Databases(t, server); !slices.Equal(now, names) {
		t.Errorf("databases %q, there were %q", now, names)
	}
}
