package torture_test

import (
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestLoginTrigger backs up and restores a database that lets nobody in, as one may
// at night: a superuser gets in all the same, and so do the client programs.
func TestLoginTrigger(t *testing.T) {
	scratchtest.EachCompleteFrom(t, 17, func(t *testing.T, installation scratch.Installation) {
		server := scratchtest.New(t, scratch.Options{BinDir: installation.BinDir})
		fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE closed TEMPLATE template0")
		fixture.Exec(t, server.DSN("closed"), "CREATE TABLE t AS SELECT generate_series(1, 100) AS n",
			`CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
				RAISE EXCEPTION 'come back in the morning' USING ERRCODE = current_setting('torture.code', true);
			END $$`,
			"ALTER DATABASE closed SET torture.code = 'insufficient_privilege'",
			"CREATE EVENT TRIGGER no ON login EXECUTE FUNCTION no(); ALTER EVENT TRIGGER no ENABLE ALWAYS")
		for name, method := range fixture.BothMethods(t, 2) {
			t.Run(name, func(t *testing.T) {
				c := fixture.NewCatalog(t)
				o := fixture.BackupOptions(t, server.DSN("closed"), c)
				o.Method, o.Tools.Dirs = method, []string{installation.BinDir}
				b, err := backup.Take(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				into := fixture.RestoreOptions(t, server, c, b, "copy "+name)
				into.Tools = o.Tools
				if _, err := restore.Into(t.Context(), into); err != nil {
					t.Fatal(err)
				}
				runDrill(t, installation, c, b)
				copied := fixture.Place{Server: server, Database: into.Into}
				rows := fixture.Query[int](t, copied.DSN()+" options='-c event_triggers=off'", "SELECT count(*)::int FROM t")
				if !slices.Equal(rows, []int{100}) {
					t.Errorf("%d rows, want 100", rows)
				}
			})
		}
	})
}

// TestLoginTriggerSets: pg_dump's text is compared by value only where pgmedic knows
// the settings that it was written with. A login trigger may change them.
func TestLoginTriggerSets(t *testing.T) {
	scratchtest.EachCompleteFrom(t, 17, func(t *testing.T, installation scratch.Installation) {
		server := scratchtest.New(t, scratch.Options{BinDir: installation.BinDir})
		fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE sets TEMPLATE template0", "CREATE ROLE reader LOGIN BYPASSRLS",
			"GRANT pg_read_all_data TO reader")
		fixture.Exec(t, server.DSN("sets"), `CREATE TABLE t AS SELECT '\xff'::bytea AS b`,
			`CREATE FUNCTION escape() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
				PERFORM pg_catalog.set_config('bytea_output', 'escape', false);
			END $$`,
			"CREATE EVENT TRIGGER escape ON login EXECUTE FUNCTION escape(); ALTER EVENT TRIGGER escape ENABLE ALWAYS")
		for role, want := range map[string]pgmedic.Comparison{"postgres": pgmedic.ComparedValues, "reader": pgmedic.ComparedCounts} {
			t.Run(role, func(t *testing.T) {
				c := fixture.NewCatalog(t)
				o := fixture.BackupOptions(t, server.DSN("sets"), c)
				o.Target, o.ServerName = o.Target.With("user", role), "sets"
				o.Method, o.Tools.Dirs = backup.Plain{}, []string{installation.BinDir}
				b, err := backup.Take(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				into := fixture.RestoreOptions(t, server, c, b, "copy of "+role)
				into.Tools = o.Tools
				done, err := restore.Into(t.Context(), into)
				if err != nil {
					t.Fatal(err)
				}
				if got := restore.Compared(done.Checks); got != want {
					t.Errorf("compared by %s, want %s: %+v", got, want, done.Checks)
				}
			})
		}
	})
}
