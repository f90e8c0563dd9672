package restore_test

import (
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestComesBack: a worker that comes back to a database is seen, and one that does not
// is missed after a time. A client's session stands for the worker.
func TestComesBack(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	admin := fixture.Connect(t, server.DSN("postgres"))
	name := fixture.Target(t, dsn).Database()
	if there, err := restore.ComesBack(t.Context(), admin, name, "client backend", 120*time.Millisecond); err != nil || there {
		t.Errorf("before it is there: %v, %v", there, err)
	}
	fixture.Connect(t, dsn)
	if there, err := restore.ComesBack(t.Context(), admin, name, "client backend", time.Minute); err != nil || !there {
		t.Errorf("once it is there: %v, %v", there, err)
	}
	if there, err := restore.ComesBack(t.Context(), admin, name, "pg_cron launcher", 120*time.Millisecond); err != nil || there {
		t.Errorf("of another kind: %v, %v", there, err)
	}
}

// TestCronStopped: a swap after which no job runs is no success.
func TestCronStopped(t *testing.T) {
	done := restore.Swapped{Database: "clinic", CronStopped: true}
	fixture.WantKind(t, done.Degraded(), pgmedic.KindDegraded, "pg_cron's scheduler")
	done.CronStopped = false
	if err := done.Degraded(); err != nil {
		t.Error(err)
	}
}
