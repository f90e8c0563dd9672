package scratchtest

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// Crash kills one of the server's own processes, so that the server ends all sessions,
// recovers, and starts again. It is back after Recovered; until the server has noticed,
// others still get in.
//
// The servers here don't wait for their WAL, so what a transaction has been told is
// committed could be lost. All that was committed before Crash is kept; a test that
// writes during it gives its server synchronous_commit = on.
func Crash(tb testing.TB, server *scratch.Server) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
	defer cancel()
	victim := testkit.Dial(tb, server.DSN("postgres"))
	defer testkit.End(victim)
	for _, statement := range []string{"SET synchronous_commit = on", "SELECT pg_logical_emit_message(true, 'pgmedic', '')"} {
		if _, err := victim.Exec(ctx, statement); err != nil {
			tb.Fatalf("%s: %v", statement, err)
		}
	}
	witness := testkit.Dial(tb, server.DSN("postgres"))
	defer testkit.End(witness)
	if err := syscall.Kill(int(victim.PgConn().PID()), syscall.SIGKILL); err != nil {
		tb.Fatalf("kill a process of the server: %v", err)
	}
	// The victim is gone before the server knows it; a second session ends by it.
	for {
		if _, err := witness.Exec(ctx, "SELECT 1"); err != nil {
			if ctx.Err() != nil {
				tb.Fatal("a minute after the death of one of its processes the server has not ended the others")
			}
			return
		}
	}
}

// Recovered waits until a server takes connections again after Crash.
func Recovered(tb testing.TB, server *scratch.Server) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, server.DSN("postgres"))
		if err == nil {
			_ = conn.Close(ctx)
			return
		}
		if ctx.Err() != nil {
			tb.Fatalf("the server is not back after a minute: %v", err)
		}
	}
}
