package pool_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// slowSource gives rows for as long as it is asked, one each millisecond, and says
// when it has given the first.
type slowSource struct {
	begun chan struct{}
	rows  int
}

// Next is pgx's.
func (s *slowSource) Next() bool {
	s.rows++
	switch s.rows {
	case 2:
		close(s.begun)
	case 120_000:
		return false // two minutes
	}
	timer := time.NewTimer(time.Millisecond)
	defer timer.Stop()
	<-timer.C
	return true
}

// Values is pgx's.
func (s *slowSource) Values() ([]any, error) { return []any{s.rows}, nil }

// Err is pgx's.
func (s *slowSource) Err() error { return nil }

// TestCopyEnds: a COPY with a slow source ends with its context, its time limit or its
// connection, and it is known that nothing was done.
func TestCopyEnds(t *testing.T) {
	t.Parallel()
	dsn := scratchtest.Database(t, server)
	conn := testkit.Connect(t, dsn)
	do(t, conn, "CREATE TABLE t (n int)")
	db := open(t, pool.Config{PrimaryURL: dsn, MaxConns: 2})
	limited := open(t, pool.Config{PrimaryURL: dsn, MaxConns: 2, QueryTimeout: time.Second})
	table, columns := pgx.Identifier{"t"}, []string{"n"}
	type copier interface {
		CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error)
	}
	held, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	inTx := copyInTx{db}
	for name, tt := range map[string]struct {
		by   copier
		end  func(cancel context.CancelFunc)
		want pool.Class
	}{
		"context":              {db, func(cancel context.CancelFunc) { cancel() }, pool.ClassCanceled},
		"context, held":        {held, func(cancel context.CancelFunc) { cancel() }, pool.ClassCanceled},
		"context, transaction": {inTx, func(cancel context.CancelFunc) { cancel() }, pool.ClassCanceled},
		"session": {db, func(context.CancelFunc) {
			do(t, conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'copy %'")
		}, pool.ClassConnectionLost},
		"time limit": {limited, func(context.CancelFunc) {}, pool.ClassTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			source := &slowSource{begun: make(chan struct{})}
			failed := make(chan error, 1)
			go func() {
				_, err := tt.by.CopyFrom(ctx, table, columns, source)
				failed <- err
			}()
			<-source.begun
			if tt.want == pool.ClassConnectionLost {
				testkit.Eventually(t, time.Minute, "the server copies", func() bool {
					return ask[int](t, conn, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'copy %' AND state = 'active'") == 1
				})
			}
			tt.end(cancel)
			if err := <-failed; pool.Classify(err) != tt.want || errors.Is(err, pool.ErrOutcomeUnknown) {
				t.Errorf("%s: %v", pool.Classify(err), err)
			}
			if source.rows > 60_000 {
				t.Errorf("it read %d rows", source.rows)
			}
		})
	}
	if n := ask[int](t, conn, "SELECT count(*)::int FROM t"); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// copyInTx copies within a transaction.
type copyInTx struct{ db *pool.DB }

// CopyFrom is pgx's.
func (c copyInTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (n int64, err error) {
	err = c.db.InTx(ctx, pool.TxOptions{}, func(tx pgx.Tx) error {
		n, err = tx.CopyFrom(ctx, table, columns, source)
		return err
	})
	return n, err
}
