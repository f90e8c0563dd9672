package pool

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// copyLook is how often a COPY looks, between two rows of its source, whether it still
// has to go on.
const copyLook = 50 * time.Millisecond

// copySource is the source of a COPY that ends when the COPY does: with the context,
// the time limit or the connection. Pgx reads 64 KiB of a source before it looks, which
// may be minutes.
type copySource struct {
	pgx.CopyFromSource
	ctx     context.Context //nolint:containedctx // that of the COPY, which lasts as long
	session *session
	// limit is how long it may take, or 0; began and looked are on the endpoint's
	// clock.
	limit         time.Duration
	began, looked time.Duration
	err           error
	// complete: the source has given all that it has, so that the end of the COPY may
	// have been sent. Before that nothing of it lasts.
	complete atomic.Bool
}

func newCopySource(ctx context.Context, s *session, source pgx.CopyFromSource) *copySource {
	now := s.endpoint.clock()
	return &copySource{CopyFromSource: source, ctx: ctx, session: s, limit: s.bound(), began: now, looked: now}
}

// Next is pgx's.
func (c *copySource) Next() bool {
	if c.err = c.over(); c.err != nil {
		return false
	}
	if c.CopyFromSource.Next() {
		return true
	}
	// What ends for its context may say nothing of it.
	if c.err = c.over(); c.err == nil && c.CopyFromSource.Err() == nil {
		c.complete.Store(true)
	}
	return false
}

// Err is pgx's.
func (c *copySource) Err() error {
	if c.err != nil {
		return c.err
	}
	return c.CopyFromSource.Err()
}

// over returns why the COPY is over, or nil.
func (c *copySource) over() error {
	if c.ctx.Err() != nil {
		return ended(c.ctx)
	}
	now := c.session.endpoint.clock()
	if now-c.looked < copyLook {
		return nil
	}
	c.looked = now
	switch {
	case c.limit > 0 && now-c.began >= c.limit:
		return fmt.Errorf("after %s: %w", c.limit, ErrQueryTimeout)
	case c.session.socket.state() == socketClosed:
		return fmt.Errorf("before the end of the source: %w", errCopyLost)
	}
	return nil
}

// errCopyLost is what a source ends with whose COPY has lost its connection. It is
// pgx that says so to the caller, by its own error.
var errCopyLost = fmt.Errorf("the connection was lost: %w", errNoSession)

// copies is a connection or a transaction that can copy.
type copies interface {
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error)
	Conn() *pgx.Conn
}

// copyFrom copies rows over a connection, and says whether its end may have reached the
// server.
func copyFrom(ctx context.Context, by copies, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (n int64, complete bool, err error) {
	own := newCopySource(ctx, sessionOf(by.Conn()), source)
	n, err = by.CopyFrom(ctx, table, columns, own)
	return n, own.complete.Load(), err
}

// CopyFrom copies rows to a table on the primary with PostgreSQL's COPY, as
// pgxpool's does. It is tried again only while there is no connection for it,
// since its source can't be read twice. When the context ends, the QueryTimeout is
// over or the connection is lost, it ends with the next row that the source gives; a
// source that waits for longer should heed the context itself.
func (db *DB) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	a := attempt{}
	conn, err := db.acquireAgain(ctx, &a, opCopy)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	n, complete, err := copyFrom(ctx, conn, table, columns, source)
	if err != nil {
		return n, db.statementFailed(ctx, &a, conn, err, effect(complete))
	}
	return n, confirmed(conn.Conn())
}

// CopyFrom is pgx's, but that it ends as that of DB does.
func (c *Conn) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	n, complete, err := copyFrom(ctx, c.conn, table, columns, source)
	if err != nil {
		return n, c.db.statementFailed(ctx, &c.attempt, c.conn, err, effect(complete))
	}
	return n, c.explain(ctx, nil)
}

// CopyFrom is pgx's, but that it ends as that of DB does.
func (t *transaction) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	if t.ended {
		return t.Tx.CopyFrom(ctx, table, columns, source) // which refuses it
	}
	n, _, err := copyFrom(ctx, t.Tx, table, columns, source)
	return n, t.explain(ctx, err)
}
