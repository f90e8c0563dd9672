package restore_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// labelProvider builds the library of a provider that takes any label, for a server
// of a major version. It needs a C compiler, which is no part of what pgmedic takes.
func labelProvider(t *testing.T, major int) (library string) {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		testkit.Missing(t, "no C compiler: SECURITY LABEL statements are not run on a server")
	}
	dir, err := os.MkdirTemp("", "pgmedic-labels-") //nolint:usetesting // the server's user must get to it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	library = filepath.Join(dir, "label_provider.so")
	out, err := exec.CommandContext(t.Context(), cc, "-shared", "-fPIC", fmt.Sprintf("-DMAJOR=%d", major), "-o", library,
		filepath.Join("testdata", "label_provider.c")).CombinedOutput()
	if err != nil {
		t.Fatalf("cc: %v: %s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(library, 0o755); err != nil {
		t.Fatal(err)
	}
	return library
}

// labelled are labels of all kinds that a dump carries.
func labelled(database string) []string {
	var sql []string
	for _, on := range []string{
		"DATABASE " + database, "TABLE patients", "COLUMN patients.name", "VIEW everyone", "SCHEMA public", "FUNCTION f(int)", "TYPE mood", "LARGE OBJECT 4711",
	} {
		sql = append(sql, "SECURITY LABEL FOR dummy ON "+on+" IS 'masked; it''s \\ "+strings.ToLower(on[:4])+"\nline'")
	}
	return sql
}

// TestSecurityLabels: labels of the database, of objects and of roles come back, and
// one that is lost or another is found.
func TestSecurityLabels(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	library := labelProvider(t, server.Major())
	own := scratchtest.New(t, scratch.Options{Settings: map[string]string{"shared_preload_libraries": library}})
	t.Cleanup(func() { // made from the backups' globals
		fixture.Exec(t, server.DSN("postgres"), "DROP ROLE IF EXISTS labelled_plain, labelled_parallel")
	})
	for name, method := range fixture.BothMethods(t, 2) {
		t.Run(name, func(t *testing.T) {
			dsn := scratchtest.Database(t, own)
			database := fixture.Target(t, dsn).Database()
			role := "labelled_" + name
			fixture.Exec(t, dsn, append([]string{
				"CREATE TABLE patients (id int PRIMARY KEY, name text)", "CREATE VIEW everyone AS SELECT * FROM patients",
				"CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE TYPE mood AS ENUM ('well')", "SELECT lo_create(4711)",
				"CREATE ROLE " + role, "SECURITY LABEL FOR dummy ON ROLE " + role + " IS 'MASKED'",
			}, labelled(database)...)...)
			c := fixture.NewCatalog(t)
			o := fixture.BackupOptions(t, dsn, c)
			o.Method = method
			b, err := backup.Take(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if want := []pgmedic.SecurityLabel{{Provider: "dummy", Label: "masked; it's \\ data\nline"}}; !slices.Equal(b.Database.SecurityLabels, want) ||
				!slices.Equal(b.Database.LabelProviders, []string{"dummy"}) {
				t.Errorf("the manifest has %+v, %q", b.Database.SecurityLabels, b.Database.LabelProviders)
			}
			fixture.Exec(t, dsn, "DROP ROLE "+role)
			into := fixture.RestoreOptions(t, own, c, b, fixture.Name(t, own))
			into.Globals = restore.GlobalsMissing
			done, err := restore.Into(t.Context(), into)
			if err != nil {
				t.Fatal(err)
			}
			const labels = `SELECT objtype || ' ' || CASE objtype WHEN 'database' THEN '' ELSE objname END || ' ' || label FROM pg_seclabels
				WHERE objtype <> 'database' OR objname = quote_ident(current_database()) ORDER BY 1`
			fixture.WantSame(t, "the labels", fixture.Query[string](t, dsn, labels+"||''"), fixture.Query[string](t, own.DSN(into.Into), labels+"||''"))
			if got := fixture.Query[int](t, own.DSN("postgres"), "SELECT count(*) FROM pg_shseclabel WHERE classoid = 'pg_authid'::regclass AND objoid = $1::text::regrole", role)[0]; got != 1 {
				t.Error("the role has no label")
			}
			if check := checkNamed(done.Checks, "security labels"); check.Outcome != pgmedic.OutcomeOK || check.Detail != "8 as recorded" {
				t.Errorf("the check says %+v", check)
			}
			if err := done.Globals.Degraded(); err != nil {
				t.Error(err)
			}
			// One lost, one changed, one too many.
			fixture.Exec(t, own.DSN(into.Into), "SECURITY LABEL FOR dummy ON COLUMN patients.name IS NULL", "SECURITY LABEL FOR dummy ON TYPE mood IS 'other'",
				"SECURITY LABEL FOR dummy ON COLUMN patients.id IS 'new'", "SECURITY LABEL FOR dummy ON DATABASE "+into.Into+" IS NULL")
			source := restore.Source{Catalog: c, Backup: b}
			checks, err := restore.Compare(t.Context(), restore.CompareOptions{Source: source, Target: fixture.Target(t, own.DSN(into.Into)), Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			check := checkNamed(checks, "security labels")
			for _, want := range []string{
				`"dummy" on table column public.patients.name missing`, `"dummy" on type public.mood changed`,
				`"dummy" on table column public.patients.id unexpected`, `"dummy" on database missing`,
			} {
				if check.Outcome != pgmedic.OutcomeFailed || !strings.Contains(check.Detail, want) {
					t.Errorf("want %q in %+v", want, check)
				}
			}
			swapLabelled(t, own, dsn, c, b)
			drillLabelled(t, own, c, b)
			withoutLibrary(t, c, b, role)
		})
	}
}

func checkNamed(checks []pgmedic.Check, name string) pgmedic.Check {
	i := slices.IndexFunc(checks, func(c pgmedic.Check) bool { return c.Name == name })
	if i < 0 {
		return pgmedic.Check{}
	}
	return checks[i]
}

// swapLabelled swaps a database with labels, which keep to it.
func swapLabelled(t *testing.T, own *scratch.Server, dsn string, c *catalog.Catalog, b *pgmedic.Backup) {
	t.Helper()
	live := fixture.Target(t, dsn).Database()
	t.Cleanup(func() { fixture.DropAll(t, own, live+"__") })
	o := swap.Options{Options: fixture.RestoreOptions(t, own, c, b, ""), Live: live}
	o.Globals = restore.GlobalsAll
	done, err := swap.Replace(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if check := checkNamed(done.Checks, "security labels"); check.Outcome != pgmedic.OutcomeOK {
		t.Errorf("the swap's check says %+v", check)
	}
	got := fixture.Query[string](t, own.DSN("postgres"), `SELECT d.datname || ' ' || s.label FROM pg_shseclabel AS s JOIN pg_database AS d ON d.oid = s.objoid
		WHERE s.classoid = 'pg_database'::regclass AND d.datname IN ($1, $2) ORDER BY 1`, live, done.Kept)
	if len(got) != 2 || !strings.HasPrefix(got[0], live+" masked") {
		t.Errorf("the labels are %q", got)
	}
}

// drillLabelled drills where the provider is, and where it is not: that says nothing
// bad of the backup, and says what it leaves open.
func drillLabelled(t *testing.T, own *scratch.Server, c *catalog.Catalog, b *pgmedic.Backup) {
	t.Helper()
	for name, tt := range map[string]struct {
		kind    string
		outcome pgmedic.Outcome
		detail  string
	}{
		"with its library":    {pgmedic.ScratchOnServer, pgmedic.OutcomeOK, "8 as recorded"},
		"without its library": {pgmedic.ScratchPrivate, pgmedic.OutcomeSkipped, `8 not restored and not compared: this server has not loaded the providers "dummy"`},
	} {
		t.Run("drill "+name, func(t *testing.T) {
			o := drill.Options{
				Catalog: c, Backup: b, Kind: tt.kind, Target: fixture.Target(t, own.DSN("postgres")), ServerDirs: []string{own.BinDir()},
				SkipAmcheck: "not asked for", Logger: fixture.Silent(), Now: time.Now,
			}
			receipt, err := drill.Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			check := checkNamed(receipt.Checks, "security labels")
			if receipt.Outcome != pgmedic.OutcomeOK || check.Outcome != tt.outcome || check.Detail != tt.detail {
				t.Errorf("outcome %s, check %+v", receipt.Outcome, check)
			}
			if tt.outcome == pgmedic.OutcomeSkipped && !strings.Contains(check.Hint, "drill.preload_libraries") {
				t.Errorf("hint %q", check.Hint)
			}
		})
	}
}

// withoutLibrary restores into a server that does not know the provider: labels may
// hide what nobody is to see, so that they are not left out unasked.
func withoutLibrary(t *testing.T, c *catalog.Catalog, b *pgmedic.Backup, role string) {
	t.Helper()
	t.Run("restore without its library", func(t *testing.T) {
		fixture.Exec(t, server.DSN("postgres"), "DROP ROLE IF EXISTS "+role)
		o := fixture.RestoreOptions(t, server, c, b, fixture.Name(t, server))
		_, err := restore.Into(t.Context(), o)
		fixture.WantGone(t, server, o.Into, err, pgmedic.KindUsage, `security label providers that the backup needs: "dummy"`)
		if !strings.Contains(pgmedic.HintOf(err), "shared_preload_libraries") {
			t.Errorf("hint %s", pgmedic.HintOf(err))
		}
		p, err := restore.Foresee(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		fixture.WantKind(t, p.Obstacle(), pgmedic.KindUsage, `"dummy"`)
		o.Without = dumpsql.Without{Owners: true}
		done, err := restore.Into(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if got := fixture.Query[int](t, server.DSN(o.Into), "SELECT count(*) FROM pg_seclabel")[0]; got != 0 {
			t.Errorf("%d labels", got)
		}
		// Neither has labels in the copy, and the backup does: it says so.
		if check := checkNamed(done.Checks, "security labels"); check.Outcome != pgmedic.OutcomeSkipped {
			t.Errorf("the check says %+v", check)
		}
		// The role is made, and its label is missing: no success without a word.
		o.Into, o.Globals = fixture.Name(t, server), restore.GlobalsMissing
		done, err = restore.Into(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(done.Globals.NotLabelled, `role "`+role+`" (provider "dummy")`) {
			t.Errorf("globals: %+v", done.Globals)
		}
		fixture.WantKind(t, done.Globals.Degraded(), pgmedic.KindDegraded, role)
	})
}

// TestLabelsNotRecorded: labels that no provider is loaded for, as an upgrade or a
// direct change of the catalogue leaves them, are backed up and reported all the
// same; this needs no library.
func TestLabelsNotRecorded(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{})
	if len(b.Database.LabelProviders) > 0 {
		t.Errorf("providers %q", b.Database.LabelProviders)
	}
	fixture.Exec(t, dsn, "INSERT INTO pg_seclabel VALUES ('patients'::regclass, 'pg_class'::regclass, 2, 'absent', 'MASKED')")
	checks, err := restore.Compare(t.Context(), restore.CompareOptions{Source: restore.Source{Catalog: c, Backup: b}, Target: fixture.Target(t, dsn), Now: time.Now})
	if check := checkNamed(checks, "security labels"); err != nil || check.Outcome != pgmedic.OutcomeFailed ||
		!strings.Contains(check.Detail, `"absent" on table column public.patients.name unexpected`) {
		t.Errorf("%+v, %v", checks, err)
	}
	b = fixture.TakeBackup(t, dsn, c)
	if !slices.Equal(b.Database.LabelProviders, []string{"absent"}) {
		t.Errorf("providers %q", b.Database.LabelProviders)
	}
	o := fixture.RestoreOptions(t, server, c, b, fixture.Name(t, server))
	_, err = restore.Into(t.Context(), o)
	fixture.WantGone(t, server, o.Into, err, pgmedic.KindUsage, `"absent"`)
	o.LabelsOptional = true
	if _, err := restore.Load(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}
