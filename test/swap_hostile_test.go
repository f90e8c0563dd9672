package test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// ownBench is a bench whose server is the test's own, with a database clinic.
func ownBench(t *testing.T) (b *bench, own *scratch.Server) {
	t.Helper()
	own = scratchtest.New(t, scratch.Options{TCP: true, Password: password})
	b = newBench(t)
	b.env = b.environ("DATABASE_URL=" + own.URL("clinic"))
	ownExec(t, own.DSN("postgres"), "CREATE DATABASE clinic")
	ownExec(t, own.DSN("clinic"), "CREATE TABLE public.v AS SELECT 1 AS n")
	return b, own
}

func ownExec(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn := testkit.Dial(t, dsn)
	defer testkit.End(conn)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func ownQuery(t *testing.T, dsn, sql string) (value string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn := testkit.Dial(t, dsn)
	defer testkit.End(conn)
	if err := conn.QueryRow(ctx, sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// TestRollbackOfAForgedStory: a role with CREATEDB plants what looks like a database
// that a swap set aside.
func TestRollbackOfAForgedStory(t *testing.T) {
	t.Parallel()
	b, own := ownBench(t)
	b.backup()
	ownExec(t, own.DSN("clinic"), "UPDATE public.v SET n = 2")
	kept := strings.TrimSpace(b.ok("restore", "latest", "--swap", "--yes", "-q"))
	ownExec(t, own.DSN("postgres"), "CREATE ROLE mallory CREATEDB", "SET ROLE mallory", "CREATE DATABASE clinic__before_deadbeef",
		`COMMENT ON DATABASE clinic__before_deadbeef IS '{"pgmedic":"kept","name":"clinic__before_deadbeef","of":"clinic","by":"restore","since":"2036-01-01T00:00:00Z","number":9}'`,
		"ALTER DATABASE clinic__before_deadbeef ALLOW_CONNECTIONS false")
	r := b.run("rollback", "clinic", "--yes")
	if r.code != 0 || !strings.Contains(r.stderr, `passed over`) || !strings.Contains(r.stderr, `clinic__before_deadbeef: its owner `) {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	if n := ownQuery(t, own.DSN("clinic"), "SELECT n::text FROM public.v"); n != "2" {
		t.Errorf("n is %s, and was 2 in %s", n, kept)
	}
	if out := b.ok("prune"); !strings.Contains(out, "clinic__before_deadbeef") || !strings.Contains(out, "drop it by hand") {
		t.Errorf("prune says\n%s", out)
	}
}

// dropPoints are the named places at which TestPruneKilled ends a drop.
func dropPoints() []string { return []string{"prune-dropping", "database-drop"} }

// TestPruneKilled ends a prune at the moment in which it drops a database.
func TestPruneKilled(t *testing.T) {
	t.Parallel()
	b, own := ownBench(t)
	b.backup()
	b.env = append(b.env, "PGMEDIC_KEEP_DISPLACED=1ns")
	for _, point := range testkit.SomeOf(t, 1, dropPoints()) {
		kept := strings.TrimSpace(b.ok("restore", "latest", "--swap", "--yes", "-q"))
		if r := b.at("kill", killing{point: point, args: []string{"prune", "--yes"}}); r.code != -1 {
			t.Fatalf("exit code %d instead of death\n%s", r.code, r.stderr)
		}
		var r result
		testkit.Eventually(t, time.Minute, "the server has noticed the end, and the run lock is free", func() bool {
			r = b.run("rollback", "clinic", "--yes")
			return r.code != 14
		})
		if r.code != 10 || !strings.Contains(r.stderr, kept+": its DROP DATABASE was begun") {
			t.Errorf("%s: rollback ends with %d: %s", point, r.code, r.stderr)
		}
		if out := strings.TrimSpace(b.ok("prune", "--yes", "-q")); out != kept {
			t.Errorf("%s: the next prune drops %q, want %q", point, out, kept)
		}
		// An interrupt lets the server finish.
		kept = strings.TrimSpace(b.ok("restore", "latest", "--swap", "--yes", "-q"))
		if r := b.at("interrupt", killing{point: point, args: []string{"prune", "--yes"}}); r.code != 130 {
			t.Errorf("%s: interrupted, prune ends with %d: %s", point, r.code, r.stderr)
		}
		if n := ownQuery(t, own.DSN("postgres"), "SELECT count(*)::text FROM pg_database WHERE datname LIKE 'clinic\\_\\_%'"); n != "0" {
			t.Errorf("%s: %s is still there", point, kept)
		}
	}
	if n := ownQuery(t, own.DSN("clinic"), "SELECT n::text FROM public.v"); n != "1" {
		t.Errorf("n is %s", n)
	}
}

// TestRunLockTaken: any role that may log in takes the lock. Runs are refused, and
// say by whom; so does check.
func TestRunLockTaken(t *testing.T) {
	t.Parallel()
	b, own := ownBench(t)
	ownExec(t, own.DSN("postgres"), "CREATE ROLE nobodyu LOGIN PASSWORD '"+password+"'")
	holder := testkit.Connect(t, own.DSN("postgres")+" user=nobodyu application_name=psql")
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock(-7168758412901052556)"); err != nil {
		t.Fatal(err)
	}
	pid := fmt.Sprintf("pid %d", holder.PgConn().PID())
	for _, args := range [][]string{{"backup"}, {"rollback", "clinic", "--yes"}} {
		r := b.run(args...)
		if r.code != 14 || !strings.Contains(r.stderr, pid) || !strings.Contains(r.stderr, `role "nobodyu"`) || !strings.Contains(r.stderr, "pg_terminate_backend(") {
			t.Errorf("%s: exit code %d: %s", args[0], r.code, r.stderr)
		}
	}
	said := b.run("check", "--json").stdout
	if !strings.Contains(said, `"run lock"`) || !strings.Contains(said, pid) {
		t.Errorf("check says\n%s", said)
	}
	ownExec(t, own.DSN("postgres"), fmt.Sprintf("SELECT pg_terminate_backend(%d)", holder.PgConn().PID()))
	testkit.Eventually(t, time.Minute, "the holder's session has ended", func() bool {
		return ownQuery(t, own.DSN("postgres"), fmt.Sprintf("SELECT count(*)::text FROM pg_stat_activity WHERE pid = %d", holder.PgConn().PID())) == "0"
	})
	b.backup()
}
