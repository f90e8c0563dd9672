package bench

import (
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// withKeys is mixed with the foreign keys that a restore has to check.
const withKeys = mixed + `;
CREATE TABLE wards (id int PRIMARY KEY, name text);
INSERT INTO wards SELECT n, 'Ward ' || n FROM generate_series(1, 500) AS n;
ALTER TABLE patients ADD ward int REFERENCES wards;
UPDATE patients SET ward = 1 + id % 500;
DELETE FROM events AS e WHERE NOT EXISTS (SELECT FROM patients AS p WHERE p.id = e.patient);
ALTER TABLE events ADD FOREIGN KEY (patient) REFERENCES patients;
CREATE TABLE admissions AS SELECT * FROM events WHERE id % 100 = 0;
VACUUM ANALYZE`

// BenchmarkParallelRestore compares a restore of an encrypted parallel backup
// into a new database, ANALYZE and comparison of the copy included, once by counts
// and once value by value, with pg_restore of a directory dump of the same data
// followed by vacuumdb --analyze-only, which compare nothing.
func BenchmarkParallelRestore(b *testing.B) {
	dsn, bin := database(b, withKeys)
	pgmedic := binary(b)
	dir := b.TempDir()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	key := filepath.Join(dir, "key.txt")
	if err := os.WriteFile(key, []byte(identity.String()+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	env := []string{
		"DATABASE_URL=" + dsn, "BACKUP_DIR=" + filepath.Join(dir, "ours"), "HOME=" + dir, "BACKUP_METHOD=parallel",
		"BACKUP_RECIPIENTS=" + identity.Recipient().String(), "PGMEDIC_IDENTITY_FILES=" + key,
	}
	measure(b, dsn, env, pgmedic, "backup", "--quiet")
	dump := filepath.Join(dir, "theirs")
	measure(b, dsn, nil, filepath.Join(bin, "pg_dump"), "-Fd", "-j2", "-d", dsn, "-f", dump)
	raw := filepath.Join(dir, "raw")
	measure(b, dsn, nil, "bash", "-c", takeRaw, "bash", bin, dsn, raw)
	const theirs = `set -euo pipefail; "$1/pg_restore" -j2 -d "$2" "$3"; "$1/vacuumdb" --analyze-only --jobs=2 --quiet -d "$2"`
	for _, t := range []struct{ name, compare, script, from string }{
		{"counts-against-pg_restore-j2", "counts", theirs, dump},
		{"values-against-pg_restore-j2", "values", theirs, dump},
		{"counts-against-the-limit", "counts", rawRestore, raw},
	} {
		b.Run(t.name, func(b *testing.B) {
			pairs(b,
				func() run {
					recreate(b, dsn, "")
					return measure(b, dsn, env, pgmedic, "restore", "latest", "--into", "bench_copy", "--quiet", "--compare", t.compare)
				},
				func() run {
					recreate(b, dsn, "bench_copy")
					return measure(b, dsn, nil, "bash", "-c", t.script, "bash", bin, dsn+" dbname=bench_copy", t.from) // the last name counts
				})
		})
	}
}

// takeRaw takes the rows of withKeys out, a file for each table, and rawRestore brings
// them back as fast as the server can, which is the limit for a restore: tables that
// were made in the transaction that fills them, whole and without WAL for what is
// frozen, the largest alone beside the others; then indexes and keys, and ANALYZE.
const (
	takeRaw = `set -euo pipefail; mkdir -p "$3"
		for t in events patients measures wards admissions; do "$1/psql" -qAtX -d "$2" -c "COPY $t TO STDOUT (FORMAT binary)" > "$3/$t"; done
		"$1/pg_dump" -Fc --section=pre-data --section=post-data -d "$2" -f "$3/schema"`
	rawRestore = `set -euo pipefail
		"$1/pg_restore" --section=pre-data -d "$2" "$3/schema"
		load() { "$1/psql" -qAtX -v ON_ERROR_STOP=1 -d "$2" -c "BEGIN" -c "TRUNCATE $4" -c "COPY $4 FROM STDIN (FORMAT binary, FREEZE)" -c "COMMIT" < "$3/$4"; }
		load "$1" "$2" "$3" events & a=$!
		for t in patients measures wards admissions; do load "$1" "$2" "$3" "$t"; done
		wait "$a"
		"$1/pg_restore" -j2 --section=post-data -d "$2" "$3/schema"
		"$1/vacuumdb" --analyze-only --jobs=2 --quiet -d "$2"`
)

// BenchmarkDrill compares a drill, with its comparison value by value and its checks, on
// a throwaway server that it makes, with a restore compared by counts.
func BenchmarkDrill(b *testing.B) {
	dsn, _ := database(b, withKeys)
	pgmedic := binary(b)
	dir := b.TempDir()
	env := []string{"DATABASE_URL=" + dsn, "BACKUP_DIR=" + filepath.Join(dir, "ours"), "HOME=" + dir, "BACKUP_METHOD=parallel"}
	measure(b, dsn, env, pgmedic, "backup", "--quiet")
	b.Run("against-restore", func(b *testing.B) {
		pairs(b,
			func() run { return measure(b, dsn, env, pgmedic, "drill", "latest", "--quiet") },
			func() run {
				recreate(b, dsn, "")
				return measure(b, dsn, env, pgmedic, "restore", "latest", "--into", "bench_copy", "--quiet", "--compare", "counts")
			})
	})
}

// BenchmarkRescue compares bringing one table back, of 1 % of the size, with a
// restore of the whole database.
func BenchmarkRescue(b *testing.B) {
	dsn, _ := database(b, withKeys)
	pgmedic := binary(b)
	dir := b.TempDir()
	env := []string{"DATABASE_URL=" + dsn, "BACKUP_DIR=" + filepath.Join(dir, "ours"), "HOME=" + dir}
	measure(b, dsn, env, pgmedic, "backup", "--quiet")
	b.Run("against-restore-of-all", func(b *testing.B) {
		pairs(b,
			func() run {
				recreate(b, dsn, "")
				return measure(b, dsn, env, pgmedic, "restore", "latest", "--table", "public.admissions", "--quiet")
			},
			func() run {
				recreate(b, dsn, "")
				return measure(b, dsn, env, pgmedic, "restore", "latest", "--into", "bench_copy", "--quiet")
			})
	})
}

// recreate drops the copy and what was rescued, and makes an empty database for pg_restore, which
// is not measured, if a name is given.
func recreate(b *testing.B, dsn, name string) {
	b.Helper()
	conn := testkit.Dial(b, dsn)
	defer testkit.End(conn)
	statements := []string{"DROP DATABASE IF EXISTS bench_copy", `DO $$ DECLARE s text; BEGIN
		FOR s IN SELECT nspname FROM pg_namespace WHERE nspname LIKE 'pgmedic\_rescue\_%' LOOP EXECUTE format('DROP SCHEMA %I CASCADE', s); END LOOP; END $$`}
	if name != "" {
		statements = append(statements, "CREATE DATABASE "+name+" TEMPLATE template0")
	}
	for _, sql := range append(statements, "CHECKPOINT") {
		if _, err := conn.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
}
