// Package scratchtest gives tests real PostgreSQL servers. A server that can't
// be had fails the test: nothing is skipped without being asked.
package scratchtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// preferred is the version that all tests run on, and oldest and newest bound
// those of make test-all.
const (
	preferred = 15
	oldest    = 12
	newest    = 18
)

// New starts a server and stops it at the end of the test. It looks for
// PostgreSQL in the places of SearchDirs too; a zero Major means PostgreSQL 15,
// or where that is not installed the newest.
func New(tb testing.TB, opts scratch.Options) *scratch.Server {
	tb.Helper()
	server, err := start(tb.Context(), opts)
	if err != nil {
		tb.Fatalf("start a scratch server: %v (%s)", err, pgmedic.HintOf(err))
	}
	tb.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(tb.Context())); err != nil {
			tb.Errorf("stop the scratch server: %v", err)
		}
	})
	return server
}

// Main starts a server for all tests of a package, hands it to use, runs the
// tests, stops the server and returns the exit code:
//
//	func TestMain(m *testing.M) {
//		os.Exit(scratchtest.Main(m, scratch.Options{}, func(s *scratch.Server) { server = s }))
//	}
func Main(m *testing.M, opts scratch.Options, use func(*scratch.Server)) (code int) {
	ctx := context.Background()
	server, err := start(ctx, opts)
	if err != nil {
		fmt.Fprintf(os.Stderr, "start a scratch server: %v (%s)\n", err, pgmedic.HintOf(err))
		return 1
	}
	defer func() {
		if err := server.Stop(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "stop the scratch server: %v\n", err)
			code = 1
		}
	}()
	use(server)
	return m.Run()
}

// Database makes a database of a unique name, which is dropped at the end of
// the test, and returns the connection string to it.
func Database(tb testing.TB, server *scratch.Server) (dsn string) {
	tb.Helper()
	name := "test_" + strings.ToLower(rand.Text()[:12])
	// From template0, for only one session at a time can copy template1.
	execute(tb, server, "CREATE DATABASE "+name+" TEMPLATE template0")
	tb.Cleanup(func() {
		select {
		case <-server.Done():
			return
		default:
		}
		drop := func() error {
			return try(tb, server,
				"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+name+"'",
				"DROP DATABASE "+name)
		}
		err := drop()
		// The server waits only seconds for a session to end, or for autovacuum's.
		for deadline := time.Now().Add(time.Minute); inUse(err) && time.Now().Before(deadline); {
			err = drop()
		}
		if err != nil {
			tb.Fatal(err)
		}
	})
	return server.DSN(name)
}

// inUse reports whether an error says that somebody has a session with the database.
func inUse(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == "55006"
}

// execute runs statements in the database postgres.
func execute(tb testing.TB, server *scratch.Server, statements ...string) {
	tb.Helper()
	if err := try(tb, server, statements...); err != nil {
		tb.Fatal(err)
	}
}

// try is execute of what may fail.
func try(tb testing.TB, server *scratch.Server, statements ...string) error {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, server.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("connect to the scratch server: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// Ends returns the major versions for a test that is long and of which little depends
// on the version: of those of Majors the oldest, 15 and the newest; in make chaos all.
func Ends(tb testing.TB) []int {
	tb.Helper()
	return others(ends(tb))
}

// EndsWith15 is Ends for a test that does more on 15 in make test-all than in make test.
func EndsWith15(tb testing.TB) []int {
	tb.Helper()
	return ends(tb)
}

func ends(tb testing.TB) []int {
	tb.Helper()
	majors := all(tb)
	if len(majors) == 1 || testkit.Amount(0, 0, 1) == 1 {
		return majors
	}
	return []int{oldest, preferred, newest}
}

// Majors returns the major versions to test on: 15, or where that is not
// installed the newest that is. If PGMEDIC_TEST_ALL is 1, it returns 12 to 18,
// and a missing one fails the test. In make test-all 15 is not among them, for make
// test has run the same on it.
func Majors(tb testing.TB) []int {
	tb.Helper()
	return others(all(tb))
}

// MajorsWith15 is Majors for a test that make test does not run.
func MajorsWith15(tb testing.TB) []int {
	tb.Helper()
	return all(tb)
}

// others leaves out what make test has run already.
func others(majors []int) []int {
	if !testkit.Rest() || len(majors) == 1 {
		return majors
	}
	return slices.DeleteFunc(slices.Clone(majors), func(major int) bool { return major == preferred })
}

func all(tb testing.TB) []int {
	tb.Helper()
	installed := map[int]bool{}
	found, err := scratch.Find(tb.Context(), scratch.FindOptions{SearchDirs: SearchDirs()})
	if err != nil {
		tb.Fatal(err)
	}
	for _, installation := range found {
		installed[installation.Major] = true
	}
	if !testkit.All() {
		if installed[preferred] || len(found) == 0 {
			return []int{preferred}
		}
		return []int{found[0].Major}
	}
	var majors []int
	for major := oldest; major <= newest; major++ {
		if !installed[major] {
			tb.Fatalf("PostgreSQL %d is not installed, and PGMEDIC_TEST_ALL=1 wants it: run scripts/setup.sh --all", major)
		}
		majors = append(majors, major)
	}
	return majors
}

// SearchDirs returns where PostgreSQL is looked for besides the usual places:
// the folders of PGMEDIC_POSTGRES_DIRS, a list like PATH, and the cache that
// scripts/setup.sh fills.
func SearchDirs() []string {
	return append(filepath.SplitList(os.Getenv("PGMEDIC_POSTGRES_DIRS")), filepath.Join(CacheDir(), "postgres"))
}

// CacheDir returns the folder that scripts/setup.sh fills, as its cache_folder does.
func CacheDir() string {
	if dir := os.Getenv("PGMEDIC_CACHE"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/cache/pgmedic"
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "pgmedic")
	}
	return filepath.Join(os.Getenv("HOME"), ".cache", "pgmedic")
}

func start(ctx context.Context, opts scratch.Options) (*scratch.Server, error) {
	opts.SearchDirs = slices.Concat(opts.SearchDirs, SearchDirs())
	if opts.Major != 0 || opts.BinDir != "" {
		return scratch.Start(ctx, opts)
	}
	opts.Major = preferred
	server, err := scratch.Start(ctx, opts)
	if pgmedic.KindOf(err) == pgmedic.KindUsage && err != nil {
		opts.Major = 0
		return scratch.Start(ctx, opts)
	}
	return server, err
}
