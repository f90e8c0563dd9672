package postgres_test

import (
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
)

// TestJobs: a quota of processors counts, not the machine.
func TestJobs(t *testing.T) {
	before := runtime.GOMAXPROCS(3)
	defer runtime.GOMAXPROCS(before)
	if got := postgres.Jobs(0); got != 3 {
		t.Errorf("%d jobs for a quota of 3 processors", got)
	}
	if got := postgres.Jobs(7); got != 7 {
		t.Errorf("%d jobs where 7 were asked for", got)
	}
}

// TestWorkers: where a role has fewer connections left than workers were asked for, those
// that are there do all of the work. With none it can't be done, and no other error is
// passed over.
func TestWorkers(t *testing.T) {
	target, _ := database(t)
	_, super := admin(t)
	// few opens sessions of a role that may have two.
	few := func(t *testing.T) func(context.Context) (*pgx.Conn, error) {
		t.Helper()
		role := "few_" + strings.ToLower(rand.Text()[:8])
		postgrestest.Role(t, super, role, "LOGIN CONNECTION LIMIT 2")
		return func(ctx context.Context) (*pgx.Conn, error) { return postgres.Connect(ctx, target.With("user", role)) }
	}
	const all = 40
	run := func(connect func(context.Context) (*pgx.Conn, error), fail error) (done int64, err error) {
		queue := make(chan int, all)
		for i := range all {
			queue <- i
		}
		close(queue)
		var did atomic.Int64
		err = postgres.Workers(t.Context(), 8, connect, func(ctx context.Context, conn *pgx.Conn) error {
			for range queue {
				if _, err := conn.Exec(ctx, "SELECT 1"); err != nil {
					return err
				}
				did.Add(1)
			}
			return fail
		})
		return did.Load(), err
	}
	t.Run("two of eight", func(t *testing.T) {
		if done, err := run(few(t), nil); err != nil || done != all {
			t.Errorf("%d of %d done, %v", done, all, err)
		}
	})
	t.Run("as many as there are", func(t *testing.T) {
		var there sync.WaitGroup
		there.Add(3)
		var sessions atomic.Int64
		connect := func(ctx context.Context) (*pgx.Conn, error) { return postgres.Connect(ctx, target) }
		err := postgres.Workers(t.Context(), 3, connect, func(context.Context, *pgx.Conn) error {
			sessions.Add(1)
			there.Done()
			there.Wait() // for all of the others
			return nil
		})
		if err != nil || sessions.Load() != 3 {
			t.Errorf("%d sessions, %v", sessions.Load(), err)
		}
	})
	t.Run("others connect in vain", func(t *testing.T) {
		connect, first := few(t), atomic.Bool{}
		waiting := func(ctx context.Context) (*pgx.Conn, error) {
			if !first.Swap(true) {
				return connect(ctx)
			}
			<-ctx.Done() // until the work is done
			return nil, ctx.Err()
		}
		if done, err := run(waiting, nil); err != nil || done != all {
			t.Errorf("%d of %d done, %v", done, all, err)
		}
	})
	t.Run("work fails", func(t *testing.T) {
		failed := errors.New("failed")
		if _, err := run(few(t), failed); !errors.Is(err, failed) {
			t.Error(err)
		}
	})
	t.Run("none is left", func(t *testing.T) {
		connect := few(t)
		for range 2 {
			conn, err := connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer postgres.Close(t.Context(), conn)
		}
		if done, err := run(connect, nil); postgres.Code(err) != "53300" || done != 0 {
			t.Errorf("%d done, %v", done, err)
		}
	})
	t.Run("another error", func(t *testing.T) {
		var begun atomic.Bool
		second := func(ctx context.Context) (*pgx.Conn, error) {
			if begun.Swap(true) {
				return postgres.Connect(ctx, target.WithDatabase("no_such_database"))
			}
			return postgres.Connect(ctx, target)
		}
		err := postgres.Workers(t.Context(), 2, second, func(ctx context.Context, _ *pgx.Conn) error {
			<-ctx.Done() // by the other's error
			return nil
		})
		if postgres.Code(err) != "3D000" {
			t.Error(err)
		}
	})
	t.Run("nothing to do", func(t *testing.T) {
		if err := postgres.Workers(t.Context(), 0, nil, nil); err != nil {
			t.Error(err)
		}
	})
}

// TestJobsWithin: the limits of the server, of a role and of a database count, and those
// that hold for everyone but superusers.
func TestJobsWithin(t *testing.T) {
	target, super := database(t)
	role := "within_" + strings.ToLower(rand.Text()[:8])
	postgrestest.Role(t, super, role, "LOGIN CONNECTION LIMIT 7")
	asRole := postgrestest.Connect(t, target.With("user", role))
	within := func(conn *pgx.Conn, asked, others int) int {
		t.Helper()
		jobs, err := postgres.JobsWithin(t.Context(), conn, asked, others)
		if err != nil {
			t.Fatal(err)
		}
		return jobs
	}
	if got := within(super, 4, 2); got != 4 {
		t.Errorf("%d of 4 with hundreds free", got)
	}
	if got := within(super, 1_000_000, 2); got < 100 || got > 395 {
		t.Errorf("%d of a million on a server that has 400, and keeps 3 of them for superusers", got)
	}
	if got := within(asRole, 20, 2); got != 4 { // of 7 one is this session
		t.Errorf("%d where the role has 6 left, 2 of them for others", got)
	}
	if got := within(asRole, 20, 9); got != 1 {
		t.Errorf("%d where none is left", got)
	}
	postgrestest.Run(t, super, "ALTER DATABASE "+target.Database()+" CONNECTION LIMIT 4")
	if got := within(asRole, 20, 0); got != 2 {
		t.Errorf("%d in a database that has 4, and 2 sessions", got)
	}
	if got := within(super, 20, 0); got != 20 {
		t.Errorf("%d of 20 for a superuser, for whom no limit of a role or a database holds", got)
	}
}

// TestPatient: a Target that is patient gets the connection of a session that is just ending.
func TestPatient(t *testing.T) {
	target, super := database(t)
	role := "patient_" + strings.ToLower(rand.Text()[:8])
	postgrestest.Role(t, super, role, "LOGIN CONNECTION LIMIT 1")
	one := target.With("user", role)
	for range 20 {
		conn, err := postgres.Connect(t.Context(), one.Patient())
		if err != nil {
			t.Fatal(err)
		}
		postgres.Close(t.Context(), conn)
	}
	held, err := postgres.Connect(t.Context(), one.Patient())
	if err != nil {
		t.Fatal(err)
	}
	defer postgres.Close(t.Context(), held)
	if _, err := postgres.Connect(t.Context(), one); postgres.Code(err) != "53300" {
		t.Errorf("it is taken: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := postgres.Connect(ended, one.Patient()); err == nil {
		t.Error("a run that has ended got a session")
	}
}
