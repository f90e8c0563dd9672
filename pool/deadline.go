package pool

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// lateDeadline is a context with a deadline that costs nothing until somebody
// waits for it. A timer for each call would cost more than all the rest of it, and
// only those who find no connection at hand ever wait: for a place in pgxpool,
// for the opening of a connection, for the ping of one that was idle for long.
//
// The first look at Done is pgxpool's at the begin of an acquire: whether the
// caller's own context is over. It gets that one's channel; the timer starts with
// the second, which is the first that waits. TestSilentWhileIdle and
// TestSilentWhileConnecting break if that is ever different.
type lateDeadline struct {
	context.Context // the caller's

	// asked counts the calls of Done.
	asked   atomic.Int32
	stopped atomic.Bool
	waiting atomic.Pointer[waiting] // nil until somebody waits
	// end is the deadline on the clock of the endpoint.
	endpoint *endpoint
	end      time.Duration
}

// waiting is the context of those who wait.
type waiting struct {
	context.Context
	cancel context.CancelFunc
}

// Deadline implements context.Context.
func (c *lateDeadline) Deadline() (time.Time, bool) {
	deadline := c.endpoint.epoch.Add(c.end)
	if d, ok := c.Context.Deadline(); ok && d.Before(deadline) {
		return d, true
	}
	return deadline, true
}

// Done implements context.Context.
func (c *lateDeadline) Done() <-chan struct{} {
	if c.asked.Add(1) == 1 {
		return c.Context.Done()
	}
	w := c.waiting.Load()
	if w == nil {
		w = c.wait()
	}
	if c.stopped.Load() {
		w.cancel() // stop may have come too early to see it
	}
	return w.Done()
}

// wait begins the waiting, unless somebody else has at the same time.
func (c *lateDeadline) wait() *waiting {
	bounded, cancel := context.WithDeadline(c.Context, c.endpoint.epoch.Add(c.end))
	w := &waiting{bounded, cancel}
	if !c.waiting.CompareAndSwap(nil, w) {
		cancel()
		return c.waiting.Load()
	}
	return w
}

// Err implements context.Context.
func (c *lateDeadline) Err() error {
	if w := c.waiting.Load(); w != nil {
		return w.Err()
	}
	return c.Context.Err()
}

// stop ends the waiting of whoever still does.
func (c *lateDeadline) stop() {
	c.stopped.Store(true)
	if w := c.waiting.Load(); w != nil {
		w.cancel()
	}
}

// ended returns why a context is over: its error, and the cause that somebody gave
// for it, so that errors.Is holds for both.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if err == nil || errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
