package swap_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestIncompleteStaysClosed: where what is missing keeps rows from others, nobody
// else gets in, until a person who was shown that says so.
func TestIncompleteStaysClosed(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	for method, how := range fixture.BothMethods(t, 2) {
		t.Run(method, func(t *testing.T) {
			live, o := liveClinic(t, "CREATE FUNCTION gone() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'",
				"ALTER TABLE patients ENABLE ROW LEVEL SECURITY", "CREATE POLICY mine ON patients USING (gone() = 1)",
				"UPDATE pg_catalog.pg_proc SET probin = '/nonexistent/lib', prosrc = 'gone', prosqlbody = NULL, prolang = (SELECT oid FROM pg_catalog.pg_language WHERE lanname = 'c') WHERE proname = 'gone'")
			o.Catalog, o.Backup = fixture.TakeBy(t, server.DSN(live), how)
			open := func(database string) bool {
				return fixture.Query[bool](t, server.DSN("postgres"), "SELECT has_database_privilege('pg_monitor', $1::text, 'CONNECT')", database)[0]
			}
			into := fixture.Name(t, server)
			done, err := restore.Into(t.Context(), fixture.RestoreOptions(t, server, o.Catalog, o.Backup, into))
			if err != nil || !done.Withheld || open(into) {
				t.Errorf("open %t: %+v, %v", open(into), done, err)
			}
			o.ConfirmIncomplete = func(swap.Incomplete) error { return nil }
			if _, err := swap.Replace(t.Context(), o); err != nil || !open(live) {
				t.Errorf("open %t: %v", open(live), err)
			}
		})
	}
}

// oddClinic is a live clinic whose backup holds what no restore can bring back.
func oddClinic(t *testing.T, how backup.Method) (live string, o swap.Options) {
	t.Helper()
	live, o = liveClinic(t,
		"CREATE TABLE chain (id int, before int)", "INSERT INTO chain VALUES (1, NULL), (2, 1), (3, 2)",
		"CREATE FUNCTION known(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT $1 IS NULL OR EXISTS (SELECT FROM public.chain WHERE id = $1)'",
		"ALTER TABLE chain ADD CHECK (known(before))")
	fixture.Exec(t, server.DSN(live), "DELETE FROM patients WHERE id > 30")
	o.Catalog, o.Backup = fixture.TakeBy(t, server.DSN(live), how)
	fixture.Exec(t, server.DSN(live), "INSERT INTO patients SELECT n, 'new' FROM generate_series(31, 40) AS n")
	return live, o
}

// TestReplaceIncomplete: a copy that is not complete is made live only if somebody
// says so who was shown what is missing. Until then it stays where it is.
func TestReplaceIncomplete(t *testing.T) {
	for method, how := range fixture.Methods(t, 2) {
		t.Run(method, func(t *testing.T) {
			live, o := oddClinic(t, how)
			no := pgmedic.Errorf(pgmedic.KindNotConfirmed, "", "no")
			for _, confirm := range []func(swap.Incomplete) error{nil, func(swap.Incomplete) error { return no }} {
				o.ConfirmIncomplete = confirm
				_, err := swap.Replace(t.Context(), o)
				fixture.WantKind(t, err, pgmedic.KindNotConfirmed, live, "is as it was", live+"__restore_")
				if hint := pgmedic.HintOf(err); !strings.Contains(hint, "--resume --accept-differences") {
					t.Errorf("hint %q", hint)
				}
				if patients(t, live) != 40 {
					t.Error("the live database was replaced")
				}
			}
			var copies []string
			for _, name := range fixture.Databases(t, server) {
				if strings.HasPrefix(name, live+"__") {
					copies = append(copies, name)
				}
			}
			if len(copies) != 1 || story(t, copies[0]).Refused != 1 { // the second run dropped the first's
				t.Fatalf("left: %q", copies)
			}

			var shown swap.Incomplete
			o.ConfirmIncomplete = func(i swap.Incomplete) error { shown = i; return nil }
			done, err := swap.Resume(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if shown.Live != live || shown.Copy != copies[0] || !strings.Contains(strings.Join(shown.Missing, "\n"), `"public"."chain" has 0 rows`) {
				t.Errorf("shown: %+v", shown)
			}
			fixture.WantKind(t, done.Degraded(), pgmedic.KindDegraded, "is not complete")
			if !done.Incomplete || patients(t, live) != 30 {
				t.Errorf("%+v, %d patients", done, patients(t, live))
			}
		})
	}
}

// TestReplaceIncompleteAccepted goes through without a second run.
func TestReplaceIncompleteAccepted(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	live, o := oddClinic(t, backup.Parallel{Jobs: 2})
	o.ConfirmIncomplete = func(i swap.Incomplete) error {
		if len(i.Missing) != 2 || !strings.HasPrefix(i.Missing[0], "TABLE DATA public.chain: 3 rows missing") {
			t.Errorf("shown: %q", i.Missing)
		}
		return nil
	}
	done, err := swap.Replace(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !done.Incomplete || len(done.Refused) != 1 || done.Refused[0].Rows != 3 || patients(t, live) != 30 {
		t.Errorf("%+v", done)
	}
	failing := pgmedic.Errorf(pgmedic.KindFailed, "", "the terminal is gone")
	o.ConfirmIncomplete = func(swap.Incomplete) error { return failing }
	if _, err := swap.Replace(t.Context(), o); !errors.Is(err, failing) {
		t.Errorf("got %v", err)
	}
	for _, name := range fixture.Databases(t, server) {
		if strings.HasPrefix(name, live+"__restore") {
			t.Errorf("database %s is left", name)
		}
	}
}
