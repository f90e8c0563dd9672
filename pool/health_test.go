package pool

import (
	"context"
	"testing"
	"time"
)

// TestHealthEnds: whoever waits for a probe that never comes, for the pool was shut
// down meanwhile, does not wait for ever.
func TestHealthEnds(t *testing.T) {
	db, err := prepare(t.Context(), Config{PrimaryURL: "postgres://someone@127.0.0.1:1/clinic"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.closePools()
	// A probe of long ago, as after the process was stopped.
	db.monitor.topology.views[0] = view{probed: true, probe: probe{at: time.Unix(1e9, 0)}}
	close(db.monitor.stopped) // Shutdown has come so far, and no further
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	db.Health(ctx)
	if ctx.Err() != nil {
		t.Error("it waited for a probe")
	}
}

// TestLateDeadline: the first look is at the caller's own context, and whoever looks
// again waits for no longer than the deadline, or the end of the acquire.
func TestLateDeadline(t *testing.T) {
	e := &endpoint{epoch: time.Now(), config: Config{AcquireTimeout: time.Hour}}
	caller, cancel := context.WithCancel(t.Context())
	c := e.bounded(caller, 0)
	if c.Done() != caller.Done() || c.Err() != nil {
		t.Error("the first look is at another context")
	}
	waited := c.Done()
	if waited == caller.Done() || waited != c.Done() {
		t.Error("who waits does not wait for the deadline")
	}
	if d, ok := c.Deadline(); !ok || d.Sub(e.epoch) != time.Hour {
		t.Errorf("%s, %t", d, ok)
	}
	cancel()
	<-waited
	if c.Err() != context.Canceled { //nolint:errorlint // as it is
		t.Error(c.Err())
	}

	late := e.bounded(t.Context(), -2*time.Hour)
	late.Done()
	<-late.Done()
	if late.Err() != context.DeadlineExceeded { //nolint:errorlint // as it is
		t.Error(late.Err())
	}

	over := e.bounded(t.Context(), 0)
	over.Done()
	over.stop()
	<-over.Done() // whoever comes after the end
}
