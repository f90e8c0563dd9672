package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// attempt is the state of one call over its retries.
type attempt struct {
	read     bool // it may go to a standby
	fellBack bool // a standby has failed it
	token    LSN
	// whole: a transaction that was not committed and may be run again.
	whole bool
	// foreign: the error is of something else that a transaction's function did.
	foreign bool
	// purpose is what its connection is for; that of a read follows from it.
	purpose purpose
	// readOnly: its transaction was begun as one that does not write.
	readOnly bool
	// misled: a server that is not read-only by choice refused to write, on a
	// connection that is closed for it.
	misled  bool
	retries int
	// replaced: it was tried again at once, on another connection; replanned is how
	// often it was for a plan of the server's that did not fit any more.
	replaced  bool
	replanned int
	// at is where the last try went, or nil.
	at *endpoint
}

// retryCounts count what became of failed calls.
type retryCounts struct {
	done, exhausted, fallbacks atomic.Int64
}

// acquire takes a connection for one try.
func (db *DB) acquire(ctx context.Context, a *attempt, op operation) (*pgxpool.Conn, error) {
	for range acquireTries {
		e, err := db.target(ctx, a)
		if err != nil {
			return nil, err
		}
		a.at = e
		conn, err := e.acquire(ctx, op, a.purpose)
		if err != nil || e.current(db.wanted(ctx, a)) || e == db.monitor.primary.Load() {
			return conn, err
		}
		// A connection was opened, so that it has to be asked again where it is.
		conn.Release()
	}
	e, err := db.writable()
	if err != nil {
		return nil, err
	}
	a.at = e
	return e.acquire(ctx, op, a.purpose)
}

// acquireTries is how often a read with a token takes a connection to a standby whose
// position then turns out to be unknown.
const acquireTries = 3

// acquireAgain takes a connection, with retries.
func (db *DB) acquireAgain(ctx context.Context, a *attempt, op operation) (*pgxpool.Conn, error) {
	for {
		conn, err := db.acquire(ctx, a, op)
		if err == nil || !db.again(ctx, a, err) {
			return conn, err
		}
	}
}

// again says whether a failed call is to be tried again, after waiting for as
// long as it should.
func (db *DB) again(ctx context.Context, a *attempt, err error) bool {
	s := situation{class: Classify(err), whole: a.whole}
	s.idempotent = a.read || isIdempotent(ctx)
	s.unsent = pgconn.SafeToRetry(err) || endedIdle(err) || isUnread(err)
	s.standby = a.read && !a.fellBack && a.at != nil && a.at != db.monitor.primary.Load()
	// A write that somebody sent as a read is wrong, and stays so.
	if s.class == ClassReadOnly && !a.read {
		s.moved = a.misled && !a.replaced || db.moved(ctx, a.at)
	}
	s.stalePlan = stalePlan(err)
	what := decide(s)
	if what == giveUp || a.foreign || ctx.Err() != nil || db.closed.Load() {
		return false
	}
	if s.standby {
		a.fellBack = true
		db.retries.fallbacks.Add(1)
		return true
	}
	if db.config.MaxRetries > 0 && db.atOnce(a, s, what) {
		db.retries.done.Add(1)
		return true
	}
	if a.retries >= db.config.MaxRetries || what == replan {
		return false
	}
	if !db.budget.take(time.Now(), db.calls()) {
		db.retries.exhausted.Add(1)
		return false
	}
	b := db.backoff
	if what == collided {
		b = db.conflict
	}
	delay := b.delay(a.retries, rand.Float64())
	a.retries++
	db.retries.done.Add(1)
	return db.wait(ctx, a, delay)
}

// atOnce says whether a call is tried again without waiting, and without the budget:
// the first time that its connection is lost or refuses to write, since another
// connection is all it needs; and for a plan that does not fit any more as often as
// each connection may have one. Neither can multiply the load: each uses up a
// connection or a plan.
func (db *DB) atOnce(a *attempt, s situation, what decision) bool {
	switch {
	case what == replan:
		a.replanned++
		return a.replanned <= db.config.MaxConns+1
	case a.replaced:
		return false
	case s.class == ClassConnectionLost, s.class == ClassReadOnly && a.misled:
		a.replaced = true
		return true
	}
	return false
}

// wait waits before a retry. As soon as there is another primary than the one
// that failed, there is nothing to wait for.
func (db *DB) wait(ctx context.Context, a *attempt, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for {
		_, changed := db.monitor.snapshot()
		primary := db.monitor.primary.Load()
		if primary != nil && primary != a.at && !a.read {
			return true
		}
		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		case <-db.monitor.stopped:
			return false
		case <-changed:
		}
	}
}

// moved says whether a server that refused a write has stopped being the
// primary. It waits for the next probe to tell.
func (db *DB) moved(ctx context.Context, e *endpoint) bool {
	if e == nil {
		return false
	}
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 2*db.config.ConnectTimeout)
	defer cancel()
	db.monitor.kick()
	for {
		_, changed := db.monitor.snapshot()
		v := e.view.Load()
		if db.monitor.primary.Load() != e {
			return true
		}
		if v.err == nil && v.at.Add(-v.latency).After(asked) {
			return false
		}
		select {
		case <-changed:
		case <-db.monitor.stopped:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// effect says whether a statement may have done something that lasts.
type effect bool

const (
	effects   effect = true
	noEffects effect = false
)

// statementFailed explains the error of a statement, before its connection is
// given back, and has the server looked at if it is about the server.
func (db *DB) statementFailed(ctx context.Context, a *attempt, conn *pgxpool.Conn, err error, does effect) error {
	s := sessionOf(conn.Conn())
	if s.unread(err) {
		err = &unreadError{err}
	}
	err = s.explain(ctx, err)
	class := Classify(err)
	if class == ClassConnectionLost {
		s.endpoint.trouble()
		if !endedIdle(err) {
			s.endpoint.lost()
		}
	}
	if class == ClassReadOnly {
		db.monitor.kick()
		if a.misled = !a.read && !a.readOnly && !s.readOnlyByChoice(); a.misled {
			s.refused = true // and closed instead of used again
			s.endpoint.misled()
		}
	}
	// Where the connection is still open, the server has answered, or nothing
	// was sent.
	lost := conn.Conn().IsClosed() && !s.unsent(err)
	if does == effects && lost && !a.read && !isIdempotent(ctx) {
		return outcomeUnknownError(err)
	}
	return err
}

var errUnreplicated = errors.New("cancelled while the commit waited for a synchronous standby")

// confirmed is the error of work that the server says was done: it is not known to
// last if a synchronous standby may lack it.
func confirmed(conn *pgx.Conn) error {
	if sessionOf(conn).unreplicated.Load() {
		return outcomeUnknownError(errUnreplicated)
	}
	return nil
}

func outcomeUnknownError(err error) error {
	return &hinted{
		fmt.Errorf("%w: %w", ErrOutcomeUnknown, err),
		"look in the database whether it was done, or make the work idempotent and say so with WithIdempotent",
	}
}

// explain adds what a cancelled statement was cancelled for: with the caller's
// context the server says only that somebody did.
func (s *session) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if s.timedOut() {
		return &hinted{
			fmt.Errorf("%w: %w", ErrQueryTimeout, err),
			"make the statement faster, or give its transaction more time with TxOptions.StatementTimeout",
		}
	}
	if ctx.Err() != nil && (!errors.Is(err, ctx.Err()) || !errors.Is(err, context.Cause(ctx))) {
		return fmt.Errorf("%w: %w", ended(ctx), err)
	}
	return err
}

// calls returns how many statements there have been.
func (db *DB) calls() (n int64) {
	for _, e := range db.endpoints {
		n += e.statements()
	}
	return n
}
