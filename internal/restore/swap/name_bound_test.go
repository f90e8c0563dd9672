package swap_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// nameBoundExtension can be made only in the database that bound.database names, as
// pg_cron can. Its jobs are rows of its own table.
var nameBoundExtension = scratchtest.Extension{Name: "bound", Script: `
DO $$ BEGIN
	IF current_database() <> current_setting('bound.database') THEN
		RAISE EXCEPTION 'can only create extension in database %', current_setting('bound.database');
	END IF;
END $$;
CREATE SCHEMA bound;
CREATE SEQUENCE bound.jobid_seq;
CREATE TABLE bound.job (id bigint PRIMARY KEY DEFAULT nextval('bound.jobid_seq'), command text);
SELECT pg_extension_config_dump('bound.job', '');
SELECT pg_extension_config_dump('bound.jobid_seq', '');
`}

const boundLive = "bound_live"

// boundClinic is a live database with such an extension on a server of its own, a
// backup of it, and what was changed since.
func boundClinic(t *testing.T, at *scratch.Server, how backup.Method, more ...string) swap.Options {
	t.Helper()
	admin := at.DSN("postgres")
	fixture.Exec(t, admin, "CREATE DATABASE "+boundLive+" TEMPLATE template0")
	t.Cleanup(func() {
		fixture.Exec(t, admin, "ALTER SYSTEM RESET bound.database", "SELECT pg_reload_conf()")
		fixture.DropAll(t, at, boundLive)
	})
	dsn := at.DSN(boundLive)
	fixture.Exec(t, dsn, append([]string{
		"CREATE EXTENSION bound", "CREATE TABLE patients (id int PRIMARY KEY)", "INSERT INTO patients VALUES (1), (2)",
		"INSERT INTO bound.job (command) VALUES ('nightly'), ('hourly')",
		"GRANT USAGE ON SCHEMA bound TO bound_reader", "GRANT SELECT ON bound.job TO bound_reader",
		"COMMENT ON EXTENSION bound IS 'ours'",
	}, more...)...)
	c, b := fixture.TakeBy(t, dsn, how)
	fixture.Exec(t, dsn, "DELETE FROM bound.job", "INSERT INTO bound.job (command) VALUES ('later')", "DELETE FROM patients")
	return swap.Options{Options: fixture.RestoreOptions(t, at, c, b, ""), Live: boundLive}
}

// nameBoundServer is a server that has the extension.
func nameBoundServer(t *testing.T) *scratch.Server {
	t.Helper()
	at := scratchtest.New(t, scratch.Options{
		BinDir: scratchtest.WithExtension(t, server, nameBoundExtension), Settings: map[string]string{"bound.database": boundLive},
	})
	fixture.Exec(t, at.DSN("postgres"), "CREATE ROLE bound_reader")
	return at
}

// TestNameBoundExtension: an extension that its server makes only in the database of
// the live name comes back with its rows by a swap, and is named where it can't.
func TestNameBoundExtension(t *testing.T) {
	at := nameBoundServer(t)
	for method, how := range fixture.Methods(t, 2) {
		for name, test := range testkit.Some(t, 2, map[string]func(*testing.T, *scratch.Server, backup.Method){
			"by a swap": boundBySwap, "with what depends on it": boundWithDependent,
			"not even then": boundNotThen, "with what needs a search path": boundWithPath, "under another name": boundInto,
		}) {
			t.Run(name+", "+method, func(t *testing.T) { test(t, at, how) })
		}
	}
}

func boundBySwap(t *testing.T, at *scratch.Server, how backup.Method) {
	done, err := swap.Replace(t.Context(), boundClinic(t, at, how))
	if err != nil {
		t.Fatal(err)
	}
	wantBoundMade(t, at, done)
	if text := fixture.Query[string](t, at.DSN("postgres"), "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1", done.Kept); strings.Contains(text[0], "unmade") {
		t.Errorf("the kept database still says what is to be made: %s", text)
	}
}

// wantBoundMade fails the test unless the live database is as the backup has it.
func wantBoundMade(t *testing.T, at *scratch.Server, done *swap.Swapped) {
	t.Helper()
	if done.Incomplete || done.Degraded() != nil || len(done.Refused) > 0 || len(done.ByHand) > 0 {
		t.Errorf("not complete: %q, %+v", restore.Missing(done.Checks), done.Refused)
	}
	for _, c := range done.Checks {
		if c.Outcome == pgmedic.OutcomeFailed || len(c.Items) > 0 {
			t.Errorf("%+v", c)
		}
	}
	for _, want := range []string{"EXTENSION bound", "COMMENT EXTENSION bound", "TABLE DATA bound.job", "SEQUENCE SET bound.jobid_seq"} {
		if !slices.ContainsFunc(done.MadeAfter, func(m restore.Refusal) bool { return m.Object == want }) {
			t.Errorf("%s is not named as made after the swap: %+v", want, done.MadeAfter)
		}
	}
	got := fixture.Query[string](t, at.DSN(boundLive), `SELECT concat_ws(' ',
		(SELECT string_agg(command, ',' ORDER BY id) FROM bound.job), (SELECT last_value FROM bound.jobid_seq), (SELECT count(*) FROM public.patients),
		has_schema_privilege('bound_reader', 'bound', 'USAGE'), has_table_privilege('bound_reader', 'bound.job', 'SELECT'),
		(SELECT obj_description(oid, 'pg_extension') FROM pg_extension WHERE extname = 'bound'),
		(SELECT reltuples FROM pg_class WHERE oid = 'bound.job'::regclass))`)[0]
	if want := "nightly,hourly 2 2 t t ours 2"; got != want {
		t.Errorf("the live database has %q, not %q", got, want)
	}
}

// boundWithDependent: what is not the extension's own is asked about before the swap,
// and comes back after it all the same.
func boundWithDependent(t *testing.T, at *scratch.Server, how backup.Method) {
	o := boundClinic(t, at, how, "CREATE VIEW public.jobs AS SELECT id, command FROM bound.job",
		"CREATE TABLE public.runs (of bound.job)", "INSERT INTO public.runs SELECT j FROM bound.job AS j", "CREATE INDEX runs_of ON public.runs (((of).id))")
	var asked []string
	o.ConfirmIncomplete = func(i swap.Incomplete) error { asked = i.Missing; return nil }
	done, err := swap.Replace(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	wantBoundMade(t, at, done)
	named := strings.Join(asked, "\n")
	if !strings.Contains(named, "VIEW public.jobs") || !strings.Contains(named, "TABLE DATA public.runs: 2 rows missing") || strings.Contains(named, "EXTENSION") {
		t.Errorf("asked about:\n%s", named)
	}
	if n := fixture.Query[int64](t, at.DSN(boundLive), "SELECT (SELECT count(*) FROM public.jobs) + (SELECT count(*) FROM public.runs) + (SELECT count(*) FROM pg_class WHERE relname = 'runs_of')"); n[0] != 5 {
		t.Errorf("of what depends on it %d rows and indexes came back, not 5", n[0])
	}
	o.ConfirmIncomplete, o.Into = nil, ""
	_, err = swap.Replace(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindNotConfirmed, "VIEW public.jobs")
}

// boundWithPath: once clients can connect, nothing is found by a name without schema,
// for it could be theirs. What needs that stays missing, and is named.
func boundWithPath(t *testing.T, at *scratch.Server, how backup.Method) {
	o := boundClinic(t, at, how, "CREATE TABLE public.runs (of bound.job)", "INSERT INTO public.runs SELECT j FROM bound.job AS j",
		"CREATE FUNCTION public.fold(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)'",
		"CREATE FUNCTION public.folded(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN fold($1); END $$",
		"CREATE INDEX runs_folded ON public.runs (folded((of).command))")
	o.ConfirmIncomplete = func(swap.Incomplete) error { return nil }
	done, err := swap.Replace(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	missing := restore.Missing(done.Checks)
	if want := []string{"INDEX public.runs_folded: undefined function (SQLSTATE 42883)", "index public.runs_folded missing"}; !slices.Equal(missing, want) {
		t.Errorf("missing: %q", missing)
	}
}

// boundNotThen: a server that does not take it under the live name either.
func boundNotThen(t *testing.T, at *scratch.Server, how backup.Method) {
	o := boundClinic(t, at, how)
	o.SafetyBackup = func(context.Context) (string, error) {
		fixture.Exec(t, at.DSN("postgres"), "ALTER SYSTEM SET bound.database = 'another'", "SELECT pg_reload_conf()")
		testkit.Eventually(t, time.Minute, "the server reads its configuration", func() bool {
			return fixture.Query[string](t, at.DSN("postgres"), "SELECT current_setting('bound.database')")[0] == "another"
		})
		return "none", nil
	}
	done, err := swap.Replace(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	fixture.WantKind(t, done.Degraded(), pgmedic.KindDegraded, "is not complete")
	if missing := strings.Join(restore.Missing(done.Checks), "\n"); !done.Incomplete || !strings.Contains(missing, "EXTENSION bound: raise exception (SQLSTATE P0001)") ||
		!strings.Contains(missing, "TABLE DATA bound.job: 2 rows missing") || len(done.MadeAfter) > 0 {
		t.Errorf("named:\n%s\nmade: %+v", missing, done.MadeAfter)
	}
	if want := []string{`CREATE EXTENSION "bound" WITH SCHEMA "public";`}; !slices.Equal(done.ByHand, want) {
		t.Errorf("by hand: %q", done.ByHand)
	}
	o.Into = ""
	resumed, err := swap.Resume(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	fixture.WantKind(t, resumed.Degraded(), pgmedic.KindDegraded, "is not complete")
	if !resumed.Before || !strings.Contains(strings.Join(restore.Missing(resumed.Checks), "\n"), `extension "bound"`) {
		t.Errorf("resumed: %+v", resumed)
	}
}

// boundInto: a copy that keeps another name lacks it, and has all else.
func boundInto(t *testing.T, at *scratch.Server, how backup.Method) {
	o := boundClinic(t, at, how).Options
	o.Into = boundLive + "_copy"
	done, err := restore.Into(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	fixture.WantKind(t, done.Degraded(), pgmedic.KindDegraded, "is not complete")
	if missing := strings.Join(restore.Missing(done.Checks), "\n"); !strings.Contains(missing, "EXTENSION bound") || !strings.Contains(missing, "TABLE DATA bound.job: 2 rows missing") {
		t.Errorf("named:\n%s", missing)
	}
	if n := fixture.Query[int64](t, at.DSN(o.Into), "SELECT count(*) FROM patients")[0]; n != 2 {
		t.Errorf("%d patients", n)
	}
}
