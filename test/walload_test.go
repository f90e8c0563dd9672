package test

import (
	"encoding/hex"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// seconds is a length of time that an environment variable sets.
func seconds(t *testing.T, name string, n int) time.Duration {
	t.Helper()
	if text := os.Getenv(name); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			t.Fatalf("%s: %q is not a number of seconds", name, text)
		}
	}
	return time.Duration(n) * time.Second
}

// walSeconds is how long TestWALLoad writes: 5 seconds in make test-all, 60 in make chaos,
// and PGMEDIC_WAL_SECONDS where that is set.
func walSeconds(t *testing.T) time.Duration {
	t.Helper()
	return seconds(t, "PGMEDIC_WAL_SECONDS", testkit.Amount(0, 5, 60))
}

// TestWALLoad streams 20 MB of WAL a second into a bucket, with segments of the usual and of
// the largest size that is streamed. Nothing is missing afterwards, and no more memory is
// resident than may be. It logs how far what is stored was behind the server.
func TestWALLoad(t *testing.T) {
	testkit.OnlyAll(t, "it writes 20 MB a second")
	s3 := s3test.Start(t, s3test.Options{})
	for _, load := range []struct {
		mib  int
		name string
		more []string
	}{{16, "16 MiB", nil}, {64, "64 MiB", nil}, {64, "64 MiB and a spool", []string{"--sync"}}} {
		mib := load.mib
		t.Run(load.name, func(t *testing.T) {
			b := newWALBenchWith(t, scratch.Options{InitArgs: []string{"--wal-segsize=" + strconv.Itoa(mib)}, Settings: map[string]string{"checkpoint_timeout": "30s"}})
			bucket := b.inBucket(s3)
			stream := b.start(append([]string{"wal", "stream", "--max-delay", "1s", "--slot", "ours"}, load.more...)...)
			peak := stream.watchResident()
			b.wantStreaming()
			b.sql("SELECT pg_switch_wal()") // so that the first segment is whole
			before := b.ask("SELECT pg_current_wal_lsn()::text")
			began := time.Now()
			lags := b.write(walSeconds(t), func(time.Duration) {})
			took := time.Since(began)
			size, err := strconv.ParseInt(b.ask("SELECT (pg_current_wal_lsn() - '"+before+"'::pg_lsn)::bigint::text"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			resident := b.wantAllStored(stream, peak)
			slices.Sort(lags)
			at := func(percent int) time.Duration { return lags[(len(lags)-1)*percent/100].Round(time.Millisecond) }
			t.Logf("%d MB in %s, %.1f MB/s, into %d objects; stored lag of %d samples: median %s, p99 %s, at most %s; %d MiB resident at most",
				size/1e6, took.Round(time.Second), float64(size)/1e6/took.Seconds(), len(s3.Objects(bucket)), len(lags), at(50), at(99), at(100), resident>>20)
		})
	}
}

// TestWALOutage takes the store away while the server writes 20 MB of WAL a second: for 5
// seconds in make test-all, 30 in make chaos, and PGMEDIC_WAL_OUTAGE where that is set. What was
// written meanwhile is stored afterwards, beside what goes on to be written, and nothing is
// missing.
func TestWALOutage(t *testing.T) {
	testkit.OnlyAll(t, "it writes 20 MB a second")
	away := seconds(t, "PGMEDIC_WAL_OUTAGE", testkit.Amount(0, 5, 30))
	s3 := s3test.Start(t, s3test.Options{})
	b := newWALBenchWith(t, scratch.Options{InitArgs: []string{"--wal-segsize=16"}, Settings: map[string]string{"checkpoint_timeout": "30s"}})
	bucket := b.inBucket(s3)
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	peak := stream.watchResident()
	b.wantStreaming()
	b.sql("SELECT pg_switch_wal()") // so that the first segment is whole
	const before = 2 * time.Second
	gone, back := false, false
	held := ""
	lags := b.write(2*before+2*away, func(elapsed time.Duration) {
		switch {
		case !gone && elapsed > before:
			s3.Stop()
			gone = true
		case !back && elapsed > before+away:
			held = b.ask("SELECT pg_size_pretty(pg_current_wal_lsn() - restart_lsn) FROM pg_replication_slots WHERE slot_name = 'ours'")
			s3.Restart("", "")
			back = true
		}
	})
	if !gone || !back {
		t.Fatalf("the store was away: %t, and came back: %t", gone, back)
	}
	resident := b.wantAllStored(stream, peak)
	t.Logf("away for %s: the slot held %s, and stored WAL was at most %s late; %d objects, %d MiB resident at most",
		away, held, slices.Max(lags).Round(time.Millisecond), len(s3.Objects(bucket)), resident>>20)
}

// wantAllStored waits until all is stored, ends the stream, and returns the most that it had
// resident, which may not be too much. Nothing is missing.
func (b *walBench) wantAllStored(stream *child, peak func() int64) (resident int64) {
	b.t.Helper()
	b.wantStored()
	if s := b.status(); s.State != "ok" || len(s.Missing) != 0 || len(s.Spans) != 1 || len(s.Split) != 0 {
		b.t.Errorf("status %+v", s)
	}
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		b.t.Errorf("stopped: exit code %d, %s", r.code, r.stderr)
	}
	if resident = peak(); resident > maxResident {
		b.t.Errorf("wal stream had %d MiB resident, more than %d", resident>>20, maxResident>>20)
	}
	return resident
}

// write has the server write 20 MB of WAL a second for a time, in committed transactions, and
// returns how long each of many positions took until the server knew it to be stored. Meanwhile
// it calls during again and again.
func (b *walBench) write(long time.Duration, during func(elapsed time.Duration)) (lags []time.Duration) {
	b.t.Helper()
	const every = 50 * time.Millisecond
	writer := testkit.Dial(b.t, b.server.DSN("postgres"))
	defer testkit.End(writer)
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		// Of WAL as it usually is, a quarter is left when it is compressed: digits halve it, too.
		raw, rng := make([]byte, 500_000), rand.NewChaCha8([32]byte{})
		for end := time.Now().Add(long); time.Now().Before(end); <-tick.C {
			_, _ = rng.Read(raw[:len(raw)/2]) // which never fails
			copy(raw[len(raw)/2:], raw)
			if _, err := writer.Exec(b.t.Context(), "SELECT pg_logical_emit_message(true, 'pgmedic', $1::text)", hex.EncodeToString(raw)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	type sample struct {
		at  time.Time
		end int64
	}
	var open []sample
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	writing, began := true, time.Now()
	for writing || len(open) > 0 {
		during(time.Since(began))
		var end, stored int64
		err := b.conn.QueryRow(b.t.Context(), "SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn, coalesce((SELECT flush_lsn FROM pg_stat_replication WHERE application_name = 'pgmedic wal'), '0/0') - '0/0'::pg_lsn").Scan(&end, &stored)
		if err != nil {
			b.t.Fatal(err)
		}
		now := time.Now()
		if writing {
			open = append(open, sample{now, end})
		}
		for len(open) > 0 && open[0].end <= stored {
			lags = append(lags, now.Sub(open[0].at))
			open = open[1:]
		}
		select {
		case err := <-done:
			if err != nil {
				b.t.Fatal(err)
			}
			writing = false
			done = nil
		case <-tick.C:
		}
	}
	return lags
}

// TestPhysicalMemory: a base backup of a cluster that is larger than the memory that pgmedic
// may have, reading it back, and restoring it, keep to that memory.
func TestPhysicalMemory(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	b := newWALBenchWith(t, scratch.Options{})
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	b.wantStreaming()
	b.sql("CREATE TABLE scans (id int, image bytea)")
	b.sql("ALTER TABLE scans ALTER image SET STORAGE EXTERNAL")
	b.sql("INSERT INTO scans SELECT n, decode(repeat(md5(n::text), 4096), 'hex') FROM generate_series(1, $1::int) AS n", testkit.Amount(0, 6000, 24000))
	size := b.ask("SELECT (sum(pg_database_size(oid)) / 1048576)::bigint::text FROM pg_database")
	b.sql("CHECKPOINT")
	resident := func(env []string, args ...string) {
		was := b.env
		b.env = env
		run := b.start(args...)
		b.env = was
		peak := run.watchResident()
		if r := run.wait(10 * time.Minute); r.code != 0 {
			t.Fatalf("pgmedic %s: exit code %d\n%s", args[0], r.code, r.stderr)
		}
		most := peak()
		t.Logf("%s of %s MiB: %d MiB resident at most", args[0], size, most>>20)
		if most > maxResident {
			t.Errorf("pgmedic %s had %d MiB resident, more than %d", args[0], most>>20, maxResident>>20)
		}
	}
	resident(b.env, "backup", "--method", "physical", "-q")
	id := strings.TrimSpace(b.ok("list", "-q"))
	b.wantStored()
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		t.Fatalf("the stream: exit code %d, %s", r.code, r.stderr)
	}
	c := b.restoring()
	resident(b.reader, "verify", id, "--deep")
	resident(b.reader, "restore", "--target-dir", c.place+"/m", "--to-end", "--yes")
}
