package test

import (
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestWALServerKilled: a server that crashes again and again while its WAL is streamed, and
// half of the time the streamer is killed with it: no gap, and a recovery from the store
// alone has every row that was acknowledged.
//
// It crashes 4 times in make test-all, and in make chaos 20 times.
func TestWALServerKilled(t *testing.T) {
	testkit.OnlyAll(t, "two servers, one of which crashes again and again")
	b := newWALBench(t, 0)
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	n := 0
	for round := range testkit.Amount(0, 4, 20) {
		for range 20 {
			n++
			b.sql("INSERT INTO ledger SELECT $1::int, string_agg(md5(($1::int * 10000 + g)::text), '') FROM generate_series(0, $2::int) AS g", n, (n*7919)%3000)
		}
		scratchtest.Crash(t, b.server)
		if round%2 == 1 {
			stream.signal(syscall.SIGKILL)
			<-stream.done
			stream = b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
		}
		scratchtest.Recovered(t, b.server)
		_ = b.conn.Close(t.Context()) // which the server has ended
		b.conn = testkit.Connect(t, b.server.DSN("postgres"))
	}
	b.wantStored()
	if s := b.status(); s.State != "ok" || len(s.Missing) != 0 || len(s.Spans) != 1 || len(s.Split) != 0 {
		t.Errorf("status %+v", s)
	}
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		t.Errorf("stopped: exit code %d, %s", r.code, r.stderr)
	}
	b.recover(n)
}
