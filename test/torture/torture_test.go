// Package torture_test takes the torture database through every way out and
// back.
package torture_test

import (
	"fmt"
	"os"
	"path/filepath"
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
	"github.com/pgmedic/pgmedic/test/fixture"
)

var here *scratch.Server

func TestMain(m *testing.M) {
	settings := map[string]string{"wal_level": "logical"}
	os.Exit(scratchtest.Main(m, scratch.Options{Settings: settings}, func(s *scratch.Server) { here = s }))
}

const torture = `Torture "DB" ünï`

// oldPsql finds a psql of before August 2025, which fails when it is run.
func oldPsql(t *testing.T) pgtool.Finder {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = --version ] || exit 99\necho 'psql (PostgreSQL) %d.0'\n", here.Major())
	if err := os.WriteFile(filepath.Join(dir, "psql"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return pgtool.Finder{Dirs: []string{dir}}
}

// TestRoundTrip holds copies of the torture database against it, and against
// what pg_dump and psql alone make of it.
func TestRoundTrip(t *testing.T) {
	source := fixture.Torture(t, here, torture)
	there := scratchtest.New(t, scratch.Options{Settings: map[string]string{"wal_level": "logical"}})
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

	var last *pgmedic.Backup
	var lastCatalog *catalog.Catalog
	for _, way := range []struct {
		name        string
		method      backup.Method
		compression seal.Compression
		tools       pgtool.Finder
	}{
		{"gzip", backup.Plain{}, seal.CompressionGzip, pgtool.Finder{}},
		{"zstd", backup.Plain{}, seal.CompressionZstd, pgtool.Finder{}},
		{"none", backup.Plain{}, seal.CompressionNone, pgtool.Finder{}},
		{"unrestricted psql", backup.Plain{}, seal.CompressionGzip, oldPsql(t)},
		{"parallel", backup.Parallel{Jobs: 3}, seal.CompressionZstd, pgtool.Finder{}},
	} {
		t.Run(way.name, func(t *testing.T) {
			c := fixture.NewCatalog(t)
			o := fixture.BackupOptions(t, source.DSN(), c)
			o.Method, o.Seal = way.method, seal.Options{Compression: way.compression}
			b, err := backup.Take(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
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
			// As the restore did, without the event trigger.
			fixture.Exec(t, source.DSN(), `SET session_replication_role = replica;
				REFRESH MATERIALIZED VIEW public.m1; REFRESH MATERIALIZED VIEW public.a_on_m1`)
			fixture.WantEqual(t, source, fixture.Place{Server: there, Database: name})
		})
	}
	t.Run("drill", func(t *testing.T) {
		lastCatalog = fixture.NewCatalog(t)
		for _, method := range []backup.Method{backup.Plain{}, backup.Parallel{Jobs: 3}} {
			o := fixture.BackupOptions(t, source.DSN(), lastCatalog)
			o.Method, o.Seal = method, seal.Options{Compression: seal.CompressionZstd}
			var err error
			if last, err = backup.Take(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			receipt := runDrill(t, lastCatalog, last)
			if receipt.Proof != pgmedic.ProofProven {
				t.Errorf("%s: proof %s, want proven: %+v", last.Method, receipt.Proof, receipt.Checks)
			}
			for _, check := range receipt.Checks {
				if check.Outcome != pgmedic.OutcomeOK && check.Name != "assertions" {
					t.Errorf("%s: check %s: %s: %s", last.Method, check.Name, check.Outcome, check.Detail)
				}
			}
		}
		verified, err := drill.Verify(t.Context(), drill.VerifyOptions{Catalog: lastCatalog, Backup: last, Now: time.Now})
		if err != nil || verified.Proof != pgmedic.ProofVerified {
			t.Errorf("verify: %+v, %v", verified, err)
		}
	})
}

func runDrill(t *testing.T, c *catalog.Catalog, b *pgmedic.Backup) *pgmedic.Receipt {
	t.Helper()
	receipt, err := drill.Run(t.Context(), drill.Options{
		Catalog: c, Backup: b, ServerDirs: scratchtest.SearchDirs(), Logger: fixture.Silent(), Now: time.Now,
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
	if receipt := runDrill(t, c, b); receipt.Proof != pgmedic.ProofProven {
		t.Errorf("proof %s, want proven: %+v", receipt.Proof, receipt.Checks)
	}
}
