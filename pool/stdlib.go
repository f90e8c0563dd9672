package pool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Stdlib returns a database/sql handle over the same connections to the primary,
// for code that needs one. Its limits are the pool's: set none on the handle.
// Waiting for a connection is bounded by the acquire timeout. Statements are
// timed, logged and bounded as all others, but never retried, and after a
// failover new ones go to the new primary. Shutdown ends it; closing the handle
// leaves the pool open.
func (db *DB) Stdlib() *sql.DB {
	handle := sql.OpenDB(connector{db})
	// An idle connection of database/sql would be a used one of the pool.
	handle.SetMaxIdleConns(0)
	return handle
}

// connector gives database/sql connections of the present primary.
type connector struct{ db *DB }

// Connect takes a connection for database/sql, which releases it by closing it.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	e, err := c.db.writable()
	if err != nil {
		return nil, err
	}
	return e.stdlibConn(ctx)
}

// Driver is pgx's.
func (c connector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// stdConn is pgx's connection for database/sql, but that it never asks for a
// statement to be run again that the server may have run. Pgx does so where the
// connection was lost after the statement was sent, see session.unsent, and
// database/sql obeys. It has all other methods of pgx's, Conn among them.
type stdConn struct{ *stdlib.Conn }

// ExecContext is pgx's.
func (c stdConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	open := c.loose()
	result, err := c.Conn.ExecContext(ctx, query, args)
	return result, c.honest(open, err)
}

// QueryContext is pgx's.
func (c stdConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	open := c.loose()
	rows, err := c.Conn.QueryContext(ctx, query, args)
	if err != nil {
		return nil, c.honest(open, err)
	}
	return c.rows(open, rows), nil
}

// PrepareContext is pgx's.
func (c stdConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.Conn.PrepareContext(ctx, query)
	if own, ok := stmt.(*stdlib.Stmt); ok && err == nil {
		return stdStmt{own, c}, nil
	}
	return stmt, err
}

// BeginTx is pgx's.
func (c stdConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return stdTx{tx, c}, nil
}

// loose says whether the connection is open and in no transaction: what is lost
// with one that is in a transaction was not done.
func (c stdConn) loose() bool {
	conn := c.Conn.Conn()
	return !conn.IsClosed() && conn.PgConn().TxStatus() == 'I'
}

// honest returns the error of a statement that lasts if it was run, on a connection
// that was open before it, or not.
func (c stdConn) honest(open bool, err error) error {
	if open && err == nil {
		return confirmed(c.Conn.Conn())
	}
	if !open || !c.Conn.Conn().IsClosed() {
		return err
	}
	if errors.Is(err, driver.ErrBadConn) {
		err = pgconn.ErrConnClosed // anything else than what database/sql obeys
	}
	sessionOf(c.Conn.Conn()).endpoint.trouble()
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
		if unknown := confirmed(r.conn.Conn.Conn()); unknown != nil {
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
	open := !t.conn.Conn.Conn().IsClosed()
	if err := t.Tx.Commit(); err != nil {
		return t.conn.committed(open, fmt.Errorf("commit: %w", err))
	}
	return confirmed(t.conn.Conn.Conn())
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
