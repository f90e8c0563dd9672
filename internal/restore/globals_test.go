package restore_test

import (
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestGlobals restores after a role was lost and another was changed since.
func TestGlobals(t *testing.T) {
	admin := server.DSN("postgres")
	dsn := scratchtest.Database(t, server)
	const lost, group = `"Nurse; 'n"`, "globals_staff"
	t.Cleanup(func() { fixture.Exec(t, admin, "DROP ROLE IF EXISTS "+lost, "DROP ROLE IF EXISTS "+group) })
	fixture.Exec(t, admin, "CREATE ROLE "+lost+" LOGIN PASSWORD 'not a secret of anyone''s' CONNECTION LIMIT 7",
		"CREATE ROLE "+group, "GRANT "+group+" TO "+lost, "ALTER ROLE "+lost+" SET work_mem = '5MB'")
	// A group that is lost, and a member of it that is not.
	const dba, app = "globals_dba", "globals_app"
	t.Cleanup(func() { fixture.Exec(t, admin, "DROP ROLE IF EXISTS "+dba, "DROP ROLE IF EXISTS "+app) })
	fixture.Exec(t, admin, "CREATE ROLE "+dba+" SUPERUSER", "CREATE ROLE "+app, "GRANT "+dba+" TO "+app)
	fixture.Exec(t, dsn, "CREATE TABLE patients (id int)", "ALTER TABLE patients OWNER TO "+lost, "GRANT SELECT ON patients TO "+group)
	const state = `SELECT concat_ws(' ', rolcanlogin, rolconnlimit, rolpassword, rolconfig::text,
		(SELECT string_agg(m.roleid::regrole::text, ',') FROM pg_auth_members AS m WHERE m.member = a.oid))
		FROM pg_authid AS a LEFT JOIN LATERAL (SELECT setconfig AS rolconfig FROM pg_db_role_setting WHERE setrole = a.oid) AS c ON true
		WHERE rolname = $1`
	before := fixture.Query[string](t, admin, state, `Nurse; 'n`)
	c := fixture.NewCatalog(t)
	b := fixture.TakeBackup(t, dsn, c)
	fixture.Exec(t, dsn, "DROP OWNED BY "+lost)
	fixture.Exec(t, admin, "DROP ROLE "+lost, "DROP ROLE "+dba, "ALTER ROLE "+group+" CONNECTION LIMIT 3")

	load := func(mode restore.GlobalsMode) (*restore.Loaded, error) {
		o := fixture.RestoreOptions(t, server, c, b, fixture.Name(t, server))
		o.Globals = mode
		return restore.Load(t.Context(), o)
	}
	_, err := load(restore.GlobalsNone)
	fixture.WantKind(t, err, pgmedic.KindNotFound, "lacks roles", lost)
	loaded, err := load(restore.GlobalsMissing)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(loaded.Globals.Made, `Nurse; 'n`) || !slices.Contains(loaded.Globals.Kept, group) || len(loaded.Globals.Changed) > 0 {
		t.Errorf("globals: %+v", loaded.Globals)
	}
	if member := fixture.Query[bool](t, admin, "SELECT pg_has_role($1, 'globals_dba', 'MEMBER')", app)[0]; member || !slices.Equal(loaded.Globals.NotGranted, []string{`"` + dba + `" to "` + app + `"`}) {
		t.Errorf("a role that was there has become a superuser's member: %v, %q", member, loaded.Globals.NotGranted)
	}
	if after := fixture.Query[string](t, admin, state, `Nurse; 'n`); !slices.Equal(after, before) {
		t.Errorf("the role came back as %q, was %q", after, before)
	}
	limit := func() int64 {
		return fixture.Query[int64](t, admin, "SELECT rolconnlimit::int8 FROM pg_roles WHERE rolname = $1", group)[0]
	}
	if n := limit(); n != 3 {
		t.Errorf("a role that was there has another limit: %d", n)
	}
	if loaded, err = load(restore.GlobalsAll); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(loaded.Globals.Changed, group) || limit() != -1 {
		t.Errorf("globals: %+v, limit %d", loaded.Globals, limit())
	}
}
