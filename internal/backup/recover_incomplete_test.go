package backup_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestRecoverKeepGoing: the script goes on past what the server refuses if it is
// told to, says what that was, and does not say that all is well.
func TestRecoverKeepGoing(t *testing.T) {
	for name, method := range fixture.Methods(t, 2) {
		t.Run(name, func(t *testing.T) {
			dsn := scratchtest.Database(t, server)
			fixture.Exec(t, dsn, "CREATE TABLE chain (id int, before int)", "INSERT INTO chain VALUES (1, NULL), (2, 1)",
				"CREATE FUNCTION known(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT $1 IS NULL OR EXISTS (SELECT FROM public.chain WHERE id = $1)'",
				"ALTER TABLE chain ADD CHECK (known(before))",
				"CREATE FUNCTION fold(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)'",
				"CREATE FUNCTION folded(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN fold($1); END $$",
				"CREATE TABLE documents (id int PRIMARY KEY, title text)", "INSERT INTO documents SELECT n, 'Title ' || n FROM generate_series(1, 50) AS n",
				"CREATE INDEX documents_folded ON documents (folded(title))")
			s := backUpTo(t, dsn, method, nil)
			out, err := s.recover(t, fixture.Name(t, server))
			if err == nil || !strings.Contains(out, "is not complete: drop it") {
				t.Errorf("without the flag: %v\n%s", err, out)
			}
			into := fixture.Name(t, server)
			out, err = s.recover(t, "--keep-going", into)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 15 || !strings.Contains(out, "REFUSED") || !strings.Contains(out, "is not complete") || strings.Contains(out, "drop it") {
				t.Errorf("%v\n%s", err, out)
			}
			got := fixture.Query[int](t, server.DSN(into), "SELECT (SELECT count(*) FROM documents) + (SELECT count(*) FROM pg_class WHERE relname = 'documents_pkey')")
			if got[0] != 51 {
				t.Errorf("%d of 51 came back", got[0])
			}
		})
	}
}

// TestRecoverCheckChain: rows that a check refuses are loaded again for as long as any
// goes in.
func TestRecoverCheckChain(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE d (n int)", "CREATE FUNCTION known_d(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.d WHERE n = $1)'",
		"CREATE TABLE c (n int CHECK (known_d(n)))", "CREATE FUNCTION known_c(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.c WHERE n = $1)'",
		"CREATE TABLE b (n int CHECK (known_c(n)))", "CREATE FUNCTION known_b(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.b WHERE n = $1)'",
		"CREATE TABLE a (n int CHECK (known_b(n)))",
		"INSERT INTO d VALUES (1)", "INSERT INTO c VALUES (1)", "INSERT INTO b VALUES (1)", "INSERT INTO a VALUES (1)")
	s := backUpTo(t, dsn, backup.Parallel{Jobs: 1}, nil)
	into := fixture.Name(t, server)
	if out, err := s.recover(t, into); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := fixture.Query[int](t, server.DSN(into), "SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM b) + (SELECT count(*) FROM c)"); got[0] != 3 {
		t.Errorf("%d of 3 rows came back", got[0])
	}
}
