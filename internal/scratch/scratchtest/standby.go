package scratchtest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// Standby is a streaming standby of a scratch server.
type Standby struct {
	*scratch.Server
	primary *scratch.Server
}

// NewStandby starts a streaming standby of a server of any version; it ends with
// the test, and its slot on the primary with it.
func NewStandby(tb testing.TB, primary *scratch.Server, opts scratch.StandbyOptions) *Standby {
	tb.Helper()
	if opts.Name == "" {
		opts.Name = "standby_" + strings.ReplaceAll(strings.ToLower(primary.Version()), ".", "_")
	}
	server, err := scratch.StartStandby(tb.Context(), primary, opts)
	if err != nil {
		tb.Fatalf("start a standby: %v (%s)", err, pgmedic.HintOf(err))
	}
	s := &Standby{Server: server, primary: primary}
	tb.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(tb.Context())); err != nil {
			tb.Errorf("stop the standby: %v", err)
		}
		select {
		case <-primary.Done():
			return
		default:
		}
		// The primary may take a moment to see that its standby is gone.
		s.wait(tb, "the standby's slot is free", primary, "SELECT NOT active FROM pg_replication_slots WHERE slot_name = '"+opts.Name+"'")
		execute(tb, primary, "SELECT pg_drop_replication_slot('"+opts.Name+"')")
	})
	s.wait(tb, "the standby streams", primary,
		"SELECT count(*) > 0 FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '"+opts.Name+"'")
	s.CatchUp(tb)
	return s
}

// CatchUp waits until the standby has replayed all that the primary has written.
func (s *Standby) CatchUp(tb testing.TB) {
	tb.Helper()
	// A record of our own, sent at once. Without one, what is left over is the
	// head of an empty page, or a record that nobody flushes: the standby gets it
	// with what the server writes next, which may be seconds later.
	execute(tb, s.primary, "SET synchronous_commit = on", "SELECT pg_logical_emit_message(true, 'pgmedic', '')")
	var lsn string
	ask(tb, s.primary, "SELECT pg_current_wal_flush_lsn()::text", &lsn)
	s.wait(tb, "the standby has replayed "+lsn, s.Server, "SELECT pg_last_wal_replay_lsn() >= '"+lsn+"'::pg_lsn")
}

// Pause makes the standby replay nothing more until Resume.
func (s *Standby) Pause(tb testing.TB) {
	tb.Helper()
	execute(tb, s.Server, "SELECT pg_wal_replay_pause()")
}

// Resume ends a Pause.
func (s *Standby) Resume(tb testing.TB) {
	tb.Helper()
	execute(tb, s.Server, "SELECT pg_wal_replay_resume()")
}

// Promote makes the standby a primary.
func (s *Standby) Promote(tb testing.TB) {
	tb.Helper()
	execute(tb, s.Server, "SELECT pg_promote()")
}

// wait waits until a query says true.
func (s *Standby) wait(tb testing.TB, what string, server *scratch.Server, sql string) {
	tb.Helper()
	testkit.Eventually(tb, time.Minute, what, func() (holds bool) {
		ask(tb, server, sql, &holds)
		return holds
	})
}

// ask reads one value in the database postgres.
func ask(tb testing.TB, server *scratch.Server, sql string, value any) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
	defer cancel()
	conn := testkit.Dial(tb, server.DSN("postgres"))
	defer testkit.End(conn)
	if err := conn.QueryRow(ctx, sql).Scan(value); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}
