package pool

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// call is a query under way, with what it takes to run it again. It keeps the
// context of the call that made it, as pgx's own rows do.
type call struct {
	db   *DB
	ctx  context.Context //nolint:containedctx // that of the call, which lasts until the rows are read
	sql  string
	args []any
	attempt
	conn *pgxpool.Conn // nil when it is given back
	lent bool          // it is somebody's who keeps it
}

// release gives the connection back.
func (c *call) release() {
	if c.conn != nil && !c.lent {
		c.conn.Release()
	}
	c.conn = nil
}

// releaseUnless gives the connection back unless the query was sent: an argument's
// Value may panic.
func (c *call) releaseUnless(sent *bool) {
	if !*sent {
		c.release()
	}
}

// fail gives the connection back and returns the error, explained.
func (c *call) fail(err error) error {
	if c.conn == nil {
		return err
	}
	if err == nil {
		return confirmed(c.conn.Conn())
	}
	err = c.db.statementFailed(c.ctx, &c.attempt, c.conn, err, effects)
	c.release()
	return err
}

// rows are the rows of a query. As long as none was seen, a query that failed
// may be run again without anybody noticing.
type rows struct {
	call
	rows pgx.Rows
	seen bool
	err  error // explained, when it is over
	over bool
}

func (db *DB) query(ctx context.Context, a attempt, sql string, args []any) (pgx.Rows, error) {
	r := &rows{call: call{db: db, ctx: ctx, sql: sql, args: args, attempt: a}}
	if err := r.open(nil); err != nil {
		return r, err
	}
	return r, nil
}

// open sends the query, and again if it fails and may be: for the first time, or
// after this error of a try.
func (r *rows) open(err error) error {
	for {
		if err != nil && !r.db.again(r.ctx, &r.attempt, err) {
			r.err, r.over = err, true
			return err
		}
		if r.conn, err = r.db.acquire(r.ctx, &r.attempt, opQuery); err != nil {
			continue
		}
		if err = r.send(); err == nil {
			return nil
		}
		r.rows.Close()
		err = r.fail(err)
	}
}

// send sends the query once.
func (r *rows) send() (err error) {
	sent := false
	defer r.releaseUnless(&sent)
	r.rows, err = r.conn.Query(r.ctx, r.sql, r.args...)
	sent = true
	return err
}

// Next is pgx's.
func (r *rows) Next() bool {
	for !r.over {
		if r.rows.Next() {
			r.seen = true
			return true
		}
		if r.rows.Err() == nil || r.seen {
			r.Close()
			return false
		}
		r.rows.Close()
		_ = r.open(r.fail(r.rows.Err()))
	}
	return false
}

// Close is pgx's; it gives the connection back.
func (r *rows) Close() {
	if r.over {
		return
	}
	r.over = true
	r.rows.Close()
	r.err = r.fail(r.rows.Err())
	r.release()
}

// Err is pgx's.
func (r *rows) Err() error {
	if r.over {
		return r.err
	}
	return r.rows.Err()
}

// Scan is pgx's. As with pgx, an error closes the rows.
func (r *rows) Scan(dest ...any) error {
	if r.rows == nil {
		return r.err
	}
	err := r.rows.Scan(dest...)
	if err != nil {
		r.Close()
	}
	return err
}

// Values is pgx's.
func (r *rows) Values() ([]any, error) {
	if r.rows == nil {
		return nil, r.err
	}
	values, err := r.rows.Values()
	if err != nil {
		r.Close()
	}
	return values, err
}

// CommandTag is pgx's.
func (r *rows) CommandTag() pgconn.CommandTag {
	if r.rows == nil {
		return pgconn.CommandTag{}
	}
	return r.rows.CommandTag()
}

// FieldDescriptions is pgx's.
func (r *rows) FieldDescriptions() []pgconn.FieldDescription {
	if r.rows == nil {
		return nil
	}
	return r.rows.FieldDescriptions()
}

// RawValues is pgx's.
func (r *rows) RawValues() [][]byte {
	if r.rows == nil {
		return nil
	}
	return r.rows.RawValues()
}

// Conn is pgx's.
func (r *rows) Conn() *pgx.Conn {
	if r.rows == nil {
		return nil
	}
	return r.rows.Conn()
}

// TypeMap is pgx's.
func (r *rows) TypeMap() *pgtype.Map {
	if r.rows == nil {
		return nil
	}
	return r.rows.TypeMap()
}

// row is the row of a QueryRow. The query is sent at once, and run again, if it
// may be, when the row is asked for.
type row struct {
	call
	row pgx.Row
	err error // of the first try, if there is no row
}

func (db *DB) queryRow(ctx context.Context, a attempt, sql string, args []any) pgx.Row {
	r := &row{call: call{db: db, ctx: ctx, sql: sql, args: args, attempt: a}}
	r.err = r.send()
	return r
}

// send sends the query once.
func (r *row) send() (err error) {
	if r.conn, err = r.db.acquire(r.ctx, &r.attempt, opQuery); err != nil {
		return err
	}
	sent := false
	defer r.releaseUnless(&sent)
	r.row = r.conn.QueryRow(r.ctx, r.sql, r.args...)
	sent = true
	return nil
}

// Scan is pgx's; it gives the connection back.
func (r *row) Scan(dest ...any) error {
	// If a Scan method of a value panics.
	defer r.release()
	for {
		err := r.err
		if err == nil {
			err = r.scan(dest)
		}
		if err == nil || !r.db.again(r.ctx, &r.attempt, err) {
			return err
		}
		r.err = r.send()
	}
}

func (r *row) scan(dest []any) error {
	err := r.row.Scan(dest...)
	if err != nil && err != pgx.ErrNoRows { //nolint:errorlint // pgx returns it as it is, and often
		return r.fail(err)
	}
	if unknown := r.fail(nil); unknown != nil {
		err = unknown
	}
	r.release()
	return err
}

// batchResults are the results of a batch.
type batchResults struct {
	pgx.BatchResults
	call
	closed bool
}

func (db *DB) sendBatch(ctx context.Context, a attempt, batch *pgx.Batch) pgx.BatchResults {
	conn, err := db.acquireAgain(ctx, &a, opBatch)
	if err != nil {
		return pgx.FailedBatchResults(batch, err)
	}
	r := &batchResults{call: call{db: db, ctx: ctx, attempt: a, conn: conn}}
	sent := false
	defer r.releaseUnless(&sent)
	r.BatchResults = conn.SendBatch(ctx, batch)
	sent = true
	if tx := r.Tx(); tx != nil {
		// From here on the connection is the transaction's.
		return &batchInTx{BatchResults: r.BatchResults, tx: newTx(db, conn, tx)}
	}
	return r
}

// explain explains the error of one statement of the batch.
func (r *batchResults) explain(ctx context.Context, err error) error {
	if err == nil || r.conn == nil {
		return err
	}
	return r.db.statementFailed(ctx, &r.attempt, r.conn, err, effects)
}

// Exec is pgx's.
func (r *batchResults) Exec() (pgconn.CommandTag, error) {
	tag, err := r.BatchResults.Exec()
	return tag, r.explain(r.ctx, err)
}

// Query is pgx's.
func (r *batchResults) Query() (pgx.Rows, error) {
	inner, err := r.BatchResults.Query()
	return &explainedRows{Rows: inner, by: r, ctx: r.ctx}, r.explain(r.ctx, err)
}

// QueryRow is pgx's.
func (r *batchResults) QueryRow() pgx.Row {
	return &explainedRow{row: r.BatchResults.QueryRow(), by: r, ctx: r.ctx}
}

// Close is pgx's; it gives the connection back.
func (r *batchResults) Close() error {
	if r.closed {
		return r.BatchResults.Close()
	}
	r.closed = true
	defer r.release()
	return r.fail(r.BatchResults.Close())
}

// batchInTx are the results of a batch that has begun a transaction.
type batchInTx struct {
	pgx.BatchResults
	tx *transaction
}

// Tx is pgx's.
func (r *batchInTx) Tx() pgx.Tx { return r.tx }
