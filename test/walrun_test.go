package test

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// checked is what check says of WAL, by name: outcome and detail of each.
func (b *walBench) checked(args ...string) (all map[string][]string, code int) {
	b.t.Helper()
	r := b.run(append([]string{"check", "postgres", "--json"}, args...)...)
	var got struct {
		Checks []struct{ Name, Outcome, Detail, Hint string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		b.t.Fatalf("check: %v: %s%s", err, r.stdout, r.stderr)
	}
	all = map[string][]string{}
	for _, c := range got.Checks {
		if strings.HasPrefix(c.Name, "wal ") {
			all[c.Name] = append(all[c.Name], c.Outcome+" "+c.Detail)
		}
	}
	return all, r.code
}

func (b *walBench) wantCheck(all map[string][]string, name, want string) {
	b.t.Helper()
	if said := strings.Join(all[name], "; "); !strings.Contains(said, want) {
		b.t.Errorf("check says of %s: %q, want %q", name, said, want)
	}
}

// wantFree waits until the server has noticed that the stream is gone.
func (b *walBench) wantFree() {
	b.t.Helper()
	testkit.Eventually(b.t, time.Minute, "the slot is free", func() bool {
		return b.ask("SELECT active::text FROM pg_replication_slots WHERE slot_name = 'ours'") == "false"
	})
}

// TestCheckWAL: check says nothing of WAL to those who do not stream it; where it is to be
// streamed, what a real server lacks for it, and that the server is away is no clean bill.
func TestCheckWAL(t *testing.T) {
	testkit.OnlyAll(t, "it runs check a dozen times")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newWALBench(t, major)
			if err := os.Mkdir(b.store, 0o700); err != nil {
				t.Fatal(err)
			}
			if all, _ := b.checked(); len(all) != 0 {
				t.Errorf("nothing asks for WAL, and check says %v", all)
			}
			// A slot of ours on the server is enough, and one of others is not.
			b.sql("SELECT pg_create_physical_replication_slot('standby2', true)")
			if all, _ := b.checked(); len(all) != 0 {
				t.Errorf("a slot of others, and check says %v", all)
			}
			b.sql("SELECT pg_create_physical_replication_slot('pgmedic_old', true)")
			all, _ := b.checked()
			b.wantCheck(all, "wal slot", "warn nothing streams from slot pgmedic_old either")
			b.sql("SELECT pg_drop_replication_slot('pgmedic_old')")

			b.env = append(b.env, "PGMEDIC_WAL_STREAM=true", "PGMEDIC_WAL_SLOT=ours")
			all, code := b.checked()
			b.wantCheck(all, "wal level", "ok replica")
			b.wantCheck(all, "wal replication", "ok the server takes")
			b.wantCheck(all, "wal slot", "ok ours is not there yet")
			b.wantCheck(all, "wal stored", "warn nothing has streamed WAL")
			if major > 12 {
				b.wantCheck(all, "wal kept", "warn max_slot_wal_keep_size is not set")
			} else if b.wantCheck(all, "wal kept", "failed PostgreSQL 12 can't bound"); code != 1 {
				t.Errorf("exit code %d", code)
			}
			// A role without the attribute is refused, which only trying shows.
			b.sql("CREATE ROLE plain LOGIN; GRANT CREATE ON DATABASE postgres TO plain")
			all, code = b.checked("--user", "plain")
			if said := strings.Join(all["wal replication"], " "); !strings.HasPrefix(said, "failed") || code == 0 {
				t.Errorf("a role without REPLICATION: exit code %d, %v", code, all)
			}
			b.wantCheck(all, "wal slot", "ok ours is not there yet") // any role may ask

			stream := b.start("wal", "stream", "--max-delay", "1s")
			b.wantStored()
			all, _ = b.checked()
			b.wantCheck(all, "wal slot", "ok ours is in use")
			b.wantCheck(all, "wal stored", "ok ok: ")
			stream.signal(syscall.SIGTERM)
			if r := stream.wait(time.Minute); r.code != 0 {
				t.Errorf("stopped: exit code %d, %s", r.code, r.stderr)
			}
			b.wantFree()
			// WAL in the store is enough to be asked about.
			b.env = append(b.env, "PGMEDIC_WAL_STREAM=false", "PGMEDIC_WAL_SLOT=")
			b.sql("SELECT pg_drop_replication_slot('ours')")
			if all, _ = b.checked(); len(all["wal stored"]) != 1 {
				t.Errorf("with WAL in the store: %v", all)
			}
			if err := b.server.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.env = append(b.env, "PGMEDIC_WAL_STREAM=true")
			all, code = b.checked()
			b.wantCheck(all, "wal server", "skipped not checked: connect to PostgreSQL")
			if code == 0 {
				t.Error("a server that is away is exit code 0")
			}
		})
	}
}

// TestCheckMinimal: a server whose WAL recovers nothing is refused.
func TestCheckMinimal(t *testing.T) {
	testkit.OnlyAll(t, "a server of its own")
	server := scratchtest.New(t, scratch.Options{Settings: map[string]string{"wal_level": "minimal", "max_wal_senders": "0", "full_page_writes": "off"}})
	b := &walBench{bench: newBench(t), server: server}
	b.env = b.environ("DATABASE_URL="+server.URL("postgres"), "PGMEDIC_WAL_STREAM=true")
	all, code := b.checked()
	b.wantCheck(all, "wal level", "failed wal_level is minimal")
	b.wantCheck(all, "wal senders", "failed 0 of 0")
	b.wantCheck(all, "wal replication", "failed")
	b.wantCheck(all, "wal full pages", "warn")
	if code == 0 {
		t.Error("exit code 0")
	}
}

// TestWALNotified: a stream says that it runs by pings, that WAL is lost once until a base
// backup is taken, and that it has ended with an error. What is sent names nothing secret.
func TestWALNotified(t *testing.T) {
	testkit.OnlyAll(t, "a server of its own, and four streams")
	b := newWALBench(t, 0)
	r := newReceiver(t)
	b.env = append(b.env, "NOTIFICATION_WEBHOOK="+r.URL, "PGMEDIC_PING_WAL="+r.URL+"/ping/canary", "PGMEDIC_WAL_SLOT=ours", "PGMEDIC_WAL_MAX_DELAY=1s")
	start := func() (stop func()) {
		_ = r.pinged()
		stream := b.start("wal", "stream")
		// What an earlier stream stored says nothing of this one: it streams once it has
		// pinged, which comes after all that it notices when it begins.
		testkit.Eventually(t, time.Minute, "it is pinged that it starts, and that all is stored", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return slices.Equal(r.pings, []string{"start", ""})
		})
		b.wantStored()
		return func() {
			stream.signal(syscall.SIGTERM)
			if r := stream.wait(time.Minute); r.code != 0 {
				t.Errorf("stopped: exit code %d, %s", r.code, r.stderr)
			}
			b.wantFree()
		}
	}
	stop := start()
	stop()
	if _, line := r.taken(); line != "" {
		t.Errorf("a stream that was stopped is reported: %s", line)
	}
	b.sql("SELECT pg_drop_replication_slot('ours')")
	for range 4 {
		b.sql("SELECT pg_switch_wal()")
		b.sql("SELECT pg_logical_emit_message(true, 'x', 'y')")
	}
	b.sql("CHECKPOINT")
	stop = start()
	var lost []string
	testkit.Eventually(t, time.Minute, "the loss is reported", func() bool {
		events, line := r.taken()
		for _, e := range events {
			if e.Name == "wal.lost" {
				lost = append(lost, e.Summary)
				if e.Severity != "critical" || e.State != "firing" || e.Hint != "take a base backup now" || e.Target.Server != "clinic" {
					t.Errorf("%+v", e)
				}
			} else {
				t.Errorf("reported: %s", line)
			}
		}
		return len(lost) > 0
	})
	stop()
	// The next stream has nothing new to say of it.
	start()()
	if _, line := r.taken(); line != "" {
		t.Errorf("while it lasts: %s", line)
	}
	stop = start()
	begin, end := "pg_backup_start", "pg_backup_stop"
	if b.server.Major() < 15 {
		begin, end = "pg_start_backup", "pg_stop_backup"
	}
	b.sql("SELECT " + begin + "('one', true)")
	b.sql("SELECT " + end + "()")
	b.wantStored()
	stop()
	start()()
	if events, line := r.taken(); line != "wal.whole resolved" || events[0].Severity != "info" {
		t.Errorf("after a base backup: %s", line)
	}
	// A stream that can't go on is.
	b.sql("CREATE ROLE plain LOGIN")
	_ = r.pinged()
	if got := b.run("wal", "stream", "--user", "plain"); got.code == 0 {
		t.Error("a role without REPLICATION streams")
	}
	events, line := r.taken()
	if pings := r.pinged(); line != "wal.failed firing" || events[0].Severity != "critical" || pings != "start fail" {
		t.Errorf("reported %s, pinged %q: %+v", line, pings, events)
	}
	stop = start()
	testkit.Eventually(t, time.Minute, "its end is reported", func() bool {
		_, line := r.taken()
		return line == "wal.running resolved"
	})
	stop()
	// Settings that can't be obeyed are refused before anything streams.
	if got := b.run("wal", "stream", "--slot", "No"); got.code != 2 || strings.Contains(got.stderr, `"No"`) {
		t.Errorf("a slot that can't be: exit code %d, %s", got.code, got.stderr)
	}
}
