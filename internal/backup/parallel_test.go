package backup_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// parallel returns options of a parallel backup that calls onPut with the name
// of each object before it is stored.
func parallel(t *testing.T, dsn string, onPut func(name string, r io.Reader) io.Reader) backup.Options {
	t.Helper()
	o := fixture.BackupOptions(t, dsn, catalog.New(&fixture.Faulty{
		Store: fixture.NewCatalog(t).Store(),
		OnPut: func(_ context.Context, key string, r io.Reader) io.Reader {
			return onPut(key[strings.LastIndex(key, "/")+1:], r)
		},
	}))
	o.Method, o.LockTimeout = backup.Parallel{Jobs: 2}, 10*time.Second
	return o
}

// waitsForLock waits until a session waits for a lock.
func waitsForLock(t *testing.T, s *scratch.Server, pid uint32) {
	t.Helper()
	testkit.Eventually(t, time.Minute, "a session waits for its lock", func() bool {
		return fixture.Query[bool](t, s.DSN("postgres"), "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = $1)", pid)[0]
	})
}

// restored restores a backup and returns the copy's connection string.
func restored(t *testing.T, s *scratch.Server, c *catalog.Catalog, b *pgmedic.Backup) string {
	t.Helper()
	name := fixture.Name(t, s)
	if _, err := restore.Into(t.Context(), fixture.RestoreOptions(t, s, c, b, name)); err != nil {
		t.Fatal(err)
	}
	return s.DSN(name)
}

// blocked takes a parallel backup by one worker, which copies patients first,
// while writers write and an ALTER TABLE of ledger queues up behind the
// snapshot's locks, or pg_dump's. pg_dump ends once the worker has seen that.
func blocked(t *testing.T, s *scratch.Server, dsn string, change func(*backup.Options)) (o backup.Options, b *pgmedic.Backup, err error) {
	t.Helper()
	// A large object, for pg_dump to be in the middle of.
	fixture.Exec(t, dsn, "SELECT lo_from_bytea(0, convert_to(repeat('x', 2000000), 'UTF8'))")
	migration, writer := testkit.Connect(t, dsn), testkit.Connect(t, dsn)
	waiting, tried, migrated := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	o = parallel(t, dsn, func(name string, r io.Reader) io.Reader {
		switch {
		case strings.HasPrefix(name, "schema.dump"):
			return fixture.At(r, 1, func() { // pg_dump has its locks
				go func() {
					_, err := migration.Exec(context.Background(), "ALTER TABLE ledger ALTER id TYPE numeric")
					migrated <- err
				}()
				waitsForLock(t, s, migration.PgConn().PID())
				if _, err := writer.Exec(context.Background(), "DELETE FROM patients WHERE id > 5"); err != nil {
					t.Error(err)
				}
				close(waiting)
				<-tried
			})
		case name == "pack-0001":
			<-waiting
			return io.MultiReader(r, readerFunc(func([]byte) (int, error) {
				close(tried)
				return 0, io.EOF
			}))
		}
		return nil
	})
	o.Method, o.Seal = backup.Parallel{Jobs: 1}, seal.Options{Compression: seal.CompressionNone}
	change(&o)
	b, err = backup.Take(t.Context(), o)
	if err := <-migrated; err != nil {
		t.Errorf("the migration, once the backup has let go: %v", err)
	}
	return o, b, err
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

const makeLedger = "CREATE TABLE ledger AS SELECT n AS id FROM generate_series(1, 100) AS n"

// TestParallelBesideWaitingMigration sees that a worker does not queue behind a
// migration that waits for the backup itself.
func TestParallelBesideWaitingMigration(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	dsn := filled(t, server)
	fixture.Exec(t, dsn, makeLedger)
	o, b, err := blocked(t, server, dsn, func(*backup.Options) {})
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Chunks) != 2 || b.Chunks[0].Pack == b.Chunks[1].Pack {
		t.Errorf("the worker did not leave the table to the coordinator: %+v", b.Chunks)
	}
	copied := restored(t, server, o.Catalog, b)
	for table, want := range map[string]int{"patients": 800, "ledger": 100} {
		if got := fixture.Query[int](t, copied, "SELECT count(*) FROM "+table)[0]; got != want {
			t.Errorf("%d rows of %s in the copy, want %d", got, table, want)
		}
	}
}

// TestParallelTableRewritten has a table rewritten, where the tables are too many
// to be locked, after a worker found it busy and before its turn comes again: it
// reads as empty then, and no backup must say that it was.
func TestParallelTableRewritten(t *testing.T) {
	small := scratchtest.New(t, scratch.Options{Settings: map[string]string{
		"max_locks_per_transaction": "10", "max_connections": "10", "max_prepared_transactions": "0",
		"max_wal_senders": "0", "superuser_reserved_connections": "0",
	}})
	dsn := small.DSN("postgres")
	fill(t, dsn)
	fixture.Exec(t, dsn, makeLedger, "DO $$ BEGIN FOR n IN 1..30 LOOP EXECUTE format('CREATE TABLE t%s ()', n); END LOOP; END $$")
	o, _, err := blocked(t, small, dsn, func(o *backup.Options) { o.ServerName, o.Maintenance = "clinic", "template1" })
	fixture.WantKind(t, err, pgmedic.KindConflict, "ledger", "rewritten")
	fixture.WantNoBackup(t, o.Catalog)
}

// TestParallelEncoding backs up databases in whose sessions another encoding is
// the default than in the database, and in other encodings than ours.
func TestParallelEncoding(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	const latin = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
	for _, tt := range testkit.Few(t, 1, []struct{ name, create, sessions string }{
		{"sessions in Latin 1", "ENCODING 'UTF8'", "LATIN1"},
		{"database in Latin 1", latin, "UTF8"},
		{"all in Latin 1", latin, "LATIN1"},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			name := fixture.Name(t, server)
			fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE "+name+" "+tt.create,
				"ALTER DATABASE "+name+" SET client_encoding = "+tt.sessions)
			exec := func(dsn string, statements ...string) {
				conn := testkit.Connect(t, dsn)
				for _, sql := range append([]string{"SET client_encoding = 'UTF8'"}, statements...) {
					if _, err := conn.Exec(t.Context(), sql); err != nil {
						t.Fatal(err)
					}
				}
			}
			exec(server.DSN(name), `CREATE TABLE "mañana" AS SELECT 1 AS id, 'Zoë' AS name`, `CREATE TABLE plain AS TABLE "mañana"`)
			o := parallel(t, server.DSN(name), func(string, io.Reader) io.Reader { return nil })
			b, err := backup.Take(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			exec(restored(t, server, o.Catalog, b), `DO $$ BEGIN
				ASSERT (SELECT name FROM "mañana") = 'Zoë' AND (SELECT name FROM plain) = 'Zoë';
			END $$`)
		})
	}
}

// TestIndexTables sees that a table which the manifest does not have is an error
// and not the first one's rows.
func TestIndexTables(t *testing.T) {
	manifest := []pgmedic.Table{{Schema: "public", Name: "a"}, {Schema: "public", Name: `b"`}}
	index, err := backup.IndexTables(manifest, []snapshot.RowTable{{Schema: "public", Name: `b"`}})
	if err != nil || index[`"public"."b"""`] != 1 {
		t.Errorf("index %v, error %v", index, err)
	}
	_, err = backup.IndexTables(manifest, []snapshot.RowTable{{Schema: "public", Name: "gone"}})
	fixture.WantKind(t, err, pgmedic.KindIntegrity, `"public"."gone"`)
}
