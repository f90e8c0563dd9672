package test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// seen is what one client saw: a version of the database each time that it
// could ask, without repetitions.
type seen struct {
	mu       sync.Mutex
	versions []string
	longest  time.Duration
}

func (s *seen) note(version string, waited time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest = max(s.longest, waited)
	if n := len(s.versions); n == 0 || s.versions[n-1] != version {
		s.versions = append(s.versions, version)
	}
}

func (s *seen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.versions, ", ")
}

// client asks all the time which version of the database it sees, and connects
// again whenever its session is ended.
func client(ctx context.Context, database string, s *seen) {
	var conn *pgx.Conn
	last := time.Now()
	for ctx.Err() == nil {
		if conn == nil {
			var err error
			if conn, err = pgx.Connect(ctx, server.DSN(database)); err != nil {
				conn = nil
				continue
			}
		}
		var version string
		if err := conn.QueryRow(ctx, "SELECT version FROM public.version").Scan(&version); err != nil {
			_ = conn.Close(ctx)
			conn = nil
			continue
		}
		s.note(version, time.Since(last))
		last = time.Now()
	}
	if conn != nil {
		_ = conn.Close(context.Background())
	}
}

// Twenty clients that never stop asking see the old database, then the new one,
// and after a rollback the old one again; never anything between.
func TestSwapUnderClients(t *testing.T) {
	t.Parallel()
	b := newBench(t, "CREATE TABLE public.version (version text)", "INSERT INTO public.version VALUES ('restored')")
	b.backup()
	mustExec(t, b.database, "UPDATE public.version SET version = 'live'")
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	const clients = 20
	all := make([]seen, clients)
	var running sync.WaitGroup
	machine := startPulse()
	for i := range all {
		running.Go(func() { client(ctx, b.database, &all[i]) })
	}
	allSaw := func(versions string) {
		t.Helper()
		testkit.Eventually(t, time.Minute, "every client saw "+versions, func() bool {
			return !slices.ContainsFunc(pointers(all), func(s *seen) bool { return s.String() != versions })
		})
	}
	allSaw("live")
	measured(t, b.ok("restore", "latest", "--swap", "--yes", "--json"))
	allSaw("live, restored")
	measured(t, b.ok("rollback", b.database, "--yes", "--json"))
	allSaw("live, restored, live")
	stop()
	running.Wait()
	machine.stop()
	for i := range all {
		if all[i].longest > 5*time.Second+machine.stalled() {
			t.Errorf("client %d waited %s, and one that nothing held up %s at most", i, all[i].longest, machine.stalled())
		}
	}
}

// measured looks whether it is told how long the name could not be connected to, and that
// this is a part of the run, which loads a whole copy before. How long it took is a matter of
// the machine: docs/restore.md has the figures of one, and bounds what the swap waits for.
func measured(t *testing.T, result string) {
	t.Helper()
	var done struct {
		Outage  *float64 `json:"outage_seconds"`
		Seconds float64  `json:"seconds"`
	}
	if err := json.Unmarshal([]byte(result), &done); err != nil || done.Outage == nil || *done.Outage < 0 || *done.Outage > done.Seconds {
		t.Fatalf("outage_seconds is not a part of the run in %s: %v", result, err)
	}
	t.Logf("clients were refused for %v s", *done.Outage)
}

func pointers[T any](s []T) []*T {
	all := make([]*T, len(s))
	for i := range s {
		all[i] = &s[i]
	}
	return all
}

// TestPruneDrops has a server of its own: on the others' it would drop what
// their killed runs leave.
func TestPruneDrops(t *testing.T) {
	t.Parallel()
	own := scratchtest.New(t, scratch.Options{TCP: true, Password: password})
	run := func(database, sql string) {
		t.Helper()
		conn := testkit.Dial(t, own.DSN(database))
		defer testkit.End(conn)
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	run("postgres", "CREATE DATABASE clinic")
	b := newBench(t)
	b.env = b.environ("DATABASE_URL=" + own.URL("clinic"))
	// No backup was ever made: a store that is not there is no empty store.
	if r := b.run("prune", "--yes"); r.code != 10 || !strings.Contains(r.stderr, "no backups were pruned") {
		t.Errorf("without a store it ends with %d: %s", r.code, r.stderr)
	}
	if out := b.ok("prune", "--yes", "--only", "databases"); !strings.Contains(out, "there is nothing to prune") {
		t.Errorf("it says:\n%s", out)
	}
	b.backup()
	kept := strings.TrimSpace(b.ok("restore", "latest", "--swap", "--yes", "-q"))
	if out := b.ok("prune", "--yes", "-q"); out != "" {
		t.Errorf("before its time it drops %s", out)
	}
	// As if somebody had held the answer back for a week.
	b.env = append(b.env, "PGMEDIC_KEEP_DISPLACED=1ns")
	if out := b.ok("prune"); !strings.Contains(out, "nothing was changed; --yes does it") {
		t.Errorf("without a terminal it says:\n%s", out)
	}
	if out := strings.TrimSpace(b.ok("prune", "--yes", "-q")); out != kept {
		t.Errorf("it drops %q, want %q", out, kept)
	}
	if r := b.run("rollback", "clinic", "--yes"); r.code != 10 {
		t.Errorf("after that a rollback ends with %d: %s", r.code, r.stderr)
	}
}
