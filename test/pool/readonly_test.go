package pool_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// TestReadsDoNotWrite: where there is no standby, a write that is sent as a read is
// refused as a standby would, and the same connection writes when it is asked to.
func TestReadsDoNotWrite(t *testing.T) {
	t.Parallel()
	dsn := scratchtest.Database(t, server)
	conn := testkit.Connect(t, dsn)
	do(t, conn, "CREATE TABLE t (n int)")
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: 1})
	ctx := t.Context()
	const insert = "INSERT INTO t VALUES ($1)"
	const pid = "SELECT pg_backend_pid()"
	session := one[int](t, db, pid)
	for range 3 {
		read := db.Read(ctx)
		batch := &pgx.Batch{}
		batch.Queue(insert, 1)
		_, byExec := read.Exec(ctx, insert, 1)
		_, byCopy := read.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}}))
		for how, err := range map[string]error{
			"exec":      byExec,
			"copy":      byCopy,
			"query row": read.QueryRow(ctx, insert+" RETURNING n", 1).Scan(new(int)),
			"batch":     read.SendBatch(ctx, batch).Close(),
			"transaction": db.InTx(ctx, pool.TxOptions{Read: true}, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, insert, 1)
				return err
			}),
		} {
			if pool.Classify(err) != pool.ClassReadOnly {
				t.Errorf("%s: %s: %v", how, pool.Classify(err), err)
			}
			if hint := pool.Hint(err); !strings.HasPrefix(hint, "reads refuse writes: ") && hint != "use CopyFrom of the DB" {
				t.Errorf("%s: hint %q", how, hint)
			}
		}
		if got := one[int](t, read, "SELECT $1::int", 1); got != 1 {
			t.Error(got)
		}
		exec(t, db, insert, 2)
		if got := one[int](t, db.Read(ctx), "SELECT 1"); got != 1 {
			t.Error(got)
		}
		if err := db.InTx(ctx, pool.TxOptions{}, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, insert, 2); return err }); err != nil {
			t.Error(err)
		}
		one[int](t, db.Read(ctx), "SELECT 1")
		if _, err := db.Stdlib().ExecContext(ctx, insert, 2); err != nil {
			t.Error(err)
		}
		one[int](t, db.Read(ctx), "SELECT 1")
		held, err := db.Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		exec(t, held, insert, 2)
		held.Release()
	}
	if one[int](t, db, pid) != session {
		t.Error("the connection was replaced")
	}
	if wrong, right := ask[int](t, conn, "SELECT count(*)::int FROM t WHERE n = 1"), ask[int](t, conn, "SELECT count(*)::int FROM t WHERE n = 2"); wrong != 0 || right != 12 {
		t.Errorf("%d rows written by reads, %d by writes", wrong, right)
	}
}

// TestReadOnlyByChoice: writes that are refused because a role may not write, or since
// the transaction says so, are errors, and cost no connection.
func TestReadOnlyByChoice(t *testing.T) {
	t.Parallel()
	dsn := scratchtest.Database(t, server)
	conn := testkit.Connect(t, dsn)
	do(t, conn, "CREATE TABLE t (n int)")
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: 1, HealthInterval: time.Minute})
	const pid = "SELECT pg_backend_pid()"
	session := one[int](t, db, pid)
	runs := 0
	err := db.InTx(t.Context(), pool.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		runs++
		_, err := tx.Exec(t.Context(), "INSERT INTO t VALUES (1)")
		return err
	})
	if pool.Classify(err) != pool.ClassReadOnly || runs != 1 {
		t.Errorf("%d runs: %v", runs, err)
	}
	if one[int](t, db, pid) != session {
		t.Error("a read-only transaction cost a connection")
	}
	do(t, conn, "ALTER DATABASE "+pgx.Identifier{nameOf(t, dsn)}.Sanitize()+" SET default_transaction_read_only = on")
	chosen := open(t, pool.Config{PrimaryURL: dsn, MaxConns: 1, HealthInterval: time.Minute})
	session = one[int](t, chosen, pid)
	for range 3 {
		if _, err := chosen.Exec(t.Context(), "INSERT INTO t VALUES (1)"); pool.Classify(err) != pool.ClassReadOnly || errors.Is(err, pool.ErrOutcomeUnknown) {
			t.Errorf("%v", err)
		}
	}
	if one[int](t, chosen, pid) != session {
		t.Error("a database that refuses writes cost a connection")
	}
}
