package postgres

import (
	"context"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// CopyIn runs a COPY … FROM STDIN of what r gives. Where ctx ended, that is the error:
// a COPY reads and writes at once, and the side that notices first closes the connection
// to the other.
func CopyIn(ctx context.Context, conn *pgx.Conn, r io.Reader, sql string) (pgconn.CommandTag, error) {
	tag, err := conn.PgConn().CopyFrom(ctx, r, sql)
	return tag, endedBy(ctx, err)
}

// CopyOut runs a COPY … TO STDOUT into w. Where ctx ended, that is the error, as in
// CopyIn.
func CopyOut(ctx context.Context, conn *pgx.Conn, w io.Writer, sql string) error {
	_, err := conn.PgConn().CopyTo(ctx, w, sql)
	return endedBy(ctx, err)
}

// endedBy returns why ctx ended in place of a connection that was lost by it.
func endedBy(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && isConnLost(err) {
		return context.Cause(ctx)
	}
	return err //nolint:wrapcheck // the caller says what it copied
}
