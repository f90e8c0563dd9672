package walstream_test

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestLongOutage: a store that was away for longer than a server may say nothing does not
// make the server a silent one: the connection stays, and what was noticed ends.
func TestLongOutage(t *testing.T) {
	testkit.OnlyAll(t, "the store is away for a quarter of a minute")
	b := newBench(t, 0, nil)
	b.silence = 9 * time.Second
	logs := &journal{}
	stop := b.stream(b.target, logs)
	b.wantStored(1, b.write(100))
	b.store.down.Store(true)
	first := b.query("SELECT pid::text FROM pg_stat_replication")
	end := b.write(24 << 20) // more than is held
	testkit.Eventually(t, time.Minute, "it was tried for longer than that", func() bool { return logs.has("wait=16s") })
	b.clock.Store(int64(6 * time.Minute))
	testkit.Eventually(t, time.Minute, "it is noticed", func() bool { return len(b.notices.of("store_away")) > 1 })
	b.store.down.Store(false)
	b.wantStored(1, end)
	if again := b.query("SELECT pid::text FROM pg_stat_replication"); again != first || logs.has("silent") {
		t.Error("the connection ended")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	// A stream that begins ends what an earlier one may have begun.
	if n := b.notices.of("store_away"); len(n) != 3 || !n[0].Over || n[1].Over || !n[2].Over {
		t.Errorf("noticed %+v", n)
	}
}

// TestLastSegmentRemoved: what is stored ends with a whole segment, which the server has
// removed, and with nothing missing behind it: it is not compared, that is said, and nothing
// is taken for lost.
func TestLastSegmentRemoved(t *testing.T) {
	// No checkpoint of the server's own accord: its record would be behind the segment.
	b := newBench(t, 0, map[string]string{"max_wal_size": "1GB", "min_wal_size": "2MB", "checkpoint_timeout": "1h"})
	until := wal.LSN(1)
	for range 20 {
		stop := b.stream(b.target, io.Discard)
		testkit.Eventually(t, time.Minute, "it streams", func() bool {
			return b.query("SELECT count(*)::text FROM pg_stat_replication WHERE state = 'streaming'") == "1"
		})
		b.write(100)
		b.run("SELECT pg_switch_wal()")
		end, err := wal.ParseLSN(b.query("SELECT pg_current_wal_insert_lsn()::text"))
		if err != nil {
			t.Fatal(err)
		}
		b.wantStored(1, size.Start(end))
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		path := b.survey().Path(1)
		if until = path[len(path)-1].To; until == size.Start(until) {
			break // the server has written nothing more of its own accord
		}
	}
	if until != size.Start(until) {
		t.Fatalf("what is stored ends at %v, and not with a segment, in each of 20 tries", until)
	}
	testkit.Eventually(t, time.Minute, "the slot is free", func() bool {
		return b.query("SELECT active::text FROM pg_replication_slots WHERE slot_name = 'ours'") == "false"
	})
	b.run("SELECT pg_drop_replication_slot('ours')", "CHECKPOINT", "CHECKPOINT")
	last := size.Name(wal.Segment{Timeline: 1, Start: until - wal.LSN(size)})
	files := b.query("SELECT string_agg(name, ' ') FROM pg_ls_waldir()")
	if there := size.Name(wal.Segment{Timeline: 1, Start: until}); !slices.Contains(strings.Fields(files), there) || slices.Contains(strings.Fields(files), last) {
		t.Fatalf("the server has %s, and was to have removed %s and kept %s", files, last, there)
	}
	logs := &journal{}
	stop := b.stream(b.target, logs)
	b.wantStored(1, b.write(100))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if s := b.survey(); len(s.Gaps) != 0 || len(s.Stored.Gaps()) != 0 || len(s.Spans) != 1 || len(b.notices.of("lost")) > 0 && !b.notices.of("lost")[0].Over {
		t.Errorf("survey %+v", s)
	}
	if !logs.has("the server has removed the last segment that is stored") {
		t.Error("it is not said that it was not compared")
	}
}
