package walstream_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/walstream"
)

const size = wal.MinSegmentSize

// failing is a store that fails while it is told to.
type failing struct {
	store.Store
	down atomic.Bool
	// refused is true where it refuses for good.
	refused atomic.Bool
	puts    atomic.Int64
}

func (f *failing) Put(ctx context.Context, key string, r io.Reader) (store.Object, error) {
	f.puts.Add(1)
	if f.down.Load() {
		return store.Object{}, pgmedic.Errorf(pgmedic.KindUnreachable, "", "away")
	}
	if f.refused.Load() {
		return store.Object{}, pgmedic.Errorf(pgmedic.KindUsage, "", "refused here")
	}
	return f.Store.Put(ctx, key, r)
}

// bench is a server and a store.
type bench struct {
	t      *testing.T
	server *scratch.Server
	target postgres.Target
	store  *failing
	system uint64
	clock  atomic.Int64 // nanoseconds to add to the time
	conns  map[*scratch.Server]*pgx.Conn
	// silence is how long the server may say nothing; zero is as usual.
	silence time.Duration
	// delay is the streams' max-delay; zero is a second.
	delay time.Duration
	// notices are those of all streams.
	notices notices
}

// notices gathers what is noticed.
type notices struct {
	mu  sync.Mutex
	all []walstream.Notice
}

func (n *notices) add(one walstream.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, one)
}

// of returns those of a kind.
func (n *notices) of(kind walstream.NoticeKind) (found []walstream.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, one := range n.all {
		if one.Kind == kind {
			found = append(found, one)
		}
	}
	return found
}

func newBench(t *testing.T, major int, more map[string]string) *bench {
	t.Helper()
	settings := map[string]string{"wal_level": "replica", "autovacuum": "off", "checkpoint_timeout": "1h", "max_wal_senders": "5"}
	for name, value := range more {
		settings[name] = value
	}
	b := &bench{t: t, conns: map[*scratch.Server]*pgx.Conn{}, server: scratchtest.New(t, scratch.Options{Major: major, InitArgs: []string{"--wal-segsize=1"}, Settings: settings})}
	b.run("CREATE ROLE streamer LOGIN REPLICATION")
	b.target = postgrestest.Parse(t, b.server.DSN("postgres")).With("user", "streamer")
	s, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	b.store = &failing{Store: s}
	if b.system, err = strconv.ParseUint(b.query("SELECT system_identifier::text FROM pg_control_system()"), 10, 64); err != nil {
		t.Fatal(err)
	}
	return b
}

// conn is a session of a superuser with the server.
func (b *bench) conn() *pgx.Conn {
	b.t.Helper()
	if b.conns[b.server] == nil {
		b.conns[b.server] = postgrestest.Connect(b.t, postgrestest.Parse(b.t, b.server.DSN("postgres")))
	}
	return b.conns[b.server]
}

func (b *bench) run(statements ...string) {
	b.t.Helper()
	postgrestest.Run(b.t, b.conn(), statements...)
}

func (b *bench) query(sql string) string {
	b.t.Helper()
	return postgrestest.Query[string](b.t, b.conn(), sql)
}

// write makes the server write WAL, and returns its end.
func (b *bench) write(n int) wal.LSN {
	b.t.Helper()
	b.run(fmt.Sprintf("SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'pgmedic', repeat('y', %d))", n))
	lsn, err := wal.ParseLSN(b.query("SELECT pg_current_wal_flush_lsn()::text"))
	if err != nil {
		b.t.Fatal(err)
	}
	return lsn
}

// stream streams until stop is called, which returns what Run returned.
func (b *bench) stream(target postgres.Target, logs io.Writer) (stop func() error) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() {
		done <- walstream.Run(ctx, walstream.WithSilence(walstream.Options{
			Target: target, Store: b.store, Server: "clinic", Slot: "ours", MaxDelay: cmp.Or(b.delay, time.Second),
			Seal: seal.Options{Compression: seal.CompressionZstd}, Host: "h", Version: "dev",
			Now:    func() time.Time { return time.Now().Add(time.Duration(b.clock.Load())) },
			Logger: slog.New(slog.NewTextHandler(logs, nil)), Notify: b.notices.add,
		}, b.silence))
	}()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			err = <-done
		})
		return err
	}
	b.t.Cleanup(func() { _ = stop() })
	return stop
}

func (b *bench) archive() *archive.Archive { return archive.New(b.store.Store, "clinic", b.system) }

func (b *bench) survey() *archive.Survey {
	b.t.Helper()
	s, err := b.archive().Survey(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// wantStored waits until WAL is stored up to a position.
func (b *bench) wantStored(t wal.Timeline, to wal.LSN) {
	b.t.Helper()
	testkit.Eventually(b.t, time.Minute, fmt.Sprintf("WAL is stored up to %v", to), func() bool {
		path := b.survey().Path(t)
		return len(path) > 0 && path[len(path)-1].To >= to
	})
}

// wantSame compares what is stored of a timeline with the server's files.
func (b *bench) wantSame(server *scratch.Server, t wal.Timeline) {
	b.t.Helper()
	f, err := b.archive().NewFetcher(b.t.Context(), func(context.Context, string, []archive.StoredWrap) (*seal.Key, error) { return nil, nil })
	if err != nil {
		b.t.Fatal(err)
	}
	for _, span := range b.survey().Spans {
		for at := span.From; at < span.To && span.Timeline == t; at += wal.LSN(size) {
			name := size.Name(size.Segment(t, at))
			var got bytes.Buffer
			if err := f.Fetch(b.t.Context(), name, &got); err != nil {
				b.t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(server.DataDir(), "pg_wal", name))
			if err != nil {
				b.t.Fatal(err)
			}
			if n := min(int(span.To-at), int(size)); !bytes.Equal(got.Bytes()[:n], want[:n]) {
				b.t.Errorf("segment %s is not that of the server", name)
			}
		}
	}
}

// journal is a log that can be read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) has(text string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Contains(j.b.String(), text)
}

// startBackup and stopBackup are the functions around a base backup by hand.
func startBackup(major int) string {
	if major < 15 {
		return "pg_start_backup"
	}
	return "pg_backup_start"
}

func stopBackup(major int) string {
	if major < 15 {
		return "pg_stop_backup"
	}
	return "pg_backup_stop"
}

// TestRun: WAL arrives in the store, what is stored moves the slot, a stream that is
// stopped and begun again leaves no gap, and one whose server is away waits for it.
func TestRun(t *testing.T) {
	for _, major := range scratchtest.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newBench(t, major, nil)
			// As much as a server keeps of itself, so that what is stored can be compared.
			b.run("SELECT pg_create_physical_replication_slot('keep', true)")
			stop := b.stream(b.target, io.Discard)
			testkit.Eventually(t, time.Minute, "the stream has begun", func() bool {
				return b.query("SELECT count(*)::text FROM pg_stat_replication WHERE state = 'streaming'") == "1"
			})
			b.run("SELECT " + startBackup(b.server.Major()) + "('one', true)")
			b.write(2500000)
			b.run("SELECT " + stopBackup(b.server.Major()) + "()")
			end := b.write(100)
			b.wantStored(1, end)
			if bases := b.survey().Bases; len(bases) != 1 || bases[0].Timeline != 1 || bases[0].Stop > end || bases[0].Stop < bases[0].Start+2500000 {
				t.Errorf("base backups %+v", bases)
			}
			testkit.Eventually(t, time.Minute, "the slot has moved", func() bool {
				return b.query("SELECT (restart_lsn >= '"+end.String()+"')::text FROM pg_replication_slots WHERE slot_name = 'ours'") == "true"
			})
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			end = b.write(100)
			stop = b.stream(b.target, io.Discard)
			b.wantStored(1, end)
			// What has arrived when it is told to stop is stored, before max-delay is over.
			end = b.write(100)
			testkit.Eventually(t, time.Minute, "it has arrived", func() bool {
				return b.query("SELECT count(*)::text FROM pg_stat_replication WHERE write_lsn >= '"+end.String()+"'") == "1"
			})
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			s := b.survey()
			if len(s.Spans) != 1 || s.Spans[0].To < end || len(s.Stored.Gaps()) != 0 || len(s.Epochs) != 2 || len(s.Seen) == 0 || len(s.Odd) != 0 {
				t.Errorf("survey %+v, want all up to %v", s, end)
			}
			b.wantSame(b.server, 1)
		})
	}
}

// TestStoreAway: while the store is away the slot keeps the WAL, the connection lives, and
// afterwards nothing is missing. What could not be stored when it is told to stop is said.
func TestStoreAway(t *testing.T) {
	testkit.OnlyAll(t, "it waits longer than a server does for a word")
	t.Parallel()                                                        // with another that waits
	b := newBench(t, 0, map[string]string{"wal_sender_timeout": "10s"}) // which a busy machine can keep to
	logs := &journal{}
	stop := b.stream(b.target, logs)
	b.wantStored(1, b.write(100))
	b.store.down.Store(true)
	first := b.query("SELECT pid::text FROM pg_stat_replication")
	end := b.write(24 << 20) // more than is held
	testkit.Eventually(t, time.Minute, "it was tried several times", func() bool { return b.store.puts.Load() > 8 })
	// Longer than the server waits for a word.
	testkit.Eventually(t, time.Minute, "the server hears from us while nothing is taken", func() bool {
		return b.query("SELECT (reply_time > now() - interval '10 s' AND write_lsn < '"+end.String()+"')::text FROM pg_stat_replication") == "true" && logs.has("wait=8s")
	})
	if again := b.query("SELECT pid::text FROM pg_stat_replication"); again != first {
		t.Error("the server ended the connection")
	}
	b.store.down.Store(false)
	b.wantStored(1, end)
	// Told to stop while the store is away: what could not be stored is said.
	b.store.down.Store(true)
	last := b.write(100)
	testkit.Eventually(t, time.Minute, "it has arrived", func() bool {
		return b.query("SELECT count(*)::text FROM pg_stat_replication WHERE write_lsn >= '"+last.String()+"'") == "1"
	})
	if err := stop(); pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "not stored") {
		t.Errorf("stopped with WAL that is not stored: %v", err)
	}
	b.store.down.Store(false)
	stop = b.stream(b.target, io.Discard)
	b.wantStored(1, last)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if gaps := b.survey().Stored.Gaps(); len(gaps) != 0 {
		t.Errorf("gaps %+v", gaps)
	}
}

// TestLost: where the server has removed WAL that was not stored, that is recorded and
// streaming goes on behind it, with a slot that keeps WAL again.
func TestLost(t *testing.T) {
	testkit.OnlyAll(t, "a server for each version")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			if major < 13 {
				return // max_slot_wal_keep_size came with 13
			}
			b := newBench(t, major, map[string]string{"max_slot_wal_keep_size": "1MB", "max_wal_size": "2MB", "min_wal_size": "2MB"})
			stop := b.stream(b.target, io.Discard)
			before := b.write(100)
			b.wantStored(1, before)
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			for range 6 {
				b.run("SELECT pg_switch_wal()", "SELECT pg_logical_emit_message(true, 'x', 'y')")
			}
			b.run("CHECKPOINT")
			logs := &journal{}
			b.stream(b.target, logs)
			end := b.write(100)
			b.wantStored(1, end)
			s := b.survey()
			if len(s.Gaps) != 1 || len(s.Stored.Gaps()) != 1 || s.Stored.Gaps()[0].From != s.Gaps[0].From || s.Stored.Gaps()[0].To != s.Gaps[0].To || !logs.has("WAL is lost") {
				t.Errorf("recorded %+v, missing %+v", s.Gaps, s.Stored.Gaps())
			}
			if status := b.query("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'ours'"); status != "reserved" && status != "extended" {
				t.Errorf("the slot is %s", status)
			}
		})
	}
}

// TestPromoted: after a failover streaming goes on with the new primary, from the fork on;
// the WAL of the old one behind the fork is kept.
func TestPromoted(t *testing.T) {
	testkit.OnlyAll(t, "two servers for each version")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newBench(t, major, map[string]string{"hot_standby": "on"})
			standby := scratchtest.NewStandby(t, b.server, scratch.StandbyOptions{})
			stop := b.stream(b.target, io.Discard)
			b.wantStored(1, b.write(1500000))
			standby.CatchUp(t)
			standby.Promote(t)
			beyond := b.write(200) // the standby does not get it
			b.wantStored(1, beyond)
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			old := b.server
			b.server = standby.Server
			testkit.Eventually(t, time.Minute, "the standby is a primary", func() bool { return b.query("SELECT pg_is_in_recovery()::text") == "false" })
			stop = b.stream(postgrestest.Parse(t, standby.DSN("postgres")).With("user", "streamer"), io.Discard)
			end := b.write(100)
			b.wantStored(2, end)
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			s := b.survey()
			if len(s.Histories) != 1 || len(s.Stored.Gaps()) != 0 || !slices.Equal(s.Timelines(), []wal.Timeline{1, 2}) {
				t.Errorf("survey %+v", s)
			}
			fork := s.Histories[0].Switches[0].End
			if path := s.Path(2); len(path) != 1 || path[0].To < end {
				t.Errorf("along timeline 2 %+v", path)
			}
			if path := s.Path(1); len(path) != 1 || path[0].To < beyond || fork > beyond {
				t.Errorf("along timeline 1 %+v, fork at %v, written to %v", path, fork, beyond)
			}
			b.wantSame(standby.Server, 2)
			b.server = old
		})
	}
}

// TestRotates: after a day another epoch begins, and nothing is missing between the two.
func TestRotates(t *testing.T) {
	testkit.OnlyAll(t, "a server of its own")
	b := newBench(t, 0, nil)
	stop := b.stream(b.target, io.Discard)
	b.wantStored(1, b.write(100))
	b.clock.Store(int64(25 * time.Hour))
	testkit.Eventually(t, time.Minute, "another epoch begins", func() bool { return len(b.survey().Epochs) == 2 })
	b.wantStored(1, b.write(100))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if s := b.survey(); len(s.Spans) != 1 || len(s.Epochs) != 2 {
		t.Errorf("survey %+v", s)
	}
}

// TestRefuses: what trying again does not change.
func TestRefuses(t *testing.T) {
	b := newBench(t, 0, nil)
	o := walstream.Options{Target: b.target, Store: b.store, Server: "clinic", Slot: "ours", MaxDelay: time.Second, Seal: seal.Options{Compression: seal.CompressionZstd}}
	for what, change := range map[string]func(o *walstream.Options){
		"a delay":     func(o *walstream.Options) { o.MaxDelay = time.Millisecond },
		"a slot":      func(o *walstream.Options) { o.Slot = "Not one" },
		"encryption":  func(o *walstream.Options) { o.Seal.Encryption = seal.EncryptionAES256CBC },
		"no recipent": func(o *walstream.Options) { o.Seal.Encryption = seal.EncryptionAge },
	} {
		bad := o
		change(&bad)
		if err := walstream.Run(t.Context(), bad); pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("%s: %v", what, err)
		}
	}
	b.run("CREATE ROLE plain LOGIN")
	bad := o
	bad.Target = b.target.With("user", "plain")
	if err := walstream.Run(t.Context(), bad); pgmedic.KindOf(err) != pgmedic.KindUnreachable || pgmedic.HintOf(err) == "" {
		t.Errorf("a role without REPLICATION: %v", err)
	}
	// A server whose WAL ends before what is stored is another one, or was set back.
	stop := b.stream(b.target, io.Discard)
	b.wantStored(1, b.write(100))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	other, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := archive.New(other, "clinic", b.system).Begin(t.Context(), archive.EpochOptions{
		Info: archive.EpochInfo{StartedAt: time.Now(), SegmentBytes: 16 << 20, Timeline: 1}, Seal: o.Seal,
	}); err != nil {
		t.Fatal(err)
	}
	bad = o
	bad.Store = other
	if err := walstream.Run(t.Context(), bad); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("segments of another size: %v", err)
	}
	e, err := b.archive().Begin(t.Context(), archive.EpochOptions{
		Info: archive.EpochInfo{StartedAt: time.Now().Add(time.Hour), SegmentBytes: int64(size), Timeline: 1, From: 1 << 40},
		Seal: o.Seal,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.PutTail(t.Context(), wal.Segment{Timeline: 1, Start: 1 << 40}, 0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := walstream.Run(t.Context(), o); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("a server that is behind: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := walstream.Run(ctx, o); err != nil {
		t.Errorf("stopped before it began: %v", err)
	}
}

// TestProgressProperty: in whatever order ranges are stored, Stored is the end of what is
// there without a gap.
func TestProgressProperty(t *testing.T) {
	for n := range 500 {
		p := walstream.NewProgress(100)
		stored := map[wal.LSN]bool{}
		for i := range 30 {
			from := wal.LSN(90 + (n*7+i*i*13)%60)
			to := from + wal.LSN(1+(n+i)%9)
			p = p.Store(from, to)
			for l := from; l < to; l++ {
				stored[l] = true
			}
			want := wal.LSN(100)
			for stored[want] {
				want++
			}
			if p.Stored != want {
				t.Fatalf("run %d, step %d: stored up to %d, want %d", n, i, p.Stored, want)
			}
		}
	}
}

// promoted starts a standby of the bench's server, promotes it, and makes it the bench's.
func (b *bench) promoted(name string) {
	b.t.Helper()
	standby := scratchtest.NewStandby(b.t, b.server, scratch.StandbyOptions{Name: name})
	standby.Promote(b.t)
	b.server = standby.Server
	b.target = postgrestest.Parse(b.t, standby.DSN("postgres")).With("user", "streamer")
	testkit.Eventually(b.t, time.Minute, "the standby is a primary", func() bool { return b.query("SELECT pg_is_in_recovery()::text") == "false" })
}

// once streams until WAL that is written now is stored.
func (b *bench) once(t wal.Timeline) {
	b.t.Helper()
	stop := b.stream(b.target, io.Discard)
	b.wantStored(t, b.write(100))
	if err := stop(); err != nil {
		b.t.Fatal(err)
	}
}

// TestHistories: the histories of all timelines are stored, also of those that were left
// while nothing streamed; and a server that came to a timeline's number in another way is
// refused, with its slot left alone.
func TestHistories(t *testing.T) {
	testkit.OnlyAll(t, "four servers")
	b := newBench(t, 0, map[string]string{"hot_standby": "on"})
	b.once(1)
	first := b.server
	b.promoted("one")
	b.promoted("two")
	b.once(3)
	s := b.survey()
	if len(s.Histories) != 2 || len(s.Odd) != 0 || s.Promoted != nil {
		t.Fatalf("histories %+v, %q", s.Histories, s.Odd)
	}
	third := b.server
	b.server = first
	b.write(5000)
	b.promoted("other")
	err := walstream.Run(t.Context(), walstream.Options{Target: b.target, Store: b.store, Server: "clinic", Slot: "ours", MaxDelay: time.Second})
	if pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(err.Error(), "timeline 2") {
		t.Errorf("another timeline 2: %v", err)
	}
	if n := b.query("SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = 'ours'"); n != "0" {
		t.Errorf("%s slots were made", n)
	}
	// A file that the server has lost is said, and neither WAL that is lost nor a reason to
	// drop the slot.
	b.server = third
	b.target = postgrestest.Parse(t, third.DSN("postgres")).With("user", "streamer")
	slot := "SELECT xmin::text IS NULL AND restart_lsn IS NOT NULL FROM pg_replication_slots WHERE slot_name = 'ours'"
	if err := os.Remove(filepath.Join(third.DataDir(), "pg_wal", wal.HistoryName(3))); err != nil {
		t.Fatal(err)
	}
	logs := &journal{}
	lost := len(s.Gaps)
	stop := b.stream(b.target, logs)
	testkit.Eventually(t, time.Minute, "it is tried again", func() bool { return logs.has("wait=2s") })
	if err := stop(); err != nil {
		t.Error(err)
	}
	if s := b.survey(); len(s.Gaps) != lost || !logs.has("read the history of timeline 3") || logs.has("WAL is lost") {
		t.Errorf("lost %+v", s.Gaps)
	}
	if !postgrestest.Query[bool](t, b.conn(), slot) {
		t.Error("the slot is not the one of before")
	}
}

// TestOthersSlot: a slot of another program, for logical decoding, is left alone.
func TestOthersSlot(t *testing.T) {
	b := newBench(t, 0, map[string]string{"wal_level": "logical"})
	b.run("SELECT pg_create_logical_replication_slot('ours', 'pgoutput')")
	err := walstream.Run(t.Context(), walstream.Options{Target: b.target, Store: b.store, Server: "clinic", Slot: "ours", MaxDelay: time.Second})
	if pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("%v", err)
	}
	if kind := b.query("SELECT slot_type FROM pg_replication_slots WHERE slot_name = 'ours'"); kind != "logical" {
		t.Errorf("the slot is %s now", kind)
	}
}

// TestFlushRefused: WAL that the store refuses when the stream is told to stop is not
// passed over in silence.
func TestFlushRefused(t *testing.T) {
	b := newBench(t, 0, nil)
	stop := b.stream(b.target, io.Discard)
	b.wantStored(1, b.write(100))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.delay = time.Hour // so that nothing is due before it is told to stop
	stop = b.stream(b.target, io.Discard)
	end := b.write(100)
	testkit.Eventually(t, time.Minute, "it has arrived", func() bool {
		return b.query("SELECT count(*)::text FROM pg_stat_replication WHERE write_lsn >= '"+end.String()+"'") != "0"
	})
	b.store.refused.Store(true)
	if err := stop(); pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "refused here") {
		t.Errorf("stopped with WAL that the store refuses: %v", err)
	}
}

// TestSetBack: a server whose WAL is not the one that is stored, though it is on the same
// timeline and as far, is refused: in a segment that was growing, and in the last whole one.
func TestSetBack(t *testing.T) {
	b := newBench(t, 0, nil)
	b.run("SELECT pg_switch_wal()")
	b.write(100)
	b.run("SELECT pg_switch_wal()")
	end := b.write(5000)
	start := size.Start(end)
	for what, put := range map[string]func(e *archive.Epoch) error{
		"a tail": func(e *archive.Epoch) error {
			return e.PutTail(t.Context(), wal.Segment{Timeline: 1, Start: start}, 0, make([]byte, 1000))
		},
		"a segment": func(e *archive.Epoch) error {
			return e.PutSegment(t.Context(), wal.Segment{Timeline: 1, Start: start - wal.LSN(size)}, make([]byte, size))
		},
	} {
		s, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		o := walstream.Options{Target: b.target, Store: s, Server: "clinic", Slot: "ours", MaxDelay: time.Second, Seal: seal.Options{Compression: seal.CompressionZstd}}
		e, err := archive.New(s, "clinic", b.system).Begin(t.Context(), archive.EpochOptions{
			Info: archive.EpochInfo{StartedAt: time.Now(), SegmentBytes: int64(size), Timeline: 1, From: start - wal.LSN(size)}, Seal: o.Seal,
		})
		if err != nil {
			t.Fatal(err)
		}
		if what == "a tail" { // what is before it is right
			whole, err := os.ReadFile(filepath.Join(b.server.DataDir(), "pg_wal", size.Name(wal.Segment{Timeline: 1, Start: start - wal.LSN(size)})))
			if err != nil {
				t.Fatal(err)
			}
			if err := e.PutSegment(t.Context(), wal.Segment{Timeline: 1, Start: start - wal.LSN(size)}, whole); err != nil {
				t.Fatal(err)
			}
		}
		if err := put(e); err != nil {
			t.Fatal(err)
		}
		if err := walstream.Run(t.Context(), o); pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(err.Error(), "other WAL than is stored") {
			t.Errorf("%s that is not the server's: %v", what, err)
		}
	}
}

// TestStandby: WAL of a standby is stored, and says nothing of how far the server is.
func TestStandby(t *testing.T) {
	testkit.OnlyAll(t, "two servers for each version")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newBench(t, major, map[string]string{"hot_standby": "on"})
			standby := scratchtest.NewStandby(t, b.server, scratch.StandbyOptions{})
			logs := &journal{}
			stop := b.stream(postgrestest.Parse(t, standby.DSN("postgres")).With("user", "streamer"), logs)
			b.wantStored(1, b.write(100))
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if s := b.survey(); len(s.Seen) != 0 || !logs.has("the server is a standby") {
				t.Errorf("observations %+v", s.Seen)
			}
			b.once(1)
			if s := b.survey(); len(s.Seen) == 0 {
				t.Error("no observation of the primary is stored")
			}
		})
	}
}
