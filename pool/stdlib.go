package pool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Stdlib returns a database/sql handle over the same connections to the primary,
// for code that needs one. It is the same handle each time. Its limits are the
// pool's: set none on the handle. Waiting for a connection is bounded by the
// acquire timeout. Statements are timed, logged and bounded as all others, but
// never retried, except for a prepared plan that does not fit any more, and after a failover new ones go to the new primary. Shutdown
// closes it; somebody who closes it leaves the pool open, and the next call gives
// another one.
//
// What sql.Conn.Raw gives is not pgx's *stdlib.Conn but a type of this package
// that has its methods; Conn is among them and gives the *pgx.Conn:
//
//	raw.(interface{ Conn() *pgx.Conn }).Conn()
func (db *DB) Stdlib() *sql.DB {
	return db.std.get(func() *sql.DB {
		c := &connector{db: db}
		c.handle = sql.OpenDB(c)
		// An idle connection of database/sql would be a used one of the pool.
		c.handle.SetMaxIdleConns(0)
		return c.handle
	})
}

// stdlibHandle is the handle that Stdlib has given, or nil.
type stdlibHandle struct {
	mu     sync.Mutex
	handle *sql.DB
	closed bool // and Stdlib gives closed ones
}

// get returns the handle, which it makes if there is none.
func (h *stdlibHandle) get(open func() *sql.DB) *sql.DB {
	h.mu.Lock()
	fresh := h.handle == nil
	if fresh {
		h.handle = open()
	}
	handle, closed := h.handle, h.closed
	h.mu.Unlock()
	if fresh && closed {
		_ = handle.Close() // it holds nothing but a goroutine
	}
	return handle
}

// close closes the handle, which has a goroutine of its own.
func (h *stdlibHandle) close() {
	h.mu.Lock()
	h.closed = true
	handle := h.handle
	h.mu.Unlock()
	if handle != nil {
		_ = handle.Close() // no connection of it is idle
	}
}

// connector gives database/sql connections of the present primary.
type connector struct {
	db     *DB
	handle *sql.DB
}

// Close is the call of database/sql when the handle is closed.
func (c *connector) Close() error {
	h := &c.db.std
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.handle == c.handle && !h.closed {
		h.handle = nil
	}
	return nil
}

// Connect takes a connection for database/sql, which releases it by closing it.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	e, err := c.db.writable()
	if err != nil {
		return nil, err
	}
	return e.stdlibConn(ctx)
}

// Driver is pgx's.
func (c *connector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// stdConn is pgx's connection for database/sql, but that it never asks for a
// statement to be run again that the server may have run. Pgx does so where the
// connection was lost after the statement was sent, see session.unsent, and
// database/sql obeys. It has all other methods of pgx's, Conn among them.
type stdConn struct {
	*stdlibConn
	// inTx says whether it is in a transaction of database/sql's, which knows how
	// that ends. One of somebody's own BEGIN ends with a statement like others.
	inTx *bool
}

// stdlibConn is pgx's type under a name that hides none of its methods.
type stdlibConn = stdlib.Conn

// ExecContext is pgx's.
func (c stdConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	open := c.loose()
	result, err := c.stdlibConn.ExecContext(ctx, query, args)
	if c.replans(open, err) {
		result, err = c.stdlibConn.ExecContext(ctx, query, args)
	}
	return result, c.honest(open, err)
}

// QueryContext is pgx's.
func (c stdConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	open := c.loose()
	rows, err := c.stdlibConn.QueryContext(ctx, query, args)
	if c.replans(open, err) {
		rows, err = c.stdlibConn.QueryContext(ctx, query, args)
	}
	if err != nil {
		return nil, c.honest(open, err)
	}
	return c.rows(open, rows), nil
}

// PrepareContext is pgx's.
func (c stdConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.stdlibConn.PrepareContext(ctx, query)
	if own, ok := stmt.(*stdlib.Stmt); ok && err == nil {
		return stdStmt{own, c}, nil
	}
	return stmt, err
}

// BeginTx is pgx's.
func (c stdConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.stdlibConn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	*c.inTx = true
	return stdTx{tx, c}, nil
}

// Ping is as pgx's, but a statement, and bounded as all are.
func (c stdConn) Ping(ctx context.Context) error {
	if _, err := c.Conn().Exec(ctx, pingSQL); err != nil {
		_ = c.Close()
		return driver.ErrBadConn
	}
	return nil
}

// loose says whether the connection is open and in no transaction: what is lost
// with one that is in a transaction was not done.
func (c stdConn) loose() bool { return !c.Conn().IsClosed() && !*c.inTx }

// replans says whether a statement outside a transaction was refused for a plan that
// does not fit any more. Nothing was run, and pgx plans it again the next time.
func (c stdConn) replans(open bool, err error) bool {
	return open && stalePlan(err) && !c.Conn().IsClosed() && c.Conn().PgConn().TxStatus() == 'I'
}

// honest returns the error of a statement that lasts if it was run, on a connection
// that was open before it, or not.
func (c stdConn) honest(open bool, err error) error {
	if open && err == nil {
		return confirmed(c.Conn())
	}
	if !open || !c.Conn().IsClosed() {
		return err
	}
	if sessionOf(c.Conn()).unread(err) {
		return driver.ErrBadConn // database/sql runs it again: it was not begun
	}
	if errors.Is(err, driver.ErrBadConn) {
		err = pgconn.ErrConnClosed // anything else than what database/sql obeys
	}
	sessionOf(c.Conn()).endpoint.trouble()
	return outcomeUnknownError(err)
}

// stdStmt is pgx's prepared statement for database/sql, as honest as stdConn.
type stdStmt struct {
	*stdlib.Stmt
	conn stdConn
}

// ExecContext is pgx's.
func (s stdStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	open := s.conn.loose()
	result, err := s.Stmt.ExecContext(ctx, args)
	return result, s.conn.honest(open, err)
}

// QueryContext is pgx's.
func (s stdStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	open := s.conn.loose()
	rows, err := s.Stmt.QueryContext(ctx, args)
	if err != nil {
		return nil, s.conn.honest(open, err)
	}
	return s.conn.rows(open, rows), nil
}

// rows are the rows of a query that was run outside a transaction, or as they are.
func (c stdConn) rows(open bool, rows driver.Rows) driver.Rows {
	if own, ok := rows.(*stdlib.Rows); ok && open {
		return &stdRows{own, c}
	}
	return rows
}

// stdRows are pgx's rows for database/sql, with what becomes known of their
// statement at their end.
type stdRows struct {
	*stdlib.Rows
	conn stdConn
}

// Next is pgx's.
func (r *stdRows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	if err == nil {
		return nil // there is more
	}
	if err == io.EOF { // what wraps it is another end
		if unknown := confirmed(r.conn.Conn()); unknown != nil {
			return unknown
		}
		return err
	}
	return r.conn.honest(true, err)
}

// Close is pgx's.
func (r *stdRows) Close() error { return r.conn.honest(true, r.Rows.Close()) }

// stdTx is pgx's transaction for database/sql.
type stdTx struct {
	driver.Tx
	conn stdConn
}

// Commit is pgx's.
func (t stdTx) Commit() error {
	*t.conn.inTx = false
	open := !t.conn.Conn().IsClosed()
	if err := t.Tx.Commit(); err != nil {
		return t.conn.committed(open, fmt.Errorf("commit: %w", err))
	}
	return confirmed(t.conn.Conn())
}

// Rollback is pgx's.
func (t stdTx) Rollback() error {
	*t.conn.inTx = false
	return t.Tx.Rollback()
}

// committed returns the error of a COMMIT. One that the server refused is no
// loss, although pgx closes the connection after it.
func (c stdConn) committed(open bool, err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "ERROR" {
		return err
	}
	return c.honest(open, err)
}
