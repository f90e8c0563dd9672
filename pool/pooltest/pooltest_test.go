package pooltest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
	"github.com/pgmedic/pgmedic/pool/pooltest"
)

// server is the one of all tests of this package.
var server *pooltest.Server

func TestMain(m *testing.M) {
	os.Exit(pooltest.Main(m, func(s *pooltest.Server) { server = s }))
}

// recorder is a test that notes what it is told, and whose end can be had early.
type recorder struct {
	testing.TB
	failures []string
	cleanups []func()
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(r)
}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

// end ends the recorded test.
func (r *recorder) end() {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
}

// count asks the server how many databases of this package's pools there are.
func count(t *testing.T, db *pool.DB) (n int) {
	t.Helper()
	if err := db.QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname LIKE 'pooltest%'").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestOpen: each pool has a database of its own with what was asked for, on a real server,
// and nothing is left of it.
func TestOpen(t *testing.T) {
	outer := server.Open(t)
	before := count(t, outer)
	r := &recorder{TB: t}
	one := server.OpenWith(r, pooltest.Options{Statements: []string{"CREATE TABLE patients (id int)", "INSERT INTO patients VALUES (1), (2)"}})
	two := server.Open(r)
	var rows int
	if err := one.QueryRow(t.Context(), "SELECT count(*) FROM patients").Scan(&rows); err != nil || rows != 2 {
		t.Errorf("%d rows, %v", rows, err)
	}
	if _, err := two.Exec(t.Context(), "SELECT FROM patients"); err == nil {
		t.Error("one pool sees the tables of another")
	}
	if got := count(t, outer); got != before+2 {
		t.Errorf("%d databases, and %d before", got, before)
	}
	r.end()
	if got := count(t, outer); got != before || len(r.failures) != 0 {
		t.Errorf("%d databases are left, and %d before; %q", got, before, r.failures)
	}
}

// holdOn takes a connection, and never gives it back.
func holdOn(ctx context.Context, db *pool.DB) {
	conn, err := db.Acquire(ctx)
	if err != nil {
		panic(err)
	}
	if _, err := conn.Exec(ctx, "SELECT 'a name'"); err != nil {
		panic(err)
	}
}

// TestLeaks: each way to keep a connection fails the test, with who took it and without
// what the statement's literals are.
func TestLeaks(t *testing.T) {
	t.Parallel()
	for name, leak := range map[string]func(context.Context, *pool.DB){
		"session": holdOn,
		"rows": func(ctx context.Context, db *pool.DB) {
			rows, err := db.Query(ctx, "SELECT 'a name' FROM generate_series(1, 100000)")
			if err != nil || !rows.Next() {
				panic(err)
			}
		},
		"transaction": func(ctx context.Context, db *pool.DB) {
			tx, err := db.Begin(ctx)
			if err != nil {
				panic(err)
			}
			if _, err := tx.Exec(ctx, "SELECT 'a name'"); err != nil {
				panic(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name != "session" {
				testkit.OnlyAll(t, "the pool waits five seconds for those whose connections it cuts")
			}
			r := &recorder{TB: t}
			leak(t.Context(), server.OpenWith(r, pooltest.Options{Grace: time.Millisecond}))
			r.end()
			said := strings.Join(r.failures, "\n")
			if len(r.failures) != 1 || !strings.Contains(said, "not given back") || strings.Contains(said, "a name") ||
				!strings.Contains(said, "pooltest_test.") {
				t.Errorf("a test that keeps a connection was told %q", said)
			}
			if name == "session" && !strings.Contains(said, "pooltest_test.holdOn:") {
				t.Errorf("it does not say who took it: %q", said)
			}
		})
	}
}

// TestNoLeak: what is given back within the grace, and a pool that the test has closed, fail
// no test.
func TestNoLeak(t *testing.T) {
	r := &recorder{TB: t}
	db := server.OpenWith(r, pooltest.Options{Grace: time.Minute})
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closed := server.Open(r)
	if err := closed.Close(); err != nil {
		t.Error(err)
	}
	go func() {
		for db.Ping(context.Background()) == nil { // until the pool is being closed
		}
		conn.Release()
	}()
	r.end()
	if len(r.failures) != 0 {
		t.Errorf("%q", r.failures)
	}
}

// TestRefused: a pool elsewhere is none of a test's, and a statement that fails is told.
func TestRefused(t *testing.T) {
	for name, o := range map[string]pooltest.Options{
		"leave PrimaryURL": {Config: pool.Config{PrimaryURL: "postgres://production.example/clinic"}},
		"SELECT 1/0":       {Statements: []string{"SELECT 1/0"}},
	} {
		r := &recorder{TB: t}
		func() {
			defer func() {
				if recover() != any(r) {
					t.Errorf("%s: it goes on", name)
				}
			}()
			server.OpenWith(r, o)
		}()
		r.end()
		if len(r.failures) != 1 || !strings.Contains(r.failures[0], name) {
			t.Errorf("%s: told %q", name, r.failures)
		}
	}
}

// TestGivenServer: databases are made on the server that the environment names.
func TestGivenServer(t *testing.T) {
	var address string
	db := server.Open(t)
	if err := db.QueryRow(t.Context(), `SELECT format('postgres:///postgres?host=%s&port=%s&user=%s', btrim(current_setting('unix_socket_directories'), '"'), current_setting('port'), current_user)`).Scan(&address); err != nil {
		t.Fatal(err)
	}
	t.Setenv(pooltest.URLVariable, address)
	before := count(t, db)
	r := &recorder{TB: t}
	given := pooltest.Open(r)
	if got := count(t, db); got != before+1 {
		t.Errorf("%d databases on the server, and %d before", got, before)
	}
	if err := given.InTx(t.Context(), pool.TxOptions{}, func(tx pgx.Tx) error { return nil }); err != nil {
		t.Error(err)
	}
	r.end()
	t.Setenv(pooltest.URLVariable, "canary-secret")
	r = &recorder{TB: t}
	func() {
		defer func() { _ = recover() }()
		pooltest.Open(r)
	}()
	if len(r.failures) != 1 || strings.Contains(r.failures[0], "canary") || !strings.Contains(r.failures[0], pooltest.URLVariable) {
		t.Errorf("what is no URL: %q", r.failures)
	}
}

// TestHolders: who waits in vain learns who has the connections.
func TestHolders(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	db := server.OpenWith(r, pooltest.Options{Config: pool.Config{MaxConns: 1}})
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var timeout *pool.AcquireTimeoutError
	if err := db.Ping(t.Context()); !errors.As(err, &timeout) || len(timeout.Holders) != 1 || !strings.Contains(timeout.Holders[0].TakenBy, "TestHolders:") {
		t.Errorf("%v", err)
	}
	conn.Release()
	r.end()
}
