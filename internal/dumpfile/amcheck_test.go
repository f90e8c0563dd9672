package dumpfile_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/dumpfile"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// withAmcheck asks for what a restore does unless it is told otherwise, and calls do when the
// copy is loaded and not compared yet.
func withAmcheck(do func()) func(*restore.Options) {
	return func(o *restore.Options) {
		o.Dump.SkipAmcheck = ""
		o.Progress = func(e pgmedic.Event) {
			if e.Step == "compare" && e.Object == "" && !e.Finished && !e.Failed {
				do()
			}
		}
	}
}

// extensionsSQL names what amcheck could leave behind.
const extensionsSQL = `SELECT extname::text FROM pg_extension WHERE extname = 'amcheck' UNION ALL SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'pgmedic%'`

// TestAmcheck has amcheck read the copy of a dump: what it finds is a check, and the extension
// is there afterwards only if it is part of the dump. No event trigger of the dump sees it.
func TestAmcheck(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn,
		"CREATE TABLE patients (id int PRIMARY KEY, name text)",
		"INSERT INTO patients SELECT n, '"+patientData+"' || n FROM generate_series(1, 500) AS n",
		"CREATE INDEX patients_name ON patients (name)", "CREATE INDEX patients_hash ON patients USING hash (name)",
		"CREATE TABLE noted (tag text)",
		`CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.noted VALUES (tg_tag); END'`,
		"CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION note()", "ALTER EVENT TRIGGER note ENABLE ALWAYS",
		"TRUNCATE noted")
	dumped := func(t *testing.T) dumpfile.Options {
		return options(t, write(t, run(t, nil, filepath.Join(server.BinDir(), "pg_dump"), "-d", dsn)))
	}
	const lacks = `UPDATE pg_index SET indisready = false WHERE indexrelid = 'public.patients_name'::regclass;
		DELETE FROM public.patients WHERE id = 7; INSERT INTO public.patients VALUES (7, '` + patientData + `7');
		UPDATE pg_index SET indisready = true WHERE indexrelid = 'public.patients_name'::regclass`
	for _, tt := range []struct {
		name, before string
		want         map[string]pgmedic.Outcome
		detail       string
	}{
		{"sound", "", map[string]pgmedic.Outcome{"indexes": pgmedic.OutcomeOK, "heaps": pgmedic.OutcomeOK},
			" B-trees are sound, and hold every row of their tables; not checked, because amcheck can't: 1 hash"},
		{"damaged", lacks, map[string]pgmedic.Outcome{"indexes": pgmedic.OutcomeFailed, "heaps": pgmedic.OutcomeOK}, "check index public.patients_name: "},
		{"an extension that the host lacks", `SET allow_system_table_mods = on; ALTER EVENT TRIGGER note DISABLE; CREATE OR REPLACE VIEW pg_catalog.pg_available_extensions AS
			SELECT e.name, e.default_version, x.extversion AS installed_version, e.comment
			FROM pg_catalog.pg_available_extensions() AS e LEFT JOIN pg_catalog.pg_extension AS x ON e.name = x.extname WHERE e.name <> 'amcheck'; ALTER EVENT TRIGGER note ENABLE ALWAYS`,
			map[string]pgmedic.Outcome{"indexes": pgmedic.OutcomeSkipped, "heaps": pgmedic.OutcomeSkipped},
			"not checked: the extension amcheck is not installed on the server's host (it is part of PostgreSQL's contrib)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name != "damaged" {
				testkit.OnlyAll(t, "one restore shows it")
			}
			into := fixture.Name(t, server)
			noted := func() []string { return fixture.Query[string](t, server.DSN(into), "SELECT tag FROM public.noted") }
			var before []string
			done, err := bringBack(t, server, dumped(t), into, withAmcheck(func() {
				if tt.before != "" {
					fixture.Exec(t, server.DSN(into), tt.before)
				}
				before = noted()
			}))
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range tt.want {
				if got := checkOf(t, done.Checks, name); got.Outcome != want {
					t.Errorf("%+v", got)
				}
			}
			if got := checkOf(t, done.Checks, "indexes"); !strings.Contains(got.Detail, tt.detail) || strings.Contains(got.Detail, patientData) {
				t.Errorf("%s", got.Detail)
			}
			if failed := tt.want["indexes"] == pgmedic.OutcomeFailed; done.Incomplete != failed || (pgmedic.KindOf(done.Degraded()) == pgmedic.KindDegraded) != failed {
				t.Errorf("incomplete: %v, %v", done.Incomplete, done.Degraded())
			}
			if left := fixture.Query[string](t, server.DSN(into), extensionsSQL); len(left) > 0 {
				t.Errorf("amcheck left %q", left)
			}
			if after := noted(); len(after) != len(before) {
				t.Errorf("an event trigger of the dump saw the check: %q, before %q", after, before)
			}
		})
	}

	t.Run("part of the dump", func(t *testing.T) {
		testkit.OnlyAll(t, "one restore shows it")
		fixture.Exec(t, dsn, "CREATE EXTENSION amcheck")
		into := fixture.Name(t, server)
		done, err := bringBack(t, server, dumped(t), into, withAmcheck(func() {}))
		if err != nil {
			t.Fatal(err)
		}
		if got := checkOf(t, done.Checks, "indexes"); got.Outcome != pgmedic.OutcomeOK {
			t.Errorf("%+v", got)
		}
		if left := fixture.Query[string](t, server.DSN(into), extensionsSQL); len(left) != 1 || left[0] != "amcheck" {
			t.Errorf("the dump's own extension: %q", left)
		}
	})
}

// TestAmcheckNeedsSuperuser: what can't be checked is said, and the copy is there.
func TestAmcheckNeedsSuperuser(t *testing.T) {
	dsn, role := scratchtest.Database(t, server), fixture.Name(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE patients (id int PRIMARY KEY)", "CREATE ROLE "+role+" LOGIN CREATEDB")
	t.Cleanup(func() { fixture.Exec(t, server.DSN("postgres"), "DROP ROLE "+role) })
	into := fixture.Name(t, server)
	t.Cleanup(func() { fixture.Exec(t, server.DSN("postgres"), "DROP DATABASE IF EXISTS "+into) })
	o := options(t, write(t, run(t, nil, filepath.Join(server.BinDir(), "pg_dump"), "--no-owner", "--no-privileges", "-d", dsn)))
	done, err := bringBack(t, server, o, into, withAmcheck(func() {}), func(o *restore.Options) { o.Target = o.Target.With("user", role) })
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"indexes", "heaps"} {
		if got := checkOf(t, done.Checks, name); got.Outcome != pgmedic.OutcomeSkipped || got.Detail != "not checked: amcheck needs a superuser" {
			t.Errorf("%+v", got)
		}
	}
	if done.Incomplete {
		t.Errorf("incomplete: %+v", done.Checks)
	}
}

func checkOf(t *testing.T, checks []pgmedic.Check, name string) pgmedic.Check {
	t.Helper()
	for _, c := range checks {
		if c.Name == name {
			return c
		}
	}
	t.Errorf("no check %q among %+v", name, checks)
	return pgmedic.Check{}
}
