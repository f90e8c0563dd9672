package pool_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// TestOverloadFallsBack: a read that gets no connection to a standby goes to the
// primary.
func TestOverloadFallsBack(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	c := newCluster(t, 15, 1)
	db := openTight(t, pool.Config{
		PrimaryURL: c.primary.URL(c.name), ReplicaURLs: c.replicas(), MaxLag: -1,
		MaxConns: 1, MaxWaiting: 1, AcquireTimeout: 3 * time.Second,
	})
	testkit.Eventually(t, time.Minute, "the standby is read", func() bool { return one[bool](t, db.Read(t.Context()), "SELECT pg_is_in_recovery()") })
	rows, err := db.Read(t.Context()).Query(t.Context(), "SELECT generate_series(1, 1000)")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close() // who reads slowly has the only connection
	before := db.Stats().Fallbacks
	read := func() (standby bool, err error) {
		err = db.Read(t.Context()).QueryRow(t.Context(), "SELECT pg_is_in_recovery()").Scan(&standby)
		return standby, err
	}
	waited := make(chan error, 1)
	go func() {
		standby, err := read()
		if standby {
			err = errors.New("it was read from the standby")
		}
		waited <- err
	}()
	testkit.Eventually(t, time.Minute, "somebody waits for the standby", func() bool { return db.Stats().Servers[1].Waiting == 1 })
	// The queue is full, so that this one does not wait.
	if standby, err := read(); err != nil || standby {
		t.Errorf("turned away: %v", err)
	}
	if err := <-waited; err != nil {
		t.Errorf("after the acquire timeout: %v", err)
	}
	if got := db.Stats().Fallbacks - before; got != 2 {
		t.Errorf("%d reads fell back", got)
	}
	// Only once: with no connection to the primary either, that is the error.
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := read(); !errors.Is(err, pool.ErrPoolTimeout) {
		t.Errorf("%v", err)
	}
}

// TestRecoveryConflict: a read that a standby cancels, for it holds up what the
// primary has done, goes to the primary, whatever call it is of.
func TestRecoveryConflict(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	primary := scratchtest.New(t, scratch.Options{TCP: true, Settings: map[string]string{"autovacuum": "off"}})
	name := nameOf(t, scratchtest.Database(t, primary))
	standby := scratchtest.NewStandby(t, primary, scratch.StandbyOptions{Settings: map[string]string{"max_standby_streaming_delay": "0"}})
	db := open(t, pool.Config{PrimaryURL: primary.URL(name), ReplicaURLs: []string{standby.URL(name)}, MaxLag: -1, RetryDelay: time.Millisecond})
	testkit.Eventually(t, time.Minute, "the standby may be read", func() bool { return db.Health(t.Context()).Status == pool.StatusOK })
	conn, there := testkit.Connect(t, primary.DSN(name)), testkit.Connect(t, standby.DSN("postgres"))
	// On the standby it would sleep for a minute.
	const read = "SELECT pg_is_in_recovery() FROM t WHERE n = 1 AND pg_sleep(CASE WHEN pg_is_in_recovery() THEN 60 ELSE 0 END) IS NOT NULL"
	for call, run := range map[string]func(context.Context) (bool, error){
		"QueryRow": func(ctx context.Context) (standby bool, err error) {
			err = db.Read(ctx).QueryRow(ctx, read).Scan(&standby)
			return standby, err
		},
		"Query": func(ctx context.Context) (bool, error) {
			rows, err := db.Read(ctx).Query(ctx, read)
			if err != nil {
				return false, err
			}
			return pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
		},
		"InTx": func(ctx context.Context) (standby bool, err error) {
			err = db.InTx(ctx, pool.TxOptions{Read: true}, func(tx pgx.Tx) error { return tx.QueryRow(ctx, read).Scan(&standby) })
			return standby, err
		},
	} {
		t.Run(call, func(t *testing.T) {
			do(t, conn, "DROP TABLE IF EXISTS t", "CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) AS n")
			standby.CatchUp(t)
			before := db.Stats().Fallbacks
			done := make(chan error, 1)
			go func() {
				standby, err := run(t.Context())
				if standby {
					err = errors.New("the standby has answered")
				}
				done <- err
			}()
			testkit.Eventually(t, time.Minute, "the standby is read", func() bool {
				return ask[bool](t, there, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = $1)", name)
			})
			do(t, conn, "DELETE FROM t WHERE n > 1", "VACUUM t")
			if err := <-done; err != nil {
				t.Error(err)
			}
			if got := db.Stats().Fallbacks - before; got != 1 {
				t.Errorf("%d reads fell back", got)
			}
		})
	}
}

// TestEndedIdle has the server end sessions that were idle: what is asked of such a
// session was not done, so that it is done again, and nobody has to wonder.
func TestEndedIdle(t *testing.T) {
	t.Parallel()
	dsn := scratchtest.Database(t, server)
	conn := testkit.Connect(t, dsn)
	do(t, conn, "CREATE TABLE t (n int)")
	db := open(t, pool.Config{PrimaryURL: dsn, RetryDelay: time.Millisecond, MaxConns: 2})
	ended := func(pid int) {
		t.Helper()
		testkit.Eventually(t, time.Minute, "the server has ended the session", func() bool {
			return !ask[bool](t, conn, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", pid)
		})
	}
	const insert, pid = "INSERT INTO t VALUES (1)", "SELECT pg_backend_pid()"
	count := func(want int) {
		t.Helper()
		if n := ask[int](t, conn, "SELECT count(*)::int FROM t"); n != want {
			t.Errorf("%d rows instead of %d", n, want)
		}
	}

	held, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	exec(t, held, "SET idle_session_timeout = '20ms'")
	ended(int(held.Conn().PgConn().PID()))
	_, err = held.Exec(t.Context(), insert)
	if errors.Is(err, pool.ErrOutcomeUnknown) || pool.Classify(err) != pool.ClassConnectionLost {
		t.Errorf("%v", err)
	}
	held.Release()
	count(0)

	// In a transaction: before a statement, and before the COMMIT.
	for _, before := range []string{"statement", "commit"} {
		var tries int
		err := db.InTx(t.Context(), pool.TxOptions{}, func(tx pgx.Tx) error {
			tries++
			if before == "statement" && tries == 1 {
				session := one[int](t, tx, pid)
				exec(t, tx, "SET LOCAL idle_in_transaction_session_timeout = '20ms'")
				ended(session)
			}
			if _, err := tx.Exec(t.Context(), insert); err != nil {
				return err
			}
			if before == "commit" && tries == 1 {
				session := one[int](t, tx, pid)
				exec(t, tx, "SET LOCAL idle_in_transaction_session_timeout = '20ms'")
				ended(session)
			}
			return nil
		})
		if err != nil || tries != 2 {
			t.Errorf("before the %s: %d tries, %v", before, tries, err)
		}
	}
	count(2)
}

// TestBeforeConnect has passwords that change: each connection is opened with the
// present one, and one that can't be had is a server that can't be reached.
func TestBeforeConnect(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	own := scratchtest.New(t, scratch.Options{TCP: true})
	dsn := scratchtest.Database(t, own)
	conn := testkit.Connect(t, dsn)
	do(t, conn, "CREATE ROLE service LOGIN PASSWORD 'number-1'")
	var number, calls atomic.Int64
	number.Store(1)
	broken := errors.New("no token to be had")
	db := open(t, pool.Config{
		PrimaryURL:     "postgres://service@127.0.0.1:" + strconv.Itoa(own.Port()) + "/" + nameOf(t, dsn) + "?sslmode=disable",
		RetryDelay:     time.Millisecond,
		HealthInterval: 50 * time.Millisecond,
		BeforeConnect: func(_ context.Context, c *pgx.ConnConfig) error {
			calls.Add(1)
			if number.Load() == 0 {
				return broken
			}
			c.Password = "number-" + strconv.FormatInt(number.Load(), 10)
			return nil
		},
	})
	const who = "SELECT current_user::text"
	if got := one[string](t, db, who); got != "service" {
		t.Errorf("it is %s who asks", got)
	}
	end := func() {
		t.Helper()
		do(t, conn, "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = 'service'")
	}
	do(t, conn, "ALTER ROLE service PASSWORD 'number-2'")
	number.Store(2)
	end()
	before := calls.Load()
	if got := one[string](t, db.Read(t.Context()), who); got != "service" || calls.Load() == before {
		t.Errorf("it is %s who asks, of %d calls", got, calls.Load())
	}
	number.Store(0)
	end()
	_, err := db.Exec(pool.WithIdempotent(t.Context()), "SELECT 1")
	if !errors.Is(err, broken) && !errors.Is(err, pool.ErrCircuitOpen) || pool.Classify(err) != pool.ClassUnavailable {
		t.Errorf("%v", err)
	}
	testkit.Eventually(t, time.Minute, "the probe has none either", func() bool { return db.Health(t.Context()).Status == pool.StatusDown })
	number.Store(2)
	testkit.Eventually(t, time.Minute, "all is well", func() bool { return db.Ping(t.Context()) == nil && db.Health(t.Context()).Status == pool.StatusOK })
}
