package test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestRestoreClusterPreparedBeforeFailover: a target shortly before a failover, along the new
// timeline, when a transaction was prepared in the segment in which the timelines part. At the
// end PostgreSQL reads that transaction again, from a segment of the old timeline.
func TestRestoreClusterPreparedBeforeFailover(t *testing.T) {
	testkit.OnlyAll(t, "three servers")
	b := newWALBench(t, 0, map[string]string{"max_prepared_transactions": "5", "hot_standby": "on"})
	standby := scratchtest.NewStandby(t, b.server, scratch.StandbyOptions{})
	var want, position, moment string
	b.streamed(func() {}, func() {
		b.sql("SELECT pg_switch_wal()")
		for _, sql := range []string{"BEGIN", "INSERT INTO ledger VALUES (1, 'prepared')", "PREPARE TRANSACTION 'one'", "INSERT INTO ledger VALUES (2, 'before')"} {
			b.sql(sql)
		}
		want, position, moment = b.ask(ledgerSum), b.ask("SELECT pg_current_wal_lsn()::text"), b.ask("SELECT clock_timestamp()::timestamptz(6)::text")
		b.sql("INSERT INTO ledger VALUES (3, 'after')")
		standby.CatchUp(t)
		standby.Promote(t)
	})
	b.env = append(slices.DeleteFunc(slices.Clone(b.env), func(kv string) bool { return strings.HasPrefix(kv, "DATABASE_URL=") }), "DATABASE_URL="+standby.URL("postgres"))
	b.conn = testkit.Connect(t, standby.DSN("postgres"))
	testkit.Eventually(t, time.Minute, "the standby is a primary", func() bool { return b.ask("SELECT pg_is_in_recovery()::text") == "false" })
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	b.wantStreaming()
	b.sql("SET synchronous_commit = on") // a standby of a test has it off
	b.sql("INSERT INTO ledger VALUES (4, 'on the new one')")
	b.sql("SELECT pg_switch_wal()") // the segment of the fork is whole, and indexed
	b.sql("INSERT INTO ledger VALUES (5, 'on the new one')")
	all := b.ask(ledgerSum)
	b.wantStored()
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		t.Fatalf("the stream: exit code %d, %s", r.code, r.stderr)
	}
	c := b.restoring()
	for folder, what := range map[string]struct {
		args []string
		want string
	}{
		"time": {[]string{"--to-time", moment}, want}, "position": {[]string{"--to-lsn", position, "--timeline", "2"}, "3 "}, "end": {[]string{"--to-end"}, all},
	} {
		port := c.port()
		done, _ := c.restore(0, folder, append(what.args, "--start", "--start-port", port)...)
		if got := c.asks(port, ledgerSum); !strings.HasPrefix(got, what.want) && got != want {
			t.Errorf("%s: the ledger is %s, want %s (%+v)", folder, got, what.want, done.Plan)
		}
		if got := c.asks(port, "SELECT count(*)::text FROM pg_prepared_xacts"); got != "1" {
			t.Errorf("%s: %s transactions are prepared", folder, got)
		}
	}
}
