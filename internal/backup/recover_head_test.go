package backup_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestRecoverEmptyPart recovers by the script a chunk that begins with a table of
// no bytes, where head, as on macOS, does not take a count of 0.
func TestRecoverEmptyPart(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TYPE e AS ENUM ('a')", "CREATE TABLE queue (x e[], pad text) WITH (autovacuum_enabled = off)",
		"INSERT INTO queue SELECT '{a}', repeat('y', 100) FROM generate_series(1, 6000)", "DELETE FROM queue",
		"CREATE TABLE noise AS SELECT md5(n::text) || md5((-n)::text) AS m FROM generate_series(1, 5000) AS n")
	c, dir := fixture.NewCatalogIn(t)
	o := fixture.BackupOptions(t, dsn, c)
	o.Method, o.Seal = backup.Parallel{Jobs: 1}, seal.Options{Compression: seal.CompressionZstd}
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Chunks) != 1 || len(b.Chunks[0].Parts) != 2 || b.Chunks[0].Parts[0].PlainBytes != 0 {
		t.Fatalf("no table of no bytes comes first: %+v", b.Chunks)
	}
	head, err := exec.LookPath("head")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	shim := "#!/bin/bash\nif [[ $1 == -c && $2 == 0 ]]; then echo 'head: illegal byte count -- 0' >&2; exit 1; fi\nexec " + head + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "head"), []byte(shim), 0o700); err != nil {
		t.Fatal(err)
	}
	name := fixture.Name(t, server)
	script := filepath.Join(dir, filepath.FromSlash(catalog.Folder(b.Server.Name, b.Database.Name, b.ID)), "recover.sh")
	cmd := exec.CommandContext(t.Context(), "bash", script, "--server", server.DSN(""), name)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+server.BinDir()+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if n := fixture.Query[int](t, server.DSN(name), "SELECT count(*) FROM noise")[0]; n != 5000 {
		t.Errorf("%d rows came back", n)
	}
}
