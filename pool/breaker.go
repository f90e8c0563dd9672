package pool

import (
	"sync"
	"sync/atomic"
	"time"
)

// breakerPolicy says when a breaker opens and for how long.
type breakerPolicy struct {
	failures int           // in a row; zero or less: the breaker never opens
	cooldown time.Duration // after the first opening; doubled each time
	longest  time.Duration
}

// breakerState is what a breaker knows of an endpoint. The zero value is a
// closed breaker.
type breakerState struct {
	failures int           // in a row
	until    time.Time     // no call before; zero while it is closed
	cooldown time.Duration // of the present opening
	trial    bool          // one call was let through to try
}

// admit says whether a call may go to the endpoint now, and whether it is the
// one trial after a cool-down.
func (s breakerState) admit(now time.Time) (next breakerState, ok bool) {
	if s.until.IsZero() {
		return s, true
	}
	if now.Before(s.until) {
		return s, false
	}
	// The trial that never reports back must not keep the breaker open.
	s.trial, s.until = true, now.Add(s.cooldown)
	return s, true
}

// failed is the state after a failed call.
func (s breakerState) failed(p breakerPolicy, now time.Time) breakerState {
	s.failures++
	if p.failures <= 0 || s.failures < p.failures && s.until.IsZero() {
		return s
	}
	switch {
	case s.until.IsZero():
		s.cooldown = p.cooldown
	case s.trial:
		s.cooldown = min(2*s.cooldown, p.longest)
	default:
		// Calls that began before it opened say nothing new.
		return s
	}
	s.trial, s.until = false, now.Add(s.cooldown)
	return s
}

// A breaker keeps calls away from an endpoint that can't be reached, so that
// they fail at once and the endpoint is left to recover.
type breaker struct {
	policy breakerPolicy
	// quiet is true while the state is the zero one: the path without a fault
	// takes no lock.
	quiet atomic.Bool
	mu    sync.Mutex
	state breakerState
	opens int64
}

func newBreaker(p breakerPolicy) *breaker {
	b := &breaker{policy: p}
	b.quiet.Store(true)
	return b
}

func (b *breaker) admit(now func() time.Time) bool {
	if b.quiet.Load() {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var ok bool
	b.state, ok = b.state.admit(now())
	return ok
}

// open says whether the breaker keeps calls away at that time. It is no
// admission.
func (b *breaker) open(now func() time.Time) bool {
	if b.quiet.Load() {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.state.until.IsZero() && now().Before(b.state.until)
}

func (b *breaker) succeeded() {
	if b.quiet.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = breakerState{}
	b.quiet.Store(true)
}

func (b *breaker) failed(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.state.until
	b.state = b.state.failed(b.policy, now)
	if b.state.until != before && before.IsZero() {
		b.opens++
	}
	b.quiet.Store(false)
}

// count returns how often the breaker opened.
func (b *breaker) count() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opens
}
