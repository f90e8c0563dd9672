package replication_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// startServer starts a server with a role that has REPLICATION and nothing else.
func startServer(t *testing.T, major int, more map[string]string) (*scratch.Server, postgres.Target) {
	t.Helper()
	settings := map[string]string{"wal_level": "replica", "autovacuum": "off", "max_wal_senders": "4", "checkpoint_timeout": "1h"}
	for name, value := range more {
		settings[name] = value
	}
	server := scratchtest.New(t, scratch.Options{Major: major, InitArgs: []string{"--wal-segsize=1"}, Settings: settings})
	run(t, server, "CREATE ROLE streamer LOGIN REPLICATION")
	return server, postgrestest.Parse(t, server.DSN("postgres")).With("user", "streamer")
}

func run(t *testing.T, server *scratch.Server, statements ...string) {
	t.Helper()
	conn := postgrestest.Connect(t, postgrestest.Parse(t, server.DSN("postgres")))
	postgrestest.Run(t, conn, statements...)
}

func query(t *testing.T, server *scratch.Server, sql string) string {
	t.Helper()
	return postgrestest.Query[string](t, postgrestest.Connect(t, postgrestest.Parse(t, server.DSN("postgres"))), sql)
}

func connect(t *testing.T, target postgres.Target) *replication.Conn {
	t.Helper()
	c, err := replication.Connect(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.WithoutCancel(t.Context())) })
	return c
}

// write makes the server write and flush WAL, and returns its end.
func write(t *testing.T, server *scratch.Server, bytes int) wal.LSN {
	t.Helper()
	run(t, server, fmt.Sprintf("SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'pgmedic', repeat('y', %d))", bytes))
	lsn, err := wal.ParseLSN(query(t, server, "SELECT pg_current_wal_flush_lsn()::text"))
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// receive returns the WAL of a stream up to a position, or to the end of its timeline.
func receive(t *testing.T, s *replication.Stream, from, to wal.LSN) (b []byte, last replication.Message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for pos := from; pos < to; {
		m, err := s.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if m.Ended {
			return b, m
		}
		if m.Data != nil && m.From != pos {
			t.Fatalf("got WAL from %v, want %v", m.From, pos)
		}
		b = append(b, m.Data...)
		pos += wal.LSN(len(m.Data))
	}
	return b, last
}

// TestStream: what arrives is what the server has in its files; what we say is stored
// moves the slot; a server that is asked answers, also when it is idle.
func TestStream(t *testing.T) {
	for _, major := range scratchtest.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			server, target := startServer(t, major, nil)
			c := connect(t, target)
			system, err := c.Identify(t.Context())
			if err != nil || system.SegmentSize != wal.MinSegmentSize || system.Timeline != 1 || system.Version != server.Version() ||
				strconv.FormatUint(system.Identifier, 10) != query(t, server, "SELECT system_identifier::text FROM pg_control_system()") {
				t.Fatalf("%+v, %v", system, err)
			}
			if err := c.CreateSlot(t.Context(), "ours"); err != nil {
				t.Fatal(err)
			}
			if err := c.CreateSlot(t.Context(), "ours"); !errors.Is(err, replication.ErrSlotExists) || pgmedic.KindOf(err) != pgmedic.KindConflict {
				t.Errorf("the slot again: %v", err)
			}
			end := write(t, server, 2500000)
			from := system.SegmentSize.Start(system.Flushed)
			s, err := c.Start(t.Context(), replication.StartOptions{Slot: "ours", Timeline: 1, From: from})
			if err != nil {
				t.Fatal(err)
			}
			got, _ := receive(t, s, from, end)
			// The server writes WAL of its own, too, when it likes.
			pos := from + wal.LSN(len(got))
			var want []byte
			for at := from; at < pos; at += wal.LSN(system.SegmentSize) {
				name := system.SegmentSize.Name(system.SegmentSize.Segment(1, at))
				b, err := os.ReadFile(filepath.Join(server.DataDir(), "pg_wal", name))
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, b...)
			}
			if !bytes.Equal(got, want[:len(got)]) {
				t.Error("the WAL that was streamed is not that of the server")
			}
			// Written and stored are two things.
			if err := s.Send(replication.Status{Written: end, Flushed: from, Now: time.Now()}); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, time.Minute, "the position is known", func() bool {
				return query(t, server, "SELECT count(*)::text FROM pg_stat_replication WHERE write_lsn = '"+end.String()+"' AND flush_lsn = '"+from.String()+"' AND replay_lsn = flush_lsn AND application_name = 'pgmedic wal'") == "1"
			})
			// It is not a standby, for which others would wait.
			standbys, err := databases.Standbys(t.Context(), postgrestest.Connect(t, target))
			if err != nil || len(standbys) != 0 {
				t.Errorf("standbys %v, %v", standbys, err)
			}
			if err := s.Send(replication.Status{Written: end, Flushed: end, Reply: true, Now: time.Now()}); err != nil {
				t.Fatal(err)
			}
			m, err := s.Receive(t.Context())
			for ; err == nil && m.Data != nil; m, err = s.Receive(t.Context()) {
				pos += wal.LSN(len(m.Data))
			}
			if err != nil || m.ServerEnd < end || m.ServerTime.IsZero() {
				t.Errorf("idle: %+v, %v", m, err)
			}
			testkit.Eventually(t, time.Minute, "the slot has moved", func() bool {
				return query(t, server, "SELECT restart_lsn::text FROM pg_replication_slots") == end.String()
			})
			// A wait that ends does not end the stream.
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errors.New("enough"))
			defer cancel()
			for m, err = s.Receive(ctx); err == nil; m, err = s.Receive(ctx) {
				pos += wal.LSN(len(m.Data))
			}
			if err.Error() != "enough" {
				t.Errorf("a wait that ended: %v", err)
			}
			more := write(t, server, 10)
			receive(t, s, pos, more)

			second := connect(t, target)
			if _, err := second.Start(t.Context(), replication.StartOptions{Slot: "ours", Timeline: 1, From: from}); !errors.Is(err, replication.ErrSlotActive) || pgmedic.KindOf(err) != pgmedic.KindConflict {
				t.Errorf("a second one: %v", err)
			}
			if err := second.DropSlot(t.Context(), "ours"); !errors.Is(err, replication.ErrSlotActive) {
				t.Errorf("dropped while in use: %v", err)
			}
			if _, err := second.Start(t.Context(), replication.StartOptions{Slot: "missing", Timeline: 1, From: from}); !errors.Is(err, replication.ErrSlotMissing) {
				t.Errorf("no slot: %v", err)
			}
			c.Close(t.Context())
			testkit.Eventually(t, time.Minute, "the slot is free and dropped", func() bool { return second.DropSlot(t.Context(), "ours") == nil })
			if err := second.DropSlot(t.Context(), "ours"); !errors.Is(err, replication.ErrSlotMissing) {
				t.Errorf("dropped twice: %v", err)
			}
			// What the server no longer has.
			run(t, server, "SELECT pg_switch_wal()", "CHECKPOINT", "SELECT pg_switch_wal()", "CHECKPOINT")
			if err := begins(t, second, replication.StartOptions{Timeline: 1, From: from}); !errors.Is(err, replication.ErrRemoved) {
				t.Errorf("removed WAL: %v", err)
			}
		})
	}
}

// begins returns the error of a stream that ends before anything came: a server may find
// only when it reads a segment that it is gone.
func begins(t *testing.T, c *replication.Conn, o replication.StartOptions) error {
	t.Helper()
	s, err := c.Start(t.Context(), o)
	if err == nil {
		_, err = s.Receive(t.Context())
	}
	return err
}

// TestTimelines: on the old timeline the new primary sends what belongs to its history,
// and then says which timeline follows, and from where on.
func TestTimelines(t *testing.T) {
	testkit.OnlyAll(t, "two servers for each version; a failover is streamed in internal/walstream")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			primary, _ := startServer(t, major, nil)
			standby := scratchtest.NewStandby(t, primary, scratch.StandbyOptions{})
			from := wal.MinSegmentSize.Start(write(t, primary, 100))
			standby.CatchUp(t)
			standby.Promote(t)
			c := connect(t, postgrestest.Parse(t, standby.DSN("postgres")).With("user", "streamer"))
			var system replication.System
			testkit.Eventually(t, time.Minute, "the standby is on timeline 2", func() bool {
				var err error
				if system, err = c.Identify(t.Context()); err != nil {
					t.Fatal(err)
				}
				return system.Timeline == 2
			})
			text, err := c.History(t.Context(), 2)
			if err != nil {
				t.Fatal(err)
			}
			h, err := wal.ParseHistory(2, text)
			if err != nil || len(h.Switches) != 1 || h.Switches[0].Timeline != 1 {
				t.Fatalf("history %+v, %v", h, err)
			}
			s, err := c.Start(t.Context(), replication.StartOptions{Timeline: 1, From: from})
			if err != nil {
				t.Fatal(err)
			}
			got, last := receive(t, s, from, wal.LSN(1)<<63)
			fork := h.Switches[0].End
			if from+wal.LSN(len(got)) != fork || last.Next != 2 || last.NextFrom != fork {
				t.Errorf("ended at %v with %+v, want %v", from+wal.LSN(len(got)), last, fork)
			}
			// The same connection goes on, from the start of the fork's segment.
			start := wal.MinSegmentSize.Start(fork)
			end := write(t, standby.Server, 100)
			if s, err = c.Start(t.Context(), replication.StartOptions{Timeline: 2, From: start}); err != nil {
				t.Fatal(err)
			}
			onTwo, _ := receive(t, s, start, end)
			if n := int(fork - max(start, from)); !bytes.Equal(onTwo[max(start, from)-start:][:n], got[max(start, from)-from:][:n]) {
				t.Error("the two timelines differ before the fork")
			}
			if _, err := c.History(t.Context(), 9); err == nil {
				t.Error("timeline 9 has a history")
			}
		})
	}
}

// TestLostSlot: a slot that the server gave up. Up to 15 the server streams from where
// it is now all the same, so that a slot proves nothing; 18 refuses.
func TestLostSlot(t *testing.T) {
	testkit.OnlyAll(t, "a server for each version; a lost slot is streamed from in internal/walstream")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			if major < 13 {
				return // max_slot_wal_keep_size came with 13
			}
			server, target := startServer(t, major, map[string]string{"max_slot_wal_keep_size": "1MB", "max_wal_size": "2MB", "min_wal_size": "2MB"})
			c := connect(t, target)
			if err := c.CreateSlot(t.Context(), "ours"); err != nil {
				t.Fatal(err)
			}
			system, err := c.Identify(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for range 6 {
				run(t, server, "SELECT pg_switch_wal()", "SELECT pg_logical_emit_message(true, 'x', 'y')")
			}
			run(t, server, "CHECKPOINT")
			err = begins(t, c, replication.StartOptions{Slot: "ours", Timeline: 1, From: system.SegmentSize.Start(system.Flushed)})
			if !errors.Is(err, replication.ErrRemoved) && !errors.Is(err, replication.ErrSlotLost) {
				t.Errorf("from a lost slot: %v", err)
			}
		})
	}
}

// TestRefused: what a server says to a role that may not, in words that help.
func TestRefused(t *testing.T) {
	server, target := startServer(t, 0, nil)
	run(t, server, "CREATE ROLE plain LOGIN")
	_, err := replication.Connect(t.Context(), target.With("user", "plain"))
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || pgmedic.HintOf(err) == "" {
		t.Errorf("%v (%s)", err, pgmedic.HintOf(err))
	}
	for _, name := range []string{"", "Big", "a b", `a"b`, "ä"} {
		if err := replication.CheckSlotName(name); pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("slot %q: %v", name, err)
		}
	}
}

// TestRetry: what can pass is tried again, at growing intervals, what can't is not.
func TestRetry(t *testing.T) {
	away := pgmedic.Errorf(pgmedic.KindUnreachable, "", "away")
	var total time.Duration
	last := time.Duration(0)
	for n := 1; n <= 100; n++ {
		wait, again := replication.Retry(away, n, total)
		if !again || wait < last || wait > 30*time.Second || wait <= 0 {
			t.Fatalf("attempt %d: %v, %t", n, wait, again)
		}
		last = wait
		total += wait
	}
	active := pgmedic.Errorf(pgmedic.KindConflict, "", "%w", replication.ErrSlotActive)
	for since, want := range map[time.Duration]bool{0: true, time.Minute: true, 2 * time.Minute: false} {
		if _, again := replication.Retry(active, 5, since); again != want {
			t.Errorf("in use since %v: %t", since, again)
		}
	}
	for _, err := range []error{replication.ErrRemoved, replication.ErrSlotLost, replication.ErrSlotMissing, pgmedic.Errorf(pgmedic.KindUsage, "", "x"), pgmedic.Errorf(pgmedic.KindIntegrity, "", "x"), pgmedic.Errorf(pgmedic.KindInterrupted, "", "x")} {
		if _, again := replication.Retry(err, 1, 0); again {
			t.Errorf("%v is tried again", err)
		}
	}
}

// TestLogicalSlot: a slot of another program, for logical decoding, is neither streamed
// from nor dropped, and not taken for one that is lost.
func TestLogicalSlot(t *testing.T) {
	for _, major := range scratchtest.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			server, target := startServer(t, major, map[string]string{"wal_level": "logical"})
			run(t, server, "SELECT pg_create_logical_replication_slot('cdc', 'pgoutput')")
			c := connect(t, target)
			system, err := c.Identify(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Start(t.Context(), replication.StartOptions{Slot: "cdc", Timeline: 1, From: system.SegmentSize.Start(system.Flushed)})
			if !errors.Is(err, replication.ErrSlotLogical) || errors.Is(err, replication.ErrSlotLost) || pgmedic.KindOf(err) != pgmedic.KindConflict {
				t.Errorf("streaming from a logical slot: %v", err)
			}
			if err := c.DropSlot(t.Context(), "cdc"); !errors.Is(err, replication.ErrSlotLogical) || pgmedic.KindOf(err) != pgmedic.KindConflict {
				t.Errorf("dropping a logical slot: %v", err)
			}
			if got := query(t, server, "SELECT string_agg(slot_type, ' ') FROM pg_replication_slots WHERE slot_name = 'cdc'"); got != "logical" {
				t.Errorf("the slot is %q now", got)
			}
			// The connection can still be used.
			if err := c.CreateSlot(t.Context(), "ours"); err != nil {
				t.Fatal(err)
			}
			if err := c.DropSlot(t.Context(), "ours"); err != nil {
				t.Error(err)
			}
			if err := c.DropSlot(t.Context(), "ours"); !errors.Is(err, replication.ErrSlotMissing) {
				t.Errorf("dropping no slot: %v", err)
			}
			// A history that is missing is not WAL that was removed.
			if _, err := c.History(t.Context(), 9); !errors.Is(err, replication.ErrHistoryMissing) || errors.Is(err, replication.ErrRemoved) {
				t.Errorf("the history of timeline 9: %v", err)
			}
		})
	}
}

// slowRelay listens on a socket for a server, and from a request to stream on keeps what
// that sends until there is much of it: the answer and WAL arrive in one piece.
func slowRelay(t *testing.T, server *scratch.Server) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "relay") //nolint:usetesting // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	name := ".s.PGSQL." + strconv.Itoa(server.Port())
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			up, err := (&net.Dialer{}).DialContext(t.Context(), "unix", filepath.Join(server.SocketDir(), name))
			if err != nil {
				_ = client.Close()
				continue
			}
			var held atomic.Bool
			go func() { // to the server
				defer up.Close()
				b := make([]byte, 1<<16)
				for {
					n, err := client.Read(b)
					if err != nil {
						return
					}
					held.Store(held.Load() || bytes.Contains(b[:n], []byte("START_REPLICATION")))
					if _, err := up.Write(b[:n]); err != nil {
						return
					}
				}
			}()
			go func() { // and back
				defer client.Close()
				var kept []byte
				b := make([]byte, 1<<16)
				for released := false; ; {
					n, err := up.Read(b)
					kept = append(kept, b[:n]...)
					if !held.Load() || released || len(kept) > 1<<17 {
						released = held.Load()
						if _, err := client.Write(kept); err != nil {
							return
						}
						kept = kept[:0]
					}
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	return dir
}

// TestDataWithAnswer: WAL that arrives in one piece with the server's answer to the request
// is not lost.
func TestDataWithAnswer(t *testing.T) {
	server, target := startServer(t, 0, nil)
	run(t, server, "SELECT pg_create_physical_replication_slot('keep', true)")
	end := write(t, server, 1<<20)
	c := connect(t, target.With("host", slowRelay(t, server)))
	system, err := c.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	from := system.SegmentSize.Start(end - 1<<19)
	s, err := c.Start(t.Context(), replication.StartOptions{Timeline: 1, From: from})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := receive(t, s, from, end)
	name := system.SegmentSize.Name(system.SegmentSize.Segment(1, from))
	want, err := os.ReadFile(filepath.Join(server.DataDir(), "pg_wal", name))
	if err != nil {
		t.Fatal(err)
	}
	if n := min(len(got), len(want)); n < 1<<19 || !bytes.Equal(got[:n], want[:n]) {
		t.Errorf("%d bytes were received, and they are not those of segment %s", len(got), name)
	}
}
