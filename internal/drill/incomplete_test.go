package drill_test

import (
	"context"
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestRefused: what the server refuses of a backup is named in the receipt, and keeps
// no other check from being made.
func TestRefused(t *testing.T) {
	for method, how := range fixture.Methods(t, 2) {
		t.Run(method, func(t *testing.T) {
			dsn := scratchtest.Database(t, server)
			fixture.Exec(t, dsn,
				"CREATE TABLE chain (id int, before int)", "INSERT INTO chain VALUES (1, NULL), (2, 1)",
				"CREATE FUNCTION known(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT $1 IS NULL OR EXISTS (SELECT FROM public.chain WHERE id = $1)'",
				"ALTER TABLE chain ADD CHECK (known(before))",
				// This index can be made and checked, but only with a search path.
				"CREATE FUNCTION fold(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)'",
				"CREATE FUNCTION folded(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN fold($1); END $$",
				"CREATE TABLE documents (title text)", "INSERT INTO documents SELECT 'Title ' || n FROM generate_series(1, 50) AS n",
				"CREATE INDEX documents_folded ON documents (folded(title))")
			indexes := pgmedic.OutcomeOK
			if !amcheckTakesSearchPath(t, dsn, "public.documents_folded") {
				indexes = pgmedic.OutcomeWarn
			}
			c, b, _ := take(t, dsn, how)
			o := options(t, c, b)
			o.Assertions = []drill.Assertion{{Name: "documents", SQL: "SELECT count(*) FROM public.documents", Expect: []string{"50"}}}
			receipt, err := run(t.Context(), t, o)
			if err != nil {
				t.Fatal(err)
			}
			if receipt.Outcome != pgmedic.OutcomeFailed || receipt.Proof != pgmedic.ProofFailed {
				t.Errorf("%s, %s", receipt.Outcome, receipt.Proof)
			}
			want := []string{"TABLE DATA public.chain: 2 rows missing: check violation (SQLSTATE 23514)"}
			if got := check(t, receipt, "restores"); got.Outcome != pgmedic.OutcomeFailed || !slices.Equal(got.Items, want) || got.Hint == "" {
				t.Errorf("%+v", got)
			}
			for name, want := range map[string]pgmedic.Outcome{
				"row counts": pgmedic.OutcomeFailed, "schema": pgmedic.OutcomeOK, "extensions": pgmedic.OutcomeOK, "constraints": pgmedic.OutcomeOK,
				"indexes": indexes, "heaps": pgmedic.OutcomeOK, "assertion documents": pgmedic.OutcomeOK,
			} {
				if got := check(t, receipt, name); got.Outcome != want {
					t.Errorf("%+v", got)
				}
			}
			wantProof(t, c, b, pgmedic.ProofFailed, 1)
		})
	}
}

// amcheckTakesSearchPath reports whether the server's amcheck looks for the functions of an
// index's expressions by the session's search path. Since minor releases of 2026 (15.20 of
// PostgreSQL 15), and since version 17, it does not.
func amcheckTakesSearchPath(t *testing.T, dsn, index string) bool {
	t.Helper()
	conn := testkit.Connect(t, dsn)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), "CREATE EXTENSION amcheck"); err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec(t.Context(), "SELECT bt_index_check('"+index+"', true)")
	if code := postgres.Code(err); err != nil && code != "42883" {
		t.Fatal(err)
	}
	return err == nil
}

// TestRefusedByTheServer: what a server lacks says nothing about a backup.
func TestRefusedByTheServer(t *testing.T) {
	for method, how := range fixture.Methods(t, 2) {
		t.Run(method, func(t *testing.T) {
			dsn := scratchtest.Database(t, server)
			fixture.Exec(t, dsn, "CREATE FUNCTION gone() RETURNS int LANGUAGE sql AS 'SELECT 1'",
				"UPDATE pg_catalog.pg_proc SET probin = '/nonexistent/lib', prosqlbody = NULL, prolang = (SELECT oid FROM pg_catalog.pg_language WHERE lanname = 'c') WHERE proname = 'gone'")
			c, b, _ := take(t, dsn, how)
			receipt, err := run(t.Context(), t, options(t, c, b))
			if receipt != nil {
				t.Fatalf("a receipt: %+v", receipt)
			}
			fixture.WantKind(t, err, pgmedic.KindFailed, "FUNCTION public.gone()", "58P01")
			wantProof(t, c, b, pgmedic.ProofTaken, 0)
		})
	}
}
