package pool

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A gate lets a bounded number of callers in and makes a bounded number wait,
// in the order in which they came. It stands in front of pgxpool, which knows
// neither how long a caller may wait nor how many may.
type gate struct {
	size       int // let in at once
	maxWaiting int

	mu     sync.Mutex
	inside int
	// waiting is a queue; its first entries are taken from head on, so that a
	// long queue is not moved each time.
	waiting []*waiter
	head    int
	queued  int // those in waiting that have not given up
	closed  bool
	// empty is closed when the gate is closed and no caller is inside.
	empty chan struct{}
}

type waiter struct {
	admitted chan struct{} // closed on the waiter's turn, or when the gate closes
	gone     bool          // gave up; guarded by the gate's lock
	refused  bool          // the gate closed; set before admitted is closed
}

var (
	errGateFull    = errors.New("the queue is full")
	errGateTimeout = errors.New("waited for too long")
	errGateClosed  = errors.New("closed")
)

func newGate(size, maxWaiting int) *gate {
	return &gate{size: size, maxWaiting: maxWaiting, empty: make(chan struct{})}
}

// tryEnter lets the caller in if there is room and no other caller waits.
func (g *gate) tryEnter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.inside >= g.size || g.queued > 0 {
		return false
	}
	g.inside++
	return true
}

// enter lets the caller in, after waiting if it must, for at most the given
// time. It returns errGateFull, errGateTimeout, errGateClosed, or why the context
// ended.
func (g *gate) enter(ctx context.Context, limit time.Duration) error {
	w, err := g.line(limit)
	if w == nil {
		return err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-w.admitted:
		if w.refused {
			return errGateClosed
		}
		return nil
	case <-ctx.Done():
		return g.giveUp(w, ended(ctx))
	case <-timer.C:
		return g.giveUp(w, errGateTimeout)
	}
}

// line lets the caller in and returns nil, or puts it in the queue.
func (g *gate) line(limit time.Duration) (*waiter, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return nil, errGateClosed
	case g.inside < g.size && g.queued == 0:
		g.inside++
		return nil, nil
	case g.queued >= g.maxWaiting:
		return nil, errGateFull
	case limit <= 0:
		return nil, errGateTimeout
	}
	w := &waiter{admitted: make(chan struct{})}
	g.waiting = append(g.waiting, w)
	g.queued++
	return w, nil
}

// giveUp takes a waiter out of the queue. If its turn came in the meantime, it
// passes that on.
func (g *gate) giveUp(w *waiter, why error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-w.admitted:
		if !w.refused {
			g.passOn()
		}
		return why
	default:
	}
	w.gone = true
	g.queued--
	// Those that gave up in the middle of a long queue would else stay in
	// memory for as long as the first one waits.
	if len(g.waiting)-g.head > 2*g.queued+16 {
		g.compact()
	}
	return why
}

// compact moves those who still wait to the front of the slice.
func (g *gate) compact() {
	kept := g.waiting[:0]
	for _, w := range g.waiting[g.head:] {
		if !w.gone {
			kept = append(kept, w)
		}
	}
	clear(g.waiting[len(kept):])
	g.waiting, g.head = kept, 0
}

// leave gives a place back.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.passOn()
}

// passOn hands a place to whoever waits longest. The lock is held.
func (g *gate) passOn() {
	for g.head < len(g.waiting) {
		w := g.waiting[g.head]
		g.waiting[g.head] = nil
		g.head++
		if g.head == len(g.waiting) {
			g.waiting, g.head = g.waiting[:0], 0
		}
		if !w.gone {
			g.queued--
			close(w.admitted)
			return
		}
	}
	g.inside--
	if g.closed && g.inside == 0 {
		close(g.empty)
	}
}

// close refuses all who wait and all who come later. The channel that it
// returns is closed once no caller is inside.
func (g *gate) close() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return g.empty
	}
	g.closed = true
	for _, w := range g.waiting[g.head:] {
		if !w.gone {
			w.refused = true
			close(w.admitted)
		}
	}
	g.waiting, g.head, g.queued = nil, 0, 0
	if g.inside == 0 {
		close(g.empty)
	}
	return g.empty
}

// load returns how many are inside and how many wait.
func (g *gate) load() (inside, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside, g.queued
}
