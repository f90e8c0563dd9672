package pool_test

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// prepared has all connections of a pool prepare the same query.
func prepared(t *testing.T, db *pool.DB, conns int, query string) {
	t.Helper()
	held := make([]*pool.Conn, conns)
	for i := range held {
		var err error
		if held[i], err = db.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		rows, err := held[i].Query(t.Context(), query, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pgx.CollectRows(rows, pgx.RowToMap); err != nil {
			t.Fatal(err)
		}
	}
	for _, conn := range held {
		conn.Release()
	}
}

// TestPlansThatDoNotFit changes a table under prepared plans of it, or drops the
// plans: no call fails, and none waits for a retry or takes from the budget.
func TestPlansThatDoNotFit(t *testing.T) {
	t.Parallel()
	const conns, query = 8, "SELECT * FROM t WHERE n = $1"
	collected := func(rows pgx.Rows, err error) error {
		if err != nil {
			return err
		}
		_, err = pgx.CollectRows(rows, pgx.RowToMap)
		return err
	}
	ways := map[string]func(ctx context.Context, db *pool.DB) error{
		"query":     func(ctx context.Context, db *pool.DB) error { return collected(db.Query(ctx, query, 1)) },
		"read":      func(ctx context.Context, db *pool.DB) error { return collected(db.Read(ctx).Query(ctx, query, 1)) },
		"exec":      func(ctx context.Context, db *pool.DB) error { _, err := db.Exec(ctx, query, 1); return err },
		"query row": func(ctx context.Context, db *pool.DB) error { return db.QueryRow(ctx, query, 1).Scan(pgxAny{}) },
		"transaction": func(ctx context.Context, db *pool.DB) error {
			return db.InTx(ctx, pool.TxOptions{}, func(tx pgx.Tx) error { return collected(tx.Query(ctx, query, 1)) })
		},
		"database/sql": func(ctx context.Context, db *pool.DB) error {
			rows, err := db.Stdlib().QueryContext(ctx, query, 1)
			if err != nil {
				return err
			}
			return drain(rows)
		},
		"database/sql, exec": func(ctx context.Context, db *pool.DB) error {
			_, err := db.Stdlib().ExecContext(ctx, query, 1)
			return err
		},
	}
	for how, call := range ways {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dsn := scratchtest.Database(t, server)
			conn := testkit.Connect(t, dsn)
			do(t, conn, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
			fresh := func() *pool.DB {
				db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: conns, RetryDelay: time.Minute, AcquireTimeout: time.Minute})
				prepared(t, db, conns, query)
				return db
			}
			together := func(db *pool.DB) {
				t.Helper()
				var crowd sync.WaitGroup
				for range conns {
					crowd.Go(func() {
						for range 2 * conns {
							if err := call(t.Context(), db); err != nil {
								t.Errorf("%s: %v", pool.Classify(err), err)
							}
						}
					})
				}
				crowd.Wait()
				if s := db.Stats(); s.RetriesRefused != 0 {
					t.Errorf("%d retries refused", s.RetriesRefused)
				}
			}
			db := fresh()
			do(t, conn, "ALTER TABLE t ADD COLUMN c int")
			together(db)
			for _, forget := range []string{"DEALLOCATE ALL", "DISCARD ALL"} {
				// Not those from before: nobody knows that each was used since.
				db := fresh()
				held := make([]*pool.Conn, conns)
				for i := range held {
					var err error
					if held[i], err = db.Acquire(t.Context()); err != nil {
						t.Fatal(err)
					}
					exec(t, held[i], forget)
				}
				for _, conn := range held {
					conn.Release()
				}
				together(db)
			}
		})
	}
}

// TestPlanThatNeverFits: what another plan does not mend ends, and in a transaction
// the one statement is not run again alone.
func TestPlanThatNeverFits(t *testing.T) {
	t.Parallel()
	db := open(t, pool.Config{MaxConns: 2, RetryDelay: time.Minute})
	if _, err := db.Exec(t.Context(), "EXECUTE unheard_of"); pool.Classify(err) != pool.ClassInvalid {
		t.Errorf("%v", err)
	}
	if n := db.Stats().Retries; n != 3 {
		t.Errorf("%d retries", n)
	}
}

// pgxAny takes a row of any shape.
type pgxAny struct{}

// ScanRow is pgx's.
func (pgxAny) ScanRow(rows pgx.Rows) error { _, err := rows.Values(); return err }

func drain(rows *sql.Rows) error {
	for rows.Next() {
	}
	err := rows.Err()
	if closed := rows.Close(); err == nil {
		err = closed
	}
	return err
}
