package cluster_test

import (
	"log/slog"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/restore/cluster"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestVerifyBackup: PostgreSQL's own pg_verifybackup finds a restored folder to be what the
// server's manifest says, but for the files that a restore writes itself, and finds a byte
// that was changed.
func TestVerifyBackup(t *testing.T) {
	scratchtest.EachCompleteFrom(t, 13, func(t *testing.T, installation scratch.Installation) {
		b := newBench(t, installation.Major)
		b.run("CREATE TABLE public.ledger AS SELECT g AS n, repeat('x', 100) AS note FROM generate_series(1, 1000) AS g")
		backup, err := physical.Take(t.Context(), physical.Options{
			Target: postgrestest.Parse(t, b.server.DSN("postgres")), ServerName: "clinic", Catalog: catalog.New(b.store), Host: "test", Version: "test", Workers: 2,
			Seal: seal.Options{Compression: seal.CompressionZstd, Encryption: seal.EncryptionNone}, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
		})
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(b.folder("verified"), "data")
		if _, err := cluster.Restore(t.Context(), b.options(backup, b.plan(backup, wal.Target{Kind: wal.TargetBackup, Base: backup.ID}), dir)); err != nil {
			t.Fatal(err)
		}
		verify := func() ([]byte, error) {
			return exec.CommandContext(t.Context(), filepath.Join(installation.BinDir, "pg_verifybackup"), "--no-parse-wal", "--exit-on-error",
				"--ignore=tablespace_map", "--ignore=pgmedic-recovery.json", dir).CombinedOutput()
		}
		if out, err := verify(); err != nil {
			t.Errorf("pg_verifybackup: %v\n%s", err, out)
		}
		if err := overwrite(filepath.Join(dir, "base", dirsOf(t, filepath.Join(dir, "base"))[0], "PG_VERSION"), 0, "9"); err != nil {
			t.Fatal(err)
		}
		if out, err := verify(); err == nil {
			t.Errorf("a byte that was changed is not found: %s", out)
		}
	})
}
