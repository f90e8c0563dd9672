// Package torture_test takes the torture database through every way out and
// back.
package torture_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

var here *scratch.Server

func TestMain(m *testing.M) {
	settings := map[string]string{"wal_level": "logical"}
	os.Exit(scratchtest.Main(m, scratch.Options{Settings: settings}, func(s *scratch.Server) { here = s }))
}

const torture = `Torture "DB" ünï`

// start starts a server of an installation for a torture database.
func start(t *testing.T, installation scratch.Installation) *scratch.Server {
	t.Helper()
	return scratchtest.New(t, scratch.Options{BinDir: installation.BinDir, Settings: map[string]string{"wal_level": "logical"}})
}

// brief reports whether a version is one more: what does not depend on versions,
// such as the compression, is tested on 15 then.
func brief(installation scratch.Installation) bool {
	return testkit.All() && installation.Major != 15
}

// oldPsql finds a psql of before August 2025, which fails when it is run, before
// the programs of an installation.
func oldPsql(t *testing.T, installation scratch.Installation) pgtool.Finder {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = --version ] || exit 99\necho 'psql (PostgreSQL) %d.0'\n", installation.Major)
	if err := os.WriteFile(filepath.Join(dir, "psql"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return pgtool.Finder{Dirs: []string{dir, installation.BinDir}}
}

// TestRoundTrip holds copies of the torture database against it, and against
// what pg_dump and psql alone make of it, on each version with its own programs.
func TestRoundTrip(t *testing.T) {
	scratchtest.EachComplete(t, roundTrip)
}

func roundTrip(t *testing.T, installation scratch.Installation) {
	source := fixture.Torture(t, start(t, installation), torture)
	there := start(t, installation)
	fixture.TortureGlobals(t, there)

	fixture.Exec(t, there.DSN("postgres"), "CREATE DATABASE vanilla TEMPLATE template0")
	vanilla := fixture.Place{Server: there, Database: "vanilla"}
	// Event triggers write down what psql does after it has made them, and
	// stale materialized views are refreshed.
	fixture.Vanilla(t, source, vanilla)
	if t.Failed() {
		return
	}
	schema := strings.Split(fixture.SchemaText(t, source), "\n")
	// What cannot be kept by anyone would be a difference between these two.
	fixture.WantSame(t, "schema of the vanilla copy", schema, strings.Split(fixture.SchemaText(t, vanilla), "\n"))

	own := pgtool.Finder{Dirs: []string{installation.BinDir}}
	for _, way := range []struct {
		name        string
		method      backup.Method
		compression seal.Compression
		tools       pgtool.Finder
	}{
		{"gzip", backup.Plain{}, seal.CompressionGzip, own},
		{"zstd", backup.Plain{}, seal.CompressionZstd, own},
		{"none", backup.Plain{}, seal.CompressionNone, own},
		{"unrestricted psql", backup.Plain{}, seal.CompressionGzip, oldPsql(t, installation)},
		{"parallel", backup.Parallel{Jobs: 3}, seal.CompressionZstd, own},
	} {
		switch way.name {
		case "gzip", "none":
			if brief(installation) {
				continue
			}
		case "unrestricted psql":
			if installation.Major >= 18 { // all of which know \restrict
				continue
			}
		}
		t.Run(way.name, func(t *testing.T) {
			c := fixture.NewCatalog(t)
			o := fixture.BackupOptions(t, source.DSN(), c)
			o.Method, o.Seal, o.Tools = way.method, seal.Options{Compression: way.compression}, own
			b, err := backup.Take(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			wantOwnPrograms(t, installation, b)
			name := "copy " + way.name
			into := fixture.RestoreOptions(t, there, c, b, name)
			into.Tools = way.tools
			done, err := restore.Into(t.Context(), into)
			if err != nil {
				t.Fatal(err)
			}
			for _, check := range done.Checks {
				if check.Outcome != pgmedic.OutcomeOK {
					t.Errorf("check %s: %s: %s", check.Name, check.Outcome, check.Detail)
				}
			}
			if len(done.RefusedSettings) > 0 {
				t.Errorf("refused settings: %q", done.RefusedSettings)
			}
			refreshed(t, source)
			fixture.WantEqual(t, source, fixture.Place{Server: there, Database: name})
		})
	}
	t.Run("drill", func(t *testing.T) { drillTorture(t, installation, source) })
}

// wantOwnPrograms checks that a backup was made by programs of its server's version.
func wantOwnPrograms(t *testing.T, installation scratch.Installation, b *pgmedic.Backup) {
	t.Helper()
	if major, _, _ := strings.Cut(b.Programs.PgDump, "."); major != strconv.Itoa(installation.Major) {
		t.Errorf("the backup of a server of %s was made by pg_dump %s", installation.Version, b.Programs.PgDump)
	}
}

// refreshed refreshes the source's views as a restore did its copy's, without the
// event trigger.
func refreshed(t *testing.T, source fixture.Place) {
	t.Helper()
	fixture.Exec(t, source.DSN(), `SET session_replication_role = replica;
		REFRESH MATERIALIZED VIEW public.m1; REFRESH MATERIALIZED VIEW public.a_on_m1`)
}

func drillTorture(t *testing.T, installation scratch.Installation, source fixture.Place) {
	c := fixture.NewCatalog(t)
	for _, method := range []backup.Method{backup.Plain{}, backup.Parallel{Jobs: 3}} {
		o := fixture.BackupOptions(t, source.DSN(), c)
		o.Method, o.Seal = method, seal.Options{Compression: seal.CompressionZstd}
		o.Tools.Dirs = []string{installation.BinDir}
		b, err := backup.Take(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		receipt := runDrill(t, installation, c, b)
		if receipt.Proof != pgmedic.ProofProven {
			t.Errorf("%s: proof %s, want proven: %+v", b.Method, receipt.Proof, receipt.Checks)
		}
		for _, check := range receipt.Checks {
			if check.Outcome != pgmedic.OutcomeOK && check.Name != "assertions" {
				t.Errorf("%s: check %s: %s: %s", b.Method, check.Name, check.Outcome, check.Detail)
			}
		}
		verified, err := drill.Verify(t.Context(), drill.VerifyOptions{Catalog: c, Backup: b, Now: time.Now})
		if err != nil || verified.Proof != pgmedic.ProofVerified {
			t.Errorf("verify: %+v, %v", verified, err)
		}
	}
}

func runDrill(t *testing.T, installation scratch.Installation, c *catalog.Catalog, b *pgmedic.Backup) *pgmedic.Receipt {
	t.Helper()
	receipt, err := drill.Run(t.Context(), drill.Options{
		Catalog: c, Backup: b, Tools: pgtool.Finder{Dirs: []string{installation.BinDir}}, ServerDirs: []string{installation.BinDir},
		Logger: fixture.Silent(), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

// TestClinic takes the sample database of the demo out and back.
func TestClinic(t *testing.T) {
	dsn := scratchtest.Database(t, here)
	target := fixture.Target(t, dsn)
	fixture.Psql(t, here, target.Database(), "SET clinic.patients = 100;\n"+fixture.ReadFile(t, "cmd/pgmedic/clinic.sql"))
	c := fixture.NewCatalog(t)
	b := fixture.TakeBackup(t, dsn, c)
	name := fixture.Name(t, here)
	if _, err := restore.Into(t.Context(), fixture.RestoreOptions(t, here, c, b, name)); err != nil {
		t.Fatal(err)
	}
	fixture.WantEqual(t, fixture.Place{Server: here, Database: target.Database()}, fixture.Place{Server: here, Database: name})
	if receipt := runDrill(t, scratch.Installation{BinDir: here.BinDir()}, c, b); receipt.Proof != pgmedic.ProofProven {
		t.Errorf("proof %s, want proven: %+v", receipt.Proof, receipt.Checks)
	}
}
