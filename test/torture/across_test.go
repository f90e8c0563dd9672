package torture_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestAcrossVersions restores backups of PostgreSQL 15 on newer servers: the rows
// are those of the source, the definitions what pg_dump and psql alone make of
// them there, since a newer version writes them in its own way.
func TestAcrossVersions(t *testing.T) {
	testkit.OnlyAll(t, "it takes newer versions of PostgreSQL")
	old := scratchtest.Complete(t, 15)
	source := fixture.Torture(t, start(t, old), torture)
	refreshed(t, source)
	backups := map[string]*pgmedic.Backup{}
	c := fixture.NewCatalog(t)
	for name, method := range fixture.BothMethods(t, 2) {
		o := fixture.BackupOptions(t, source.DSN(), c)
		o.Method, o.Seal, o.Tools.Dirs = method, seal.Options{Compression: seal.CompressionZstd}, []string{old.BinDir}
		b, err := backup.Take(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		wantOwnPrograms(t, old, b)
		backups[name] = b
	}
	scratchtest.EachCompleteFrom(t, old.Major+1, func(t *testing.T, newer scratch.Installation) {
		there := start(t, newer)
		fixture.TortureGlobals(t, there)
		fixture.Exec(t, there.DSN("postgres"), "CREATE DATABASE vanilla TEMPLATE template0")
		vanilla := fixture.Place{Server: there, Database: "vanilla"}
		fixture.Vanilla(t, source, vanilla)
		schema := strings.Split(fixture.SchemaText(t, vanilla), "\n")
		contents := fixture.Contents(t, source)
		for name, b := range backups {
			for by, dir := range map[string]string{"older": old.BinDir, "newer": olderInName(t, newer)} {
				t.Run(name+" by "+by+" programs", func(t *testing.T) {
					into := fixture.RestoreOptions(t, there, c, b, name+" "+by)
					into.Tools.Dirs = []string{dir}
					done, err := restore.Into(t.Context(), into)
					if err != nil {
						t.Fatal(err)
					}
					for _, check := range done.Checks {
						want := pgmedic.OutcomeOK
						if check.Name == "schema" {
							want = pgmedic.OutcomeSkipped
							if says := fmt.Sprintf("the backup is of PostgreSQL 15, this server is %d", newer.Major); check.Detail != says {
								t.Errorf("the definitions: %q, want %q", check.Detail, says)
							}
						}
						if check.Outcome != want {
							t.Errorf("check %s: %s: %s", check.Name, check.Outcome, check.Detail)
						}
					}
					copied := fixture.Place{Server: there, Database: into.Into}
					fixture.WantSame(t, "schema", schema, strings.Split(fixture.SchemaText(t, copied), "\n"))
					fixture.WantSame(t, "contents", contents, fixture.Contents(t, copied))
				})
			}
		}
	})
}

// olderInName returns a folder of an installation's programs that say that they are
// of PostgreSQL 15. Of those that are there pgmedic takes the oldest that may do, and
// what is wanted is a machine that has the newer ones only.
func olderInName(t *testing.T, newer scratch.Installation) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"psql", "pg_restore"} {
		text := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = --version ] && echo '%s (PostgreSQL) 15.99' && exit\nexec '%s' \"$@\"\n",
			name, filepath.Join(newer.BinDir, name))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
