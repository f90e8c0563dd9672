package pool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// candidate is a server as far as the choice of one to read from is concerned.
type candidate struct {
	usable bool
	// current says that it has what the reader's token asks for, as far as is
	// known.
	current bool
	load    int64 // connections in use
}

// better says whether a is to be read from rather than b: what can be used, then
// what has what is asked for, then what has less to do.
func (a candidate) better(b candidate) bool {
	switch {
	case a.usable != b.usable:
		return a.usable
	case a.current != b.current:
		return a.current
	}
	return a.load < b.load
}

// replica returns the standby to read from, or nil if there is none that may be
// read from, and whether it is known to have all that the token asks for.
func (db *DB) replica(token LSN) (best *endpoint, current bool) {
	endpoints := db.endpoints
	if len(endpoints) < 2 {
		return nil, false
	}
	var chosen candidate
	// Of equals the first is taken: begin at a random one.
	start := rand.IntN(len(endpoints))
	for n := range endpoints {
		e := endpoints[(start+n)%len(endpoints)]
		v := e.view.Load()
		c := candidate{
			usable:  v.readable() && !e.breaker.open(time.Now),
			current: e.current(token),
			load:    e.held.Load(),
		}
		if c.usable && (best == nil || c.better(chosen)) {
			best, chosen = e, c
		}
	}
	return best, chosen.current
}

// writable returns the primary.
func (db *DB) writable() (*endpoint, error) {
	if db.closed.Load() {
		return nil, ErrShutdown
	}
	if e := db.monitor.primary.Load(); e != nil {
		return e, nil
	}
	db.monitor.kick()
	return nil, &hinted{
		fmt.Errorf("%w, of %d servers", ErrNoPrimary, len(db.endpoints)),
		"wait for a failover to end, or see in Health what is wrong with each server",
	}
}

// target returns where an attempt goes: the primary, or for a read a standby
// that is fit for it.
func (db *DB) target(ctx context.Context, a *attempt) (*endpoint, error) {
	if a.read && !a.fellBack {
		if db.closed.Load() {
			return nil, ErrShutdown
		}
		token := db.wanted(ctx, a)
		if e, current := db.replica(token); e != nil && (current || db.await(ctx, e, token)) {
			return e, nil
		}
	}
	return db.writable()
}

// wanted is the token that an attempt must have, or 0.
func (db *DB) wanted(ctx context.Context, a *attempt) LSN {
	if !a.read {
		return 0
	}
	return max(a.token, tokenOf(ctx))
}

// current says whether the server is known to have what the token asks for.
func (e *endpoint) current(token LSN) bool { return LSN(e.position.known.Load()) >= token }
