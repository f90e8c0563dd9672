// Package pooltest gives tests of a service a pool on a real PostgreSQL, and fails a test
// that does not give its connections back.
//
//	func TestAdmission(t *testing.T) {
//		db := pooltest.Open(t)
//		if _, err := db.Exec(t.Context(), "CREATE TABLE patients (…)"); err != nil {
//			t.Fatal(err)
//		}
//		…
//	}
//
// Each pool has a database of its own. It is made on the server that PGMEDIC_TEST_URL
// names, or else on a throwaway server, which is started from the programs that are
// installed, listens on no network, and takes half a second to a second. A package with
// many tests starts one for all of them with Main.
package pooltest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/pool"
)

// URLVariable is the environment variable with the URL of a server to make databases on.
// Its role must have CREATEDB.
const URLVariable = "PGMEDIC_TEST_URL"

// Options say what pool OpenWith opens. The zero Options are those of Open.
type Options struct {
	// Config is the pool's. Its PrimaryURL is set, and ReplicaURLs must be empty. Where
	// they are zero, MaxConns is 5, AcquireTimeout is 2 s, since a longer wait in a test
	// means a leak, and LeakAfter is an hour, so that stacks are kept.
	Config pool.Config
	// Statements are run in the new database before the pool is opened, one after the
	// other: its tables, for instance.
	Statements []string
	// Grace is how long connections may still be in use when the test has ended and its
	// context with it. Zero means a second.
	Grace time.Duration
}

// Server is a PostgreSQL server that pools are opened on. Its methods may be called from
// several goroutines.
type Server struct {
	url   string
	owned *scratch.Server
}

// Open opens a pool on a new database of a server that ends with the test. When the test
// ends, the pool is closed and the database dropped; who still has a connection then fails
// the test, with the stack that took it.
func Open(tb testing.TB) *pool.DB {
	tb.Helper()
	return OpenWith(tb, Options{})
}

// OpenWith is Open with options.
func OpenWith(tb testing.TB, o Options) *pool.DB {
	tb.Helper()
	return Start(tb).OpenWith(tb, o)
}

// Start returns the server that PGMEDIC_TEST_URL names, or starts one that ends with the
// test.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s, err := start(tb.Context())
	if err != nil {
		tb.Fatalf("pooltest: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.stop(); err != nil {
			tb.Errorf("pooltest: %v", err)
		}
	})
	return s
}

// Main runs the tests of a package on one server, which it hands to use before, and returns
// the exit code:
//
//	var server *pooltest.Server
//
//	func TestMain(m *testing.M) {
//		os.Exit(pooltest.Main(m, func(s *pooltest.Server) { server = s }))
//	}
func Main(m *testing.M, use func(*Server)) (code int) {
	s, err := start(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "pooltest:", err)
		return 1
	}
	defer func() {
		if err := s.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "pooltest:", err)
			code = max(code, 1)
		}
	}()
	use(s)
	return m.Run()
}

func start(ctx context.Context) (*Server, error) {
	if given := os.Getenv(URLVariable); given != "" {
		u, err := url.Parse(given)
		if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
			return nil, fmt.Errorf("%s is not a URL that begins with postgres://", URLVariable) // and may have a password
		}
		return &Server{url: given}, nil
	}
	owned, err := scratch.Start(ctx, scratch.Options{})
	if err != nil {
		return nil, fmt.Errorf("start a PostgreSQL server (or set %s): %w (%s)", URLVariable, err, pgmedic.HintOf(err))
	}
	return &Server{url: owned.URL("postgres"), owned: owned}, nil
}

func (s *Server) stop() error {
	if s.owned == nil {
		return nil
	}
	if err := s.owned.Stop(context.Background()); err != nil {
		return fmt.Errorf("stop the PostgreSQL server: %w", err)
	}
	return nil
}

// Open opens a pool on a new database of the server. It is as the function Open otherwise.
func (s *Server) Open(tb testing.TB) *pool.DB {
	tb.Helper()
	return s.OpenWith(tb, Options{})
}

// OpenWith is Open with options.
func (s *Server) OpenWith(tb testing.TB, o Options) *pool.DB {
	tb.Helper()
	config := o.Config
	if config.PrimaryURL != "" || len(config.ReplicaURLs) > 0 {
		tb.Fatal("pooltest: Config names servers, and pooltest has one of its own: leave PrimaryURL and ReplicaURLs empty")
	}
	address, err := s.database(tb, o.Statements)
	if err != nil {
		tb.Fatalf("pooltest: %v", err)
	}
	config.PrimaryURL = address
	config.MaxConns = cmp.Or(config.MaxConns, 5)
	config.AcquireTimeout = cmp.Or(config.AcquireTimeout, 2*time.Second)
	config.LeakAfter = cmp.Or(config.LeakAfter, time.Hour)
	db, err := pool.Open(tb.Context(), config)
	if err != nil {
		tb.Fatalf("pooltest: open the pool: %v (%s)", err, pool.Hint(err))
	}
	tb.Cleanup(func() { closeWithin(tb, db, cmp.Or(o.Grace, time.Second)) })
	return db
}

// closeWithin closes a pool, and fails the test for each connection that somebody still has.
func closeWithin(tb testing.TB, db *pool.DB, grace time.Duration) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := db.Shutdown(ctx)
	var cut *pool.ShutdownError
	if !errors.As(err, &cut) {
		return // nothing was held, or the test has closed the pool itself
	}
	for _, h := range cut.Cut {
		state := "idle after"
		if h.Running {
			state = "running"
		}
		tb.Errorf("pooltest: a connection was not given back: held for %s, %s %q, taken by %s",
			h.Held.Round(time.Millisecond), state, h.SQL, strings.ReplaceAll(h.TakenBy, " < ", "\n\tcalled by "))
	}
}

// database makes a database that is dropped when the test ends, and returns its URL.
func (s *Server) database(tb testing.TB, statements []string) (address string, err error) {
	name := "pooltest_" + strings.ToLower(rand.Text()[:12])
	quoted := sqltext.QuoteIdent(name)
	// From template0, for only one session at a time can copy template1.
	if err := run(tb.Context(), s.url, "CREATE DATABASE "+quoted+" TEMPLATE template0"); err != nil {
		return "", err
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err := run(ctx, s.url, "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname OPERATOR(pg_catalog.=) "+sqltext.QuoteLiteral(name), "DROP DATABASE "+quoted)
		if err != nil {
			tb.Errorf("pooltest: %v", err)
		}
	})
	u, err := url.Parse(s.url)
	if err != nil {
		return "", errors.New("the server's URL can't be read") // it may have a password
	}
	u.Path = "/" + name
	address = u.String()
	return address, run(tb.Context(), address, statements...)
}

// run runs statements one after the other in a session of its own.
func run(ctx context.Context, address string, statements ...string) error {
	if len(statements) == 0 {
		return nil
	}
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
