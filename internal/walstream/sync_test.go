package walstream_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/walspool"
	"github.com/pgmedic/pgmedic/internal/walstream"
)

// wait has commits of the server wait for the spool from now on. There must be none yet.
func (b *bench) wait() {
	b.t.Helper()
	b.run("ALTER SYSTEM SET synchronous_standby_names = '"+walstream.SyncName+"'", "SELECT pg_reload_conf()")
	// Sessions know the setting before the checkpointer has them wait.
	testkit.Eventually(b.t, time.Minute, "commits wait", func() bool {
		committed, waits := b.commit(1), false
		testkit.Eventually(b.t, time.Minute, "a commit waits, or does not", func() bool {
			select {
			case <-committed:
				return true
			default:
			}
			waits = b.query("SELECT count(pg_cancel_backend(pid))::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1"
			return waits
		})
		if waits {
			<-committed
		}
		return waits
	})
}

// options are those of a stream with a spool.
func (b *bench) options(target postgres.Target, spool *walspool.Folder, logs io.Writer) walstream.Options {
	return walstream.Options{
		Target: target, Store: b.store, Server: "clinic", Slot: "ours", MaxDelay: time.Second, Spool: spool,
		Seal: seal.Options{Compression: seal.CompressionZstd}, Host: "h", Version: "dev",
		Logger: slog.New(slog.NewTextHandler(logs, nil)), Notify: b.notices.add,
	}
}

// spoolIn is the folder of spools in dir.
func spoolIn(t *testing.T, dir string, most int64, logs io.Writer) *walspool.Folder {
	t.Helper()
	f, err := walspool.NewFolder(walspool.Options{Dir: dir, MaxBytes: most, Logger: slog.New(slog.NewTextHandler(logs, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// sync streams with a spool until stop is called, which returns what Run returned.
func (b *bench) sync(target postgres.Target, dir string, most int64, logs io.Writer) (stop func() error) {
	b.t.Helper()
	spool := spoolIn(b.t, dir, most, logs)
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- walstream.Run(ctx, b.options(target, spool, logs)) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			err = <-done
			spool.Close()
		})
		return err
	}
	b.t.Cleanup(func() { _ = stop() })
	return stop
}

const roomy = 1 << 30

// wantSynchronous waits until commits wait for the spool, and for nothing else.
func (b *bench) wantSynchronous() {
	b.t.Helper()
	testkit.Eventually(b.t, time.Minute, "commits wait for the spool", func() bool {
		return b.query("SELECT count(*)::text FROM pg_stat_replication WHERE application_name = 'pgmedic_sync' AND sync_state = 'sync' AND state = 'streaming'") == "1"
	})
}

// copied is a copy of a folder as it is now, as a crash of the host leaves it: what was
// flushed, and perhaps more.
func copied(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(to, func(path string, d os.DirEntry, err error) error { // CopyFS follows the umask
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return to
}

// in is the bench with another store.
func (b *bench) in(dir string) *bench {
	b.t.Helper()
	s, err := store.NewLocal(store.LocalOptions{Dir: dir})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = s.Close() })
	return &bench{t: b.t, server: b.server, store: &failing{Store: s}, system: b.system, conns: b.conns}
}

// TestSync: commits wait for the spool and not for the store. While that is away they go
// on, and the server keeps the WAL in the slot. What the spool has at any moment is all
// that was acknowledged: it is stored without the server.
func TestSync(t *testing.T) {
	for _, major := range scratchtest.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newBench(t, major, nil)
			b.wait()
			// As much as a server keeps of itself, so that what is stored can be compared.
			b.run("SELECT pg_create_physical_replication_slot('keep', true)")
			objects := t.TempDir()
			own := b.in(objects)
			b.store = own.store
			dir := filepath.Join(t.TempDir(), "spool")
			stop := b.sync(b.target, dir, roomy, io.Discard)
			b.wantSynchronous()
			b.wantStored(1, b.write(1500000))
			b.store.down.Store(true)
			end := b.write(2500000)
			last := b.write(100) // in a message of its own
			if got := b.query("SELECT (active AND restart_lsn < '" + end.String() + "')::text FROM pg_replication_slots WHERE slot_name = 'ours'"); got != "true" {
				t.Error("the server does not keep in the slot what is not stored")
			}
			gone := b.in(copied(t, objects))
			spool := spoolIn(t, copied(t, dir), roomy, io.Discard)
			if path := gone.survey().Path(1); path[len(path)-1].To >= end {
				t.Fatal("the store has it all")
			}
			for range 2 { // the second time there is nothing left to do
				o := gone.options(postgres.Target{}, spool, io.Discard)
				all, err := walstream.Drain(t.Context(), o)
				if err != nil || len(all) != 1 || all[0].To < last || all[0].SystemIdentifier != b.system {
					t.Fatalf("stored %+v, %v", all, err)
				}
				if s := gone.survey(); len(s.Epochs) != 2 || len(s.Spans) != 1 || s.Spans[0].To < last || len(s.Stored.Gaps()) != 0 || len(s.Odd) != 0 || len(s.Split) != 0 {
					t.Errorf("survey %+v, want all up to %v", s, last)
				}
			}
			gone.wantSame(b.server, 1)
			b.store.down.Store(false)
			b.wantStored(1, last)
			testkit.Eventually(t, time.Minute, "what is stored leaves the spool", func() bool {
				files, err := filepath.Glob(filepath.Join(dir, "*", "*.wal"))
				return err == nil && len(files) <= 1
			})
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			// Begun again it goes on, and commits with it.
			stop = b.sync(b.target, dir, roomy, io.Discard)
			b.wantSynchronous()
			b.wantStored(1, b.write(100))
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			b.wantSame(b.server, 1)
		})
	}
}

// commit commits n bytes in a session of its own.
func (b *bench) commit(n int) (committed <-chan error) {
	b.t.Helper()
	conn := postgrestest.Connect(b.t, postgrestest.Parse(b.t, b.server.DSN("postgres")))
	postgrestest.Run(b.t, conn, "SET synchronous_commit = on")
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.WithoutCancel(b.t.Context()), "SELECT pg_logical_emit_message(true, 'pgmedic', repeat('z', $1))", n)
		done <- err
	}()
	return done
}

// blocked commits, and returns once the server waits for the spool to have that.
func (b *bench) blocked() (committed <-chan error) {
	b.t.Helper()
	done := b.commit(1)
	testkit.Eventually(b.t, time.Minute, "a commit waits", func() bool {
		return b.query("SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1"
	})
	return done
}

// TestSyncWaits: a commit that finds no spool waits until there is one, also where the store
// can't be reached.
func TestSyncWaits(t *testing.T) {
	testkit.OnlyAll(t, "a server of its own")
	b := newBench(t, 0, nil)
	b.wait()
	committed := b.blocked()
	dir := filepath.Join(t.TempDir(), "spool")
	stop := b.sync(b.target, dir, roomy, io.Discard)
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	// A second stream does not get the spool.
	if err := walstream.Run(t.Context(), b.options(b.target, spoolIn(t, dir, roomy, io.Discard), io.Discard)); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("two streams with one spool: %v", err)
	}
	b.wantStored(1, b.write(100))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// The WAL is stored under another name now: what would the spool's be?
	o := b.options(b.target, spoolIn(t, dir, roomy, io.Discard), io.Discard)
	o.Server = "renamed"
	if err := walstream.Run(t.Context(), o); pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(pgmedic.HintOf(err), "--drain") {
		t.Errorf("a spool of another name: %v", err)
	}
	if _, err := walstream.Drain(t.Context(), b.options(postgres.Target{}, spoolIn(t, t.TempDir(), roomy, io.Discard), io.Discard)); pgmedic.KindOf(err) != pgmedic.KindNotFound {
		t.Errorf("without a spool: %v", err)
	}
}

// TestSyncFull: while the spool is full nothing is acknowledged, the connection leaves its
// place to another candidate, and it is noticed at once; once the store takes WAL, commits
// go on.
func TestSyncFull(t *testing.T) {
	testkit.OnlyAll(t, "it waits for attempts that are seconds apart")
	b := newBench(t, 0, nil)
	b.wait()
	logs := &journal{}
	stop := b.sync(b.target, filepath.Join(t.TempDir(), "spool"), walspool.MinSegments*int64(size), logs)
	b.wantSynchronous()
	b.wantStored(1, b.write(100))
	b.store.down.Store(true)
	committed := b.commit(8000000)
	testkit.Eventually(t, time.Minute, "it is noticed", func() bool { return len(b.notices.of(walstream.NoticeSyncAway)) > 1 })
	testkit.Eventually(t, time.Minute, "the connection leaves its place", func() bool {
		return b.query("SELECT count(*)::text FROM pg_stat_replication WHERE application_name = 'pgmedic_sync'") == "0"
	})
	testkit.Eventually(t, time.Minute, "it is said", func() bool { return logs.has("the spool is full") })
	if n := b.query("SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'"); n != "1" {
		t.Errorf("%s commits wait", n)
	}
	b.store.down.Store(false)
	select {
	case err := <-committed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * time.Minute):
		t.Fatal("the commit did not go on")
	}
	for i, n := range b.notices.of(walstream.NoticeSyncAway) { // it may be full again before the store has caught up
		if n.Over != (i%2 == 0) {
			t.Errorf("notice %d: %+v", i, n)
		}
	}
	b.wantStored(1, b.write(100))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestSyncFailover: what was acknowledged on a timeline that the new primary did not get all
// of is stored, though the old one is gone and the store was away; the lost transactions are
// counted.
func TestSyncFailover(t *testing.T) {
	testkit.OnlyAll(t, "two servers for each version")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newBench(t, major, map[string]string{"hot_standby": "on"})
			standby := scratchtest.NewStandby(t, b.server, scratch.StandbyOptions{})
			b.wait()
			dir := filepath.Join(t.TempDir(), "spool")
			logs := &journal{}
			defer func() {
				if t.Failed() {
					t.Log(logs.b.String())
				}
			}()
			stop := b.sync(either(t, b.server, standby.Server), dir, roomy, logs)
			b.wantSynchronous()
			b.run("CREATE TABLE public.ledger (n int)")
			b.wantStored(1, b.write(1500000))
			standby.CatchUp(t)
			standby.Promote(t)
			b.store.down.Store(true)
			for n := range 3 {
				b.run(fmt.Sprintf("INSERT INTO public.ledger VALUES (%d)", n)) // each waits for the spool
			}
			b.run("BEGIN", "INSERT INTO public.ledger VALUES (-1)", "ROLLBACK")
			end, err := wal.ParseLSN(b.query("SELECT pg_current_wal_flush_lsn()::text"))
			if err != nil {
				t.Fatal(err)
			}
			if err := b.server.Stop(context.WithoutCancel(t.Context())); err != nil {
				t.Fatal(err)
			}
			b.server = standby.Server
			b.store.down.Store(false)
			testkit.Eventually(t, time.Minute, "the standby is a primary", func() bool { return b.query("SELECT pg_is_in_recovery()::text") == "false" })
			b.wantStored(2, b.write(100))
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if path := b.survey().Path(1); len(path) != 1 || path[0].To < end {
				t.Errorf("along timeline 1 %+v, and %v was acknowledged", path, end)
			}
			noticed := b.notices.of(walstream.NoticeFailover)
			if len(noticed) != 1 || !strings.HasPrefix(noticed[0].Summary, "failover lost 3 transactions") {
				t.Errorf("noticed %+v", noticed)
			}
			if s := b.survey(); len(s.Stored.Gaps()) != 0 || len(s.Histories) != 1 || len(s.Split) != 0 {
				t.Errorf("survey %+v", s)
			}
		})
	}
}

// TestSyncOther: a spool with other WAL than the server's is not continued.
func TestSyncOther(t *testing.T) {
	testkit.OnlyAll(t, "a server of its own")
	b := newBench(t, 0, nil)
	b.wait()
	dir := filepath.Join(t.TempDir(), "spool")
	stop := b.sync(b.target, dir, roomy, io.Discard)
	b.wantSynchronous()
	end := b.write(300000)
	b.wantStored(1, end)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// The same stream with a spool that got other bytes where the server is now.
	f := spoolIn(t, filepath.Join(t.TempDir(), "other"), roomy, io.Discard)
	s, err := f.Open(walspool.Cluster{Server: "clinic", SystemIdentifier: b.system, SegmentBytes: int64(size)})
	if err != nil {
		t.Fatal(err)
	}
	from := size.Start(end)
	if err := s.Begin(1, from); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(1, from, make([]byte, end-from)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Flush(1); err != nil {
		t.Fatal(err)
	}
	o := b.options(b.target, f, io.Discard)
	if err := walstream.Run(t.Context(), o); pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(err.Error(), "other WAL than") {
		t.Errorf("a spool of another server: %v", err)
	}
	if n := len(b.survey().Split); n != 0 {
		t.Errorf("%d segments have two contents now", n)
	}
}
