package pool_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// watchSessions counts the sessions in a database again and again until the
// returned function is called, which returns the most there were.
func watchSessions(t *testing.T, dsn string) (most func() int) {
	t.Helper()
	conn := testkit.Connect(t, dsn)
	ctx, stop := context.WithCancel(t.Context())
	var peak int
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil && failed == nil {
			// A cancel request is a session for a moment, without a database.
			var n int
			failed = conn.QueryRow(context.WithoutCancel(ctx), `SELECT count(*)::int FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`).Scan(&n)
			peak = max(peak, n)
		}
	}()
	return func() int {
		t.Helper()
		stop()
		<-done
		if failed != nil {
			t.Error(failed)
		}
		return peak
	}
}

// TestCrowd has 1,000 goroutines share 10 connections: all are served over no more
// connections than there may be.
func TestCrowd(t *testing.T) {
	const people, rounds, conns = 1000, 5, 10
	dsn := scratchtest.Database(t, server)
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: conns, MaxWaiting: people, AcquireTimeout: time.Minute})
	most := watchSessions(t, dsn)
	var crowd sync.WaitGroup
	for range people {
		crowd.Go(func() {
			for range rounds {
				if _, err := db.Exec(t.Context(), "SELECT pg_sleep(0.0005)"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	crowd.Wait()
	if got := most(); got > conns+1 || got < conns {
		t.Errorf("there were %d sessions, of %d and at most one more for the probe", got, conns)
	}
	if s := db.Stats().Servers[0]; s.Rejected != 0 || s.AcquireTimeouts != 0 || s.Waiting != 0 || s.InUse != 0 || s.Opened > conns {
		t.Errorf("%+v", s)
	}
}

// TestInTurn: who waits for a connection gets one in the order of arrival, whatever
// the scheduler does with those who wait, and nobody who comes later overtakes them.
func TestInTurn(t *testing.T) {
	t.Parallel()
	const people = 50
	db := openTight(t, pool.Config{MaxConns: 1, MaxWaiting: people + 1, AcquireTimeout: time.Minute})
	holder, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var order []int // written by whoever has the only connection
	var crowd sync.WaitGroup
	for i := range people {
		crowd.Go(func() {
			conn, err := db.Acquire(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			order = append(order, i)
			conn.Release()
			if _, err := db.Exec(t.Context(), "SELECT 1"); err != nil { // behind all others
				t.Error(err)
			}
		})
		testkit.Eventually(t, time.Minute, "it waits", func() bool { return db.Stats().Servers[0].Waiting == i+1 })
	}
	holder.Release()
	crowd.Wait()
	if !slices.IsSorted(order) || len(order) != people {
		t.Errorf("they were served as %v", order)
	}
}

// TestQueue: the queue is bounded in length and in time, and says who is to
// blame without saying what they ask.
func TestQueue(t *testing.T) {
	t.Parallel()
	db := openTight(t, pool.Config{MaxConns: 1, MaxWaiting: 3, AcquireTimeout: 3 * time.Second})
	holder, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), "SELECT 'Jane Doe'"); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 3)
	for range 3 {
		go func() { errs <- db.Ping(t.Context()) }()
	}
	testkit.Eventually(t, time.Minute, "three wait", func() bool { return db.Stats().Servers[0].Waiting == 3 })
	if err := db.Ping(t.Context()); !errors.Is(err, pool.ErrOverloaded) || pool.Classify(err) != pool.ClassOverload || pool.Hint(err) == "" {
		t.Errorf("the fourth: %v", err)
	}
	for range 3 {
		err := <-errs
		var timeout *pool.AcquireTimeoutError
		if !errors.Is(err, pool.ErrPoolTimeout) || !errors.As(err, &timeout) || timeout.InUse != 1 || timeout.Max != 1 || len(timeout.Holders) != 1 {
			t.Fatalf("%v", err)
		}
		if h := timeout.Holders[0]; h.Running || !strings.HasPrefix(strings.ToUpper(h.SQL), "SELECT") || strings.Contains(err.Error(), "Jane") {
			t.Errorf("%+v: %v", h, err)
		}
	}
	// Whoever gives up makes room.
	ctx, cancel := context.WithCancel(t.Context())
	go func() { errs <- db.Ping(ctx) }()
	testkit.Eventually(t, time.Minute, "one waits", func() bool { return db.Stats().Servers[0].Waiting == 1 })
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) || pool.Classify(err) != pool.ClassCanceled {
		t.Errorf("%v", err)
	}
	holder.Release()
	if err := db.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if s := db.Stats().Servers[0]; s.Rejected != 1 || s.AcquireTimeouts != 3 || s.Waiting != 0 || s.InUse != 0 {
		t.Errorf("%+v", s)
	}
}

// TestCancelStorm cancels hundreds of running statements: connections are kept,
// and there are never more than there may be.
func TestCancelStorm(t *testing.T) {
	const conns, people, rounds = 5, 25, 8
	dsn := scratchtest.Database(t, server)
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: conns, AcquireTimeout: time.Minute, CancelGrace: 30 * time.Second})
	warm(t, db, conns) // so that there are that many, however few are needed at a time
	most := watchSessions(t, dsn)
	var storm sync.WaitGroup
	var cancelled atomic.Int64
	for range people {
		storm.Go(func() {
			for range rounds {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				_, err := db.Exec(ctx, "SELECT pg_sleep(60)")
				cancel()
				if class := pool.Classify(err); class != pool.ClassCanceled {
					t.Errorf("%s: %v", class, err)
				}
				if strings.Contains(err.Error(), "57014") {
					cancelled.Add(1) // the server has ended it; others still waited
				}
			}
		})
	}
	storm.Wait()
	if got := most(); got > conns+1 || got < conns {
		t.Errorf("there were %d sessions, of %d and at most one more for the probe", got, conns)
	}
	if cancelled.Load() == 0 {
		t.Error("no statement was ever cancelled")
	}
	if s := db.Stats().Servers[0]; s.Opened > conns || s.InUse != 0 {
		t.Errorf("connections were thrown away: %d opened; %d in use", s.Opened, s.InUse)
	}
	// A cancel that comes late must not hit somebody else.
	for range 50 {
		exec(t, db, "SELECT pg_sleep(0.001)")
	}
}

// TestQueryTimeout: a statement that takes too long is cancelled on the server,
// its connection is kept, and a transaction may ask for more time.
func TestQueryTimeout(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	conn := testkit.Connect(t, dsn)
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: 1, QueryTimeout: 200 * time.Millisecond, CancelGrace: time.Minute})
	before := asked[int](t, db, "SELECT pg_backend_pid()")
	for _, q := range []pool.Querier{db, db.Read(t.Context())} {
		_, err := q.Exec(t.Context(), "SELECT pg_sleep(60)")
		if !errors.Is(err, pool.ErrQueryTimeout) || pool.Classify(err) != pool.ClassTimeout || pool.Hint(err) == "" {
			t.Errorf("%v", err)
		}
	}
	// The server may be told another limit; the pool keeps to its own.
	err := db.InTx(t.Context(), pool.TxOptions{}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "SET LOCAL statement_timeout = 0"); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), "SELECT pg_sleep(60)")
		return err
	})
	if !errors.Is(err, pool.ErrQueryTimeout) {
		t.Errorf("%v", err)
	}
	sleepLonger(t, db)
	if got := asked[string](t, db, "SHOW statement_timeout"); got != "200ms" {
		t.Errorf("the transaction's limit has stayed: %s", got)
	}
	if after := asked[int](t, db, "SELECT pg_backend_pid()"); after != before {
		t.Error("the connection was thrown away")
	}
	if n := ask[int](t, conn, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()"); n != 0 {
		t.Errorf("%d statements still run", n)
	}
}

// sleepLonger has a transaction take more time than the pool's statements may, if it asks for
// that. On a busy machine to begin and to ask may take too long: it does so again.
func sleepLonger(t *testing.T, db *pool.DB) {
	t.Helper()
	testkit.Eventually(t, time.Minute, "a transaction with more time has slept", func() bool {
		asked := false
		err := db.InTx(t.Context(), pool.TxOptions{StatementTimeout: time.Minute}, func(tx pgx.Tx) error {
			asked = true
			_, err := tx.Exec(t.Context(), "SELECT pg_sleep(0.6)")
			return err
		})
		if err != nil && (asked || !errors.Is(err, pool.ErrQueryTimeout)) {
			t.Fatalf("with more time: %v", err)
		}
		return err == nil
	})
}

// TestShutdownUnderLoad: what runs is finished, what comes is refused, and
// nothing is left: no session, no goroutine.
func TestShutdownUnderLoad(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	conn := testkit.Connect(t, dsn)
	do(t, conn, ledgerTable)
	db, err := pool.Open(t.Context(), pool.Config{PrimaryURL: dsn, MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	load := newLedger(t, db, 16)
	testkit.Eventually(t, time.Minute, "there is load", func() bool { return load.acknowledged() > 200 })
	if err := db.Shutdown(t.Context()); err != nil {
		t.Errorf("%v", err)
	}
	if _, err := db.Exec(t.Context(), "SELECT 1"); !errors.Is(err, pool.ErrShutdown) {
		t.Errorf("after the shutdown: %v", err)
	}
	if err := db.Shutdown(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
	if h := db.Health(t.Context()); h.Status != pool.StatusDown {
		t.Errorf("%+v", h)
	}
	load.check(t, conn)
	for class := range load.reasons {
		if class != pool.ClassNone && class != pool.Classify(pool.ErrShutdown) {
			t.Errorf("work was cut: class %s", class)
		}
	}
	testkit.Eventually(t, time.Minute, "no session is left", func() bool {
		return ask[int](t, conn, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()") == 0
	})
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	noGoroutines(t)
}

// TestShutdownCuts: what does not end in time is cut, and told of.
func TestShutdownCuts(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	conn := testkit.Connect(t, dsn)
	db, err := pool.Open(t.Context(), pool.Config{PrimaryURL: dsn})
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	go func() {
		_, err := db.Exec(t.Context(), "SELECT pg_sleep(60)")
		errs <- err
	}()
	const sleeping = "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND query = 'SELECT pg_sleep(60)' AND state = 'active' AND pid <> pg_backend_pid()"
	testkit.Eventually(t, time.Minute, "it runs", func() bool { return ask[int](t, conn, sleeping) == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = db.Shutdown(ctx)
	var cut *pool.ShutdownError
	if !errors.As(err, &cut) || len(cut.Cut) != 1 || !cut.Cut[0].Running || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := <-errs; !errors.Is(err, pool.ErrOutcomeUnknown) {
		t.Errorf("the statement: %v", err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	noGoroutines(t)
}

// TestShutdownWhileConnecting: who gets a connection when Shutdown has given up waiting
// does nothing with it.
func TestShutdownWhileConnecting(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	conn := testkit.Connect(t, dsn)
	do(t, conn, "CREATE TABLE t (n int)")
	preparing := make(chan struct{}, 2)
	var opened atomic.Bool
	db, err := pool.Open(t.Context(), pool.Config{
		PrimaryURL: dsn, AfterConnect: func(ctx context.Context, _ *pgx.Conn) error {
			if !opened.Swap(true) {
				return nil // that of Open
			}
			preparing <- struct{}{}
			<-ctx.Done() // the pool is closed
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	first, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Conn().Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.Release()
	errs := make(chan error, 2)
	go func() { _, err := db.Exec(t.Context(), "INSERT INTO t VALUES (1)"); errs <- err }()
	go func() { _, err := db.Stdlib().ExecContext(t.Context(), "INSERT INTO t VALUES (2)"); errs <- err }()
	<-preparing
	<-preparing
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Shutdown(ended); err != nil {
		t.Errorf("%v", err)
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, pool.ErrShutdown) {
			t.Errorf("%v", err)
		}
	}
	if n := ask[int](t, conn, "SELECT count(*)::int FROM t"); n != 0 {
		t.Errorf("%d rows were written", n)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	noGoroutines(t)
}

// TestShutdownPastCallers: Shutdown does not wait for ever for a function of the
// caller's that does not come back.
func TestShutdownPastCallers(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	back := make(chan struct{})
	db, err := pool.Open(t.Context(), pool.Config{
		PrimaryURL: scratchtest.Database(t, server), StartDegraded: true, AcquireTimeout: 50 * time.Millisecond,
		BeforeConnect: func(context.Context, *pgx.ConnConfig) error { <-back; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- db.Shutdown(t.Context()) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-patience(t).Done():
		t.Error("it still waits")
	}
	close(back)
}
