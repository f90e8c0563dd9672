package pool_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// saboteur breaks the connection on which a message with certain bytes is sent:
// before it is sent, or when the server has answered all of it, so that the
// answer is lost.
type saboteur struct {
	word     []byte
	answered bool // only then
	armed    atomic.Bool
	struck   atomic.Int64
}

func (s *saboteur) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &sabotaged{Conn: conn, by: s}, nil
}

type sabotaged struct {
	net.Conn
	by   *saboteur
	dead atomic.Bool
	// writing is held until what is to be answered has been sent.
	writing sync.Mutex
}

func (c *sabotaged) Write(p []byte) (int, error) {
	if c.dead.Load() {
		return 0, syscall.EPIPE
	}
	if !bytes.Contains(bytes.ToLower(p), c.by.word) || !c.by.armed.CompareAndSwap(true, false) {
		return c.Conn.Write(p)
	}
	c.by.struck.Add(1)
	c.writing.Lock()
	defer c.writing.Unlock()
	c.dead.Store(true)
	if !c.by.answered {
		_ = c.Close()
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

func (c *sabotaged) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.dead.Load() { // the server has answered, or is about to, and nobody hears it
		c.writing.Lock()
		defer c.writing.Unlock()
		if c.by.answered {
			c.swallow(p, n, err)
		}
		_ = c.Close()
		return 0, syscall.ECONNRESET
	}
	return n, err
}

// readyForQuery begins the message that ends an answer.
const readyForQuery = "Z\x00\x00\x00\x05"

// swallow reads to the end of the answer, n bytes of which are in p. An earlier end
// would let the cancel request that pgx sends for a broken connection reach a
// statement that is under way: what was read may be the server's consent to a COPY,
// which comes before the rows.
func (c *sabotaged) swallow(p []byte, n int, err error) {
	answer := append([]byte(nil), p[:n]...)
	for err == nil && !bytes.Contains(answer, []byte(readyForQuery)) {
		n, err = c.Conn.Read(p)
		answer = append(answer, p[:n]...)
	}
}

// copyDone is the message that ends a COPY.
const copyDone = "c\x00\x00\x00\x04"

// TestLostAnswer loses the answer to a statement that the server has run, by
// every way that statements take: it is not run again, and the error says that
// the outcome is unknown. Only what is marked as idempotent is run again.
func TestLostAnswer(t *testing.T) {
	const insert = "INSERT INTO t VALUES (1)"
	inTx := func(ctx context.Context, db *pool.DB) error {
		return db.InTx(ctx, pool.TxOptions{}, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, insert)
			return err
		})
	}
	for _, test := range []struct {
		name, word string
		run        func(context.Context, *pool.DB) error
		want       int
		known      bool // no error
	}{
		{"commit of InTx", "commit", inTx, 1, false},
		{"commit of InTx, marked", "commit", func(ctx context.Context, db *pool.DB) error { return inTx(pool.WithIdempotent(ctx), db) }, 1, false},
		{"statement in InTx", "insert", inTx, 1, true},
		{"commit of Begin", "commit", func(ctx context.Context, db *pool.DB) error {
			tx, err := db.Begin(ctx)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, insert); err != nil {
				return err
			}
			return tx.Commit(ctx)
		}, 1, false},
		{"exec without arguments", "insert", func(ctx context.Context, db *pool.DB) error { _, err := db.Exec(ctx, insert); return err }, 1, false},
		{"exec with arguments", "insert", func(ctx context.Context, db *pool.DB) error {
			_, err := db.Exec(ctx, "/* $1 */ INSERT INTO t VALUES ($1)", pgx.QueryExecModeExec, 1)
			return err
		}, 1, false},
		{"exec that is idempotent", "insert", func(ctx context.Context, db *pool.DB) error {
			_, err := db.Exec(pool.WithIdempotent(ctx), "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING")
			return err
		}, 2, true},
		{"query", "insert", func(ctx context.Context, db *pool.DB) error {
			rows, err := db.Query(ctx, insert+" RETURNING 1", pgx.QueryExecModeExec)
			if err != nil {
				return err
			}
			_, err = pgx.CollectRows(rows, pgx.RowTo[int])
			return err
		}, 1, false},
		{"query of a simple protocol", "insert", func(ctx context.Context, db *pool.DB) error {
			var n int
			return db.QueryRow(ctx, insert+" RETURNING 1", pgx.QueryExecModeSimpleProtocol).Scan(&n)
		}, 1, false},
		{"batch", "strike", func(ctx context.Context, db *pool.DB) error {
			batch := &pgx.Batch{}
			// The word is in the argument: preparing is no loss.
			batch.Queue("INSERT INTO t VALUES (length($1::text))", "strike")
			batch.Queue("INSERT INTO t VALUES (length($1::text))", "strike")
			return db.SendBatch(ctx, batch).Close()
		}, 2, false},
		{"batch, its statement", "strike", func(ctx context.Context, db *pool.DB) error {
			batch := &pgx.Batch{}
			batch.Queue("INSERT INTO t VALUES (length($1::text))", "strike")
			results := db.SendBatch(ctx, batch)
			defer func() { _ = results.Close() }()
			_, err := results.Exec()
			return err
		}, 1, false},
		{"batch, its query", "strike", func(ctx context.Context, db *pool.DB) error {
			batch := &pgx.Batch{}
			batch.Queue("INSERT INTO t VALUES (length($1::text)) RETURNING 1", "strike")
			results := db.SendBatch(ctx, batch)
			defer func() { _ = results.Close() }()
			rows, err := results.Query()
			if err != nil {
				return err
			}
			_, err = pgx.CollectRows(rows, pgx.RowTo[int])
			return err
		}, 1, false},
		{"batch, its row", "strike", func(ctx context.Context, db *pool.DB) error {
			batch := &pgx.Batch{}
			batch.Queue("INSERT INTO t VALUES (length($1::text)) RETURNING 1", "strike")
			results := db.SendBatch(ctx, batch)
			defer func() { _ = results.Close() }()
			var n int
			return results.QueryRow().Scan(&n)
		}, 1, false},
		{"copy, its end", copyDone, func(ctx context.Context, db *pool.DB) error {
			_, err := db.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}, {2}}))
			return err
		}, 2, false},
		{"connection, its statement", "insert", func(ctx context.Context, db *pool.DB) error {
			conn, err := db.Acquire(ctx)
			if err != nil {
				return err
			}
			defer conn.Release()
			_, err = conn.Exec(ctx, insert)
			return err
		}, 1, false},
		{"connection, its commit", "commit", func(ctx context.Context, db *pool.DB) error {
			conn, err := db.Acquire(ctx)
			if err != nil {
				return err
			}
			defer conn.Release()
			tx, err := conn.Begin(ctx)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, insert); err != nil {
				return err
			}
			return tx.Commit(ctx)
		}, 1, false},
		{"database/sql, prepared", "strike", func(ctx context.Context, db *pool.DB) error {
			stmt, err := db.Stdlib().PrepareContext(ctx, "INSERT INTO t VALUES (length($1::text))")
			if err != nil {
				return err
			}
			defer func() { _ = stmt.Close() }()
			_, err = stmt.ExecContext(ctx, "strike")
			return err
		}, 1, false},
		{"database/sql, prepared query", "strike", func(ctx context.Context, db *pool.DB) error {
			stmt, err := db.Stdlib().PrepareContext(ctx, "INSERT INTO t VALUES (length($1::text)) RETURNING 1")
			if err != nil {
				return err
			}
			defer func() { _ = stmt.Close() }()
			var n int
			return stmt.QueryRowContext(ctx, "strike").Scan(&n)
		}, 1, false},
		{"database/sql", "insert", func(ctx context.Context, db *pool.DB) error {
			_, err := db.Stdlib().ExecContext(ctx, insert)
			return err
		}, 1, false},
		{"database/sql, commit of its own", "commit", func(ctx context.Context, db *pool.DB) error {
			conn, err := db.Stdlib().Conn(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			for _, sql := range []string{"BEGIN", insert, "COMMIT"} {
				if _, err := conn.ExecContext(ctx, sql); err != nil {
					return err
				}
			}
			return nil
		}, 1, false},
		{"database/sql, commit", "commit", func(ctx context.Context, db *pool.DB) error {
			tx, err := db.Stdlib().BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, insert); err != nil {
				return err
			}
			return tx.Commit()
		}, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dsn := scratchtest.Database(t, server)
			s := &saboteur{word: []byte(test.word), answered: true}
			conn := testkit.Connect(t, dsn)
			do(t, conn, "CREATE TABLE t (n int)")
			db := open(t, pool.Config{PrimaryURL: dsn, DialFunc: s.dial})
			s.armed.Store(true)
			err := test.run(t.Context(), db)
			if s.struck.Load() != 1 {
				t.Fatalf("the link broke %d times", s.struck.Load())
			}
			if test.known && err != nil || !test.known && !errors.Is(err, pool.ErrOutcomeUnknown) {
				t.Errorf("error: %v", err)
			}
			if !test.known && pool.Hint(err) == "" {
				t.Error("no hint")
			}
			// What was sent before the link broke may be under way yet.
			testkit.Eventually(t, time.Minute, "nothing is under way", func() bool {
				return ask[bool](t, conn, `SELECT NOT EXISTS (SELECT FROM pg_stat_activity
					WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle')`)
			})
			if got := ask[int](t, conn, "SELECT count(*)::int FROM t"); got != test.want {
				t.Errorf("%d rows instead of %d", got, test.want)
			}
		})
	}
}

// TestCopyCut breaks the link in the middle of the rows of a COPY: none of them stays,
// and it is not tried again, for its source can't be read twice.
func TestCopyCut(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	s := &saboteur{word: []byte("strike"), answered: true}
	conn := testkit.Connect(t, dsn)
	do(t, conn, "CREATE TABLE t (s text)")
	db := open(t, pool.Config{PrimaryURL: dsn, DialFunc: s.dial})
	s.armed.Store(true)
	rows := [][]any{{"first"}, {"strike"}, {"last"}}
	_, err := db.CopyFrom(t.Context(), pgx.Identifier{"t"}, []string{"s"}, pgx.CopyFromRows(rows))
	// Where the end of the rows can't be sent, it is known that nothing was done.
	if class := pool.Classify(err); class != pool.ClassConnectionLost && class != pool.ClassOutcomeUnknown {
		t.Errorf("%s: %v", class, err)
	}
	if n := ask[int](t, conn, "SELECT count(*)::int FROM t"); n != 0 || s.struck.Load() != 1 || db.Stats().Retries != 0 {
		t.Errorf("%d rows, the link broke %d times, %d retries", n, s.struck.Load(), db.Stats().Retries)
	}
}

// TestUnsent breaks the link before a COMMIT or a statement is sent: it is done
// again, once.
func TestUnsent(t *testing.T) {
	for _, word := range []string{"commit", "insert", "begin"} {
		t.Run(word, func(t *testing.T) {
			dsn := scratchtest.Database(t, server)
			s := &saboteur{word: []byte(word)}
			conn := testkit.Connect(t, dsn)
			do(t, conn, "CREATE TABLE t (n int)")
			db := open(t, pool.Config{PrimaryURL: dsn, DialFunc: s.dial})
			s.armed.Store(true)
			err := db.InTx(t.Context(), pool.TxOptions{}, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), "INSERT INTO t VALUES (1)")
				return err
			})
			if err != nil || s.struck.Load() != 1 {
				t.Errorf("broke %d times: %v", s.struck.Load(), err)
			}
			if got := ask[int](t, conn, "SELECT count(*)::int FROM t"); got != 1 {
				t.Errorf("%d rows", got)
			}
			if db.Stats().Retries != 1 {
				t.Errorf("%d retries", db.Stats().Retries)
			}
		})
	}
}
