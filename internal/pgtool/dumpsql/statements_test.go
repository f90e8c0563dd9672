package dumpsql_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// load gives a script to a server up to the first error.
func load(ctx context.Context, target postgres.Target, script io.Reader) error {
	conn, err := pgtool.ConnectLoading(ctx, target, false)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	return dumpsql.EachStatement(script, func(s *dumpsql.Statement) error { return s.Run(ctx, conn) })
}

func TestEachStatement(t *testing.T) {
	target, conn := database(t)
	exec(t, conn, "CREATE TABLE patients (ssn text PRIMARY KEY, n int CHECK (n > 0)); INSERT INTO patients VALUES ('"+secret+"', 1)")
	for _, tt := range []struct {
		name, script, want, state string
		kind                      pgmedic.Kind
	}{
		{name: "fine", script: "INSERT INTO public.patients VALUES ('x', 2);\n-- the end\n"},
		{name: "rows", script: "COPY public.patients (ssn, n) FROM stdin;\na\\\\b\t1\n\\\\.\t2\nc\t\\N\n\\.\nSELECT 1 / (count(*) = 3)::int FROM public.patients WHERE ssn IN ('a\\b', '\\.', 'c');\n"},
		{name: "no rows", script: "COPY public.patients (ssn, n) FROM stdin;\n\\.\n"},
		{name: "rule", script: "SET search_path = public;\nCREATE RULE r AS ON DELETE TO patients DO ALSO (SELECT 1; SELECT ';');\n"},
		{name: "body", script: "CREATE FUNCTION public.f(n int) RETURNS int LANGUAGE sql\n BEGIN ATOMIC\n SELECT CASE WHEN n > 1 THEN 2 END AS \"end\";\n SELECT n;\nEND;\nSELECT 1 / public.f(1);\n"},
		{name: "procedure", script: "CREATE OR REPLACE PROCEDURE public.p()\n LANGUAGE sql BEGIN ATOMIC\n SELECT 1;\n SELECT 2;\nEND;\nCALL public.p();\n"},
		{name: "out", script: "COPY public.patients TO stdout;\nSELECT 1;\n"},
		{name: "settings", script: "SELECT 1 / (pg_catalog.current_setting('statement_timeout') = '0' AND pg_catalog.current_setting('lock_timeout') = '0'\n" +
			" AND pg_catalog.current_setting('datestyle') = 'SQL, DMY' AND pg_catalog.current_setting('search_path') IN ('', '\"\"'))::int;\n"},
		{name: "unique", script: "SELECT 1;\nINSERT INTO public.patients VALUES ('" + secret + "', 2);", want: "line 2: unique violation", state: "23505"},
		{name: "bad row", script: "SELECT 1;\nCOPY public.patients (ssn, n) FROM stdin;\nx\t1\n" + secret + "\tx" + secret + "\n\\.\n",
			want: "line 2: invalid text representation", state: "22P02"},
		{name: "stops", script: "SELEKT;\nDROP TABLE public.patients;", want: "line 1: syntax error", state: "42601"},
		{name: "a COPY that does not look like one", script: "copy public.patients from stdin;\nDROP TABLE public.patients;\n", want: "line 1", state: "57014"},
		{name: "a command", script: "SELECT 1;\n\\! id\n", want: "psql command", kind: pgmedic.KindIntegrity},
		{name: "ends in a statement", script: "SELECT 1", want: "ends in the middle", kind: pgmedic.KindIntegrity},
		{name: "ends in rows", script: "COPY public.patients (ssn, n) FROM stdin;\nx\t1\n", want: "ends in the middle", kind: pgmedic.KindIntegrity},
	} {
		t.Run(tt.name, func(t *testing.T) {
			exec(t, conn, "ALTER DATABASE "+sqltext.QuoteIdent(target.Database())+" SET statement_timeout = '1h'")
			exec(t, conn, "ALTER DATABASE "+sqltext.QuoteIdent(target.Database())+" SET datestyle = 'SQL, DMY'")
			err := load(t.Context(), target.With("options", "-c lock_timeout=12345"), iotest.HalfReader(strings.NewReader(tt.script)))
			if tt.want == "" && err != nil || tt.want != "" && !strings.Contains(message(err), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if postgres.Code(err) != tt.state || strings.Contains(message(err), secret) {
				t.Errorf("code %q: %v", postgres.Code(err), err)
			}
			if tt.kind != 0 && pgmedic.KindOf(err) != tt.kind {
				t.Errorf("kind %v", pgmedic.KindOf(err))
			}
			exec(t, conn, "DELETE FROM patients WHERE ssn <> '"+secret+"'")
		})
	}
}

// TestOneCommand: where the server finds several commands in what is read as one
// statement here, it runs none, and that ends the restore.
func TestOneCommand(t *testing.T) {
	const evil = "; CREATE TABLE public.evil (); --"
	for name, script := range map[string]string{
		"backslashes escape":             "SET standard_conforming_strings = off;\nSELECT '\\' || '" + evil + "';\n",
		"backslashes escape, a function": "SELECT pg_catalog.set_config('standard_' || 'conforming_strings', 'off', false);\nSELECT '\\' || '" + evil + "';\n",
		"SJIS":                           "SET client_encoding = 'SJIS';\nSELECT E'\x95\\'" + evil + "';\n",
		"BIG5":                           "SET client_encoding = 'BIG5';\nSELECT E'\xa5\\'" + evil + "';\n",
		"GBK":                            "SET client_encoding = 'GBK';\nSELECT E'\x95\\'" + evil + "';\n",
		"strings of two lines":           "SELECT E'a'\n  '\\' || '" + evil + "';\n",
		"with a comment between":         "SELECT E'a' -- x\n  '\\' || '" + evil + "';\n",
		"strings of two lines, rows":     "SELECT 'a'\n'b';\n",
	} {
		t.Run(name, func(t *testing.T) {
			target, conn := database(t)
			err := load(t.Context(), target, strings.NewReader(script))
			fixture.WantKind(t, err, pgmedic.KindIntegrity, "")
			var there bool
			if err := conn.QueryRow(t.Context(), "SELECT to_regclass('public.evil') IS NOT NULL").Scan(&there); err != nil || there {
				t.Errorf("the second command ran: %v, %v", there, err)
			}
		})
	}
}

// TestStatementEnds: a function may be called begin, and what is like strings of two
// lines is not refused.
func TestStatementEnds(t *testing.T) {
	target, conn := database(t)
	err := load(t.Context(), target, strings.NewReader("CREATE SCHEMA begin;\nCREATE FUNCTION begin.atomic() RETURNS int LANGUAGE sql AS 'SELECT 1';\n"+
		"CREATE FUNCTION public.begin() RETURNS int LANGUAGE sql AS $$ SELECT 1; $$;\nCREATE TABLE public.t (a text);\nCOPY public.t (a) FROM stdin;\n1\n2\n\\.\n"+
		"CREATE FUNCTION public.f() RETURNS int LANGUAGE sql\n BEGIN ATOMIC\n SELECT CASE WHEN public.begin() = 1 THEN 2 END;\n SELECT 3;\nEND;\n"+
		"SELECT '2026-01-02' - '2026-01-01'::date, 'a''b', '1'/'2'::int, E'a' AS \"x\" /* '' */;\nSELECT 1 / (count(*) = public.f() - 1)::int FROM public.t;\n"))
	if err != nil {
		t.Error(err)
	}
	exec(t, conn, "SELECT public.begin(), begin.atomic()")
}

// TestEachStatementReader: what cuts the script off is the error, and the end
// of the context ends the load.
func TestEachStatementReader(t *testing.T) {
	target, conn := database(t)
	exec(t, conn, "CREATE TABLE t (a int)")
	damaged := errors.New("the backup is damaged here")
	for _, script := range []string{"SELECT 1;\n", "CREATE TABLE u (", "COPY public.t (a) FROM stdin;\n1\n", "COPY public.t (a) FROM stdin;\n"} {
		err := load(t.Context(), target, io.MultiReader(strings.NewReader(script), iotest.ErrReader(damaged)))
		if !errors.Is(err, damaged) {
			t.Errorf("%q: %v", script, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("stopped")
	go func() {
		testkit.Eventually(t, time.Minute, "the statement runs", func() bool {
			var runs bool
			err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND pid <> pg_backend_pid())").Scan(&runs)
			return err == nil && runs
		})
		cancel(why)
	}()
	err := load(ctx, target, strings.NewReader("SELECT pg_catalog.pg_sleep(60);\n"))
	if !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
}
