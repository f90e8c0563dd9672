package pool_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// readiness asks the readiness check.
func readiness(t *testing.T, db *pool.DB) int {
	t.Helper()
	answer := httptest.NewRecorder()
	db.HealthHandler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	return answer.Code
}

// loadMood registers a type that may not be there.
func loadMood(ctx context.Context, conn *pgx.Conn) error {
	mood, err := conn.LoadType(ctx, "mood")
	if err == nil {
		conn.TypeMap().RegisterType(mood)
	}
	return err
}

// TestUnprepared: a pool none of whose connections can be prepared does not open, or
// is not ready until one can.
func TestUnprepared(t *testing.T) {
	t.Parallel()
	dsn := scratchtest.Database(t, server)
	config := pool.Config{PrimaryURL: dsn, AfterConnect: loadMood, AcquireTimeout: 20 * time.Second, HealthInterval: 100 * time.Millisecond}
	if _, err := pool.Open(t.Context(), config); pool.Classify(err) != pool.ClassInvalid || pool.Hint(err) == "" {
		t.Errorf("%s: %v: %s", pool.Classify(err), err, pool.Hint(err))
	}
	config.StartDegraded = true
	db := open(t, config)
	if h := db.Health(t.Context()); h.Status != pool.StatusDown || h.Servers[0].Problem == "" || h.Servers[0].ErrorClass != "invalid" || readiness(t, db) != http.StatusServiceUnavailable {
		t.Errorf("%+v", h)
	}
	do(t, testkit.Connect(t, dsn), "CREATE TYPE mood AS ENUM ('sad', 'ok')")
	testkit.Eventually(t, time.Minute, "it is ready", func() bool { return readiness(t, db) == http.StatusOK })
	if got := one[string](t, db, "SELECT 'ok'::mood::text"); got != "ok" {
		t.Error(got)
	}
}

// TestNotReadyLater: a pool that has lost its connections and can't open others is not
// ready, although the probe's session works.
func TestNotReadyLater(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	s := scratchtest.New(t, scratch.Options{TCP: true})
	dsn := scratchtest.Database(t, s)
	conn := testkit.Connect(t, dsn)
	var broken atomic.Bool
	db := open(t, pool.Config{
		PrimaryURL: dsn, MaxConns: 2, MaxRetries: -1, HealthInterval: 100 * time.Millisecond,
		AfterConnect: func(ctx context.Context, conn *pgx.Conn) error {
			if broken.Load() {
				_, err := conn.Exec(ctx, "SELECT * FROM not_there")
				return err
			}
			return nil
		},
	})
	if readiness(t, db) != http.StatusOK {
		t.Error("it is not ready at first")
	}
	broken.Store(true)
	endAll(t, conn)
	if _, err := db.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("it has a connection")
	}
	testkit.Eventually(t, time.Minute, "it is not ready", func() bool { return readiness(t, db) == http.StatusServiceUnavailable })
	if h := db.Health(t.Context()); h.Servers[0].Role != "primary" || h.Servers[0].Problem == "" {
		t.Errorf("%+v", h)
	}
	broken.Store(false)
	testkit.Eventually(t, time.Minute, "it is ready by itself", func() bool { return readiness(t, db) == http.StatusOK })
}
