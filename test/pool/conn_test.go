package pool_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// TestConn: a connection that was taken out of the pool does all that pgx's does, as
// one session, and comes back however it was left.
func TestConn(t *testing.T) {
	t.Parallel()
	db := open(t, pool.Config{MaxConns: 1, AcquireTimeout: time.Minute})
	ctx := t.Context()
	conn, err := db.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, "CREATE TEMPORARY TABLE t (n int)")
	if n, err := conn.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}, {2}})); err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	rows, err := conn.Query(ctx, "SELECT n FROM t ORDER BY n")
	if err != nil {
		t.Fatal(err)
	}
	if all, err := pgx.CollectRows(rows, pgx.RowTo[int]); err != nil || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}
	batch := &pgx.Batch{}
	batch.Queue("INSERT INTO t VALUES (3)")
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		t.Error(err)
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, tx, "INSERT INTO t VALUES (4)")
	if err := tx.Commit(ctx); err != nil {
		t.Error(err)
	}
	// The connection is still ours.
	if n := one[int](t, conn, "SELECT count(*) FROM t"); n != 4 {
		t.Errorf("%d rows", n)
	}
	var none int
	if err := conn.QueryRow(ctx, "SELECT n FROM t WHERE n > 9").Scan(&none); !errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("%v", err)
	}
	if err := errors.Join(conn.Ping(ctx), conn.Conn().Ping(ctx)); err != nil {
		t.Error(err)
	}
	if s := db.Stats().Servers[0]; s.InUse != 1 {
		t.Errorf("%+v", s)
	}
	if _, err := conn.Begin(ctx); err != nil { // left open
		t.Fatal(err)
	}
	conn.Release()
	conn.Release()
	if s := db.Stats().Servers[0]; s.InUse != 0 {
		t.Errorf("%+v", s)
	}
	if err := db.Ping(ctx); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestConnTimeout: its errors are the pool's.
func TestConnTimeout(t *testing.T) {
	t.Parallel()
	db := open(t, pool.Config{QueryTimeout: 200 * time.Millisecond, CancelGrace: time.Minute})
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	const sleep = "SELECT pg_sleep(100)"
	for name, run := range map[string]func(context.Context) error{
		"Exec":     func(ctx context.Context) error { _, err := conn.Exec(ctx, sleep); return err },
		"QueryRow": func(ctx context.Context) error { var s string; return conn.QueryRow(ctx, sleep+"::text").Scan(&s) },
		"Query": func(ctx context.Context) error {
			rows, err := conn.Query(ctx, sleep)
			for err == nil && rows.Next() {
			}
			return errors.Join(err, rows.Err())
		},
		"SendBatch": func(ctx context.Context) error {
			batch := &pgx.Batch{}
			batch.Queue(sleep)
			return conn.SendBatch(ctx, batch).Close()
		},
	} {
		if err := run(t.Context()); !errors.Is(err, pool.ErrQueryTimeout) || pool.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestListen: who waits for a notification may stop at any time, and keeps the
// connection.
func TestListen(t *testing.T) {
	t.Parallel()
	dsn := scratchtest.Database(t, server)
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: 1, CancelGrace: time.Hour})
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	pid := one[int](t, conn, "SELECT pg_backend_pid()")
	exec(t, conn, "LISTEN news")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := conn.Conn().WaitForNotification(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	do(t, testkit.Connect(t, dsn), "NOTIFY news, 'good'")
	if n, err := conn.Conn().WaitForNotification(t.Context()); err != nil || n.Payload != "good" {
		t.Errorf("%v, %v", n, err)
	}
	exec(t, conn, "UNLISTEN *")
	if got := one[int](t, conn, "SELECT pg_backend_pid()"); got != pid {
		t.Error("the connection is another one")
	}
}

// TestStdlibEnds: the handle for database/sql is one, may be closed by whoever was
// given it, and leaves nothing after the shutdown.
func TestStdlibEnds(t *testing.T) {
	db, err := pool.Open(t.Context(), pool.Config{PrimaryURL: scratchtest.Database(t, server)})
	if err != nil {
		t.Fatal(err)
	}
	ping := func(handle *sql.DB) error { _, err := handle.ExecContext(t.Context(), "SELECT 1"); return err }
	first := db.Stdlib()
	if err := ping(first); err != nil || db.Stdlib() != first {
		t.Errorf("%v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := db.Stdlib()
	if err := ping(second); err != nil || second == first {
		t.Errorf("after somebody closed the handle: %v", err)
	}
	conn, err := second.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = conn.Raw(func(raw any) error {
		return raw.(interface{ Conn() *pgx.Conn }).Conn().Ping(t.Context())
	})
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Error(err)
	}
	if err := db.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := ping(second); err == nil {
		t.Error("it still answers")
	}
	if err := ping(db.Stdlib()); err == nil {
		t.Error("another one answers")
	}
	noGoroutines(t)
}

// asker is a log that itself asks the pool, when it is told to.
type asker struct {
	slog.Handler
	armed atomic.Bool
	ask   func()
}

func (a *asker) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "a connection is held for long" && a.armed.CompareAndSwap(true, false) {
		a.ask()
	}
	return nil
}

// TestLogAsksBack: the log of a leak may use the pool, even in vain.
func TestLogAsksBack(t *testing.T) {
	t.Parallel()
	log := &asker{Handler: slog.NewTextHandler(io.Discard, nil)}
	db := openTight(t, pool.Config{
		MaxConns: 1, AcquireTimeout: 500 * time.Millisecond, LeakAfter: 20 * time.Millisecond, Logger: slog.New(log),
	})
	asked := make(chan error, 1)
	log.ask = func() { asked <- db.Ping(t.Context()) }
	log.armed.Store(true)
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	// The one who is logged has the only connection, which the error says, too.
	exec(t, conn, "SELECT 1")
	var timeout *pool.AcquireTimeoutError
	if err := <-asked; !errors.As(err, &timeout) || len(timeout.Holders) != 1 {
		t.Errorf("%v", err)
	}
}
