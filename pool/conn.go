package pool

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Conn is one session with the primary, taken out of the pool by Acquire, for
// what needs a session of its own: LISTEN, advisory locks, temporary tables.
// Nothing on it is tried again. Its errors are those of the pool: a statement
// whose answer was lost is an ErrOutcomeUnknown, one that took too long an
// ErrQueryTimeout.
//
// It is used by one goroutine at a time, given back by Release, and not used after
// that.
type Conn struct {
	db   *DB
	conn *pgxpool.Conn
	// attempt says how errors are explained: as of a write that was sent once.
	attempt attempt
}

var _ Querier = (*Conn)(nil)

// Acquire takes a connection to the primary out of the pool. It is tried again as
// long as there is none. The caller must Release it, and leave the session as it
// was: no setting, no lock, no LISTEN. For a session to keep, connect with pgx.
func (db *DB) Acquire(ctx context.Context) (*Conn, error) {
	a := attempt{purpose: forSession}
	conn, err := db.acquireAgain(ctx, &a, opQuery)
	if err != nil {
		return nil, err
	}
	return &Conn{db: db, conn: conn, attempt: a}, nil
}

// Release gives the connection back. What is still under way or in a transaction
// ends with it, for the connection is closed then. Calling it again does nothing.
func (c *Conn) Release() {
	if c.conn != nil {
		c.conn.Release()
		c.conn = nil
	}
}

// Conn returns pgx's connection, for what this type does not have, such as
// WaitForNotification, LoadType or Prepare. It belongs to the pool: it may be
// closed, and must not be kept after Release. Errors of calls on it are pgx's own,
// which say of some statements that they are safe to try again although the
// server may have run them; see docs/pool.md.
func (c *Conn) Conn() *pgx.Conn { return c.conn.Conn() }

// Ping asks the server for a sign of life. Unlike pgx's it is a statement, and
// bounded as all are.
func (c *Conn) Ping(ctx context.Context) error {
	if _, err := c.conn.Exec(ctx, pingSQL); err != nil {
		return c.db.statementFailed(ctx, &c.attempt, c.conn, err, noEffects)
	}
	return nil
}

// Exec is pgx's.
func (c *Conn) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tag, err := c.conn.Exec(ctx, sql, args...)
	return tag, c.explain(ctx, err)
}

// Query is pgx's.
func (c *Conn) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	inner, err := c.conn.Query(ctx, sql, args...)
	rows := &explainedRows{Rows: inner, by: c, ctx: ctx}
	if err != nil {
		return rows, c.explain(ctx, err)
	}
	return rows, nil
}

// QueryRow is pgx's.
func (c *Conn) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return &connRow{row: c.conn.QueryRow(ctx, sql, args...), conn: c, ctx: ctx}
}

// connRow is the row of a QueryRow.
type connRow struct {
	row  pgx.Row
	conn *Conn
	ctx  context.Context //nolint:containedctx // that of the query, which lasts until its row is read
}

// Scan is pgx's.
func (r *connRow) Scan(dest ...any) error {
	err := r.row.Scan(dest...)
	if err != nil && err != pgx.ErrNoRows { //nolint:errorlint // pgx returns it as it is
		return r.conn.explain(r.ctx, err)
	}
	if unknown := r.conn.explain(r.ctx, nil); unknown != nil {
		return unknown
	}
	return err
}

// SendBatch is pgx's.
func (c *Conn) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	inner := c.conn.SendBatch(ctx, batch)
	if tx := inner.Tx(); tx != nil {
		return &batchInTx{BatchResults: inner, tx: c.transaction(tx)}
	}
	return &batchResults{BatchResults: inner, call: call{db: c.db, ctx: ctx, attempt: c.attempt, conn: c.conn, lent: true}}
}

// Begin begins a transaction, as pgx's does.
func (c *Conn) Begin(ctx context.Context) (pgx.Tx, error) { return c.BeginTx(ctx, pgx.TxOptions{}) }

// BeginTx begins a transaction, as pgx's does. A Commit whose answer was lost
// returns an ErrOutcomeUnknown. The connection stays the caller's after its end.
func (c *Conn) BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error) {
	inner, err := c.conn.BeginTx(ctx, opts)
	if err != nil {
		return nil, c.db.statementFailed(ctx, &c.attempt, c.conn, beginError(err), noEffects)
	}
	return c.transaction(inner), nil
}

func (c *Conn) transaction(inner pgx.Tx) *transaction {
	tx := newTx(c.db, c.conn, inner)
	tx.lent = true
	return tx
}

// explain explains the error of a statement, or says that one that has none is not
// known to last.
func (c *Conn) explain(ctx context.Context, err error) error {
	switch {
	case c.conn == nil: // rows that are asked for their error after the Release
		return err
	case err == nil:
		return confirmed(c.conn.Conn())
	}
	return c.db.statementFailed(ctx, &c.attempt, c.conn, err, effects)
}
