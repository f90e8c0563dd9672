package pool_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// TestBank moves money between few accounts from many goroutines at once, in an
// order that deadlocks: what InTx says is done is done once, and no money comes
// or goes.
func TestBank(t *testing.T) {
	for name, level := range map[string]pgx.TxIsoLevel{"deadlocks": pgx.ReadCommitted, "repeatable read": pgx.RepeatableRead, "serializable": pgx.Serializable} {
		t.Run(name, func(t *testing.T) { bank(t, level) })
	}
}

func bank(t *testing.T, level pgx.TxIsoLevel) {
	const accounts, people, transfers = 6, 8, 25
	dsn := scratchtest.Database(t, server)
	conn := testkit.Connect(t, dsn)
	do(t, conn, "CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL)",
		"INSERT INTO accounts SELECT id, 1000 FROM generate_series(0, 5) AS id", "CREATE TABLE transfers (id int)",
		"ALTER DATABASE "+nameOf(t, dsn)+" SET deadlock_timeout = '5ms'")
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: people, MaxRetries: 20, RetryDelay: 100 * time.Millisecond, RetryBudget: 1})
	var crowd, met sync.WaitGroup
	var done, runs atomic.Int64
	// Whether the crowd's transfers meet is chance. The first two do, each holding
	// what the other wants next: one of them has to run again.
	const first = 2
	met.Add(first)
	for n := range first {
		crowd.Go(func() {
			var meet sync.Once
			err := db.InTx(t.Context(), pool.TxOptions{IsoLevel: level}, func(tx pgx.Tx) error {
				runs.Add(1)
				if _, err := tx.Exec(t.Context(), "UPDATE accounts SET balance = balance - 1 WHERE id = $1", n); err != nil {
					return err
				}
				meet.Do(func() { met.Done(); met.Wait() })
				if _, err := tx.Exec(t.Context(), "UPDATE accounts SET balance = balance + 1 WHERE id = $1", 1-n); err != nil {
					return err
				}
				_, err := tx.Exec(t.Context(), "INSERT INTO transfers VALUES ($1)", -1-n)
				return err
			})
			if err != nil {
				t.Error(err)
			} else {
				done.Add(1)
			}
		})
	}
	crowd.Wait()
	for n := range people {
		crowd.Go(func() {
			for i := range transfers {
				from := rand.IntN(accounts)
				to := (from + 1 + rand.IntN(accounts-1)) % accounts
				err := db.InTx(t.Context(), pool.TxOptions{IsoLevel: level}, func(tx pgx.Tx) error {
					runs.Add(1)
					return transfer(t, tx, from, to, n*transfers+i)
				})
				if err == nil {
					done.Add(1)
				} else if pool.Classify(err) != pool.ClassConflict {
					t.Error(err)
				}
			}
		})
	}
	crowd.Wait()
	if sum := ask[int](t, conn, "SELECT sum(balance)::int FROM accounts"); sum != accounts*1000 {
		t.Errorf("there are %d instead of %d", sum, accounts*1000)
	}
	rows, distinct := ask[int64](t, conn, "SELECT count(*) FROM transfers"), ask[int64](t, conn, "SELECT count(DISTINCT id) FROM transfers")
	if rows != done.Load() || rows != distinct {
		t.Errorf("%d transfers are there, %d different ones, and %d were acknowledged", rows, distinct, done.Load())
	}
	again := db.Stats().Retries
	t.Logf("%d transfers, of which %d done; %d runs, %d retries", first+people*transfers, done.Load(), runs.Load(), again)
	if again == 0 || done.Load() < people*transfers*9/10 {
		t.Errorf("%d were done, with %d retries: nothing was shown", done.Load(), again)
	}
	if want := int64(first+people*transfers) + again; runs.Load() != want {
		t.Errorf("%d runs instead of %d", runs.Load(), want)
	}
}

func transfer(t *testing.T, tx pgx.Tx, from, to, id int) error {
	var balance int
	if err := tx.QueryRow(t.Context(), "SELECT balance FROM accounts WHERE id = $1", from).Scan(&balance); err != nil {
		return err
	}
	for account, amount := range map[int]int{from: -1, to: 1} { // in any order
		if _, err := tx.Exec(t.Context(), "UPDATE accounts SET balance = balance + $2 WHERE id = $1", account, amount); err != nil {
			return err
		}
	}
	_, err := tx.Exec(t.Context(), "INSERT INTO transfers VALUES ($1)", id)
	return err
}

// TestTransactionsEnd: however a function in a transaction ends, the connection
// is given back and nothing of it stays.
func TestTransactionsEnd(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: 1, AcquireTimeout: time.Minute})
	exec(t, db, "CREATE TABLE t (n int PRIMARY KEY)")
	failed := errors.New("failed")
	for name, fn := range map[string]func(pgx.Tx) error{
		"error":        func(pgx.Tx) error { return failed },
		"panic":        func(pgx.Tx) error { panic("at the disco") },
		"own commit":   func(tx pgx.Tx) error { return tx.Commit(t.Context()) },
		"own rollback": func(tx pgx.Tx) error { return tx.Rollback(t.Context()) },
		"conflict": func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "INSERT INTO t VALUES (1)")
			return err
		},
		"error that is hidden": func(tx pgx.Tx) error {
			_, _ = tx.Exec(t.Context(), "INSERT INTO t VALUES (1)")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			func() {
				defer func() { _ = recover() }()
				err := db.InTx(t.Context(), pool.TxOptions{}, func(tx pgx.Tx) error {
					exec(t, tx, "INSERT INTO t VALUES (1)")
					return fn(tx)
				})
				if err == nil {
					t.Error("no error")
				}
			}()
			if n := one[int](t, db, "SELECT count(*) FROM t"); n != 0 {
				t.Errorf("%d rows stay", n)
			}
			if got := db.Stats().Servers[0].InUse; got != 0 {
				t.Errorf("%d connections are still held", got)
			}
		})
	}
}
