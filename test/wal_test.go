package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// walBench is a bench with a server of its own, whose WAL is streamed to a store by a host
// that can't read it.
type walBench struct {
	*bench
	server *scratch.Server
	conn   *pgx.Conn
	// reader is the environment of a host that has the key.
	reader []string
}

func newWALBench(t *testing.T, major int, more ...map[string]string) *walBench {
	t.Helper()
	settings := map[string]string{}
	for _, m := range more {
		maps.Copy(settings, m)
	}
	return newWALBenchWith(t, scratch.Options{Major: major, InitArgs: []string{"--wal-segsize=1"}, Settings: settings})
}

func newWALBenchWith(t *testing.T, o scratch.Options) *walBench {
	t.Helper()
	settings := map[string]string{
		"wal_level": "replica", "autovacuum": "off", "synchronous_commit": "on", "checkpoint_timeout": "1h", "max_wal_size": "1GB",
	}
	maps.Copy(settings, o.Settings)
	o.Settings = settings
	s := scratchtest.New(t, o)
	b := &walBench{bench: newBench(t), server: s}
	b.store = filepath.Join(b.tmp, "store") // which others can get to
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(b.tmp, "keys.txt")
	if err := os.WriteFile(keys, []byte(identity.String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.env = b.environ("DATABASE_URL="+s.URL("postgres"), "PGMEDIC_SERVER=clinic", "BACKUP_RECIPIENTS="+identity.Recipient().String())
	b.reader = b.environ("PGMEDIC_SERVER=clinic", "PGMEDIC_IDENTITY_FILES="+keys)
	b.conn = testkit.Connect(t, s.DSN("postgres"))
	b.sql("CREATE TABLE ledger (n int PRIMARY KEY, note text)")
	return b
}

func (b *walBench) sql(statement string, args ...any) {
	b.t.Helper()
	if _, err := b.conn.Exec(b.t.Context(), statement, args...); err != nil {
		b.t.Fatalf("%s: %v", statement, err)
	}
}

func (b *walBench) ask(sql string) (answer string) {
	b.t.Helper()
	if err := b.conn.QueryRow(b.t.Context(), sql).Scan(&answer); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

// clusterStatus is what wal status says of one cluster.
type clusterStatus struct {
	State, Why string
	Until      struct{ LSN string }
	Spans      []struct{ Timeline int }
	Missing    []any
	Split      []any
	Bases      []any `json:"base_backups"`
	Windows    []any
	Unlisted   []any  `json:"unlisted_windows"`
	SystemID   string `json:"system_identifier"`
	// CommitTimes is of hosts with the key.
	CommitTimes bool `json:"commit_times"`
	Problems    []string
}

func (b *walBench) status() clusterStatus {
	b.t.Helper()
	var got struct{ Clusters []clusterStatus }
	if err := json.Unmarshal([]byte(b.ok("wal", "status", "--json")), &got); err != nil || len(got.Clusters) != 1 {
		b.t.Fatalf("status %+v, %v", got, err)
	}
	return got.Clusters[0]
}

// wantStreaming waits until wal stream streams. A standby is no such stream.
func (b *walBench) wantStreaming() {
	b.t.Helper()
	testkit.Eventually(b.t, time.Minute, "the streamer is there", func() bool {
		return b.ask("SELECT count(*)::text FROM pg_stat_replication WHERE state = 'streaming' AND application_name = 'pgmedic wal'") == "1"
	})
}

// startStreaming starts a stream and waits until it streams, whatever is left of one that was
// killed a moment ago. All may be stored already, so that to wait for that would not do.
func (b *walBench) startStreaming(start func() *child) *child {
	b.t.Helper()
	from := b.ask("SELECT clock_timestamp()::text")
	stream := start()
	testkit.Eventually(b.t, time.Minute, "the new streamer is there", func() bool {
		return b.ask("SELECT count(*)::text FROM pg_stat_replication WHERE state = 'streaming' AND application_name = 'pgmedic wal' AND backend_start >= '"+from+"'") == "1"
	})
	return stream
}

// wantStored waits until the WAL of all that was done is stored.
func (b *walBench) wantStored() {
	b.t.Helper()
	end := b.ask("SELECT pg_current_wal_flush_lsn()::text")
	testkit.Eventually(b.t, time.Minute, "WAL is stored up to "+end, func() bool {
		r := b.run("wal", "status", "--json")
		var got struct{ Clusters []clusterStatus }
		if r.code == 10 { // nothing yet
			return false
		}
		if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || len(got.Clusters) != 1 {
			b.t.Fatalf("status: %d, %s%s, %v", r.code, r.stdout, r.stderr, err)
		}
		if got.Clusters[0].Until.LSN == "" {
			return false
		}
		return b.ask("SELECT ('"+got.Clusters[0].Until.LSN+"'::pg_lsn >= '"+end+"'::pg_lsn)::text") == "true"
	})
}

// fetch runs wal fetch as a host with the key.
func (b *walBench) fetch(name string, more ...string) (code int, plain []byte, stderr string) {
	b.t.Helper()
	path := filepath.Join(b.tmp, "fetched")
	_ = os.Remove(path)
	env := b.env
	b.env = b.reader
	r := b.run(append([]string{"wal", "fetch", name, path}, more...)...)
	b.env = env
	plain, err := os.ReadFile(path)
	if (err == nil) != (r.code == 0) {
		b.t.Errorf("wal fetch %s: exit code %d, and the file: %v", name, r.code, err)
	}
	if left, err := filepath.Glob(path + "?*"); err != nil || len(left) > 0 {
		b.t.Errorf("wal fetch %s left %v", name, left)
	}
	return r.code, plain, r.stderr
}

// TestWALKilled: a streamer that is killed again and again loses nothing: no gap, every
// segment as the server has it, and a recovery from the store alone has every row.
func TestWALKilled(t *testing.T) {
	testkit.OnlyAll(t, "two servers and a streamer that is started again and again, for each version")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newWALBench(t, major)
			// The server keeps its WAL, to be compared with.
			b.sql("SELECT pg_create_physical_replication_slot('keep', true)")
			start := func() *child { return b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours") }
			stream := start()
			b.wantStreaming()
			n, rounds := 0, testkit.Amount(3, 10, 50)
			for round := range rounds {
				for range 20 {
					n++
					b.sql("INSERT INTO ledger SELECT $1::int, string_agg(md5(($1::int * 10000 + g)::text), '') FROM generate_series(0, $2::int) AS g", n, (n*7919)%3000)
				}
				if round%3 == 0 {
					b.wantStored() // else it is killed wherever it is
				}
				stream.signal(syscall.SIGKILL)
				<-stream.done
				if round < rounds-1 {
					stream = start()
				}
			}
			stream = b.startStreaming(start)
			b.wantStored()
			if s := b.status(); s.State != "ok" || len(s.Missing) != 0 || len(s.Spans) != 1 {
				t.Errorf("status %+v", s)
			}
			stream.signal(syscall.SIGTERM)
			if r := stream.wait(time.Minute); r.code != 0 {
				t.Errorf("stopped: exit code %d, %s", r.code, r.stderr)
			}
			current := b.ask("SELECT pg_walfile_name(pg_current_wal_flush_lsn())")
			compared := 0
			files, err := filepath.Glob(filepath.Join(b.server.DataDir(), "pg_wal", strings.Repeat("[0-9A-F]", 24)))
			if err != nil {
				t.Fatal(err)
			}
			files = slices.DeleteFunc(files, func(file string) bool { return filepath.Base(file) >= current })
			for _, file := range testkit.Few(t, 3, files) {
				code, plain, stderr := b.fetch(filepath.Base(file))
				// From before the first stream there is nothing, and that is no end.
				if want := readFile(t, file); code == 0 && !bytes.Equal(plain, want) || code != 0 && code != 255 {
					t.Errorf("%s: exit code %d, equal %t, %s", file, code, bytes.Equal(plain, want), stderr)
				}
				if code == 0 {
					compared++
				}
			}
			if compared == 0 {
				t.Errorf("nothing was compared: %v before %s", files, current)
			}
			b.recover(n)
		})
	}
}

// walPoints are the named places of streaming, each with how much a row is written for it:
// so little that tails are due, or so much that segments are full.
func walPoints() map[string]int {
	return map[string]int{
		"wal-epoch-key": 1, "wal-received": 1, "wal-before-tail": 1, "wal-after-tail": 1, "wal-before-segment": 2000, "wal-after-segment": 2000, "wal-before-status": 1,
		"wal-before-index": 2000, "wal-after-index": 2000,
	}
}

// TestWALKilledAt: killed at each step between the server and the store, a streamer that
// is started again leaves no gap, and no segment with two contents.
func TestWALKilledAt(t *testing.T) {
	testkit.OnlyAll(t, "it builds the program with failpoints")
	b := newWALBench(t, 0)
	plain := b.program
	n := 0
	for point, size := range walPoints() {
		t.Run(point, func(t *testing.T) {
			for range testkit.Amount(1, 1, 10) {
				b.program = mortal(t)
				env := b.env
				b.env = append(slices.Clone(env), "PGMEDIC_FAILPOINT=kill:"+point)
				stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
				b.env, b.program = env, plain
				t.Cleanup(func() { _ = stream.cmd.Process.Kill() })
				testkit.Eventually(t, time.Minute, "it is killed", func() bool {
					if n++; strings.HasSuffix(point, "-index") && n%20 == 0 {
						b.sql("SELECT pg_switch_wal()")
						b.wantStored()
						stream.signal(syscall.SIGTERM) // what is known of segments is stored at the end
					}
					b.sql("INSERT INTO ledger SELECT $1::int, string_agg(md5(($1::int * 10000 + g)::text), '') FROM generate_series(0, $2::int) AS g", n, size)
					select {
					case <-stream.done:
						return true
					default:
						return false
					}
				})
				// All may be stored already: the next one has to be there before it is stopped.
				testkit.Eventually(t, time.Minute, "the server has noticed the end", func() bool {
					return b.ask("SELECT count(*)::text FROM pg_stat_replication") == "0"
				})
				stream = b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
				b.wantStreaming()
				// A segment of its own to index: the killed one's stay without.
				n++
				b.sql("INSERT INTO ledger VALUES ($1, 'behind')", n)
				b.sql("SELECT pg_switch_wal()")
				b.wantStored()
				if s := b.status(); s.State != "ok" || len(s.Missing) != 0 || len(s.Spans) != 1 || len(s.Split) != 0 {
					t.Errorf("status %+v", s)
				}
				stream.signal(syscall.SIGTERM)
				if r := stream.wait(time.Minute); r.code != 0 {
					t.Errorf("stopped: exit code %d, %s", r.code, r.stderr)
				}
				// What was left half done is no WAL that may be missing.
				next := b.ask("SELECT pg_walfile_name(pg_current_wal_flush_lsn() + 64 * 1024 * 1024)")
				if code, _, stderr := b.fetch(next); code != 1 {
					t.Errorf("behind the end: exit code %d, %s", code, stderr)
				}
				// A host with the key reads what is there of the index.
				b.env = append(slices.Clone(b.reader), "DATABASE_URL="+b.server.URL("postgres"))
				if s := b.status(); strings.HasSuffix(point, "-index") && !s.CommitTimes || len(s.Problems) != 0 {
					t.Errorf("status with the key %+v", s)
				}
				b.env = env
			}
		})
	}
}

// recover has a copy of the server recover from the store alone, and compares its rows.
func (b *walBench) recover(rows int) {
	b.t.Helper()
	// The copy's own user runs pgmedic.
	program := filepath.Join(b.tmp, "pgmedic")
	if err := os.WriteFile(program, readFile(b.t, binary), 0o755); err != nil {
		b.t.Fatal(err)
	}
	settings := map[string]string{
		"primary_conninfo": "", "primary_slot_name": "", "archive_mode": "off",
		"restore_command": fmt.Sprintf("env -i PATH=$PATH %s %s wal fetch %%f %%p; r=$?; [ $r -le 1 ] || r=255; exit $r", strings.Join(quoted(b.reader[1:]), " "), program),
	}
	// What is stored, now and from now on, belongs to the copy's user.
	if out, err := exec.Command("chown", "-R", "--reference="+b.server.DataDir(), b.store).CombinedOutput(); err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
	stream := b.startStreaming(func() *child {
		return b.startAs(ownerOf(b.t, b.server.DataDir()), program, "wal", "stream", "--max-delay", "1s", "--slot", "ours")
	})
	b.wantStored()
	standby, err := scratch.StartStandby(b.t.Context(), b.server, scratch.StandbyOptions{Name: "copy", Settings: settings})
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() {
		if b.t.Failed() {
			log, err := os.ReadFile(filepath.Join(standby.Dir(), "server.log"))
			b.t.Logf("the copy's log: %s, %v", log, err)
		}
		_ = standby.Stop(b.t.Context())
	}()
	b.sql("INSERT INTO ledger VALUES (0, 'after the base backup')")
	b.wantStored()
	copied := testkit.Dial(b.t, standby.DSN("postgres"))
	defer testkit.End(copied)
	const sum = "SELECT count(*) || ' ' || md5(string_agg(n || note, ',' ORDER BY n)) FROM ledger"
	want := b.ask(sum)
	if !strings.HasPrefix(want, strconv.Itoa(rows+1)+" ") {
		b.t.Errorf("the server has %s", want)
	}
	testkit.Eventually(b.t, time.Minute, "the copy has all rows", func() bool {
		var got string
		if err := copied.QueryRow(b.t.Context(), sum).Scan(&got); err != nil {
			b.t.Fatal(err)
		}
		return got == want
	})
	// It opens, for which it asks for histories.
	if _, err := copied.Exec(b.t.Context(), "SELECT pg_promote()"); err != nil {
		b.t.Fatal(err)
	}
	testkit.Eventually(b.t, time.Minute, "the copy is open for writing", func() bool {
		var recovering bool
		if err := copied.QueryRow(b.t.Context(), "SELECT pg_is_in_recovery()").Scan(&recovering); err != nil {
			b.t.Fatal(err)
		}
		return !recovering
	})
	if _, err := copied.Exec(b.t.Context(), "INSERT INTO ledger VALUES (-1, 'on the copy')"); err != nil {
		b.t.Error(err)
	}
	if s := b.status(); len(s.Bases) == 0 || len(s.Unlisted) == 0 || len(s.Windows) != 0 {
		b.t.Errorf("the base backup is not known: %+v", s)
	}
	stream.signal(syscall.SIGTERM)
	stream.wait(time.Minute)
}

// ownerOf says whose a file is.
func ownerOf(t *testing.T, path string) *syscall.Credential {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid, NoSetGroups: os.Geteuid() != 0}
}

// quoted quotes the values of variables for a shell.
func quoted(env []string) (all []string) {
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		all = append(all, name+"='"+value+"'")
	}
	return all
}

// TestWALFetchExitCodes: PostgreSQL takes 1 to 125 for the end of the WAL. That is 1, and
// only where it is proven.
func TestWALFetchExitCodes(t *testing.T) {
	b := newWALBench(t, 0)
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	b.wantStreaming()
	first := b.ask("SELECT pg_walfile_name(pg_current_wal_flush_lsn())")
	for range 3 {
		b.sql("INSERT INTO ledger SELECT max(n) + 1, 'x' FROM (SELECT n FROM ledger UNION SELECT 0) AS l")
		b.sql("SELECT pg_switch_wal()")
	}
	b.sql("INSERT INTO ledger VALUES (1000, 'x')")
	b.wantStored()
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		t.Fatalf("stopped: exit code %d, %s", r.code, r.stderr)
	}
	want := func(what string, code int, name string, more ...string) {
		t.Helper()
		if got, _, stderr := b.fetch(name, more...); got != code || code == 255 && !strings.Contains(stderr, "error: ") {
			t.Errorf("%s: exit code %d, want %d: %s", what, got, code, stderr)
		}
	}
	object := func(pattern string) string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(b.store, "clinic", "@wal", "*", "*", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no object %s: %v", pattern, err)
		}
		return found[0]
	}
	want("a segment", 0, first)
	want("the end", 1, first[:16]+"00000FFF")
	want("no such history", 1, "00000002.history")
	want("the history of timeline 1", 1, "00000001.history")
	want("no name", 255, "nonsense")
	want("an unknown flag", 255, first, "--no-such-flag")
	for _, args := range [][]string{{"wal", "fetc", first, "x"}, {"--bogus", "wal", "fetch", first, "x"}, {"fetch", first, "x"}, {"wla", "fetch", "00000002.history", "x"}} {
		if r := b.run(args...); r.code != 255 || !strings.Contains(r.stderr, "error: ") {
			t.Errorf("%q: exit code %d, %s", args, r.code, r.stderr)
		}
	}
	want("no store", 255, first, "--store", filepath.Join(b.tmp, "missing"))
	want("another server", 255, first, "--server", "other")
	want("no configuration", 255, first, "--config", filepath.Join(b.tmp, "missing.yaml"))
	want("an impossible setting", 255, first, "--store", "s3://")
	reader := b.reader
	b.reader = b.environ("PGMEDIC_SERVER=clinic")
	want("no key", 255, first)
	b.reader = reader
	segment := object(filepath.Join("seg", "*", first+"-*"))
	data := readFile(t, segment)
	damaged := bytes.Clone(data)
	damaged[len(damaged)/2] ^= 1
	if err := os.WriteFile(segment, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	want("damage", 255, first)
	if err := os.Remove(segment); err != nil {
		t.Fatal(err)
	}
	want("a gap", 255, first)
	if err := os.WriteFile(segment, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"keys"} {
		if err := os.RemoveAll(filepath.Dir(object(filepath.Join(key, "*.age")))); err != nil {
			t.Fatal(err)
		}
	}
	want("no key in the store", 255, first)
	if code := b.run("wal", "status", "--check", "--server", "other").code; code != 10 {
		t.Errorf("status of another server: exit code %d", code)
	}
	if r := b.run("wal", "stream", "--drop-slot", "--slot", "ours"); r.code != 13 {
		t.Errorf("dropped without a question: %d", r.code)
	}
	b.ok("wal", "stream", "--drop-slot", "--slot", "ours", "--yes")
	if n := b.ask("SELECT count(*)::text FROM pg_replication_slots"); n != "0" {
		t.Errorf("%s slots are left", n)
	}
}
