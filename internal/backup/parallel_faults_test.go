package backup_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// badDay is a parallel backup of patients, which something befalls once 64 KiB of
// the pack that a worker writes are stored. An earlier backup is in the store.
type badDay struct {
	o        backup.Options
	dsn      string
	database string
	said     *fixture.Said
	before   *pgmedic.Backup
	// dump, if there is one, returns what is stored instead of pg_dump's definitions.
	dump func(ctx context.Context, r io.Reader) io.Reader
}

func newBadDay(t *testing.T, s *scratch.Server, dsn string, befalls func(ctx context.Context, r io.Reader) io.Reader) *badDay {
	t.Helper()
	d := &badDay{dsn: dsn, database: fixture.Target(t, dsn).Database(), said: &fixture.Said{}}
	c := fixture.NewCatalog(t)
	d.o = fixture.BackupOptions(t, dsn, catalog.New(&fixture.Faulty{
		Store: c.Store(),
		OnPut: func(ctx context.Context, key string, r io.Reader) io.Reader {
			switch {
			case strings.HasSuffix(key, "/pack-0001"):
				return befalls(ctx, r)
			case strings.HasSuffix(key, "/schema.dump") && d.dump != nil:
				return d.dump(ctx, r)
			}
			return nil
		},
	}))
	d.o.Method, d.o.Seal, d.o.Logger = backup.Parallel{Jobs: 2}, seal.Options{Compression: seal.CompressionNone}, d.said.Logger()
	d.o.LockTimeout = 10 * time.Second
	d.o.Progress = func(e pgmedic.Event) { d.o.Logger.Debug("progress", "step", e.Step, "object", e.Object) }
	plain := fixture.BackupOptions(t, s.DSN(d.database), c)
	var err error
	if d.before, err = backup.Take(t.Context(), plain); err != nil {
		t.Fatal(err)
	}
	return d
}

// wantFailed fails the test unless the backup failed as it should: an error of
// the kind that holds the words, a hint, no row in anything that was said, and
// the earlier backup alone in the list.
func (d *badDay) wantFailed(t *testing.T, b *pgmedic.Backup, err error, kind pgmedic.Kind, words ...string) {
	t.Helper()
	if b != nil {
		t.Error("a backup that failed returns a manifest")
	}
	fixture.WantKind(t, err, kind, words...)
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %v", err)
	}
	if kind != pgmedic.KindInterrupted && pgmedic.HintOf(err) == "" {
		t.Errorf("no hint says what to do: %v", err)
	}
	d.wantNoRows(t, err.Error()+pgmedic.HintOf(err))
	listing, err := d.o.Catalog.List(context.WithoutCancel(t.Context()), catalog.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if len(listing.Entries) != 1 || len(listing.Damaged) > 0 || listing.Entries[0].Backup.ID != d.before.ID {
		t.Errorf("%d backups and %d damaged ones are listed, want the earlier one", len(listing.Entries), len(listing.Damaged))
	}
	for _, object := range d.before.Objects {
		if _, err := d.o.Catalog.Store().Stat(context.WithoutCancel(t.Context()), catalog.Key(d.before, object.Name)); err != nil {
			t.Errorf("of the earlier backup: %v", err)
		}
	}
}

func (d *badDay) wantNoRows(t *testing.T, more string) {
	t.Helper()
	if text := d.said.String() + more; strings.Contains(text, "Jane") || strings.Contains(text, "1970-01-01") {
		t.Errorf("a row is told of:\n%s", text)
	}
}

// terminate ends the sessions of the backup's database that a condition on
// pg_stat_activity is true of.
func (d *badDay) terminate(t *testing.T, s *scratch.Server, condition string) (n int) {
	return len(fixture.Query[bool](t, s.DSN("postgres"),
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'pgmedic' AND "+condition, d.database))
}

// coordinator is the condition of the snapshot's session, which is the first.
const coordinator = "backend_start = (SELECT min(backend_start) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'pgmedic')"

func address(s *scratch.Server) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port())) }

func TestParallelDiesMidway(t *testing.T) {
	dsn := filled(t, server)
	fixture.Exec(t, dsn, makeLedger)
	after := func(do func(ctx context.Context)) func(context.Context, io.Reader) io.Reader {
		return func(ctx context.Context, r io.Reader) io.Reader { return fixture.At(r, 64<<10, func() { do(ctx) }) }
	}
	killed := make(chan struct{})
	for _, tt := range testkit.SomeOf(t, 3, []struct {
		name    string
		kind    pgmedic.Kind
		words   string
		befalls func(t *testing.T, d *badDay, cancel func()) func(context.Context, io.Reader) io.Reader
		set     func(t *testing.T, d *badDay)
	}{
		{name: "the snapshot's session ended", kind: pgmedic.KindUnreachable, words: "the session that held the snapshot has ended",
			befalls: func(t *testing.T, d *badDay, _ func()) func(context.Context, io.Reader) io.Reader {
				return after(func(ctx context.Context) {
					if n := d.terminate(t, server, coordinator); n != 1 {
						t.Errorf("%d sessions ended", n)
					}
					<-ctx.Done() // it is noticed although nothing is asked of it
				})
			}},
		{name: "a worker's session ended again and again", kind: pgmedic.KindUnreachable, words: "copy table",
			// With one worker the patients are in the pack whose reads end its session.
			set: func(_ *testing.T, d *badDay) { d.o.Method = backup.Parallel{Jobs: 1} },
			befalls: func(t *testing.T, d *badDay, _ func()) func(context.Context, io.Reader) io.Reader {
				return func(_ context.Context, r io.Reader) io.Reader {
					return readerFunc(func(p []byte) (int, error) {
						d.terminate(t, server, "query LIKE 'COPY%patients%'")
						return r.Read(p)
					})
				}
			}},
		{name: "pg_dump killed", kind: pgmedic.KindFailed, words: "pg_dump: ended with signal: killed",
			set: func(t *testing.T, d *badDay) {
				// More than all buffers hold, and nobody reads it: pg_dump can't have ended.
				fixture.Exec(t, d.dsn, "SELECT lo_from_bytea(0, convert_to(repeat('x', 8000000), 'UTF8'))")
				d.dump = func(ctx context.Context, r io.Reader) io.Reader {
					return fixture.At(r, 0, func() {
						select {
						case <-killed:
						case <-ctx.Done():
						}
					})
				}
			},
			befalls: func(t *testing.T, _ *badDay, _ func()) func(context.Context, io.Reader) io.Reader {
				return after(func(ctx context.Context) {
					testkit.Eventually(t, time.Minute, "pg_dump runs", func() bool { return fixture.ChildRunning(t, "pg_dump") != "" })
					signal(t, syscall.SIGKILL)
					close(killed)
					<-ctx.Done()
				})
			}},
		{name: "cancelled", kind: pgmedic.KindInterrupted, words: "canceled",
			befalls: func(_ *testing.T, _ *badDay, cancel func()) func(context.Context, io.Reader) io.Reader {
				return after(func(context.Context) { cancel() })
			}},
		{name: "took too long", kind: pgmedic.KindFailed, words: "took longer than its maximum duration of 3.0 s",
			set: func(_ *testing.T, d *badDay) { d.o.MaxDuration = 3 * time.Second },
			befalls: func(*testing.T, *badDay, func()) func(context.Context, io.Reader) io.Reader {
				return after(func(ctx context.Context) { <-ctx.Done() })
			}},
		{name: "the store fails", kind: pgmedic.KindUnreachable, words: "injected",
			befalls: func(*testing.T, *badDay, func()) func(context.Context, io.Reader) io.Reader {
				return func(_ context.Context, r io.Reader) io.Reader {
					return fixture.FailAfter(r, 64<<10, pgmedic.Errorf(pgmedic.KindUnreachable, "look at it", "put: %w", fixture.ErrInjected))
				}
			}},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var d *badDay
			d = newBadDay(t, server, dsn, func(put context.Context, r io.Reader) io.Reader { return tt.befalls(t, d, cancel)(put, r) })
			if tt.set != nil {
				tt.set(t, d)
			}
			check := fixture.NothingLeft(t)
			b, err := backup.Take(ctx, d.o)
			d.wantFailed(t, b, err, tt.kind, tt.words)
			testkit.Eventually(t, time.Minute, "no session is left", func() bool {
				return fixture.Query[int](t, server.DSN("postgres"), "SELECT count(*) FROM pg_stat_activity WHERE datname = $1", d.database)[0] == 0
			})
			check()
			// The next one is none the worse for it.
			d.o.Catalog = fixture.NewCatalog(t)
			d.o.MaxDuration = 0
			if _, err := backup.Take(t.Context(), d.o); err != nil {
				t.Errorf("the next backup: %v", err)
			}
		})
	}
}

// manyFunctions keep pg_dump busy for a while.
const manyFunctions = `DO $$ BEGIN FOR n IN 1..3000 LOOP
	EXECUTE format('CREATE OR REPLACE FUNCTION busy_%s() RETURNS int LANGUAGE sql AS %L', n, 'SELECT 1'); END LOOP; END $$`

// TestParallelWorkerLost ends a worker's session once: its chunk is copied again.
func TestParallelWorkerLost(t *testing.T) {
	dsn := filled(t, server)
	var d *badDay
	d = newBadDay(t, server, dsn, func(_ context.Context, r io.Reader) io.Reader {
		return fixture.At(r, 64<<10, func() {
			if n := d.terminate(t, server, "query LIKE 'COPY%patients%'"); n != 1 {
				t.Errorf("%d sessions ended", n)
			}
		})
	})
	b, err := backup.Take(t.Context(), d.o)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(d.said.String(), "a connection was lost") {
		t.Errorf("nothing is said of it:\n%s", d.said)
	}
	d.wantNoRows(t, "")
	if b.Chunks[0].Offset == 0 {
		t.Error("the chunk begins where the first try began")
	}
	want := fixture.Query[string](t, dsn, "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM patients AS p")[0]
	if got := fixture.Query[string](t, restored(t, server, d.o.Catalog, b), "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM patients AS p")[0]; got != want {
		t.Error("the copy has other rows")
	}
}

// TestParallelServerRestarts has the server restart by itself, as after a crash of
// one of its processes, and be gone for good.
func TestParallelServerRestarts(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	own := scratchtest.New(t, scratch.Options{Settings: map[string]string{"synchronous_commit": "on"}})
	fixture.Exec(t, own.DSN("postgres"), "CREATE DATABASE clinic")
	dsn := own.DSN("clinic")
	fill(t, dsn)
	fixture.Exec(t, dsn, makeLedger)
	for _, name := range []string{"crash", "stop"} {
		t.Run(name, func(t *testing.T) {
			d := newBadDay(t, own, dsn, func(_ context.Context, r io.Reader) io.Reader {
				return fixture.At(r, 64<<10, func() {
					if name == "crash" {
						scratchtest.Crash(t, own)
						return
					}
					if err := syscall.Kill(own.PID(), syscall.SIGQUIT); err != nil {
						t.Error(err)
					}
					<-own.Done()
				})
			})
			d.o.Method = backup.Parallel{Jobs: 1}
			b, err := backup.Take(t.Context(), d.o)
			d.wantFailed(t, b, err, pgmedic.KindUnreachable)
			if name == "stop" {
				return
			}
			testkit.Eventually(t, time.Minute, "the server is back", func() bool {
				conn, err := net.Dial("unix", fmt.Sprintf("%s/.s.PGSQL.%d", own.SocketDir(), own.Port()))
				if err == nil {
					_ = conn.Close()
				}
				return err == nil
			})
			testkit.Eventually(t, time.Minute, "a backup is taken again", func() bool {
				_, err := backup.Take(t.Context(), fixture.BackupOptions(t, dsn, fixture.NewCatalog(t)))
				return err == nil
			})
		})
	}
}

// TestParallelStoreFillsUp runs into the limit of file sizes, as into a full disk.
func TestParallelStoreFillsUp(t *testing.T) {
	d := newBadDay(t, server, filled(t, server), func(_ context.Context, r io.Reader) io.Reader { return r })
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	limit := old
	limit.Cur = 1 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	b, err := backup.Take(t.Context(), d.o)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	d.wantFailed(t, b, err, pgmedic.KindFailed, "pack-0001", "file too large")
}

// leftToDump makes a table whose rows stay with pg_dump, in an archive of their own.
var leftToDump = []string{
	"CREATE TYPE kind AS ENUM ('a', 'b')", "CREATE TABLE kinds (k kind) PARTITION BY HASH (k)",
	"CREATE TABLE kinds_0 PARTITION OF kinds FOR VALUES WITH (modulus 1, remainder 0)", "INSERT INTO kinds VALUES ('a'), ('b')",
}

// TestParallelStoreFails has the store fail at each object in turn.
func TestParallelStoreFails(t *testing.T) {
	dsn := filled(t, server)
	fixture.Exec(t, dsn, leftToDump...)
	for _, object := range []string{
		"inventory.json", "globals.sql", "schema.dump", "rest.dump", "pack-0001", "recover.sh", "manifest.json.sha256", "manifest.json",
	} {
		t.Run(object, func(t *testing.T) {
			check := fixture.NothingLeft(t)
			o := parallel(t, dsn, func(name string, r io.Reader) io.Reader {
				if name == object {
					return fixture.FailAfter(r, 20, pgmedic.Errorf(pgmedic.KindUnreachable, "", "put: %w", fixture.ErrInjected))
				}
				return nil
			})
			o.Seal = seal.Options{Compression: seal.CompressionNone}
			b, err := backup.Take(t.Context(), o)
			wantFailed(t, o, b, err, pgmedic.KindUnreachable, "injected", object)
			check()
		})
	}
}

func TestParallelRefused(t *testing.T) {
	dsn := filled(t, server)
	role := "reader_" + fixture.Target(t, dsn).Database()
	fixture.Exec(t, dsn, "CREATE SCHEMA closed", "CREATE TABLE closed.t ()", "CREATE TABLE other ()", "CREATE ROLE "+role+" LOGIN",
		"GRANT SELECT ON other TO "+role, "CREATE POLICY mine ON patients USING (id < 3)")
	t.Cleanup(func() { fixture.Exec(t, dsn, "DROP OWNED BY "+role, "DROP ROLE "+role) })
	refused := func(name string, kind pgmedic.Kind, hint string, words ...string) {
		t.Helper()
		d := newBadDay(t, server, dsn, func(_ context.Context, r io.Reader) io.Reader { return r })
		d.o.Target, d.o.ServerName = d.o.Target.With("user", role), "clinic"
		b, err := backup.Take(t.Context(), d.o)
		d.wantFailed(t, b, err, kind, words...)
		if !strings.Contains(pgmedic.HintOf(err), hint) {
			t.Errorf("%s: the hint %q does not hold %q", name, pgmedic.HintOf(err), hint)
		}
	}
	quoted := `"` + role + `"`
	refused("schema", pgmedic.KindUnreachable, `GRANT USAGE ON SCHEMA "closed" TO `+quoted, "permission denied for schema", `"closed"."t"`)
	fixture.Exec(t, dsn, "GRANT USAGE ON SCHEMA closed TO "+role, "GRANT SELECT ON closed.t TO "+role)
	refused("table", pgmedic.KindUnreachable, `GRANT SELECT ON TABLE "public"."patients" TO `+quoted, "permission denied for table", `"public"."patients"`)
	fixture.Exec(t, dsn, "GRANT SELECT ON patients TO "+role, "ALTER TABLE patients ENABLE ROW LEVEL SECURITY")
	refused("rows", pgmedic.KindUnreachable, "ALTER ROLE "+quoted+" BYPASSRLS", "row-level security", `"public"."patients"`)
	fixture.Exec(t, dsn, "ALTER ROLE "+role+" BYPASSRLS")
	d := newBadDay(t, server, dsn, func(_ context.Context, r io.Reader) io.Reader { return r })
	d.o.Target, d.o.ServerName = d.o.Target.With("user", role), "clinic"
	b, err := backup.Take(t.Context(), d.o)
	if err != nil {
		t.Fatal(err)
	}
	if b.Rows() != 800 {
		t.Errorf("%d rows by a role under no row-level security", b.Rows())
	}
}

func TestParallelExclusiveLock(t *testing.T) {
	dsn := filled(t, server)
	d := newBadDay(t, server, dsn, func(_ context.Context, r io.Reader) io.Reader { return r })
	d.o.LockTimeout = 50 * time.Millisecond
	blocker := testkit.Connect(t, dsn)
	if _, err := blocker.Exec(t.Context(), "SET application_name = 'migration'"); err != nil {
		t.Fatal(err)
	}
	if _, err := blocker.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := blocker.Exec(t.Context(), "LOCK TABLE patients"); err != nil {
		t.Fatal(err)
	}
	b, err := backup.Take(t.Context(), d.o)
	d.wantFailed(t, b, err, pgmedic.KindConflict, `"public"."patients"`, fmt.Sprintf("process %d", blocker.PgConn().PID()),
		`user "`+server.Superuser()+`"`, `application "migration"`, `database "`+d.database+`"`)
}

func TestParallelTwoAtOnce(t *testing.T) {
	dsn := filled(t, server)
	reached := false
	d := newBadDay(t, server, dsn, func(_ context.Context, r io.Reader) io.Reader {
		return fixture.At(r, 64<<10, func() {
			reached = true
			second := newBadDaySecond(t, dsn)
			_, err := backup.Take(t.Context(), second)
			fixture.WantKind(t, err, pgmedic.KindConflict, "another pgmedic run")
			fixture.WantNoBackup(t, second.Catalog)
		})
	})
	if _, err := backup.Take(t.Context(), d.o); err != nil || !reached {
		t.Errorf("the first backup: %v", err)
	}
}

func newBadDaySecond(t *testing.T, dsn string) backup.Options {
	t.Helper()
	o := fixture.BackupOptions(t, dsn, fixture.NewCatalog(t))
	o.Method = backup.Parallel{Jobs: 2}
	return o
}
