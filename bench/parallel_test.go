package bench

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// mixed is a database of text, jsonb and numbers, in which one table is most of
// the size. The setting bench.mib is about how large it gets.
const mixed = `
SELECT setseed(0.5);
CREATE TABLE events (
	id bigint PRIMARY KEY, at timestamptz NOT NULL, patient int NOT NULL, kind text NOT NULL,
	value double precision, amount numeric(12, 2), note text, detail jsonb
);
INSERT INTO events
SELECT n, '2026-01-01'::timestamptz + n * interval '1.7 seconds', (random() * 100000)::int,
	(ARRAY['admission', 'transfer', 'discharge', 'order', 'result'])[1 + (random() * 4)::int],
	random() * 200, round((random() * 9000)::numeric, 2),
	'Seen for ' || md5(n::text) || '. ' || repeat('Stable; continue as before. ', (random() * 4)::int),
	jsonb_build_object('code', 'C' || (n % 977), 'by', n % 4001, 'device', md5((n % 5003)::text), 'flags', ARRAY[n % 2, n % 3])
FROM generate_series(1, current_setting('bench.mib')::int * 2600) AS n;
CREATE TABLE patients AS
SELECT n AS id, 'Person ' || n AS name, '1950-01-01'::date + (random() * 25000)::int AS born,
	jsonb_build_object('email', 'p' || n || '@example.org') AS contact
FROM generate_series(1, current_setting('bench.mib')::int * 300) AS n;
ALTER TABLE patients ADD PRIMARY KEY (id);
CREATE TABLE measures AS
SELECT n AS id, (random() * 1e6)::bigint AS a, random() AS b, random()::real AS c, (random() * 1000)::numeric(10, 3) AS d
FROM generate_series(1, current_setting('bench.mib')::int * 1000) AS n;
CREATE INDEX ON events (patient, at);
CREATE INDEX ON measures (a);
VACUUM ANALYZE`

// database makes a database of the script, PGMEDIC_BENCH_MIB in size.
func database(b *testing.B, script string) (dsn, binDir string) {
	b.Helper()
	server := scratchtest.New(b, scratch.Options{Settings: map[string]string{"max_wal_size": "8GB", "shared_buffers": "512MB"}})
	mib := "1024"
	if text := os.Getenv("PGMEDIC_BENCH_MIB"); text != "" {
		if _, err := strconv.Atoi(text); err != nil {
			b.Fatalf("PGMEDIC_BENCH_MIB: %v", err)
		}
		mib = text
	}
	dsn = scratchtest.Database(b, server)
	conn, err := pgx.Connect(b.Context(), dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(b.Context())) }()
	if _, err := conn.Exec(b.Context(), "SET bench.mib = '"+mib+"'"); err != nil {
		b.Fatal(err)
	}
	for _, sql := range splitStatements(script) {
		if _, err := conn.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	var size int64
	if err := conn.QueryRow(b.Context(), "SELECT pg_database_size(current_database())").Scan(&size); err != nil {
		b.Fatal(err)
	}
	b.Logf("database of %d MiB", size>>20)
	return dsn, server.BinDir()
}

func splitStatements(script string) []string {
	var all []string
	start := 0
	for i := 0; i+1 < len(script); i++ {
		if script[i] == ';' && script[i+1] == '\n' {
			all = append(all, script[start:i])
			start = i + 1
		}
	}
	return append(all, script[start:])
}

// BenchmarkParallelBackup compares an encrypted parallel backup with what a
// script makes of pg_dump, and with pg_dump's own parallel format.
func BenchmarkParallelBackup(b *testing.B) {
	pgmedic := binary(b)
	dsn, bin := database(b, mixed)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ name, script string }{
		{"against-pg_dump|gzip|openssl", `set -euo pipefail; "$1/pg_dump" -d "$2" | gzip |
			openssl enc -aes-256-cbc -pbkdf2 -pass pass:bench > "$3.enc"`},
		{"against-pg_dump-Fd-j2", `rm -rf "$3"; "$1/pg_dump" -Fd -j2 -d "$2" -f "$3"`},
	} {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir()
			ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
			env := []string{
				"DATABASE_URL=" + dsn, "BACKUP_DIR=" + ours, "HOME=" + dir, "BACKUP_METHOD=parallel",
				"BACKUP_RECIPIENTS=" + identity.Recipient().String(),
			}
			pairs(b,
				func() run {
					if err := os.RemoveAll(ours); err != nil {
						b.Fatal(err)
					}
					return measure(b, env, pgmedic, "backup", "--quiet")
				},
				func() run { return measure(b, nil, "bash", "-c", c.script, "bash", bin, dsn, theirs) })
			b.ReportMetric(float64(treeBytes(b, ours))/float64(treeBytes(b, dir)-treeBytes(b, ours)), "size-ours/theirs")
		})
	}
}

func treeBytes(b *testing.B, dir string) (n int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		n += info.Size()
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}
