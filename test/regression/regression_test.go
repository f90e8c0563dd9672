// Package regression_test takes what PostgreSQL's own regression tests leave behind
// out of a server and back: the database of their whole schedule, and what single
// scripts leave. It is part of make test-all; scripts/regression-tests.sh fetches the
// tests and compiles the library that they load. PGMEDIC_REGRESSION_SCRIPTS=all has
// each of the single scripts run, which takes half an hour, and not every twelfth.
package regression_test

import (
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/digest"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// recomputed are the only relations of the regression database whose rows are not
// compared by value: materialized views, which a restore computes again.
var recomputed = []string{
	"compressmv", "mvtest_bb", "mvtest_mvschema.mvtest_tvm", "mvtest_tm", "mvtest_tmm", "mvtest_tvmm", "mvtest_tvvm",
	"tableam_tblmv_heap2",
}

// TestRegressionDatabase backs the database of the whole schedule up by both methods
// and proves each backup by value. Nothing of it is beyond what comes back.
func TestRegressionDatabase(t *testing.T) {
	s := newSuite(t)
	server := s.start(t)
	source := s.database(t, server, "regression")
	for _, scripts := range s.schedule(t) {
		s.run(t, source, scripts...)
	}
	wantWhole(t, source)
	if views := fixture.Query[string](t, source.DSN(),
		"SELECT oid::regclass::text FROM pg_class WHERE relkind = 'm' AND relispopulated ORDER BY 1"); !subset(views, recomputed) {
		t.Errorf("materialized views %q, known are %q", views, recomputed)
	}
	for _, method := range []backup.Method{backup.Plain{}, backup.Parallel{Jobs: 2}} {
		t.Run(string(method.Name()), func(t *testing.T) {
			c := fixture.NewCatalog(t)
			b := s.take(t, source, c, method)
			wantSums(t, source, c, b)
			s.prove(t, drill.Options{Catalog: c, Backup: b, ServerDirs: []string{s.installation.BinDir}})

			o := fixture.RestoreOptions(t, server, c, b, fixture.Name(t, server))
			o.Tools = s.tools()
			done, err := restore.Into(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if err := done.Degraded(); err != nil {
				t.Errorf("restore --into: %v", err)
			}
			wantChecks(t, done.Checks)
		})
	}
}

// TestSingleScripts does the same with what each script leaves in a database of its
// own, the methods in turn.
func TestSingleScripts(t *testing.T) {
	s := newSuite(t)
	server := s.start(t)
	basis := s.database(t, server, "basis")
	s.run(t, basis, "test_setup")
	methods := []backup.Method{backup.Plain{}, backup.Parallel{Jobs: 2}}
	for i, script := range s.single(t) {
		t.Run(script, func(t *testing.T) {
			source := fixture.Place{Server: server, Database: fixture.Name(t, server)}
			fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE "+source.Database+" TEMPLATE "+basis.Database)
			s.run(t, source, script)
			c := fixture.NewCatalog(t)
			b := s.take(t, source, c, methods[i%len(methods)])
			wantSums(t, source, c, b)
			s.prove(t, drill.Options{Catalog: c, Backup: b, Kind: pgmedic.ScratchOnServer, Target: fixture.Target(t, source.DSN())})
		})
	}
}

// single returns the scripts that are run alone: every twelfth of the schedule, or all.
func (s suite) single(t *testing.T) (scripts []string) {
	t.Helper()
	all := slices.DeleteFunc(slices.Concat(s.schedule(t)...), func(script string) bool { return script == "test_setup" })
	if os.Getenv("PGMEDIC_REGRESSION_SCRIPTS") == "all" {
		return all
	}
	for i := 0; i < len(all); i += 12 {
		scripts = append(scripts, all[i])
	}
	return scripts
}

func (s suite) take(t *testing.T, source fixture.Place, c *catalog.Catalog, method backup.Method) *pgmedic.Backup {
	t.Helper()
	o := fixture.BackupOptions(t, source.DSN(), c)
	o.Method, o.Tools = method, s.tools()
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// prove fails the test unless a drill proves the backup by value.
func (s suite) prove(t *testing.T, o drill.Options) {
	t.Helper()
	o.Tools, o.Logger, o.Now = s.tools(), fixture.Silent(), time.Now
	receipt, err := drill.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if receipt.Proof != pgmedic.ProofProven || receipt.Compared != pgmedic.ComparedValues {
		t.Errorf("%s: %s, compared %s", o.Backup.Method, receipt.Proof, receipt.Compared)
	}
	wantChecks(t, receipt.Checks)
}

// wantChecks fails the test for each check that did not end well.
func wantChecks(t *testing.T, checks []pgmedic.Check) {
	t.Helper()
	for _, check := range checks {
		switch {
		case check.Outcome == pgmedic.OutcomeOK:
		case slices.Contains([]string{"assertions", "access list", "cage", "time to recover"}, check.Name) && check.Outcome != pgmedic.OutcomeFailed:
			// Not asked, or not on a server of the test's own.
		default:
			t.Errorf("check %s: %s: %s %q", check.Name, check.Outcome, check.Detail, check.Items)
		}
	}
}

// wantSums fails the test unless every table of the source is in the backup with a sum
// of its rows, so that a drill that is silent about one has compared it.
func wantSums(t *testing.T, source fixture.Place, c *catalog.Catalog, b *pgmedic.Backup) {
	t.Helper()
	object, ok := b.Object(pgmedic.RoleSums)
	if !ok {
		t.Fatal("the backup has no sums")
	}
	r, err := restore.Source{Catalog: c, Backup: b}.Open(t.Context(), object)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	sums, err := digest.Unmarshal(text)
	if err != nil {
		t.Fatal(err)
	}
	summed := map[string]bool{}
	for _, table := range sums.Tables {
		summed[sqltext.QuoteQualified(b.Tables[table.Index].Schema, b.Tables[table.Index].Name)] = true
	}
	for _, name := range fixture.Query[string](t, source.DSN(), `SELECT format('"%s"."%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""'))
		FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1`) {
		if !summed[name] {
			t.Errorf("table %s has no sum in the %s backup", name, b.Method)
		}
	}
}

// wantWhole fails the test if the schedule did not do its work: without the library,
// say, or without the files that it loads.
func wantWhole(t *testing.T, source fixture.Place) {
	t.Helper()
	for what, least := range map[string]int64{
		"SELECT count(*) FROM pg_class WHERE relkind = 'r' AND oid >= 16384":      400,
		"SELECT count(*) FROM pg_class WHERE relkind = 'p' AND oid >= 16384":      50,
		"SELECT count(*) FROM pg_proc WHERE probin LIKE '$libdir/regress%'":       10,
		"SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND oid >= 16384": 20,
		"SELECT count(*) FROM public.tenk1":                                       10_000,
		"SELECT count(*) FROM pg_largeobject_metadata":                            1,
	} {
		if got := fixture.Query[int64](t, source.DSN(), what)[0]; got < least {
			t.Errorf("%s: %d, want at least %d: the schedule did not do its work", what, got, least)
		}
	}
}

func subset(some, all []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}
