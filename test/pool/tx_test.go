package pool_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/pool"
)

// TestRowsAfterTheirTransaction: the error of rows can be asked for when their
// transaction has ended and its connection is another's.
func TestRowsAfterTheirTransaction(t *testing.T) {
	t.Parallel()
	db := open(t, pool.Config{})
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), "SELECT 1/(3-n) FROM generate_series(1, 5) n")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() { // to its end
	}
	if err := tx.Rollback(t.Context()); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		t.Error(err)
	}
	var wrong *pgconn.PgError
	if err := rows.Err(); !errors.As(err, &wrong) || wrong.Code != "22012" {
		t.Errorf("%v", err)
	}
}

// bomb is an argument that panics.
type bomb struct{}

func (bomb) Value() (driver.Value, error) { panic("bomb") }

// bombTracer panics at the begin of a transaction.
type bombTracer struct{}

func (bombTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if data.SQL == "begin" {
		panic("bomb")
	}
	return ctx
}

func (bombTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestPanicLeavesNothing: whoever panics in a call takes no connection along.
func TestPanicLeavesNothing(t *testing.T) {
	t.Parallel()
	db := open(t, pool.Config{MaxConns: 1, AcquireTimeout: time.Minute, Tracer: bombTracer{}})
	const sql = "SELECT $1::text"
	for name, run := range map[string]func(context.Context){
		"Exec":     func(ctx context.Context) { _, _ = db.Exec(ctx, sql, bomb{}) },
		"Query":    func(ctx context.Context) { _, _ = db.Query(ctx, sql, bomb{}) }, //nolint:sqlclosecheck // there are none
		"QueryRow": func(ctx context.Context) { db.QueryRow(ctx, sql, bomb{}) },
		"SendBatch": func(ctx context.Context) {
			batch := &pgx.Batch{}
			batch.Queue(sql, bomb{})
			_ = db.SendBatch(ctx, batch).Close()
		},
		"Begin": func(ctx context.Context) { _, _ = db.Begin(ctx) },
		"InTx": func(ctx context.Context) {
			_ = db.InTx(ctx, pool.TxOptions{}, func(pgx.Tx) error { return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			panicked := func() (did bool) {
				defer func() { did = recover() != nil }()
				run(t.Context())
				return false
			}
			if !panicked() {
				t.Error("it did not panic")
			}
			if n := db.Stats().Servers[0].InUse; n != 0 {
				t.Errorf("%d connections are in use", n)
			}
			if err := db.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestForeignErrors: what a transaction's function has from elsewhere, and looks like a
// lost connection, is no reason to run it again.
func TestForeignErrors(t *testing.T) {
	db := open(t, pool.Config{PrimaryURL: scratchtest.Database(t, server), RetryDelay: time.Millisecond})
	for name, foreign := range map[string]error{"EOF": io.EOF, "network": &net.OpError{Op: "read", Err: syscall.ECONNRESET}} {
		for _, opts := range []pool.TxOptions{{}, {Read: true}} {
			var runs int
			err := db.InTx(t.Context(), opts, func(tx pgx.Tx) error {
				runs++
				exec(t, tx, "SELECT 1")
				return foreign
			})
			if !errors.Is(err, foreign) || runs != 1 {
				t.Errorf("%s, %+v: %d runs, %v", name, opts, runs, err)
			}
		}
	}
}

// TestConnBusy: who begins a statement before the rows of another are read has a bug,
// and not a server that can't be reached.
func TestConnBusy(t *testing.T) {
	t.Parallel()
	db := open(t, pool.Config{BreakerFailures: 1, RetryDelay: time.Millisecond})
	var runs int
	err := db.InTx(t.Context(), pool.TxOptions{}, func(tx pgx.Tx) error {
		runs++
		rows, err := tx.Query(t.Context(), "SELECT generate_series(1, 1000)")
		if err != nil {
			return err
		}
		defer rows.Close()
		_, err = tx.Exec(t.Context(), "SELECT 1")
		return err
	})
	if err == nil || runs != 1 || pool.Classify(err) != pool.ClassOther {
		t.Errorf("%d runs, %s: %v", runs, pool.Classify(err), err)
	}
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	rows, err := conn.Query(t.Context(), "SELECT generate_series(1, 1000)")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err == nil || pool.Classify(err) != pool.ClassOther {
		t.Errorf("%s: %v", pool.Classify(err), err)
	}
	rows.Close()
	if s := db.Stats(); s.Servers[0].CircuitOpened != 0 || s.Retries != 0 {
		t.Errorf("%d retries, the breaker opened %d times", s.Retries, s.Servers[0].CircuitOpened)
	}
}

// TestCopySource: rows that can't be had or sent are no timeout, and leave nothing.
func TestCopySource(t *testing.T) {
	t.Parallel()
	db := open(t, pool.Config{MaxConns: 1})
	exec(t, db, "CREATE TABLE t (n int)")
	calls := 0
	for name, source := range map[string]pgx.CopyFromSource{
		"source": pgx.CopyFromFunc(func() ([]any, error) {
			if calls++; calls > 1 {
				return nil, errors.New("no more of these")
			}
			return []any{1}, nil
		}),
		"value": pgx.CopyFromRows([][]any{{1}, {struct{}{}}}),
	} {
		_, err := db.CopyFrom(t.Context(), pgx.Identifier{"t"}, []string{"n"}, source)
		if err == nil || pool.Classify(err) != pool.ClassOther {
			t.Errorf("%s: %s, %v", name, pool.Classify(err), err)
		}
	}
	if n := one[int](t, db, "SELECT count(*) FROM t"); n != 0 {
		t.Errorf("%d rows", n)
	}
}
