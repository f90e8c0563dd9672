package wal_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// happened is what was done on a server, by its own account.
type happened struct {
	commits         int
	firstAt, lastAt time.Time
	end             wal.LSN
	tablespace      string
	system          uint64
}

// work writes WAL of every kind that matters.
func work(t *testing.T, server *scratch.Server) (h happened) {
	t.Helper()
	ctx := t.Context()
	conn := testkit.Dial(t, server.DSN("postgres"))
	defer testkit.End(conn)
	run := func(sql string) {
		t.Helper()
		if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			t.Fatalf("%.80s: %v", sql, err)
		}
	}
	ask := func(sql string, value any) {
		t.Helper()
		if err := conn.QueryRow(ctx, sql).Scan(value); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	var lsn, id string
	var err error
	if h.tablespace, err = server.TablespaceDir("ts"); err != nil {
		t.Fatal(err)
	}
	run("SELECT pg_create_physical_replication_slot('keep', true)")
	run("CREATE TABLE t AS SELECT n, repeat('x', 200) AS note FROM generate_series(1, 5000) AS n")
	run("SELECT pg_create_restore_point('before the harm')")
	run("DELETE FROM t WHERE n > 100")
	run("VACUUM (TRUNCATE) t")
	run("BEGIN; INSERT INTO t VALUES (1, 'x'); ROLLBACK")
	run("BEGIN; INSERT INTO t VALUES (1, 'x'); PREPARE TRANSACTION 'one'")
	run("BEGIN; INSERT INTO t VALUES (2, 'x'); SAVEPOINT s; INSERT INTO t VALUES (2, 'x'); PREPARE TRANSACTION 'two'")
	run("COMMIT PREPARED 'one'")
	run("ROLLBACK PREPARED 'two'")
	// A record of more than two segments.
	run("SELECT pg_logical_emit_message(false, 'pgmedic', repeat('y', 2500000))")
	run("CREATE DATABASE other")
	run("CREATE TABLESPACE ts LOCATION '" + h.tablespace + "'")
	run("DROP DATABASE other")
	run("SELECT pg_switch_wal()")
	ask("SELECT now()", &h.firstAt)
	for i := range 5 {
		run(fmt.Sprintf("INSERT INTO t VALUES (%d, 'x')", i))
		h.commits++
	}
	ask("SELECT now()", &h.lastAt)
	run("SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'pgmedic', '')")
	ask("SELECT pg_current_wal_flush_lsn()::text", &lsn)
	ask("SELECT system_identifier::text FROM pg_control_system()", &id)
	if h.end, err = wal.ParseLSN(lsn); err != nil {
		t.Fatal(err)
	}
	if h.system, err = strconv.ParseUint(id, 10, 64); err != nil {
		t.Fatal(err)
	}
	return h
}

// segments returns the WAL of a server from its first file on that holds any.
func segments(t *testing.T, server *scratch.Server) (first wal.LSN, b []byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(server.DataDir(), "pg_wal", strings.Repeat("[0-9A-F]", 24)))
	if err != nil || len(names) == 0 {
		t.Fatalf("segments %v, %v", names, err)
	}
	slices.Sort(names)
	for i, name := range names {
		s, err := wal.MinSegmentSize.Parse(filepath.Base(name))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = s.Start
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, data...)
	}
	return first, b
}

func startServer(t *testing.T, o scratch.Options) *scratch.Server {
	t.Helper()
	o.InitArgs = []string{"--wal-segsize=1"}
	o.Settings = map[string]string{
		"max_prepared_transactions": "5", "autovacuum": "off", "wal_level": "replica", "checkpoint_timeout": "1h", "max_wal_size": "1GB",
	}
	return scratchtest.New(t, o)
}

// TestWalkerOnServers: what a server did is what its WAL says.
func TestWalkerOnServers(t *testing.T) {
	for _, major := range scratchtest.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			server := startServer(t, scratch.Options{Major: major})
			h := work(t, server)
			first, b := segments(t, server)
			got := walk(t, wal.WalkerOptions{Start: first, SegmentSize: wal.MinSegmentSize, SystemIdentifier: h.system}, b, whole)
			if got.stop == nil || got.stop.Reason != wal.StopEnd || got.end < h.end {
				t.Errorf("end %v, want %v at least; stop %v", got.end, h.end, got.stop)
			}
			checkEvents(t, got.events, h)
			for _, r := range got.records {
				if r.Major != server.Major() || r.Timeline != 1 {
					t.Fatalf("record %+v of PostgreSQL %d", r, server.Major())
				}
			}
			// Another cluster's is not read.
			foreign := walk(t, wal.WalkerOptions{Start: first, SegmentSize: wal.MinSegmentSize, SystemIdentifier: h.system + 1}, b, whole)
			if foreign.stop == nil || foreign.stop.Reason != wal.StopForeign || len(foreign.records) != 0 {
				t.Errorf("of another cluster: %d records, %v", len(foreign.records), foreign.stop)
			}
		})
	}
}

func checkEvents(t *testing.T, events []wal.Event, h happened) {
	t.Helper()
	counts, between := map[wal.EventKind]int{}, 0
	for _, e := range events {
		counts[e.Kind]++
		switch e.Kind {
		case wal.Commit:
			if e.Time.After(h.firstAt) && !e.Time.After(h.lastAt) {
				between++
			}
		case wal.RestorePoint:
			if e.Name != "before the harm" || e.Time.IsZero() {
				t.Errorf("restore point %+v", e)
			}
		case wal.TablespaceCreate:
			if e.Name != h.tablespace || e.OID == 0 {
				t.Errorf("tablespace %+v, want %s", e, h.tablespace)
			}
		case wal.Truncate:
			if e.Relation.Number == 0 || e.Relation.Tablespace != 1663 || e.Block == 0 {
				t.Errorf("truncation %+v", e)
			}
		case wal.Checkpoint:
			if e.From > e.Start {
				t.Errorf("checkpoint %+v", e)
			}
		}
		if e.Ends() && (e.Time.Before(h.firstAt.Add(-time.Hour)) || e.Time.After(h.lastAt.Add(time.Hour))) {
			t.Errorf("%s at %v", e.Kind, e.Time)
		}
	}
	for kind, want := range map[wal.EventKind]int{
		wal.RestorePoint: 1, wal.Truncate: 1, wal.Prepare: 2, wal.CommitPrepared: 1, wal.AbortPrepared: 1, wal.TablespaceCreate: 1,
		wal.DatabaseDrop: 1,
	} {
		if counts[kind] != want {
			t.Errorf("%d of %s, want %d", counts[kind], kind, want)
		}
	}
	if between != h.commits || counts[wal.Abort] == 0 || counts[wal.SegmentSwitch] == 0 || counts[wal.DatabaseCreate] == 0 {
		t.Errorf("%d commits between, want %d; %v", between, h.commits, counts)
	}
}

// dumped is a line of pg_waldump.
var dumped = regexp.MustCompile(`^rmgr: (\S+) .* tx: +(\d+), lsn: ([0-9A-F/]+), prev [0-9A-F/]+, desc: (.*)`)

// TestWalkerIsPgWaldump: the records are those that pg_waldump finds: where each begins,
// whose it is, and the times of commits.
func TestWalkerIsPgWaldump(t *testing.T) {
	scratchtest.EachComplete(t, func(t *testing.T, installation scratch.Installation) {
		server := startServer(t, scratch.Options{BinDir: installation.BinDir})
		h := work(t, server)
		first, b := segments(t, server)
		got := walk(t, wal.WalkerOptions{Start: first, SegmentSize: wal.MinSegmentSize}, b, whole)
		times, checkpoints := map[wal.LSN]time.Time{}, map[wal.LSN]string{}
		for _, e := range got.events {
			switch {
			case e.Committed():
				times[e.Start] = e.Time
			case e.Kind == wal.Checkpoint:
				checkpoints[e.Start] = fmt.Sprintf("redo %v; tli 1; prev tli 1; fpw %t; ", e.From, e.On)
			}
		}
		dump := exec.CommandContext(t.Context(), filepath.Join(installation.BinDir, "pg_waldump"),
			"--path", filepath.Join(server.DataDir(), "pg_wal"), "--start", got.records[0].Start.String(), "--end", h.end.String())
		dump.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
		out, err := dump.CombinedOutput()
		if err != nil {
			t.Fatalf("pg_waldump: %v\n%.500s", err, out)
		}
		n := 0
		for line := range bytes.Lines(out) {
			m := dumped.FindStringSubmatch(string(line))
			if m == nil {
				t.Fatalf("a line of pg_waldump: %s", line)
			}
			r := got.records[n]
			if lsn, err := wal.ParseLSN(m[3]); err != nil || lsn != r.Start || m[2] != strconv.Itoa(int(r.XID)) {
				t.Fatalf("record %d at %v of transaction %d; pg_waldump says %s", n, r.Start, r.XID, line)
			}
			if at := times[r.Start]; strings.HasPrefix(m[4], "COMMIT") != !at.IsZero() ||
				!at.IsZero() && !strings.Contains(m[4], at.Format("2006-01-02 15:04:05.000000 UTC")) {
				t.Fatalf("record %d at %v: commit at %v; pg_waldump says %s", n, r.Start, at, line)
			}
			if strings.HasPrefix(m[4], "CHECKPOINT_") && m[4] != "CHECKPOINT_REDO" && !strings.Contains(m[4], checkpoints[r.Start]) {
				t.Fatalf("checkpoint at %v: %s; pg_waldump says %s", r.Start, checkpoints[r.Start], line)
			}
			n++
		}
		if n < 100 || n > len(got.records) || n < len(got.records) && got.records[n].Start < h.end {
			t.Errorf("pg_waldump has %d records up to %v, and we have %d", n, h.end, len(got.records))
		}
	})
}
