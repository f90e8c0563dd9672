package backup_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

var server *scratch.Server

func TestMain(m *testing.M) {
	os.Exit(scratchtest.Main(m, scratch.Options{TCP: true}, func(s *scratch.Server) { server = s }))
}

// patientData stands in every row of a filled database, and must never stand in
// an error.
const patientData = "Jane Patient 1970-01-01"

// filled returns a database of some 8 MB that do not compress: more than all
// buffers between the server and the store hold together.
func filled(t *testing.T, s *scratch.Server) (dsn string) {
	t.Helper()
	dsn = scratchtest.Database(t, s)
	fill(t, dsn)
	return dsn
}

func fill(t *testing.T, dsn string) {
	t.Helper()
	fixture.Exec(t, dsn, "CREATE TABLE patients (id int PRIMARY KEY, name text, notes text)",
		"ALTER TABLE patients ALTER notes SET STORAGE EXTERNAL",
		"INSERT INTO patients SELECT n, '"+patientData+"', (SELECT string_agg(md5(n::text || i), '') FROM generate_series(1, 320) AS i) "+
			"FROM generate_series(1, 800) AS n")
}

// stored returns options whose dump goes through a faulty store, uncompressed,
// so that a number of stored bytes is a number of bytes of the dump.
func stored(t *testing.T, dsn string, onDump func(ctx context.Context, r io.Reader) io.Reader) backup.Options {
	t.Helper()
	c := fixture.NewCatalog(t)
	o := fixture.BackupOptions(t, dsn, catalog.New(&fixture.Faulty{
		Store: c.Store(),
		OnPut: func(ctx context.Context, key string, r io.Reader) io.Reader {
			if strings.HasSuffix(key, "/dump.sql") {
				return onDump(ctx, r)
			}
			return nil
		},
	}))
	o.Seal = seal.Options{Compression: seal.CompressionNone}
	return o
}

func TestTake(t *testing.T) {
	dsn := filled(t, server)
	c := fixture.NewCatalog(t)
	o := fixture.BackupOptions(t, dsn, c)
	o.ServerName, o.Labels, o.Host, o.Version = "clinic/server 1", map[string]string{"reason": "upgrade"}, "host", "v1"
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, step := range b.Steps {
		steps = append(steps, step.Name)
	}
	if want := []string{"snapshot", "inventory", "globals", "dump"}; !slices.Equal(steps, want) {
		t.Errorf("steps %q, want %q", steps, want)
	}
	entry, err := c.Get(t.Context(), b.ID, catalog.Filter{Server: "clinic/server 1", Database: b.Database.Name})
	if err != nil {
		t.Fatal(err)
	}
	got := entry.Backup
	if got.Rows() != 800 || got.Purpose != pgmedic.PurposeRegular || got.Labels["reason"] != "upgrade" || got.Method != pgmedic.MethodPlain {
		t.Errorf("manifest: %d rows, purpose %q, labels %v, method %q", got.Rows(), got.Purpose, got.Labels, got.Method)
	}
	if got.SnapshotAt.Before(got.StartedAt.Add(-time.Minute)) || got.FinishedAt.Before(got.StartedAt) || got.SnapshotAt.IsZero() || !strings.Contains(got.SnapshotLSN, "/") {
		t.Errorf("started %s, snapshot %s, finished %s", got.StartedAt, got.SnapshotAt, got.FinishedAt)
	}
	for _, role := range []pgmedic.ObjectRole{pgmedic.RoleDump, pgmedic.RoleGlobals, pgmedic.RoleInventory} {
		if object, ok := got.Object(role); !ok || object.StoredBytes == 0 || object.PlainBytes == 0 {
			t.Errorf("object %s: %+v", role, object)
		}
	}
	if proof, _ := entry.Proof(); proof != pgmedic.ProofTaken {
		t.Errorf("proof %q of a backup that nobody read back, want taken", proof)
	}
}

func TestRequiredOptions(t *testing.T) {
	if _, err := backup.Take(t.Context(), backup.Options{}); err == nil {
		t.Error("a backup of nothing to nowhere succeeds")
	}
	o := fixture.BackupOptions(t, scratchtest.Database(t, server), fixture.NewCatalog(t))
	o.Seal = seal.Options{Compression: "rot13"}
	_, err := backup.Take(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindUsage)
	o = fixture.BackupOptions(t, server.DSN("there is no such database"), fixture.NewCatalog(t))
	_, err = backup.Take(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindNotFound)
}

// TestUnderWriteLoad moves money between accounts while the backup runs: the
// copy must hold one moment, in which the sum is what it always is.
func TestUnderWriteLoad(t *testing.T) {
	const accounts, sum = 50, 50 * 1000
	dsn := filled(t, server) // so that the dump takes a while
	fixture.Exec(t, dsn, "CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL)",
		"CREATE TABLE transfers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payer int REFERENCES accounts, payee int REFERENCES accounts, amount int)",
		fmt.Sprintf("INSERT INTO accounts SELECT n, 1000 FROM generate_series(1, %d) AS n", accounts))
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var mu sync.Mutex
	moved := 0
	for w := range 4 {
		conn := testkit.Connect(t, dsn)
		random := rand.New(rand.NewPCG(7, uint64(w)))
		writers.Go(func() {
			for ctx.Err() == nil {
				if err := transfer(conn, 1+random.IntN(accounts), 1+random.IntN(accounts)); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				moved++
				mu.Unlock()
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return moved
	}
	testkit.Eventually(t, time.Minute, "the writers write", func() bool { return count() > 50 })
	// The dump waits in the middle until much was written meanwhile.
	o := stored(t, dsn, func(_ context.Context, r io.Reader) io.Reader {
		return fixture.At(r, 64<<10, func() {
			before := count()
			testkit.Eventually(t, time.Minute, "the writers write during the dump", func() bool { return count() > before+100 })
		})
	})
	b, err := backup.Take(t.Context(), o)
	stop()
	writers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	name := fixture.Name(t, server)
	if _, err := restore.Into(t.Context(), fixture.RestoreOptions(t, server, o.Catalog, b, name)); err != nil {
		t.Fatal(err)
	}
	if got := fixture.Query[int](t, server.DSN(name), "SELECT sum(balance) FROM accounts")[0]; got != sum {
		t.Errorf("the sum in the copy is %d, want %d", got, sum)
	}
	wrong := fixture.Query[int](t, server.DSN(name), `SELECT a.id FROM accounts AS a WHERE balance <> 1000
		+ (SELECT coalesce(sum(amount), 0) FROM transfers WHERE payee = a.id) - (SELECT coalesce(sum(amount), 0) FROM transfers WHERE payer = a.id)`)
	if len(wrong) > 0 {
		t.Errorf("accounts %d do not hold what their transfers say", wrong)
	}
	for _, table := range b.Tables {
		if got := fixture.Query[int64](t, server.DSN(name), "SELECT count(*) FROM "+sqltext.CountedAs(table))[0]; got != table.Rows {
			t.Errorf("%s has %d rows in the copy and %d in the manifest", table.Name, got, table.Rows)
		}
	}
}

func transfer(conn *pgx.Conn, payer, payee int) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := conn.Exec(ctx, fmt.Sprintf(`BEGIN;
		SELECT FROM accounts WHERE id IN (%[1]d, %[2]d) ORDER BY id FOR UPDATE;
		UPDATE accounts SET balance = balance - 5 WHERE id = %[1]d; UPDATE accounts SET balance = balance + 5 WHERE id = %[2]d;
		INSERT INTO transfers (payer, payee, amount) VALUES (%[1]d, %[2]d, 5); COMMIT`, payer, payee), pgx.QueryExecModeSimpleProtocol)
	return err
}

// TestSlowStore holds the store back in the middle: pg_dump must wait, and not
// run ahead into memory.
func TestSlowStore(t *testing.T) {
	const taken, most = 1 << 20, 3 << 20
	dsn := filled(t, server)
	var o backup.Options
	o = stored(t, dsn, func(_ context.Context, r io.Reader) io.Reader {
		return fixture.At(r, taken, func() {
			// Everything that can move has moved once the server waits for
			// pg_dump to read, and pg_dump for us.
			testkit.Eventually(t, time.Minute, "the server waits for its client", func() bool {
				return len(fixture.Query[int](t, server.DSN("postgres"), `SELECT pid FROM pg_stat_activity
					WHERE datname = $1 AND query LIKE 'COPY %' AND wait_event = 'ClientWrite'`, o.Target.Database())) == 1
			})
			sent := fixture.Query[int64](t, dsn, "SELECT coalesce(max(bytes_processed), 0) FROM pg_stat_progress_copy")[0]
			if sent == 0 || sent > taken+most {
				t.Errorf("the store took %d bytes and the server sent %d: more than %d are in flight", taken, sent, most)
			}
		})
	})
	if _, err := backup.Take(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func TestTwoAtOnce(t *testing.T) {
	dsn, other := filled(t, server), scratchtest.Database(t, server)
	reached := false
	o := stored(t, dsn, func(_ context.Context, r io.Reader) io.Reader {
		return fixture.At(r, 64<<10, func() {
			reached = true
			c := fixture.NewCatalog(t)
			_, err := backup.Take(t.Context(), fixture.BackupOptions(t, dsn, c))
			fixture.WantKind(t, err, pgmedic.KindConflict, "another pgmedic run")
			fixture.WantNoBackup(t, c)
			if _, err := backup.Take(t.Context(), fixture.BackupOptions(t, other, c)); err != nil {
				t.Errorf("another database: %v", err)
			}
		})
	})
	if _, err := backup.Take(t.Context(), o); err != nil || !reached {
		t.Errorf("the first backup: %v", err)
	}
	// The lock ends with the run.
	if _, err := backup.Take(t.Context(), fixture.BackupOptions(t, dsn, fixture.NewCatalog(t))); err != nil {
		t.Errorf("after the first backup: %v", err)
	}
}

func TestPrivileges(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	role := "reader_" + fixture.Target(t, dsn).Database()
	fixture.Exec(t, dsn, "CREATE ROLE "+role+" LOGIN", "CREATE TABLE allowed ()", "CREATE TABLE forbidden (secret text)",
		"INSERT INTO forbidden VALUES ('"+patientData+"')", "GRANT SELECT ON allowed TO "+role)
	t.Cleanup(func() { fixture.Exec(t, dsn, "DROP OWNED BY "+role, "DROP ROLE "+role) })
	take := func() (*catalog.Catalog, error) {
		c := fixture.NewCatalog(t)
		o := fixture.BackupOptions(t, dsn, c)
		o.Target = o.Target.With("user", role)
		o.ServerName = "clinic"
		_, err := backup.Take(t.Context(), o)
		return c, err
	}
	c, err := take()
	fixture.WantKind(t, err, pgmedic.KindUnreachable, "permission denied", "forbidden")
	fixture.WantNoBackup(t, c)

	fixture.Exec(t, dsn, "GRANT SELECT ON forbidden TO "+role, "ALTER TABLE forbidden ENABLE ROW LEVEL SECURITY")
	c, err = take()
	fixture.WantKind(t, err, pgmedic.KindUnreachable, "row-level security", "forbidden")
	fixture.WantNoBackup(t, c)

	fixture.Exec(t, dsn, "ALTER TABLE forbidden DISABLE ROW LEVEL SECURITY")
	if _, err := take(); err != nil {
		t.Errorf("a role that may read everything: %v", err)
	}
}

func TestExclusiveLock(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, `CREATE TABLE "being migrated" ()`)
	blocker := testkit.Connect(t, dsn)
	if _, err := blocker.Exec(t.Context(), `SET application_name = 'migration'; BEGIN; LOCK TABLE "being migrated"`, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	c := fixture.NewCatalog(t)
	o := fixture.BackupOptions(t, dsn, c)
	o.LockTimeout = 50 * time.Millisecond
	_, err := backup.Take(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindConflict, "being migrated", "migration", strconv.FormatUint(uint64(blocker.PgConn().PID()), 10))
	fixture.WantNoBackup(t, c)
}

// TestMigrationWaits has a migration queue up behind the snapshot's locks: what
// reads definitions then queues behind the migration, and must not wait for it.
func TestMigrationWaits(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE patients (id int)", "CREATE VIEW everyone AS SELECT * FROM patients")
	migration := testkit.Connect(t, dsn)
	done := make(chan error, 1)
	o := fixture.BackupOptions(t, dsn, fixture.NewCatalog(t))
	o.LockTimeout = 100 * time.Millisecond
	o.Progress = func(e pgmedic.Event) {
		if e.Step != "inventory" || e.Finished || e.Failed {
			return
		}
		go func() {
			_, err := migration.Exec(context.Background(), "ALTER TABLE patients ADD name text")
			done <- err
		}()
		testkit.Eventually(t, time.Minute, "the migration waits", func() bool {
			return fixture.Query[int](t, server.DSN("postgres"), "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $1", migration.PgConn().PID())[0] == 1
		})
	}
	_, err := backup.Take(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindConflict)
	fixture.WantNoBackup(t, o.Catalog)
	if err := <-done; err != nil {
		t.Errorf("the migration, once the backup has let go: %v", err)
	}
}

func TestMissingPrograms(t *testing.T) {
	o := fixture.BackupOptions(t, scratchtest.Database(t, server), fixture.NewCatalog(t))
	o.Method = futureMethod{}
	_, err := backup.Take(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindUsage, "99 or newer")
	fixture.WantNoBackup(t, o.Catalog)
}

// futureMethod takes a server for one that no client program knows yet.
type futureMethod struct{ backup.Plain }

func (m futureMethod) Take(ctx context.Context, r *backup.Run) error {
	r.Manifest.Server.VersionNum = 990000
	return m.Plain.Take(ctx, r)
}
