package pool_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/pool"
)

// ledger is a load of writes of which it is known what became of each: those
// that were acknowledged must be there once, those whose outcome is unknown once
// at most, and those that failed not at all.
type ledger struct {
	db   *pool.DB
	stop context.CancelFunc
	work sync.WaitGroup
	next atomic.Int64

	mu      sync.Mutex
	entries map[int64]string // acknowledged, unknown, or failed
	// servers is on which ports writes were acknowledged, and how often.
	servers map[string]int
	reasons map[pool.Class]int
}

// The table has no key: what is written twice is there twice.
const ledgerTable = "CREATE TABLE ledger (id int8 NOT NULL, port text NOT NULL DEFAULT current_setting('port'))"

// newLedger starts so many writers, half by single statements, half by
// transactions. The table must be there.
func newLedger(t *testing.T, db *pool.DB, writers int) *ledger {
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	l := &ledger{db: db, stop: stop, entries: map[int64]string{}, servers: map[string]int{}, reasons: map[pool.Class]int{}}
	for n := range writers {
		l.work.Go(func() {
			for ctx.Err() == nil {
				// What runs is left to end: the caller's cancel is no fault.
				l.write(context.WithoutCancel(ctx), n%2 == 0)
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *ledger) write(ctx context.Context, inTx bool) {
	const insert = "INSERT INTO ledger (id) VALUES ($1) RETURNING port"
	id := l.next.Add(1)
	var port string
	var err error
	if inTx {
		err = l.db.InTx(ctx, pool.TxOptions{}, func(tx pgx.Tx) error { return tx.QueryRow(ctx, insert, id).Scan(&port) })
	} else {
		err = l.db.QueryRow(ctx, insert, id).Scan(&port)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.entries[id] = "acknowledged"
		l.servers[port]++
	case errors.Is(err, pool.ErrOutcomeUnknown):
		l.entries[id] = "unknown"
	default:
		l.entries[id] = "failed"
	}
	l.reasons[pool.Classify(err)]++
}

// acknowledgedOn is how many writes a server has acknowledged.
func (l *ledger) acknowledgedOn(port string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.servers[port]
}

// acknowledged is how many writes have been acknowledged.
func (l *ledger) acknowledged() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, of := range l.servers {
		n += of
	}
	return n
}

// end ends the writers.
func (l *ledger) end() {
	l.stop()
	l.work.Wait()
}

// check compares the ledger with the table, and says what there was.
func (l *ledger) check(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	l.end()
	rows, err := conn.Query(t.Context(), "SELECT id, count(*)::int FROM ledger GROUP BY id")
	if err != nil {
		t.Fatal(err)
	}
	found := map[int64]int{}
	var id int64
	var count int
	if _, err := pgx.ForEachRow(rows, []any{&id, &count}, func() error { found[id] = count; return nil }); err != nil {
		t.Fatal(err)
	}
	counts, wrong := map[string]int{}, map[string]int{}
	for id, what := range l.entries {
		counts[what]++
		switch n := found[id]; {
		case n > 1:
			wrong["doubled"]++
		case n == 0 && what == "acknowledged":
			wrong["acknowledged and lost"]++
		case n == 1 && what == "failed":
			wrong["failed and there"]++
		case n == 1 && what == "unknown":
			counts["unknown and done"]++
		}
		delete(found, id)
	}
	t.Logf("writes: %v; wrong: %v; classes: %v", counts, wrong, l.reasons)
	if len(wrong) > 0 || len(found) > 0 {
		t.Errorf("wrong: %v, and %d rows that nobody wrote", wrong, len(found))
	}
	if counts["acknowledged"] == 0 {
		t.Error("nothing was ever written")
	}
}
