package walstream_test

import (
	"io"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestSegmentBorder: a connection that ends exactly where a segment does, because the stream is
// told to stop or because the server ends it, leaves all of that segment and nothing of the
// next. What follows is stored without a gap.
func TestSegmentBorder(t *testing.T) {
	for _, major := range scratchtest.Ends(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newBench(t, major, nil)
			b.run("SELECT pg_create_physical_replication_slot('keep', true)")
			resume := b.quiet()
			stop := b.stream(b.target, io.Discard)
			b.wantStored(1, b.write(100))
			border := b.toBorder()
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			b.wantBorder(border)
			stop = b.stream(b.target, io.Discard)
			b.wantStored(1, b.write(100))
			border = b.toBorder()
			old := b.query("SELECT pid::text FROM pg_stat_replication")
			b.run("SELECT pg_terminate_backend(" + old + ")")
			testkit.Eventually(t, time.Minute, "it streams again", func() bool {
				return b.query("SELECT count(*)::text FROM pg_stat_replication WHERE state = 'streaming' AND pid <> "+old+" AND sent_lsn = '"+border.String()+"'") == "1"
			})
			b.wantBorder(border)
			b.wantStored(1, b.write(100))
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			resume()
			if s := b.survey(); len(s.Spans) != 1 || len(s.Stored.Gaps()) != 0 || len(s.Odd) != 0 {
				t.Errorf("survey %+v", s)
			}
			b.wantSame(b.server, 1)
		})
	}
}

// toBorder has the server write up to the end of a segment, and waits until that is stored.
func (b *bench) toBorder() wal.LSN {
	b.t.Helper()
	b.run("SELECT pg_switch_wal()")
	at, err := wal.ParseLSN(b.query("SELECT pg_current_wal_flush_lsn()::text"))
	if err != nil || at%wal.LSN(size) != 0 {
		b.t.Fatalf("the server has written up to %v, %v", at, err)
	}
	b.wantStored(1, at)
	return at
}

// wantBorder holds what is stored against the end of a segment: all of it is there, and nothing
// of the next one.
func (b *bench) wantBorder(border wal.LSN) {
	b.t.Helper()
	if now := b.query("SELECT pg_current_wal_flush_lsn()::text"); now != border.String() {
		b.t.Fatalf("the server has written up to %s, and was to be at %v", now, border)
	}
	if s := b.survey(); len(s.Spans) != 1 || s.Spans[0].To != border || len(s.Odd) != 0 {
		b.t.Errorf("survey %+v, want all up to %v", s, border)
	}
}

// quiet stops what the server writes by itself until it is told to go on.
func (b *bench) quiet() (resume func()) {
	b.t.Helper()
	pids := strings.Fields(b.query("SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE backend_type IN ('background writer', 'checkpointer')"))
	signal := func(s syscall.Signal) {
		for _, pid := range pids {
			if n, err := strconv.Atoi(pid); err != nil || syscall.Kill(n, s) != nil {
				b.t.Errorf("signal process %s of the server: %v", pid, err)
			}
		}
	}
	signal(syscall.SIGSTOP)
	b.t.Cleanup(func() { signal(syscall.SIGCONT) })
	return func() { signal(syscall.SIGCONT) }
}
