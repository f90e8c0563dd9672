package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// TestRenewed changes a password on a server that asks for it, under a target that has
// the old one.
func TestRenewed(t *testing.T) {
	s := scratchtest.New(t, scratch.Options{TCP: true, Password: "first"})
	target := postgrestest.Parse(t, s.URL("postgres"))
	conn := postgrestest.Connect(t, target)
	change := func(password string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), "ALTER ROLE CURRENT_USER PASSWORD '"+password+"'"); err != nil {
			t.Fatal(err)
		}
	}
	var asked atomic.Int64
	kept := atomic.Value{}
	kept.Store("first")
	target = target.Renewed(func(context.Context) (string, error) {
		asked.Add(1)
		return kept.Load().(string), nil
	})
	open := func(to postgres.Target) error {
		c, err := postgres.Connect(t.Context(), to)
		if err == nil {
			postgres.Close(t.Context(), c)
		}
		return err
	}
	if err := open(target); err != nil || asked.Load() != 0 {
		t.Fatalf("before the change: %v, asked %d times", err, asked.Load())
	}
	change("second")
	kept.Store("second")
	copies := []postgres.Target{target, target.WithDatabase("template1"), target.With("application_name", "x")}
	var all sync.WaitGroup
	for range 4 {
		for _, to := range copies {
			all.Go(func() {
				if err := open(to); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
	for _, to := range copies {
		if to.Password() != "second" || strings.Contains(to.Conninfo(), "second") {
			t.Error("client programs do not get the new password, or get it in their arguments")
		}
	}
	// One that is not there yet is asked for once, not with each session.
	change("third")
	for range 3 {
		if err := open(target); pgmedic.KindOf(err) != pgmedic.KindUnreachable {
			t.Fatal(err)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("asked %d times", asked.Load())
	}
	fresh := postgrestest.Parse(t, s.URL("postgres"))
	failing := fresh.Renewed(func(context.Context) (string, error) { return "", errors.New("the manager is away") })
	if err := open(failing); err == nil || !strings.Contains(err.Error(), "the manager is away") || !strings.Contains(err.Error(), "password authentication failed") {
		t.Errorf("%v", err)
	}
	if err := open(fresh); err == nil {
		t.Error("the old password is accepted: the server does not ask")
	}
}
