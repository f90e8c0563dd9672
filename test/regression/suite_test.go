package regression_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// suite is PostgreSQL's regression tests, with an installation of PostgreSQL that
// has the library that they load.
type suite struct {
	installation scratch.Installation
	// dir has the scripts in sql, what they load in data, and parallel_schedule.
	dir string
}

// newSuite finds what scripts/regression-tests.sh has fetched, the newest version
// first.
func newSuite(t *testing.T) suite {
	t.Helper()
	testkit.OnlyAll(t, "it takes PostgreSQL's regression tests, which make test-all fetches")
	fetched, err := filepath.Glob(filepath.Join(scratchtest.CacheDir(), "regression", "*", "tests"))
	if err != nil {
		t.Fatal(err)
	}
	if len(fetched) == 0 {
		system, err := os.ReadFile("/etc/os-release")
		if err == nil && slices.Contains(strings.Fields(string(system)), "ID=debian") {
			t.Fatal("PostgreSQL's regression tests are missing: run scripts/setup.sh --all")
		}
		testkit.Elsewhere(t, "no regression tests of PostgreSQL here: scripts/setup.sh --all gets them on Debian")
	}
	slices.Sort(fetched)
	tests := fetched[len(fetched)-1]
	root := filepath.Dir(tests)
	major, err := strconv.Atoi(filepath.Base(root))
	if err != nil {
		t.Fatalf("%s: %v", root, err)
	}
	return suite{
		installation: scratch.Installation{Major: major, BinDir: filepath.Join(root, "postgresql", "bin")},
		dir:          tests,
	}
}

// start starts a server of the suite's version.
func (s suite) start(t *testing.T) *scratch.Server {
	t.Helper()
	// As pg_regress configures its own.
	return scratchtest.New(t, scratch.Options{BinDir: s.installation.BinDir, Settings: map[string]string{"max_prepared_transactions": "2"}})
}

func (s suite) tools() pgtool.Finder { return pgtool.Finder{Dirs: []string{s.installation.BinDir}} }

// database makes a database as pg_regress does, and drops it at the test's end.
func (s suite) database(t *testing.T, server *scratch.Server, name string) fixture.Place {
	t.Helper()
	quoted := sqltext.QuoteIdent(name)
	statements := []string{"CREATE DATABASE " + quoted + " TEMPLATE template0"}
	for _, setting := range []string{
		"lc_messages TO 'C'", "lc_monetary TO 'C'", "lc_numeric TO 'C'", "lc_time TO 'C'", "bytea_output TO 'hex'",
		"timezone_abbreviations TO 'Default'",
	} {
		statements = append(statements, "ALTER DATABASE "+quoted+" SET "+setting)
	}
	fixture.Exec(t, server.DSN("postgres"), statements...)
	t.Cleanup(func() { fixture.DropAll(t, server, name) })
	return fixture.Place{Server: server, Database: name}
}

// schedule returns the groups of scripts that may run side by side, in their order.
func (s suite) schedule(t *testing.T) (groups [][]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "parallel_schedule"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if scripts, ok := strings.CutPrefix(line, "test:"); ok {
			groups = append(groups, strings.Fields(scripts))
		}
	}
	if len(groups) == 0 {
		t.Fatal("parallel_schedule names no test")
	}
	return groups
}

// run runs scripts side by side. Their statements may fail: many are meant to.
func (s suite) run(t *testing.T, place fixture.Place, scripts ...string) {
	t.Helper()
	// Scripts write there, as the server's user too.
	results, err := os.MkdirTemp("", "pgmedic-regression-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(results) }()
	for dir, mode := range map[string]os.FileMode{results: 0o755, filepath.Join(results, "results"): 0o777} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
	}
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(4)
	for _, script := range scripts {
		group.Go(func() error { return s.psql(ctx, place, script, results) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (s suite) psql(ctx context.Context, place fixture.Place, script, results string) error {
	in, err := os.Open(filepath.Join(s.dir, "sql", script+".sql"))
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	cmd := exec.CommandContext(ctx, filepath.Join(s.installation.BinDir, "psql"),
		"-X", "-a", "-q", "-d", place.DSN(), "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on")
	cmd.Stdin = in
	cmd.Dir = results
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + results, "PGAPPNAME=pg_regress/" + script,
		"PG_ABS_SRCDIR=" + s.dir, "PG_ABS_BUILDDIR=" + results, "PG_LIBDIR=$libdir", "PG_DLSUFFIX=.so",
		"PGTZ=America/Los_Angeles", "PGDATESTYLE=Postgres, MDY", "PGOPTIONS=-c intervalstyle=postgres_verbose", "LC_MESSAGES=C",
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("psql of %s: %w: %s", script, err, out[max(0, len(out)-2000):])
	}
	return nil
}
