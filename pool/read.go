package pool

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Read returns what runs reads: each statement goes to a standby that answers,
// is in the same database as the primary, is not too far behind and has least
// to do, or to the primary if there is none. A token in the context, see
// WithToken, counts whether it is given here or to the statement.
//
// Reads are taken to be safe to run twice: one that fails on a standby goes to
// the primary once, also if there was no connection to the standby within the
// acquire timeout, and one whose connection is lost is tried again. A statement
// that writes is refused (25006, ClassReadOnly), on the primary, too: the session is
// set to refuse it, which costs a round trip each time that a connection to the
// primary changes between reads and other work. Behind a pooler there is no such
// session, and the primary takes it.
func (db *DB) Read(ctx context.Context) Querier {
	return reader{db: db, token: tokenOf(ctx)}
}

// errReadCopy is the error of a COPY into a table that is sent as a read.
var errReadCopy = &hinted{fmt.Errorf("copy: %w", errReadOnly), "use CopyFrom of the DB"}

// errReadOnly is classified as PostgreSQL's own refusal of a write in a read-only
// transaction is.
var errReadOnly = errors.New("a read can't write")

type reader struct {
	db    *DB
	token LSN
}

func (r reader) attempt() attempt { return attempt{read: true, token: r.token, purpose: forReads} }

// Exec is as DB.Exec.
func (r reader) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return r.db.exec(ctx, r.attempt(), sql, args)
}

// Query is as DB.Query.
func (r reader) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return r.db.query(ctx, r.attempt(), sql, args)
}

// QueryRow is as DB.QueryRow.
func (r reader) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return r.db.queryRow(ctx, r.attempt(), sql, args)
}

// SendBatch is as DB.SendBatch.
func (r reader) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	return r.db.sendBatch(ctx, r.attempt(), batch)
}

// CopyFrom is there for what wants all methods, such as the code of sqlc. It writes,
// so that it is refused.
func (r reader) CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error) {
	return 0, errReadCopy
}
