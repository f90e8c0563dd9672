package walstream_test

import (
	"io"
	"slices"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestIdle: beside a server that does nothing a stream causes no WAL, and stores nothing but
// how far the server is, a minute apart. What it has stored says that all is well for a day
// of it, and no longer than a stream lives: without one it is unknown after the limit.
func TestIdle(t *testing.T) {
	testkit.OnlyAll(t, "it is idle for longer than a minute")
	b := newBench(t, 0, nil)
	stop := b.stream(b.target, io.Discard)
	written := b.write(100)
	b.wantStored(1, written)
	// Of its own accord the server still notes once, within some 15 seconds, which
	// transactions run.
	testkit.Eventually(t, time.Minute, "the server has noted what runs", func() bool {
		return b.query("SELECT (pg_current_wal_flush_lsn() > '"+written.String()+"')::text") == "true"
	})
	noted, err := wal.ParseLSN(b.query("SELECT pg_current_wal_flush_lsn()::text"))
	if err != nil {
		t.Fatal(err)
	}
	b.wantStored(1, noted)
	seen := func() int { return len(b.survey().Seen) }
	testkit.Eventually(t, time.Minute, "it is stored how far the server is", func() bool { return seen() > 0 })
	end, puts, before := b.query("SELECT pg_current_wal_insert_lsn()::text"), b.store.puts.Load(), seen()
	testkit.Eventually(t, 3*time.Minute, "it is stored again", func() bool { return seen() > before })
	if now := b.query("SELECT pg_current_wal_insert_lsn()::text"); now != end {
		t.Errorf("the server's WAL went on from %s to %s", end, now)
	}
	if n := b.store.puts.Load() - puts; n != int64(seen()-before) {
		t.Errorf("%d objects were stored, and %d say how far the server is", n, seen()-before)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s := b.survey()
	last := slices.MaxFunc(s.Seen, func(x, y wal.Observation) int { return x.Time.Compare(y.Time) })
	state := func(after time.Duration) wal.State {
		return wal.Judge(s.Inputs(), last.At.Add(after), s.Limit()).State
	}
	if got := state(s.Limit()); got != wal.StateOK {
		t.Errorf("within the limit: %s", got)
	}
	for _, after := range []time.Duration{s.Limit() + time.Second, 24 * time.Hour} {
		if got := state(after); got != wal.StateUnknown {
			t.Errorf("%v after the last stream: %s", after, got)
		}
	}
	if most := 2 * time.Minute; s.Limit() > most {
		t.Errorf("a stream that has died is noticed after %v, and with a delay of a second that is to be %v", s.Limit(), most)
	}
	// A day of it, by the server's clock and the store's: an object a minute.
	day := last.Time
	for range 24 * 60 {
		day = day.Add(archive.SeenEvery)
		s.Seen = append(s.Seen, wal.Observation{Timeline: last.Timeline, LSN: last.LSN, Time: day, At: day})
	}
	if got := wal.Judge(s.Inputs(), day.Add(time.Second), s.Limit()); got.State != wal.StateOK {
		t.Errorf("after an idle day: %+v", got)
	}
}
