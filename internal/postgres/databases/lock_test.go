package databases_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// runLockOfClinic is the key of the run lock of a database named clinic, which
// anybody can compute.
const runLockOfClinic = "-7168758412901052556"

// TestRunLockHolderIsNamed: any role that may log in takes the lock by its public
// key. The error says who, and how to end it.
func TestRunLockHolderIsNamed(t *testing.T) {
	target, conn := admin(t)
	postgrestest.Role(t, conn, `no"body`, "LOGIN")
	elsewhere := postgrestest.Parse(t, scratchtest.Database(t, server))
	for name, in := range map[string]postgres.Target{"the same database": target, "another database": elsewhere} {
		t.Run(name, func(t *testing.T) {
			holder := postgrestest.Connect(t, in.With("user", `no"body`).With("application_name", "mischief\nand more"))
			postgrestest.Run(t, holder, "SELECT pg_catalog.pg_advisory_lock("+runLockOfClinic+")")
			pid := holder.PgConn().PID()
			_, err := databases.AcquireRunLock(t.Context(), target, "postgres", "clinic")
			postgrestest.WantError(t, err, pgmedic.KindConflict, "does not call itself pgmedic", `database "clinic": pid `, `role "no\"body"`, `application "mischief`,
				`database "`+in.Database()+`"`, "connected since 20", "last active 20", "SELECT pg_catalog.pg_terminate_backend(")
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("not on one line: %v", err)
			}
			h, err := databases.RunLockHolder(t.Context(), conn, "clinic")
			if err != nil || h == nil || uint32(h.PID) != pid || h.Role != `no"body` || h.Client != "" {
				t.Fatalf("the holder is %+v, %v", h, err)
			}
			if h, err := databases.RunLockHolder(t.Context(), conn, "another"); h != nil || err != nil {
				t.Errorf("of another database: %v, %v", h, err)
			}
			postgrestest.Run(t, conn, strings.TrimSuffix(h.End(), ";"))
			testkit.Eventually(t, time.Minute, "the lock is free", func() bool {
				h, err := databases.RunLockHolder(t.Context(), conn, "clinic")
				return h == nil && err == nil
			})
		})
	}
	t.Run("a run", func(t *testing.T) {
		lock, err := databases.AcquireRunLock(t.Context(), target, "postgres", "clinic")
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Release(t.Context())
		_, err = databases.AcquireRunLock(t.Context(), target, "postgres", "clinic")
		postgrestest.WantError(t, err, pgmedic.KindConflict, `another pgmedic run works on database "clinic": pid `, `application "pgmedic"`)
	})
	t.Run("seen by a role without privileges", func(t *testing.T) {
		lock, err := databases.AcquireRunLock(t.Context(), target, "postgres", "clinic")
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Release(t.Context())
		err = databases.RefuseRunLocked(t.Context(), postgrestest.Connect(t, target.With("user", `no"body`)), "clinic")
		postgrestest.WantError(t, err, pgmedic.KindConflict, "pid ", `application "pgmedic"`)
	})
}

// TestDropIsNotInterrupted: a DROP DATABASE that was begun ends, whatever happens
// to its context; one that was not is not begun.
func TestDropIsNotInterrupted(t *testing.T) {
	target, conn := admin(t)
	for name, drop := range map[string]func(context.Context, postgres.Target) error{
		"unused": func(ctx context.Context, t postgres.Target) error {
			return databases.DropUnused(ctx, conn, t.Database())
		},
		"forced": func(ctx context.Context, t postgres.Target) error {
			return databases.Drop(ctx, conn, t.Database(), server.Major()*10000)
		},
	} {
		t.Run(name, func(t *testing.T) {
			victim := target.WithDatabase("dropped_" + name)
			postgrestest.Run(t, conn, "CREATE DATABASE "+victim.Database()+" TEMPLATE template0")
			stopped := errors.New("stopped")
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(stopped)
			if err := drop(ctx, victim); !errors.Is(err, stopped) {
				t.Errorf("a drop that should not begin: %v", err)
			}
			if there, err := databases.Exists(t.Context(), conn, victim.Database()); !there || err != nil {
				t.Fatalf("it was dropped: %v", err)
			}
			// A comment in an open transaction keeps the drop waiting.
			blocker := postgrestest.Connect(t, target)
			postgrestest.Run(t, blocker, "BEGIN", "COMMENT ON DATABASE "+victim.Database()+" IS 'x'")
			ctx, cancel = context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() { done <- drop(ctx, victim) }()
			watcher := postgrestest.Connect(t, target) // to a transaction the activity stands still
			testkit.Eventually(t, time.Minute, "the drop is under way", func() bool {
				return postgrestest.Query[int](t, watcher, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'DROP DATABASE%dropped_"+name+"%'") > 0
			})
			cancel(stopped)
			postgrestest.Run(t, blocker, "ROLLBACK")
			if err := <-done; err != nil {
				t.Errorf("the drop: %v", err)
			}
			if there, err := databases.Exists(t.Context(), conn, victim.Database()); there || err != nil {
				t.Errorf("it is still there: %t, %v", there, err)
			}
		})
	}
}

// TestHurried: a statement_timeout of the database's or the role's own that no
// statement meets ends nothing of ours.
func TestHurried(t *testing.T) {
	target, conn := database(t)
	postgrestest.Run(t, conn, "ALTER DATABASE "+target.Database()+" SET statement_timeout = '1ms'", "ALTER DATABASE "+target.Database()+" SET lock_timeout = '1ms'")
	for range 20 {
		hurried := postgrestest.Connect(t, target)
		for _, name := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
			if got := postgrestest.Query[string](t, hurried, "SELECT current_setting($1)", name); got != "0" {
				t.Fatalf("%s is %s", name, got)
			}
		}
		if target.As(hurried).ThroughPooler() {
			t.Error("a server is taken for a pooler")
		}
		postgres.Close(t.Context(), hurried)
	}
}
