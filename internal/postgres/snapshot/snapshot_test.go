package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

func takeSnapshot(t *testing.T, conn *pgx.Conn, timeout time.Duration) *snapshot.Snapshot {
	t.Helper()
	s, err := snapshot.Take(t.Context(), conn, snapshot.Options{LockTimeout: timeout, Logger: postgrestest.Silent()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.WithoutCancel(t.Context())) })
	return s
}

func TestSnapshot(t *testing.T) {
	target, conn := database(t)
	postgrestest.Run(t, conn, `CREATE SCHEMA "a.b"; CREATE TABLE "a.b"."c""d" (x int); CREATE TABLE public.zero ()`,
		"CREATE TABLE public.root (k int) PARTITION BY LIST (k); CREATE TABLE public.mid PARTITION OF public.root DEFAULT PARTITION BY LIST (k)",
		"CREATE TABLE public.leaf PARTITION OF public.mid DEFAULT; CREATE TEMP TABLE mine (x int); CREATE VIEW public.v AS SELECT 1",
		"INSERT INTO public.root SELECT generate_series(1, 1000)")
	s := takeSnapshot(t, conn, 0)
	var got []string
	for _, table := range s.Tables {
		got = append(got, table.Schema+"/"+table.Name+"/"+sqltext.CountedAs(table))
		if (table.SizeBytes > 0) != (table.Name == "leaf") {
			t.Errorf("%s has %d bytes", table.Name, table.SizeBytes)
		}
	}
	if want := `a.b/c"d/"a.b"."c""d" public/leaf/"public"."root" public/zero/"public"."zero"`; strings.Join(got, " ") != want || !s.Locked {
		t.Errorf("got %s %t", got, s.Locked)
	}
	if since := time.Since(s.TakenAt); since > time.Minute || since < -time.Minute || s.TakenAt.Location() != time.UTC {
		t.Errorf("taken at %s", s.TakenAt)
	}
	// Another session sees the same moment, and nobody can rewrite a table.
	other := postgrestest.Connect(t, target)
	postgrestest.Run(t, other, "INSERT INTO public.root VALUES (0)", "BEGIN ISOLATION LEVEL REPEATABLE READ", "SET TRANSACTION SNAPSHOT '"+s.ID+"'")
	if n := postgrestest.Query[int](t, other, "SELECT count(*) FROM public.root"); n != 1000 {
		t.Errorf("%d rows in the snapshot", n)
	}
	postgrestest.Run(t, other, "ROLLBACK", "SET lock_timeout = '50ms'")
	_, err := other.Exec(t.Context(), "ALTER TABLE public.leaf ADD COLUMN y int")
	if postgres.Code(err) != "55P03" {
		t.Errorf("a table could be changed: %v", err)
	}
	s.Close(t.Context())
	postgrestest.Run(t, other, "ALTER TABLE public.root ADD COLUMN y int")
}

// TestSnapshotLocksFirst rewrites a table all the while: a snapshot that is
// older than its locks would read it as empty.
func TestSnapshotLocksFirst(t *testing.T) {
	target, conn := database(t)
	postgrestest.Run(t, conn, "CREATE TABLE public.t (x int); INSERT INTO public.t SELECT generate_series(1, 5)")
	ctx, cancel := context.WithCancel(t.Context())
	var rewrites atomic.Int32
	done := make(chan struct{})
	rewriter := postgrestest.Connect(t, target)
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			kind := []string{"bigint", "int"}[rewrites.Load()%2]
			_, _ = rewriter.Exec(ctx, "ALTER TABLE public.t ALTER x TYPE "+kind)
			rewrites.Add(1)
		}
	}()
	taken := 0
	// How often each of the two gets the table is up to the machine.
	for deadline, n := time.Now().Add(time.Minute), 0; n < 40 || (taken == 0 || rewrites.Load() < 10) && time.Now().Before(deadline); n++ {
		s, err := snapshot.Take(t.Context(), conn, snapshot.Options{Logger: postgrestest.Silent()})
		if pgmedic.KindOf(err) == pgmedic.KindConflict && err != nil {
			continue // it gives up rather than to take a wrong one
		}
		if err != nil {
			t.Fatal(err)
		}
		taken++
		if n := postgrestest.Query[int](t, conn, "SELECT count(*) FROM public.t"); n != 5 || len(s.Tables) != 1 {
			t.Errorf("%d rows, tables %v", n, s.Tables)
		}
		s.Close(t.Context())
	}
	cancel()
	<-done
	if n := rewrites.Load(); n < 10 || taken == 0 {
		t.Errorf("%d rewrites, %d snapshots", n, taken)
	}
}

func TestSnapshotBlocked(t *testing.T) {
	target, conn := database(t)
	postgrestest.Run(t, conn, `CREATE TABLE public.a (); CREATE TABLE public."b ""c" ()`)
	blocker := postgrestest.Connect(t, target.With("application_name", "a migration"))
	postgrestest.Run(t, blocker, "BEGIN", `LOCK TABLE public."b ""c" IN ACCESS EXCLUSIVE MODE`)
	pid := postgrestest.Query[int](t, blocker, "SELECT pg_backend_pid()")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := snapshot.Take(ctx, conn, snapshot.Options{LockTimeout: 200 * time.Millisecond, Logger: postgrestest.Silent()})
	postgrestest.WantError(t, err, pgmedic.KindConflict, `"public"."b ""c"`, fmt.Sprintf("process %d ", pid), `user "`+server.Superuser()+`"`,
		`application "a migration"`, fmt.Sprintf("pg_terminate_backend(%d)", pid))
	postgrestest.Run(t, blocker, "ROLLBACK")
	takeSnapshot(t, conn, 0) // the session is as it was
}

// TestSnapshotDropped drops a table after it was listed: it is locked then, so
// that the snapshot waits for the lock.
func TestSnapshotDropped(t *testing.T) {
	target, conn := database(t)
	postgrestest.Run(t, conn, "CREATE TABLE public.a (); CREATE TABLE public.b ()")
	dropper, watcher := postgrestest.Connect(t, target), postgrestest.Connect(t, target)
	postgrestest.Run(t, dropper, "BEGIN", "DROP TABLE public.b", "CREATE TABLE public.c ()")
	type result struct {
		s   *snapshot.Snapshot
		err error
	}
	got := make(chan result, 1)
	go func() {
		s, err := snapshot.Take(t.Context(), conn, snapshot.Options{Logger: postgrestest.Silent()})
		got <- result{s, err}
	}()
	testkit.Eventually(t, time.Minute, "the snapshot waits", func() bool {
		return postgrestest.Query[int](t, watcher, "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") > 0
	})
	postgrestest.Run(t, dropper, "COMMIT")
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.s.Close(t.Context())
	if len(r.s.Tables) != 2 || r.s.Tables[0].Name != "a" || r.s.Tables[1].Name != "c" {
		t.Errorf("tables: %v", r.s.Tables)
	}
}

func TestSnapshotWithoutPrivilege(t *testing.T) {
	target, conn := database(t)
	postgrestest.Role(t, conn, "reader of little", "LOGIN")
	postgrestest.Run(t, conn, "CREATE TABLE public.allowed (); CREATE TABLE public.denied (); GRANT SELECT ON public.allowed TO \"reader of little\"")
	t.Cleanup(func() { postgrestest.Run(t, conn, "DROP TABLE public.allowed") })
	_, err := snapshot.Take(t.Context(), postgrestest.Connect(t, target.With("user", "reader of little")), snapshot.Options{Logger: postgrestest.Silent()})
	postgrestest.WantError(t, err, pgmedic.KindUnreachable, `permission denied for table "public"."denied"`, `GRANT SELECT ON TABLE "public"."denied" TO "reader of little"`)
}

func TestSnapshotCancelled(t *testing.T) {
	target, conn := database(t)
	postgrestest.Run(t, conn, "CREATE TABLE public.a ()")
	blocker := postgrestest.Connect(t, target)
	postgrestest.Run(t, blocker, "BEGIN", "LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := snapshot.Take(ctx, conn, snapshot.Options{Logger: postgrestest.Silent()})
	if !errors.Is(err, context.Canceled) || pgmedic.KindOf(err) != pgmedic.KindInterrupted {
		t.Errorf("%s: %v", pgmedic.KindOf(err), err)
	}
}

// TestSnapshotGone: where the session that exported a snapshot is gone, that is said, and
// not what the server thinks of the snapshot's name.
func TestSnapshotGone(t *testing.T) {
	target, conn := database(t)
	postgrestest.Run(t, conn, "CREATE TABLE public.a ()")
	s := takeSnapshot(t, conn, 0)
	s.Close(t.Context())
	other := postgrestest.Connect(t, target)
	_, err := snapshot.ReadInventoryIn(t.Context(), other, s.ID, 150000, snapshot.LeftOut{})
	postgrestest.WantError(t, err, pgmedic.KindUnreachable, "the session that exported the snapshot is gone", "network")
	postgrestest.Run(t, other, "ROLLBACK")
	err = s.BeginChunk(t.Context(), other, []snapshot.RowTable{{Schema: "public", Name: "a"}})
	postgrestest.WantError(t, err, pgmedic.KindUnreachable, "the session that exported the snapshot is gone", "network")
}

func TestSnapshotTooManyTables(t *testing.T) {
	small := scratchtest.New(t, scratch.Options{Settings: map[string]string{
		"max_locks_per_transaction": "10", "max_connections": "10", "max_prepared_transactions": "0",
		"max_wal_senders": "0", "superuser_reserved_connections": "0",
	}})
	conn := postgrestest.Connect(t, postgrestest.Parse(t, small.DSN("postgres")))
	for i := range 40 {
		postgrestest.Run(t, conn, fmt.Sprintf("CREATE TABLE public.t%02d (x int)", i))
	}
	postgrestest.Run(t, conn, "INSERT INTO public.t07 VALUES (1); ANALYZE public.t07")
	s := takeSnapshot(t, conn, 0)
	if s.Locked || len(s.Tables) != 40 || s.ID == "" || s.Tables[7].SizeBytes == 0 {
		t.Errorf("locked %t, %d tables, %+v", s.Locked, len(s.Tables), s.Tables[7])
	}
	if n := postgrestest.Query[int](t, conn, "SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND relation >= 16384"); n > 0 {
		t.Errorf("%d tables are locked", n)
	}
}

func TestRunLock(t *testing.T) {
	target, conn := admin(t)
	lock, err := databases.AcquireRunLock(t.Context(), target, "postgres", "shop")
	if err != nil {
		t.Fatal(err)
	}
	_, err = databases.AcquireRunLock(t.Context(), target, "postgres", "shop")
	postgrestest.WantError(t, err, pgmedic.KindConflict, `another pgmedic run works on database "shop"`)
	other, err := databases.AcquireRunLock(t.Context(), target, "postgres", "another")
	if err != nil {
		t.Fatal(err)
	}
	other.Release(t.Context())
	postgrestest.Run(t, conn, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
	var again *databases.RunLock
	testkit.Eventually(t, time.Minute, "the lock of a killed session is free", func() bool {
		again, err = databases.AcquireRunLock(t.Context(), target, "postgres", "shop")
		return err == nil
	})
	lock.Release(t.Context())
	again.Release(t.Context())
	// A maintenance database that is not there is done without; a server that
	// can't be reached is not asked twice.
	own, err := databases.AcquireRunLock(t.Context(), target, "nonesuch", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	// It is held in the database itself, and seen from elsewhere all the same.
	_, err = databases.AcquireRunLock(t.Context(), target, "template1", "postgres")
	postgrestest.WantError(t, err, pgmedic.KindConflict, `another pgmedic run works on database "postgres"`)
	postgrestest.WantError(t, databases.RefuseRunLocked(t.Context(), conn, "postgres"), pgmedic.KindConflict, "another pgmedic run")
	own.Release(t.Context())
	if err := databases.RefuseRunLocked(t.Context(), conn, "postgres"); err != nil {
		t.Error(err)
	}
	elsewhere, err := databases.AcquireRunLock(t.Context(), target, "template1", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere.Release(t.Context())
	_, err = databases.AcquireRunLock(t.Context(), target.With("host", "/no/such/folder"), "postgres", "shop")
	postgrestest.WantError(t, err, pgmedic.KindUnreachable)
}
