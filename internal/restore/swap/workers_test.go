package swap_test

import (
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestComesBack: a worker that comes back to a database is seen, and one that does not
// is missed after a time. A client's session stands for the worker.
func TestComesBack(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	admin := testkit.Connect(t, server.DSN("postgres"))
	name := fixture.Target(t, dsn).Database()
	// However soon the time is over, and in the middle of a query: the session lives on.
	for _, wait := range []time.Duration{0, time.Microsecond, 100 * time.Microsecond, 300 * time.Microsecond, time.Millisecond, 120 * time.Millisecond} {
		if there, err := swap.ComesBack(t.Context(), admin, name, "client backend", wait); err != nil || there {
			t.Errorf("before it is there, in %s: %v, %v", wait, there, err)
		}
	}
	testkit.Connect(t, dsn)
	if there, err := swap.ComesBack(t.Context(), admin, name, "client backend", time.Minute); err != nil || !there {
		t.Errorf("once it is there: %v, %v", there, err)
	}
	if there, err := swap.ComesBack(t.Context(), admin, name, "pg_cron launcher", 120*time.Millisecond); err != nil || there {
		t.Errorf("of another kind: %v, %v", there, err)
	}
}

// TestCronStopped: a swap after which no job runs is no success.
func TestCronStopped(t *testing.T) {
	done := swap.Swapped{Database: "clinic", CronStopped: true}
	fixture.WantKind(t, done.Degraded(), pgmedic.KindDegraded, "pg_cron's scheduler")
	done.CronStopped = false
	if err := done.Degraded(); err != nil {
		t.Error(err)
	}
}
