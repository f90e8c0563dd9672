package pool_test

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// warm opens so many connections and gives them back.
func warm(t *testing.T, db *pool.DB, conns int) {
	t.Helper()
	held := make([]*pool.Conn, conns)
	for i := range held {
		var err error
		if held[i], err = db.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		exec(t, held[i], "SELECT 1")
	}
	for _, conn := range held {
		conn.Release()
	}
}

// endAll ends all sessions of a database but that of the caller.
func endAll(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	do(t, conn, "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
}

// TestIdleEnded ends all idle sessions, again and again: no call fails, none waits for
// a retry, each write is done once, and none is said to be unknown.
func TestIdleEnded(t *testing.T) {
	t.Parallel()
	const conns, calls = 8, 10
	ways := map[string]func(ctx context.Context, db *pool.DB, i int) error{
		"read": func(ctx context.Context, db *pool.DB, _ int) error {
			return db.Read(ctx).QueryRow(ctx, "SELECT 1").Scan(new(int))
		},
		"write": func(ctx context.Context, db *pool.DB, i int) error {
			_, err := db.Exec(ctx, "INSERT INTO t VALUES ($1)", i)
			return err
		},
		"simple": func(ctx context.Context, db *pool.DB, i int) error {
			_, err := db.Exec(ctx, "INSERT INTO t VALUES ("+strconv.Itoa(i)+")", pgx.QueryExecModeSimpleProtocol)
			return err
		},
		"transaction": func(ctx context.Context, db *pool.DB, i int) error {
			tx, err := db.Begin(ctx)
			if err != nil {
				return err
			}
			if _, err = tx.Exec(ctx, "INSERT INTO t VALUES ($1)", i); err != nil {
				return err
			}
			return tx.Commit(ctx)
		},
		"batch": func(ctx context.Context, db *pool.DB, i int) error {
			batch := &pgx.Batch{}
			batch.Queue("INSERT INTO t VALUES ($1)", i)
			return db.SendBatch(ctx, batch).Close()
		},
		"copy": func(ctx context.Context, db *pool.DB, i int) error {
			_, err := db.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromRows([][]any{{i}}))
			return err
		},
		"database/sql": func(ctx context.Context, db *pool.DB, i int) error {
			_, err := db.Stdlib().ExecContext(ctx, "INSERT INTO t VALUES ($1)", i)
			return err
		},
	}
	for how, call := range ways {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dsn := scratchtest.Database(t, server)
			conn := testkit.Connect(t, dsn)
			do(t, conn, "CREATE TABLE t (n int)")
			// A retry that waited would wait for half a minute at least.
			db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: conns, RetryDelay: time.Minute, AcquireTimeout: time.Minute})
			for i := range calls {
				if i%5 == 0 {
					warm(t, db, conns)
				}
				endAll(t, conn)
				if err := call(t.Context(), db, i); err != nil {
					t.Fatalf("call %d: %s: %v", i, pool.Classify(err), err)
				}
			}
			if how != "read" {
				if n := ask[int](t, conn, "SELECT count(*)::int FROM t WHERE n IS NOT NULL"); n != calls {
					t.Errorf("%d rows of %d writes", n, calls)
				}
			}
			if s := db.Stats(); s.RetriesRefused != 0 {
				t.Errorf("%d retries were refused", s.RetriesRefused)
			}
		})
	}
}

// TestIdleOverRestart restarts the server under idle connections.
func TestIdleOverRestart(t *testing.T) {
	t.Parallel()
	s := scratchtest.New(t, scratch.Options{TCP: true})
	dsn := scratchtest.Database(t, s)
	do(t, testkit.Connect(t, dsn), "CREATE TABLE t (n int)")
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: 8, RetryDelay: time.Minute, AcquireTimeout: time.Minute})
	for i := range 2 {
		warm(t, db, 8)
		scratchtest.Crash(t, s)
		scratchtest.Recovered(t, s)
		for n := range 20 {
			if n%2 == 0 {
				exec(t, db, "INSERT INTO t VALUES ($1)", i)
			} else {
				one[int](t, db.Read(t.Context()), "SELECT 1")
			}
		}
	}
	if n := ask[int](t, testkit.Connect(t, dsn), "SELECT count(*)::int FROM t"); n != 20 {
		t.Errorf("%d rows of 20 writes", n)
	}
}

// TestIdleNotified: what an idle connection was sent, and that it was sent something,
// costs it nothing.
func TestIdleNotified(t *testing.T) {
	t.Parallel()
	dsn := scratchtest.Database(t, server)
	conn := testkit.Connect(t, dsn)
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: 1})
	exec(t, db, "LISTEN news")
	const pid = "SELECT pg_backend_pid()"
	before := one[int](t, db, pid)
	for range 10 {
		do(t, conn, "NOTIFY news, 'of the day'")
	}
	sent := time.Now()
	testkit.Eventually(t, time.Minute, "it is more than a millisecond ago", func() bool { return time.Since(sent) > 20*time.Millisecond })
	if after := one[int](t, db, pid); after != before {
		t.Error("the connection was replaced")
	}
}

// TestIdleSilent: where all idle connections have fallen silent, one is waited for, and
// not one after the other.
func TestIdleSilent(t *testing.T) {
	t.Parallel()
	dsn := scratchtest.Database(t, server)
	n := newName(t, server)
	const conns, connect = 8, 2 * time.Second
	db := openTight(t, pool.Config{
		PrimaryURL: n.url(server, nameOf(t, dsn)), MaxConns: conns, ConnectTimeout: connect, AcquireTimeout: 3 * connect,
	})
	warm(t, db, conns)
	idle := time.Now()
	testkit.Eventually(t, time.Minute, "they are idle for long enough to be asked", func() bool { return time.Since(idle) > 1500*time.Millisecond })
	n.mute()
	if _, err := db.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Error(err)
	}
}

// TestIdleDiscovery: the first connection that is lost without a word has the idle
// ones closed that are as old.
func TestIdleDiscovery(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	dsn := scratchtest.Database(t, server)
	conn := testkit.Connect(t, dsn)
	// Its sockets can't be looked at.
	hidden := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return struct{ net.Conn }{conn}, err
	}
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: 8, DialFunc: hidden, RetryDelay: time.Minute, AcquireTimeout: time.Minute})
	for range 5 {
		warm(t, db, 8)
		endAll(t, conn)
		for range 8 {
			one[int](t, db.Read(t.Context()), "SELECT 1")
		}
	}
}
