package postgres_test

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

var server *scratch.Server

func TestMain(m *testing.M) {
	os.Exit(scratchtest.Main(m, scratch.Options{
		TCP: true, Settings: map[string]string{"wal_level": "logical", "max_prepared_transactions": "5"},
	}, func(s *scratch.Server) { server = s }))
}

func parse(t *testing.T, s string) postgres.Target {
	t.Helper()
	target, err := postgres.ParseTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// connect opens a session with the package's own Connect.
func connect(t *testing.T, target postgres.Target) *pgx.Conn {
	t.Helper()
	conn, err := postgres.Connect(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { postgres.Close(context.WithoutCancel(t.Context()), conn) })
	return conn
}

// database makes a database and opens a session with it.
func database(t *testing.T) (postgres.Target, *pgx.Conn) {
	t.Helper()
	target := parse(t, scratchtest.Database(t, server))
	return target, connect(t, target)
}

// admin opens a session with the maintenance database.
func admin(t *testing.T) (postgres.Target, *pgx.Conn) {
	t.Helper()
	target := parse(t, server.DSN("postgres"))
	return target, connect(t, target)
}

func run(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := conn.Exec(context.WithoutCancel(t.Context()), s, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// query returns one value.
func query[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var value T
	if err := conn.QueryRow(context.WithoutCancel(t.Context()), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// role makes a role that is dropped at the end of the test.
func role(t *testing.T, conn *pgx.Conn, name, attributes string) {
	t.Helper()
	run(t, conn, "CREATE ROLE "+sqltext.QuoteIdent(name)+" "+attributes)
	t.Cleanup(func() { run(t, conn, "DROP ROLE "+sqltext.QuoteIdent(name)) })
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		case <-tick.C:
		}
	}
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// wantError checks an error's kind and that its message and hint hold texts;
// one that begins with ! must not be there.
func wantError(t *testing.T, err error, kind pgmedic.Kind, texts ...string) {
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

func names(kept []postgres.Kept) []string {
	var all []string
	for _, k := range kept {
		all = append(all, k.Name)
	}
	return slices.Clip(all)
}
