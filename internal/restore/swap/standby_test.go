package swap_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// reader is a session on a standby that never leaves by itself.
func reader(t *testing.T, standby *scratchtest.Standby, live string) (conn *pgx.Conn, read func() (int, error)) {
	t.Helper()
	conn = testkit.Connect(t, standby.DSN(live))
	return conn, func() (n int, err error) {
		err = conn.QueryRow(t.Context(), "SELECT count(*) FROM patients").Scan(&n)
		return n, err
	}
}

// TestStandby has everything that is different where there is a standby: backups
// from it, no restore into it, and its sessions at a swap of the primary.
func TestStandby(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	// Without full pages no standby can be made of a standby.
	primary := scratchtest.New(t, scratch.Options{Settings: map[string]string{"full_page_writes": "on"}})
	dsn := scratchtest.Database(t, primary)
	live := fixture.Target(t, dsn).Database()
	t.Cleanup(func() { fixture.DropAll(t, primary, live+"__") })
	fixture.Exec(t, dsn, "CREATE TABLE patients (id int PRIMARY KEY, name text)",
		"INSERT INTO patients SELECT n, 'x' FROM generate_series(1, 30) AS n",
		"CREATE UNLOGGED TABLE cache AS SELECT generate_series(1, 5) AS n")
	standby := scratchtest.NewStandby(t, primary, scratch.StandbyOptions{})

	for _, method := range fixture.BothMethods(t, 2) {
		t.Run("backup "+string(method.Name()), func(t *testing.T) { backupFromStandby(t, primary, standby, live, method) })
	}

	c := fixture.NewCatalog(t)
	b := fixture.TakeBackup(t, dsn, c)
	fixture.Exec(t, dsn, "INSERT INTO patients SELECT n, 'new' FROM generate_series(31, 40) AS n")
	standby.CatchUp(t)
	options := func() swap.Options {
		return swap.Options{Options: fixture.RestoreOptions(t, primary, c, b, ""), Live: live, SkipSafety: "a test"}
	}
	replica := fixture.Target(t, standby.DSN("postgres"))

	t.Run("into a standby", func(t *testing.T) {
		o := options()
		o.Target = replica
		_, err := swap.Replace(t.Context(), o)
		fixture.WantKind(t, err, pgmedic.KindConflict, "is a standby")
		_, err = swap.Rollback(t.Context(), o)
		fixture.WantKind(t, err, pgmedic.KindConflict, "is a standby")
		o.Into = "copy"
		_, err = restore.Into(t.Context(), o.Options)
		fixture.WantKind(t, err, pgmedic.KindConflict, "is a standby")
		_, err = swap.Prune(t.Context(), swap.PruneOptions{Target: replica, Logger: fixture.Silent()})
		fixture.WantKind(t, err, pgmedic.KindConflict, "is a standby")
	})
	// A standby of the standby stands for itself alone.
	cascaded, err := scratch.StartStandby(t.Context(), standby.Server, scratch.StandbyOptions{Name: "cascaded"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cascaded.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		for name, tt := range map[string]struct {
			replicas []postgres.Target
			kind     pgmedic.Kind
			word     string
			set      func()
		}{
			"no replica configured":        {nil, pgmedic.KindConflict, "standby", func() {}},
			"another server":               {[]postgres.Target{fixture.Target(t, server.DSN("postgres"))}, pgmedic.KindConflict, "standby", func() {}},
			"another standby in its place": {[]postgres.Target{fixture.Target(t, cascaded.DSN("postgres"))}, pgmedic.KindConflict, "after a swap: standby_", func() {}},
			"a replica that is down":       {[]postgres.Target{replica.With("host", "/nonesuch")}, pgmedic.KindUnreachable, "read replica", func() {}},
			"one that does not replay": {[]postgres.Target{replica}, pgmedic.KindConflict, "does not replay", func() {
				standby.Pause(t)
			}},
		} {
			t.Run(name, func(t *testing.T) {
				tt.set()
				defer standby.Resume(t)
				o := options()
				o.Replicas = tt.replicas
				_, err := swap.Replace(t.Context(), o)
				fixture.WantKind(t, err, tt.kind, tt.word)
				if !strings.Contains(pgmedic.HintOf(err), "--standbys-handled") {
					t.Errorf("hint %q", pgmedic.HintOf(err))
				}
				if got := fixture.Query[int](t, dsn, "SELECT count(*) FROM patients")[0]; got != 40 {
					t.Errorf("%d patients", got)
				}
			})
		}
	})
	t.Run("handled by the caller", func(t *testing.T) {
		_, read := reader(t, standby, live)
		if n, err := read(); n != 40 || err != nil {
			t.Fatalf("%d %v", n, err)
		}
		o := options()
		o.StandbysHandled = true
		if _, err := swap.Replace(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		standby.CatchUp(t)
		// This is why it is refused otherwise.
		if n, err := read(); n != 40 || err != nil {
			t.Errorf("the session on the standby reads %d, %v", n, err)
		}
		if n := fixture.Query[int](t, standby.DSN(live), "SELECT count(*) FROM patients")[0]; n != 30 {
			t.Errorf("a new session reads %d", n)
		}
	})
	t.Run("ended by us", func(t *testing.T) {
		_, read := reader(t, standby, live)
		if n, err := read(); n != 30 || err != nil {
			t.Fatalf("%d %v", n, err)
		}
		o := swap.Options{Options: restore.Options{Target: options().Target, Logger: fixture.Silent(), Now: time.Now}, Live: live}
		o.Replicas = []postgres.Target{replica}
		done, err := swap.Rollback(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if len(done.Standbys) != 1 || done.Standbys[0].Ended < 1 || done.Degraded() != nil {
			t.Errorf("%+v %v", done.Standbys, done.Degraded())
		}
		if n, err := read(); err == nil {
			t.Errorf("the session lives and reads %d", n)
		}
		if n := fixture.Query[int](t, standby.DSN(live), "SELECT count(*) FROM patients")[0]; n != 40 {
			t.Errorf("a new session reads %d", n)
		}
	})
	t.Run("after a promotion", func(t *testing.T) { latestAfterPromotion(t, dsn, standby, live) })
}

// latestAfterPromotion: what a primary writes once its standby was promoted is on a
// lost timeline, however far it gets.
func latestAfterPromotion(t *testing.T, dsn string, standby *scratchtest.Standby, live string) {
	standby.CatchUp(t)
	standby.Promote(t)
	c := fixture.NewCatalog(t)
	fixture.Exec(t, dsn, "CREATE TABLE more AS SELECT repeat('x', 100) FROM generate_series(1, 10000)")
	old := fixture.TakeBackup(t, dsn, c)
	now := fixture.TakeBackup(t, standby.DSN(live), c)
	if old.SnapshotTimeline != 1 || now.SnapshotTimeline != 2 {
		t.Errorf("timelines %d and %d", old.SnapshotTimeline, now.SnapshotTimeline)
	}
	e, err := c.Get(t.Context(), catalog.Latest, catalog.Filter{})
	if err != nil || e.Backup.ID != now.ID {
		t.Errorf("latest is %+v, %v", e.Backup, err)
	}
	again := fixture.TakeBackup(t, dsn, c)
	_, err = c.Get(t.Context(), catalog.Latest, catalog.Filter{})
	fixture.WantKind(t, err, pgmedic.KindUsage, again.ID, now.ID, "of an earlier timeline")
}

// backupFromStandby takes a backup of the standby and restores it.
func backupFromStandby(t *testing.T, primary *scratch.Server, standby *scratchtest.Standby, live string, method backup.Method) {
	c := fixture.NewCatalog(t)
	o := fixture.BackupOptions(t, standby.DSN(live), c)
	o.Method = method
	lock, err := databases.AcquireRunLock(t.Context(), o.Target, "postgres", live)
	if err != nil {
		t.Fatal(err)
	}
	_, err = backup.Take(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindConflict, "another pgmedic run")
	lock.Release(context.WithoutCancel(t.Context()))
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !b.Server.Standby {
		t.Error("the manifest does not say that the server was a standby")
	}
	if b.Rows() != 30 {
		t.Errorf("the manifest has %d rows", b.Rows())
	}
	name := fixture.Name(t, primary)
	done, err := restore.Into(t.Context(), fixture.RestoreOptions(t, primary, c, b, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("checks: %+v", done.Checks)
	for _, table := range []string{"patients", "cache"} {
		want := map[string]int{"patients": 30, "cache": 0}[table]
		if n := fixture.Query[int](t, primary.DSN(name), "SELECT count(*) FROM "+table)[0]; n != want {
			t.Errorf("%s has %d rows, want %d", table, n, want)
		}
	}
}
