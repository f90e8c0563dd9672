package restore_test

import (
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestLargeValue brings back a value that has no text form, by the method that needs
// none, and sees the other one say so.
func TestLargeValue(t *testing.T) {
	testkit.OnlyAll(t, "it makes values of 600 MB")
	const value = "convert_to(repeat('0123456789abcdef', 600 * 65536), 'UTF8')"
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TYPE kind AS ENUM ('a')", "CREATE TABLE scan (id int PRIMARY KEY, kind kind DEFAULT 'a', b bytea)",
		"ALTER TABLE scan ALTER b SET STORAGE EXTERNAL", "INSERT INTO scan (id, b) SELECT 1, "+value)
	c := fixture.NewCatalog(t)
	_, err := backup.Take(t.Context(), fixture.BackupOptions(t, dsn, c))
	fixture.WantKind(t, err, pgmedic.KindFailed, "pg_dump", "alloc request size")
	if hint := pgmedic.HintOf(err); !strings.Contains(hint, "--method parallel") {
		t.Errorf("the hint is %q", hint)
	}

	parallel := fixture.BackupOptions(t, dsn, c)
	parallel.Method, parallel.Seal = backup.Parallel{Jobs: 1}, seal.Options{Compression: seal.CompressionZstd}
	b, err := backup.Take(t.Context(), parallel)
	if err != nil {
		t.Fatal(err)
	}
	into := fixture.Name(t, server)
	if _, err := restore.Into(t.Context(), fixture.RestoreOptions(t, server, c, b, into)); err != nil {
		t.Fatal(err)
	}
	fixture.Exec(t, server.DSN(into), "DO $$ BEGIN ASSERT (SELECT b = "+value+" FROM scan); END $$")

	fixture.Exec(t, dsn, "ALTER TABLE scan ADD during int4range")
	_, err = backup.Take(t.Context(), parallel)
	fixture.WantKind(t, err, pgmedic.KindFailed, "too large to be written as text", `column "during" is of type int4range`)
	if hint := pgmedic.HintOf(err); !strings.Contains(hint, "a table of its own") {
		t.Errorf("the hint is %q", hint)
	}
}
