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
	// began and end are when the caller came and the deadline, on the clock of the
	// endpoint.
	endpoint   *endpoint
	began, end time.Duration
	// session: it is for a session of the caller's own.
	session bool
	// pinging: an idle connection was asked for a sign of life. It is pgxpool's
	// goroutine that uses it.
	pinging bool
}

// lateKey is the key under which a lateDeadline finds itself in a context that a
// tracer has wrapped.
type lateKey struct{}

// Value implements context.Context.
func (c *lateDeadline) Value(key any) any {
	if _, own := key.(lateKey); own {
		return c
	}
	return c.Context.Value(key)
}

// lateOf returns the lateDeadline of an acquire, or nil.
func lateOf(ctx context.Context) *lateDeadline {
	if late, ok := ctx.(*lateDeadline); ok {
		return late
	}
	late, _ := ctx.Value(lateKey{}).(*lateDeadline)
	return late
}

// startedOr returns when the acquire began, or the time now.
func (c *lateDeadline) startedOr(now func() time.Duration) time.Duration {
	if c == nil {
		return now()
	}
	return c.began
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
