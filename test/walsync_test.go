package test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// syncBench is a server whose commits wait for a spool, with a base backup from before, and
// a client that writes down what was acknowledged.
type syncBench struct {
	*walBench
	spool  string
	stream *child

	mu   sync.Mutex
	rows []int
	stop func()
}

func newSyncBench(t *testing.T, major int) *syncBench {
	t.Helper()
	b := &syncBench{walBench: newWALBench(t, major)}
	b.spool = filepath.Join(b.tmp, "spool")
	b.stream = b.sync()
	b.wantStreaming()
	b.physical(0)
	b.commitsWait()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.write(ctx)
	}()
	b.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(b.stop)
	return b
}

// commitsWait has commits wait for the stream, which runs. First they wait for nobody, because
// sessions know the setting before the checkpointer has them wait, and only who waits shows it.
func (b *walBench) commitsWait() {
	b.t.Helper()
	b.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	b.sql("SELECT pg_reload_conf()")
	testkit.Eventually(b.t, time.Minute, "commits wait", func() bool {
		conn := testkit.Dial(b.t, b.server.DSN("postgres"))
		defer testkit.End(conn)
		done, waits := make(chan error, 1), false
		go func() {
			_, err := conn.Exec(b.t.Context(), "SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'pgmedic', '')")
			done <- err
		}()
		testkit.Eventually(b.t, time.Minute, "a commit waits, or does not", func() bool {
			select {
			case err := <-done:
				done <- err
				return true
			default:
			}
			waits = b.ask("SELECT count(pg_cancel_backend(pid))::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1"
			return waits
		})
		if err := <-done; err != nil {
			b.t.Fatal(err)
		}
		return waits
	})
	b.sql("ALTER SYSTEM SET synchronous_standby_names = 'pgmedic_sync'")
	b.sql("SELECT pg_reload_conf()")
	testkit.Eventually(b.t, time.Minute, "commits wait for the spool", func() bool {
		return b.ask("SELECT count(*)::text FROM pg_stat_replication WHERE application_name = 'pgmedic_sync' AND sync_state = 'sync'") == "1"
	})
}

// sync starts a stream with a spool.
func (b *syncBench) sync(more ...string) *child {
	b.t.Helper()
	return b.start(append([]string{"wal", "stream", "--max-delay", "1s", "--slot", "ours", "--sync", "--spool", b.spool}, more...)...)
}

// write commits a row after the other. A session that breaks is followed by another: what
// became of its last row is not known.
func (b *syncBench) write(ctx context.Context) {
	var conn *pgx.Conn
	for n := 1; ctx.Err() == nil; n++ {
		var err error
		if conn == nil || conn.IsClosed() {
			if conn, err = pgx.Connect(ctx, b.server.DSN("postgres")); err != nil {
				conn = nil
				select {
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
				continue
			}
		}
		if _, err = conn.Exec(ctx, "INSERT INTO ledger SELECT $1::int, string_agg(md5(($1::int * 1000 + g)::text), '') FROM generate_series(0, $1::int % 97) AS g", n); err == nil {
			b.mu.Lock()
			b.rows = append(b.rows, n)
			b.mu.Unlock()
		} else {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}
	if conn != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
	}
}

// acknowledged are the rows up to now.
func (b *syncBench) acknowledged() []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.rows)
}

// wantMore waits until so many more rows were acknowledged.
func (b *syncBench) wantMore(n int) {
	b.t.Helper()
	want := len(b.acknowledged()) + n
	testkit.Eventually(b.t, 2*time.Minute, strconv.Itoa(n)+" more rows are acknowledged", func() bool { return len(b.acknowledged()) >= want })
}

func (c *child) kill() {
	c.b.t.Helper()
	c.signal(syscall.SIGKILL)
	<-c.done
}

// crash has the server crash while the stream is there, which it waits for first.
func (b *syncBench) crash() {
	b.t.Helper()
	scratchtest.Crash(b.t, b.server)
	scratchtest.Recovered(b.t, b.server)
	_ = b.conn.Close(b.t.Context()) // which the server has ended
	b.conn = testkit.Connect(b.t, b.server.DSN("postgres"))
}

// lose ends the server for ever, and everything else. What was acknowledged is known then.
func (b *syncBench) lose() {
	b.t.Helper()
	_ = b.conn.Close(b.t.Context())
	pid := pidOf(filepath.Join(b.server.DataDir(), "postmaster.pid"))
	if pid == 0 {
		b.t.Fatal("the server has gone before")
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil { // it stops at once, as in a crash
		b.t.Fatal(err)
	}
	testkit.Eventually(b.t, time.Minute, "the server is gone", func() bool {
		_, err := os.Stat(filepath.Join(b.server.DataDir(), "postmaster.pid"))
		return os.IsNotExist(err)
	})
	b.stop()
}

// wantRecovered recovers from the store alone, and looks for each row that was acknowledged.
func (b *syncBench) wantRecovered() {
	b.t.Helper()
	c := b.restoring()
	port := c.port()
	c.restore(0, "restored", "--to-end", "--start", "--start-port", port)
	var there []int
	if err := json.Unmarshal([]byte(c.asks(port, "SELECT json_agg(n ORDER BY n)::text FROM ledger")), &there); err != nil {
		b.t.Fatal(err)
	}
	known := map[int]bool{}
	for _, n := range there {
		known[n] = true
	}
	all := b.acknowledged()
	var lost []int
	for _, n := range all {
		if !known[n] {
			lost = append(lost, n)
		}
	}
	if len(lost) > 0 || len(all) == 0 {
		b.t.Errorf("%d of %d acknowledged rows are lost, the first ones %d", len(lost), len(all), lost[:min(len(lost), 5)])
	}
	if s := b.status(); len(s.Missing) != 0 || len(s.Split) != 0 {
		b.t.Errorf("status %+v", s)
	}
}

// TestWALSyncKilled: the streamer is killed and the server crashes, again and again; then
// the store is away, commits go on, and the server is lost. What the spool has is stored
// without it, and a recovery from the store alone has every acknowledged row.
//
// The streamer is killed 4 times in make test-all, and in make chaos 50 times; the server
// crashes 2 and 20 times.
func TestWALSyncKilled(t *testing.T) {
	testkit.OnlyAll(t, "two servers, and a streamer that is killed again and again, for each version")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newSyncBench(t, major)
			kills, crashes := testkit.Amount(2, 4, 50), testkit.Amount(1, 2, 20)
			for round := range kills {
				b.wantMore(20)
				b.stream.kill()
				b.stream = b.sync()
				if round*crashes/kills != (round+1)*crashes/kills {
					b.wantMore(20)
					b.crash()
				}
			}
			b.wantMore(20)
			// A file in the place of the store's folder.
			if err := os.Rename(b.store, b.store+".away"); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(b.store, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			b.wantMore(200)
			b.stream.kill()
			b.lose()
			if err := os.Remove(b.store); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(b.store+".away", b.store); err != nil {
				t.Fatal(err)
			}
			// A stream that is started again stores it, too, though there is no server.
			for _, dir := range []string{b.store, b.spool} {
				if out, err := exec.Command("cp", "-a", dir, dir+"-2").CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			if !b.drained(b.spool) {
				t.Error("it says that all is stored, and nothing was left to store")
			}
			had := b.epochs(b.store + "-2")
			second := []string{"--spool", b.spool + "-2", "--store", b.store + "-2"}
			again := b.start(append([]string{"wal", "stream", "--max-delay", "1s", "--slot", "ours", "--sync"}, second...)...)
			// Told to stop, it ends with 0 only if all of it is stored.
			testkit.Eventually(t, time.Minute, "a stream without a server stores what the spool has", func() bool { return b.epochs(b.store+"-2") > had })
			again.signal(syscall.SIGTERM)
			if r := again.wait(2 * time.Minute); r.code != 0 {
				t.Errorf("stopped: exit code %d, %s", r.code, r.stderr)
			}
			if before := b.epochs(b.store + "-2"); b.ok(append([]string{"wal", "stream", "--drain"}, second...)...) == "" || b.epochs(b.store+"-2") != before {
				t.Error("it has not stored all of it")
			}
			b.wantRecovered()
		})
	}
}

// epochs is how many epochs of WAL a store has: one for each stream, and for each spool of
// which anything was left to store.
func (b *syncBench) epochs(store string) int {
	b.t.Helper()
	epochs, err := filepath.Glob(filepath.Join(store, "clinic", "@wal", "*", "*"))
	if err != nil {
		b.t.Fatal(err)
	}
	return len(epochs)
}

// drained stores what a spool has, and reports whether anything was left to store.
func (b *syncBench) drained(spool string) bool {
	b.t.Helper()
	before := b.epochs(b.store)
	var got struct {
		Stored []struct{ Timeline int }
	}
	if err := json.Unmarshal([]byte(b.ok("wal", "stream", "--drain", "--json", "--spool", spool)), &got); err != nil || len(got.Stored) != 1 || got.Stored[0].Timeline != 1 {
		b.t.Errorf("drained %+v, %v", got, err)
	}
	after := b.epochs(b.store)
	if said := b.ok("wal", "stream", "--drain", "--spool", spool); !strings.Contains(said, "stored: all that the spool has of timeline 1") || b.epochs(b.store) != after {
		b.t.Errorf("drained again: %s", said)
	}
	return after > before
}

// syncPoints are the named places on the way into the spool, and out of it.
func syncPoints() []string {
	return []string{"wal-spool-before-flush", "wal-spool-after-flush", "wal-spool-before-status", "wal-before-drain", "wal-after-drain"}
}

// TestWALSyncKilledAt: killed at each step between the server, the spool and the store, a
// streamer that is started again loses nothing that was acknowledged.
func TestWALSyncKilledAt(t *testing.T) {
	testkit.OnlyAll(t, "it builds the program with failpoints")
	b := newSyncBench(t, 0)
	plain := b.program
	for _, point := range syncPoints() {
		t.Run(point, func(t *testing.T) {
			for range testkit.Amount(1, 1, 10) {
				// Tails wait for so long that the spool has what the store does not have.
				b.stream.kill()
				b.stream = b.sync("--max-delay", "1h")
				b.wantMore(5)
				b.stream.kill()
				b.program = mortal(t)
				env := b.env
				b.env = append(slices.Clone(env), "PGMEDIC_FAILPOINT=kill:"+point)
				mortal := b.sync()
				b.env, b.program = env, plain
				testkit.Eventually(t, time.Minute, "it is killed", func() bool {
					select {
					case <-mortal.done:
						return true
					default:
						return false
					}
				})
				if mortal.cmd.ProcessState.ExitCode() != -1 {
					t.Errorf("it ended by itself: %s", mortal.stderr)
				}
				b.stream = b.sync()
				b.wantMore(5)
			}
		})
	}
	b.stream.kill()
	b.lose()
	b.drained(b.spool)
	b.wantRecovered()
}

// TestWALSync: the way by the command line: what check says before and after commits wait,
// a commit that is stored without the server, and what is refused.
func TestWALSync(t *testing.T) {
	testkit.OnlyAll(t, "a server of its own and some runs of check")
	b := newWALBench(t, 0)
	spool := filepath.Join(b.tmp, "spool")
	b.env = append(b.env, "PGMEDIC_WAL_SYNC=true", "PGMEDIC_WAL_SPOOL="+spool, "PGMEDIC_WAL_SLOT=ours")
	all, _ := b.checked()
	b.wantCheck(all, "wal synchronous", "warn wal.sync is set, and no commit waits")
	b.wantCheck(all, "wal spool", "is not encrypted")
	stream := b.start("wal", "stream", "--max-delay", "1h")
	b.wantStreaming()
	b.commitsWait()
	b.sql("INSERT INTO ledger VALUES (1, 'x')")
	end := b.ask("SELECT pg_current_wal_flush_lsn()::text")
	all, _ = b.checked()
	b.wantCheck(all, "wal synchronous", "warn pgmedic_sync is in synchronous_standby_names and commits wait for it; without enough other candidates they hang")
	b.wantCheck(all, "wal slot", "ok ours is in use")
	if r := b.run("wal", "stream", "--drain"); r.code != 14 {
		t.Errorf("drained beside a stream: exit code %d, %s", r.code, r.stderr)
	}
	if r := b.run("wal", "stream", "--drain", "--drop-slot"); r.code != 2 {
		t.Errorf("drained and dropped: exit code %d, %s", r.code, r.stderr)
	}
	stream.kill()
	b.env = append(b.env, "DATABASE_URL=postgres://127.0.0.1:1/none")
	if said := b.ok("wal", "stream", "--drain"); !strings.Contains(said, "timeline 1") {
		t.Errorf("drained: %s", said)
	}
	if got := b.status(); got.Spans == nil || !strings.Contains(b.ok("wal", "status", "--json"), end) {
		t.Errorf("stored %+v, want %s", got, end)
	}
	if r := b.run("wal", "stream", "--drain", "--spool", filepath.Join(b.tmp, "none")); r.code != 10 {
		t.Errorf("without a spool: exit code %d, %s", r.code, r.stderr)
	}
	second := filepath.Join(b.tmp, "second")
	if out, err := exec.Command("cp", "-a", spool, second).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(second, "*", "*.wal"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files %q, %v", files, err)
	}
	if err := os.Rename(files[0], files[0]+".damaged"); err != nil {
		t.Fatal(err)
	}
	if r := b.run("wal", "stream", "--drain", "--spool", second); r.code != 11 || !strings.Contains(r.stderr, "can't be read") {
		t.Errorf("a damaged spool: exit code %d, %s", r.code, r.stderr)
	}
	if err := os.Chmod(filepath.Dir(files[0]), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := b.run("wal", "stream", "--drain", "--spool", second); r.code != 2 || !strings.Contains(r.stderr, "chmod 700") {
		t.Errorf("a spool that others can read: exit code %d, %s", r.code, r.stderr)
	}
}
