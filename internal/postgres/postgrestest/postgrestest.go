// Package postgrestest has what the tests of sessions share.
package postgrestest

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Parse is postgres.ParseTarget of what is a target.
func Parse(t *testing.T, s string) postgres.Target {
	t.Helper()
	target, err := postgres.ParseTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// Connect opens a session with the package's own Connect.
func Connect(t *testing.T, target postgres.Target) *pgx.Conn {
	t.Helper()
	conn, err := postgres.Connect(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { postgres.Close(context.WithoutCancel(t.Context()), conn) })
	return conn
}

// Run executes statements.
func Run(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := conn.Exec(context.WithoutCancel(t.Context()), s, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// Query returns one value.
func Query[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var value T
	if err := conn.QueryRow(context.WithoutCancel(t.Context()), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// Role makes a role that is dropped at the end of the test.
func Role(t *testing.T, conn *pgx.Conn, name, attributes string) {
	t.Helper()
	Run(t, conn, "CREATE ROLE "+sqltext.QuoteIdent(name)+" "+attributes)
	t.Cleanup(func() { Run(t, conn, "DROP ROLE "+sqltext.QuoteIdent(name)) })
}

// Silent discards what is logged.
func Silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// WantError checks an error's kind and that its message and hint hold texts;
// one that begins with ! must not be there.
func WantError(t *testing.T, err error, kind pgmedic.Kind, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", kind)
	}
	whole := err.Error() + " | " + pgmedic.HintOf(err)
	if pgmedic.KindOf(err) != kind {
		t.Errorf("%s, want %s: %s", pgmedic.KindOf(err), kind, whole)
	}
	for _, text := range texts {
		not := strings.HasPrefix(text, "!")
		if strings.Contains(whole, strings.TrimPrefix(text, "!")) == not {
			t.Errorf("want %q in: %s", text, whole)
		}
	}
	if strings.Contains(whole, "\n") {
		t.Errorf("more than one line: %s", whole)
	}
}
