package pool

import (
	"math"
	"sync"
	"time"
)

// situation is what a failed call is, as far as trying again is concerned.
type situation struct {
	class Class
	// unsent: nothing that was asked has reached the server.
	unsent bool
	// idempotent: the caller says that running it twice does what running it
	// once does.
	idempotent bool
	// whole: a transaction that is known not to be committed, and that can be
	// run again from its begin.
	whole bool
	// standby: it was a read on a standby, which may go to the primary, once.
	standby bool
	// moved: the server that answered is not the primary, or not any more.
	moved bool
	// stalePlan: the statement was refused for a prepared plan that does not fit.
	stalePlan bool
}

// decision is what to do about a failed call.
type decision int

const (
	giveUp decision = iota
	// backOff: again, after the delay for a server in trouble.
	backOff
	// collided: again soon; another transaction was in the way.
	collided
	// replan: again at once; the plan is forgotten.
	replan
)

// decide is the table of what may be tried again. Whatever it doesn't name is
// never tried again.
//
//	what happened                        nothing sent   idempotent   transaction   other
//	unavailable (can't connect, 53300,
//	  57P03, breaker open)               again          again        again         again¹
//	connection lost (08*, 57P0[1245])    again          again        again         never
//	serialization or deadlock (40001,
//	  40P01)                             —              again        again         never
//	read-only server (25006) that was
//	  the primary until now, or that a
//	  name led to instead of it          again          again        again         again²
//	a prepared plan that does not fit
//	  any more (0A000, 26000)            again          again        again         again²
//	a COMMIT whose answer was lost       never          never        never         never
//	overload                             never³         never³       never³        never³
//	timeouts, cancellation, errors of
//	  the statement                      never          never        never         never
//
// ¹ Such an answer means that nothing was run.
// ² The server refused the statement, so that nothing was done.
// ³ But for a read on a standby, which goes to the primary, once and at once.
func decide(s situation) decision {
	if s.stalePlan {
		return replan
	}
	switch s.class {
	case ClassUnavailable:
		return backOff
	case ClassConnectionLost:
		if s.unsent || s.idempotent || s.whole {
			return backOff
		}
	case ClassConflict:
		if s.idempotent || s.whole {
			return collided
		}
	case ClassReadOnly:
		if s.moved {
			return backOff
		}
	case ClassOverload:
		if s.standby {
			return backOff
		}
	}
	return giveUp
}

// backoff says how long to wait before a retry.
type backoff struct {
	first   time.Duration
	factor  float64
	longest time.Duration
}

// delay is the wait before the given retry, the first being 0. Random, from 0 to
// 1, spreads over the upper half of it those that failed together.
func (b backoff) delay(retry int, random float64) time.Duration {
	d := float64(b.first) * math.Pow(b.factor, float64(retry))
	d = min(d, float64(b.longest))
	return time.Duration(d/2 + random*d/2)
}

// budgetWindow is how far back calls count towards the budget, and budgetFloor
// how many retries each window has, for a service with few calls.
const (
	budgetWindow = 10 * time.Second
	budgetFloor  = 10
)

// A budget bounds retries to a share of the calls, so that an outage is not
// answered with a multiple of the load. The zero share allows the floor only.
// It is asked only when something has failed: counting calls costs nothing more.
type budget struct {
	share float64

	mu sync.Mutex
	// began is when the present window began, and calls how many there had
	// been until then; before is the number of the window before it.
	began  time.Time
	calls  int64
	before int64
	used   int
}

// take spends one retry, or says that there is none left. Calls is how many
// calls there have been in all.
func (b *budget) take(now time.Time, calls int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if age := now.Sub(b.began); age >= budgetWindow {
		b.before = 0
		if age < 2*budgetWindow {
			b.before = calls - b.calls
		}
		b.began, b.calls, b.used = now, calls, 0
	}
	recent := max(b.before, calls-b.calls)
	if float64(b.used) >= b.share*float64(recent)+budgetFloor {
		return false
	}
	b.used++
	return true
}
