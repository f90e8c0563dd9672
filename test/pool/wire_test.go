package pool_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// overWire opens a pool over a wire, to a new database with a ledger.
func overWire(t *testing.T, config pool.Config) (*pool.DB, *wire, string) {
	t.Helper()
	dsn := scratchtest.Database(t, server)
	do(t, testkit.Connect(t, dsn), ledgerTable)
	w := newWire(t, server, nameOf(t, dsn))
	config.PrimaryURL = w.url
	config.HealthInterval = 100 * time.Millisecond
	return openTight(t, config), w, dsn
}

// TestLinkCut cuts the link to the only server under load, and mends it.
func TestLinkCut(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	db, w, dsn := overWire(t, pool.Config{RetryDelay: 10 * time.Millisecond, BreakerCooldown: 50 * time.Millisecond})
	load := newLedger(t, db, 8)
	for range 3 {
		before := load.acknowledged()
		testkit.Eventually(t, time.Minute, "there is load", func() bool { return load.acknowledged() > before+100 })
		w.proxy.Stop()
		testkit.Eventually(t, time.Minute, "the breaker opens", func() bool {
			_, err := db.Exec(t.Context(), "SELECT 1")
			return errors.Is(err, pool.ErrCircuitOpen)
		})
		testkit.Eventually(t, time.Minute, "health is down", func() bool { return db.Health(t.Context()).Status == pool.StatusDown })
		w.heal()
		testkit.Eventually(t, time.Minute, "all is well", func() bool { return db.Health(t.Context()).Status == pool.StatusOK && db.Ping(t.Context()) == nil })
	}
	load.check(t, testkit.Connect(t, dsn))
	if s := db.Stats(); s.Servers[0].CircuitOpened < 3 {
		t.Errorf("the breaker opened %d times", s.Servers[0].CircuitOpened)
	}
}

// TestLinkReset has every packet answered by a reset, under load.
func TestLinkReset(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	db, w, dsn := overWire(t, pool.Config{RetryDelay: 10 * time.Millisecond, BreakerCooldown: 50 * time.Millisecond})
	load := newLedger(t, db, 8)
	for range 5 {
		before := load.acknowledged()
		testkit.Eventually(t, time.Minute, "there is load", func() bool { return load.acknowledged() > before+50 })
		w.poison("reset_peer", `"timeout": 0`)
		testkit.Eventually(t, time.Minute, "it is felt", func() bool { return db.Health(t.Context()).Status == pool.StatusDown })
		w.heal()
	}
	before := load.acknowledged()
	testkit.Eventually(t, time.Minute, "the work goes on", func() bool { return load.acknowledged() > before+50 })
	load.check(t, testkit.Connect(t, dsn))
}

// TestLinkSilent has the link swallow all that is sent: nobody waits for longer
// than the limits say, and a write is reported as unknown.
func TestLinkSilent(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	db, w, dsn := overWire(t, pool.Config{
		QueryTimeout: 300 * time.Millisecond, CancelGrace: 200 * time.Millisecond, ConnectTimeout: 2 * time.Second,
		AcquireTimeout: 3 * time.Second, MaxRetries: 1, RetryDelay: 10 * time.Millisecond, MaxConns: 4,
	})
	exec(t, db, "SELECT 1")
	w.poison("timeout", `"timeout": 0`)
	_, err := db.Exec(t.Context(), "INSERT INTO ledger VALUES (1)")
	if !errors.Is(err, pool.ErrQueryTimeout) || !errors.Is(err, pool.ErrOutcomeUnknown) {
		t.Errorf("a write: %v", err)
	}
	// The caller's own limit counts, too.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := db.Exec(ctx, "SELECT 1"); err == nil {
		t.Error("no error")
	}
	testkit.Eventually(t, time.Minute, "it is noticed", func() bool { return db.Health(t.Context()).Status == pool.StatusDown })
	if err := db.Ping(t.Context()); err == nil {
		t.Error("no error")
	}
	w.heal()
	testkit.Eventually(t, time.Minute, "all is well", func() bool { return db.Health(t.Context()).Status == pool.StatusOK && db.Ping(t.Context()) == nil })
	if n := ask[int](t, testkit.Connect(t, dsn), "SELECT count(*)::int FROM ledger"); n > 1 {
		t.Errorf("%d rows", n)
	}
}

// TestLinkSlow: a slow link is no fault as long as it is within the limits.
func TestLinkSlow(t *testing.T) {
	t.Parallel()
	db, w, dsn := overWire(t, pool.Config{ConnectTimeout: time.Minute, AcquireTimeout: time.Minute})
	w.poison("latency", `"latency": 40, "jitter": 20`)
	load := newLedger(t, db, 8)
	testkit.Eventually(t, time.Minute, "there is load", func() bool { return load.acknowledged() > 100 })
	load.check(t, testkit.Connect(t, dsn))
	if s := db.Stats(); s.Retries != 0 || s.Servers[0].CircuitOpened != 0 || len(load.reasons) != 1 {
		t.Errorf("%d retries, breaker opened %d times, %v", s.Retries, s.Servers[0].CircuitOpened, load.reasons)
	}
	seen := db.Health(t.Context()).Servers[0]
	testkit.Eventually(t, time.Minute, "the probe sees it", func() bool {
		h := db.Health(t.Context()).Servers[0]
		return h.ProbedAt.After(seen.ProbedAt) && h.Latency >= 40*time.Millisecond
	})
}

// TestReplicaLost cuts the way to a standby: reads go to the primary without an
// error, and back to the standby when it is there again.
func TestReplicaLost(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	c := newCluster(t, 15, 1)
	w := newWire(t, c.standbys[0].Server, c.name)
	db := open(t, pool.Config{PrimaryURL: c.primary.URL(c.name), ReplicaURLs: []string{w.url}, HealthInterval: 200 * time.Millisecond})
	standby := func() bool { return one[bool](t, db.Read(t.Context()), "SELECT pg_is_in_recovery()") }
	for range 2 {
		testkit.Eventually(t, time.Minute, "the standby is read", standby)
		w.proxy.Stop()
		for range 100 {
			standby() // and no error
		}
		if standby() {
			t.Error("a read through a cut link")
		}
		if h := db.Health(t.Context()); h.Status == pool.StatusDown {
			t.Errorf("%+v", h)
		}
		w.heal()
	}
	if db.Stats().Fallbacks == 0 {
		t.Error("no read fell back")
	}
}
