package pool_test

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// patience is a context that ends long after the limits of the pool, and before
// those that must not count.
func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// silenced is a pool over a wire that swallows all from now on, with this many open
// connections, of which only one was used in the last second.
func silenced(t *testing.T, conns int) (*pool.DB, *wire) {
	t.Helper()
	db, w, _ := overWire(t, pool.Config{
		MaxConns: 3, AcquireTimeout: 2 * time.Second, ConnectTimeout: time.Hour, BreakerFailures: -1, MaxRetries: -1,
	})
	var held []*pool.Conn
	for range conns {
		conn, err := db.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	for _, conn := range held {
		conn.Release()
	}
	// Pgxpool pings a connection that was idle for a second, and hands out the one
	// that was used last.
	since := time.Now()
	testkit.Eventually(t, time.Minute, "the others were idle for long", func() bool {
		exec(t, db, "SELECT 1")
		return time.Since(since) > 1200*time.Millisecond
	})
	w.poison("timeout", `"timeout": 0`)
	t.Cleanup(w.proxy.Stop) // so that nobody waits for a goodbye
	return db, w
}

// TestSilentWhileIdle: who gets a connection that was idle for long, and whose link
// has gone silent since, waits for no longer than the acquire timeout.
func TestSilentWhileIdle(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	db, _ := silenced(t, 2)
	// The one that was just used: there is nothing to wait for, unless this machine
	// took a second for it.
	conn, err := db.Acquire(patience(t))
	if err != nil && !errors.Is(err, pool.ErrPoolTimeout) {
		t.Fatal(err)
	} else if err == nil {
		defer conn.Release()
	}
	for name, run := range map[string]func(context.Context) error{
		"pgx":          func(ctx context.Context) error { _, err := db.Exec(ctx, "SELECT 1"); return err },
		"database/sql": func(ctx context.Context) error { _, err := db.Stdlib().ExecContext(ctx, "SELECT 1"); return err },
	} {
		if err := run(patience(t)); !errors.Is(err, pool.ErrPoolTimeout) || pool.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := db.Stats().Servers[0]; s.AcquireTimeouts < 2 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}

// TestSilentWhileConnecting: the same for who needs a new connection.
func TestSilentWhileConnecting(t *testing.T) {
	t.Parallel()
	db, _ := silenced(t, 1)
	conn, err := db.Acquire(patience(t))
	if err == nil {
		defer conn.Release()
	}
	if _, err := db.Exec(patience(t), "SELECT 1"); !errors.Is(err, pool.ErrPoolTimeout) {
		t.Errorf("%v", err)
	}
	// The caller's own end counts, too, with its cause.
	why := errors.New("why")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, why)
	defer cancel()
	if _, err := db.Exec(ctx, "SELECT 1"); !errors.Is(err, why) || !errors.Is(err, context.DeadlineExceeded) || pool.Classify(err) != pool.ClassCanceled {
		t.Errorf("%v", err)
	}
}

// TestSilentSession: what is not run as a statement, but waits for the server like one,
// ends in time, too, when the link goes silent.
func TestSilentSession(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(context.Context, *pool.Conn, *sql.Conn) error{
		"Ping": func(ctx context.Context, conn *pool.Conn, _ *sql.Conn) error { return conn.Ping(ctx) },
		"Prepare": func(ctx context.Context, conn *pool.Conn, _ *sql.Conn) error {
			_, err := conn.Conn().Prepare(ctx, "p", "SELECT 1")
			return err
		},
		"Ping, database/sql": func(ctx context.Context, _ *pool.Conn, conn *sql.Conn) error { return conn.PingContext(ctx) },
		"Prepare, database/sql": func(ctx context.Context, _ *pool.Conn, conn *sql.Conn) error {
			stmt, err := conn.PrepareContext(ctx, "SELECT 1")
			if err != nil {
				return err
			}
			defer func() { _ = stmt.Close() }()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, w, _ := overWire(t, pool.Config{QueryTimeout: 300 * time.Millisecond, CancelGrace: 200 * time.Millisecond, BreakerFailures: -1})
			t.Cleanup(w.proxy.Stop)
			conn, err := db.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			std, err := db.Stdlib().Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = std.Close() }()
			w.poison("timeout", `"timeout": 0`)
			ctx := patience(t)
			if err := run(ctx, conn, std); err == nil || ctx.Err() != nil {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestSilentAfterConnect: a connection whose preparation does not end is given up, and
// its place goes to another.
func TestSilentAfterConnect(t *testing.T) {
	t.Parallel()
	var sleep atomic.Bool
	db := openTight(t, pool.Config{
		PrimaryURL: scratchtest.Database(t, server), MaxConns: 1, ConnectTimeout: 500 * time.Millisecond, CancelGrace: time.Second, MaxRetries: -1,
		QueryTimeout: -1, BreakerFailures: -1,
		AfterConnect: func(ctx context.Context, conn *pgx.Conn) error {
			if !sleep.Load() {
				return nil
			}
			_, err := conn.Exec(ctx, "SELECT pg_sleep(600)")
			return err
		},
	})
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Conn().Close(t.Context())
	conn.Release()
	sleep.Store(true)
	ctx := patience(t)
	if err := db.Ping(ctx); err == nil || pool.Classify(err) != pool.ClassUnavailable || ctx.Err() != nil {
		t.Errorf("%s: %v", pool.Classify(err), err)
	}
	sleep.Store(false)
	testkit.Eventually(t, time.Minute, "the place is free", func() bool { return db.Ping(ctx) == nil })
}

// TestSilentStandby: a read with a token waits no longer than it should for a standby
// that does not answer.
func TestSilentStandby(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	c := newCluster(t, 15, 1)
	w := newWire(t, c.standbys[0].Server, c.name)
	db := open(t, pool.Config{
		PrimaryURL: c.primary.URL(c.name), ReplicaURLs: []string{w.url}, MaxLag: -1,
		ConnectTimeout: time.Hour, CancelGrace: time.Hour, HealthInterval: time.Hour,
	})
	t.Cleanup(w.proxy.Stop) // so that nobody waits for an answer
	testkit.Eventually(t, time.Minute, "the standby is read", func() bool { return one[bool](t, db.Read(t.Context()), "SELECT pg_is_in_recovery()") })
	w.poison("timeout", `"timeout": 0`)
	exec(t, db, "CREATE TABLE t AS SELECT 1 AS n")
	token, err := db.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx := pool.WithToken(patience(t), token)
	for range 3 {
		var n int
		if err := db.Read(ctx).QueryRow(ctx, "SELECT n FROM t").Scan(&n); err != nil || n != 1 {
			t.Fatalf("%d: %v", n, err)
		}
	}
}

// TestCauses: whoever cancels with a cause finds both in the error, wherever the call
// was by then.
func TestCauses(t *testing.T) {
	t.Parallel()
	dsn := scratchtest.Database(t, server)
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: 1})
	conn := testkit.Connect(t, dsn)
	why := errors.New("why")
	check := func(name string, run func(context.Context) error, underWay func() bool) {
		t.Helper()
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- run(ctx) }()
		testkit.Eventually(t, time.Minute, name, underWay)
		cancel(why)
		if err := <-done; !errors.Is(err, why) || !errors.Is(err, context.Canceled) || pool.Classify(err) != pool.ClassCanceled {
			t.Errorf("%s: %v", name, err)
		}
	}
	sleeping := func() bool {
		return ask[bool](t, conn, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database())")
	}
	const sleep = "SELECT pg_sleep(600)"
	check("a statement runs", func(ctx context.Context) error { _, err := db.Exec(ctx, sleep); return err }, sleeping)
	check("a row is waited for", func(ctx context.Context) error { var s string; return db.QueryRow(ctx, sleep+"::text").Scan(&s) }, sleeping)
	check("a transaction runs", func(ctx context.Context) error {
		return db.InTx(ctx, pool.TxOptions{}, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, sleep); return err })
	}, sleeping)
	held, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	check("a connection is waited for", db.Ping, func() bool { return db.Stats().Servers[0].Waiting == 1 })
	over, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	held.Release()
	if err := db.Ping(over); !errors.Is(err, why) || !errors.Is(err, context.Canceled) {
		t.Errorf("a context that is over: %v", err)
	}
}
