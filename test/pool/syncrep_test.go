package pool_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// TestUnreplicated cancels commits that wait for a synchronous standby. The server
// says that they are done; nobody knows whether they outlive a failover.
func TestUnreplicated(t *testing.T) {
	t.Parallel()
	s := scratchtest.New(t, scratch.Options{TCP: true, Settings: map[string]string{"synchronous_commit": "on"}})
	dsn := scratchtest.Database(t, s)
	conn := testkit.Connect(t, dsn)
	do(t, conn, "CREATE TABLE t (n int)")
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: 1})
	do(t, conn, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
	defer do(t, conn, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()") // else no database is dropped
	const cancel = "SELECT count(pg_cancel_backend(pid))::int FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
	// Sessions know the setting before the checkpointer has them wait.
	testkit.Eventually(t, time.Minute, "commits wait", func() bool {
		done, waited := make(chan error, 1), false
		go func() {
			_, err := db.Exec(t.Context(), "CREATE TABLE IF NOT EXISTS other (n int); INSERT INTO other VALUES (1)")
			done <- err
		}()
		testkit.Eventually(t, time.Minute, "a commit waits, or does not", func() bool {
			select {
			case <-done:
				return true
			default:
			}
			waited = ask[int](t, conn, cancel) == 1
			return waited
		})
		if waited {
			<-done
		}
		return waited
	})
	const insert = "INSERT INTO t VALUES ($1)"
	for name, run := range map[string]func(context.Context) error{
		"exec":                    func(ctx context.Context) error { _, err := db.Exec(ctx, "INSERT INTO t VALUES (1)"); return err },
		"exec with arguments":     func(ctx context.Context) error { _, err := db.Exec(ctx, insert, 1); return err },
		"exec that is idempotent": func(ctx context.Context) error { _, err := db.Exec(pool.WithIdempotent(ctx), insert, 1); return err },
		"query row":               func(ctx context.Context) error { var n int; return db.QueryRow(ctx, insert+" RETURNING n", 1).Scan(&n) },
		"query row without a row": func(ctx context.Context) error {
			var n int
			return db.QueryRow(ctx, "WITH w AS ("+insert+" RETURNING n) SELECT n FROM w WHERE n > 1", 1).Scan(&n)
		},
		"database/sql": func(ctx context.Context) error { _, err := db.Stdlib().ExecContext(ctx, insert, 1); return err },
		"database/sql, a row": func(ctx context.Context) error {
			var n int
			return db.Stdlib().QueryRowContext(ctx, insert+" RETURNING n", 1).Scan(&n)
		},
		"query": func(ctx context.Context) error {
			rows, err := db.Query(ctx, insert+" RETURNING n", 1)
			if err != nil {
				return err
			}
			_, err = pgx.CollectRows(rows, pgx.RowTo[int])
			return err
		},
		"batch": func(ctx context.Context) error {
			batch := &pgx.Batch{}
			batch.Queue(insert, 1)
			return db.SendBatch(ctx, batch).Close()
		},
		"copy": func(ctx context.Context) error {
			_, err := db.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}}))
			return err
		},
		"InTx": func(ctx context.Context) error {
			return db.InTx(ctx, pool.TxOptions{}, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, insert, 1); return err })
		},
		"Begin": func(ctx context.Context) error {
			tx, err := db.Begin(ctx)
			if err != nil {
				return err
			}
			exec(t, tx, insert, 1)
			return tx.Commit(ctx)
		},
		"database/sql, commit": func(ctx context.Context) error {
			tx, err := db.Stdlib().BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, insert, 1); err != nil {
				return err
			}
			return tx.Commit()
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := ask[int](t, conn, "SELECT count(*)::int FROM t")
			done := make(chan error, 1)
			go func() { done <- run(t.Context()) }()
			testkit.Eventually(t, time.Minute, "the commit waits, and is cancelled", func() bool {
				return ask[int](t, conn, cancel) == 1
			})
			if err := <-done; !errors.Is(err, pool.ErrOutcomeUnknown) || pool.Hint(err) == "" {
				t.Errorf("%v", err)
			}
			if got := ask[int](t, conn, "SELECT count(*)::int FROM t"); got != before+1 {
				t.Errorf("%d rows after %d", got, before)
			}
			if err := db.Ping(t.Context()); err != nil {
				t.Errorf("the next statement: %v", err)
			}
		})
	}
}
