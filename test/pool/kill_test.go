package pool_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// TestBackendsKilled ends sessions at random under load, and now and then all of
// them: the counts hold, and the work goes on.
func TestBackendsKilled(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	conn := testkit.Connect(t, dsn)
	do(t, conn, ledgerTable)
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: 6, RetryDelay: time.Millisecond})
	load := newLedger(t, db, 12)
	for round := range 30 {
		before := load.acknowledged()
		testkit.Eventually(t, time.Minute, "there is load", func() bool { return load.acknowledged() > before+20 })
		const others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
		if round%10 == 9 {
			do(t, conn, others)
		} else {
			do(t, conn, others+" ORDER BY random() LIMIT "+strconv.Itoa(1+rand.IntN(3)))
		}
	}
	load.check(t, conn)
	for class := range load.reasons {
		if class != pool.ClassNone && class != pool.ClassOutcomeUnknown && class != pool.ClassUnavailable && class != pool.ClassConnectionLost {
			t.Errorf("an error of class %s", class)
		}
	}
}

// TestServerRestarts has a server lose a process to a crash under load, so that
// it ends all sessions, recovers and starts again.
func TestServerRestarts(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	own := scratchtest.New(t, scratch.Options{TCP: true, Settings: map[string]string{"synchronous_commit": "on"}})
	dsn := scratchtest.Database(t, own)
	name := nameOf(t, dsn)
	conn := testkit.Connect(t, dsn)
	do(t, conn, ledgerTable)
	db := open(t, pool.Config{PrimaryURL: own.URL(name), MaxConns: 6, RetryDelay: 20 * time.Millisecond, HealthInterval: 200 * time.Millisecond})
	load := newLedger(t, db, 12)
	for range 3 {
		before := load.acknowledged()
		testkit.Eventually(t, time.Minute, "there is load", func() bool { return load.acknowledged() > before+100 })
		scratchtest.Crash(t, own)
	}
	before := load.acknowledged()
	testkit.Eventually(t, time.Minute, "the work goes on", func() bool { return load.acknowledged() > before+100 })
	testkit.Eventually(t, time.Minute, "all is well", func() bool { return db.Health(t.Context()).Status == pool.StatusOK })
	load.check(t, testkit.Connect(t, dsn))
}

// TestServerFull takes all connections that a server has: who can't get one gets
// an error of the right class within a bounded time, and is served as soon as
// there is room.
func TestServerFull(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	own := scratchtest.New(t, scratch.Options{TCP: true, Settings: map[string]string{"max_connections": "12", "superuser_reserved_connections": "0"}})
	dsn := scratchtest.Database(t, own)
	var taken []*pgx.Conn
	fill := func() {
		for {
			conn, err := pgx.Connect(t.Context(), dsn)
			if err != nil {
				return
			}
			taken = append(taken, conn)
		}
	}
	fill()
	_, err := pool.Open(t.Context(), pool.Config{PrimaryURL: dsn, AcquireTimeout: 300 * time.Millisecond})
	if !errors.Is(err, pool.ErrNoPrimary) || pool.Hint(err) == "" {
		t.Fatalf("opened with no room: %v", err)
	}
	db := open(t, pool.Config{PrimaryURL: dsn, StartDegraded: true, RetryDelay: 10 * time.Millisecond, AcquireTimeout: time.Second, HealthInterval: 100 * time.Millisecond})
	if _, err := db.Exec(t.Context(), "SELECT 1"); pool.Classify(err) != pool.ClassUnavailable {
		t.Errorf("%s: %v", pool.Classify(err), err)
	}
	for _, conn := range taken {
		_ = conn.Close(t.Context())
	}
	taken = nil
	testkit.Eventually(t, time.Minute, "the pool recovers", func() bool { return db.Ping(t.Context()) == nil })

	// With the probe connected, and one connection in use.
	fill()
	// The gate lets five in; there is room on the server for fewer.
	done := make(chan error)
	for range 5 {
		go func() {
			_, err := db.Exec(t.Context(), "SELECT pg_sleep(0.2)")
			done <- err
		}()
	}
	for range 5 {
		if err := <-done; err != nil && pool.Classify(err) != pool.ClassUnavailable && pool.Classify(err) != pool.ClassOverload {
			t.Errorf("%s: %v", pool.Classify(err), err)
		}
	}
	for _, conn := range taken {
		_ = conn.Close(t.Context())
	}
	testkit.Eventually(t, time.Minute, "there is room", func() bool { return db.Ping(t.Context()) == nil })
	if h := db.Health(t.Context()); h.Servers[0].Role != "primary" {
		t.Errorf("%+v", h)
	}
}

// TestNoSecrets: no error says a password, whatever is wrong.
func TestNoSecrets(t *testing.T) {
	const secret = "correct-horse-battery"
	for name, url := range map[string]string{
		"unreachable":       "postgres://someone:" + secret + "@127.0.0.1:1/clinic",
		"wrong password":    "postgres://someone:" + secret + "@127.0.0.1:" + strconv.Itoa(server.Port()) + "/postgres",
		"unknown host":      "postgres://someone:" + secret + "@pgmedic.invalid:5432/clinic",
		"unknown parameter": "postgres://someone:" + secret + "@127.0.0.1/clinic?shiny=" + secret,
		"bad port":          "postgres://someone:" + secret + "@127.0.0.1:port/clinic",
		"bad limit":         "postgres://someone:" + secret + "@127.0.0.1/clinic?connection_limit=" + secret,
		"no url":            secret,
		"bad percent":       "postgres://someone:" + secret + "%zz@127.0.0.1/clinic",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pool.Open(t.Context(), pool.Config{PrimaryURL: url, AcquireTimeout: 200 * time.Millisecond})
			if err == nil {
				t.Fatal("opened")
			}
			if strings.Contains(fmt.Sprintf("%v %+v %s", err, err, pool.Hint(err)), secret) {
				t.Errorf("the password is in: %v", err)
			}
			if pool.Hint(err) == "" {
				t.Errorf("no hint: %v", err)
			}
		})
	}
}
