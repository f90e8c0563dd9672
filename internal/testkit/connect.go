package testkit

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Connect opens a session at a connection string, with changes of what such a string
// can't say. The session ends with the test, or before by End.
func Connect(tb testing.TB, dsn string, change ...func(*pgx.ConnConfig)) *pgx.Conn {
	tb.Helper()
	conn := Dial(tb, dsn, change...)
	tb.Cleanup(func() { End(conn) })
	return conn
}

// Dial is Connect for a session that the caller ends, by End: for one question of many
// that a test asks. A clean-up may ask, too.
func Dial(tb testing.TB, dsn string, change ...func(*pgx.ConnConfig)) *pgx.Conn {
	tb.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		tb.Fatal(err)
	}
	for _, change := range change {
		change(config)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		tb.Fatal(err)
	}
	return conn
}

// End ends a session, and returns once the server has ended it: pgx goes away at once, and
// for a moment the session is there with what it held and has counted. It may be called
// more than once.
func End(conn *pgx.Conn) {
	session, err := conn.PgConn().Hijack()
	if err != nil { // it is in the middle of something, or closed
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = conn.Close(ctx)
		return
	}
	defer func() { _ = session.Conn.Close() }()
	if err := session.Conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return
	}
	if _, err := session.Conn.Write([]byte{'X', 0, 0, 0, 4}); err == nil { // Terminate
		_, _ = io.Copy(io.Discard, session.Conn) // until the server's process is gone
	}
}
