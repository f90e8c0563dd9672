package test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
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
	for i := range all {
		running.Go(func() { client(ctx, b.database, &all[i]) })
	}
	allSaw := func(versions string) {
		t.Helper()
		eventually(t, 30*time.Second, "every client saw "+versions, func() bool {
			return !slices.ContainsFunc(pointers(all), func(s *seen) bool { return s.String() != versions })
		})
	}
	allSaw("live")
	b.ok("restore", "latest", "--swap", "--yes")
	allSaw("live, restored")
	b.ok("rollback", b.database, "--yes")
	allSaw("live, restored, live")
	stop()
	running.Wait()
	for i := range all {
		if all[i].longest > 5*time.Second {
			t.Errorf("client %d waited %s", i, all[i].longest)
		}
	}
}

func pointers[T any](s []T) []*T {
	all := make([]*T, len(s))
	for i := range s {
		all[i] = &s[i]
	}
	return all
}
