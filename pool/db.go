package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DB is a pool of connections to a primary and its standbys. Its methods may be
// called from several goroutines.
type DB struct {
	config    Config
	endpoints []*endpoint
	monitor   *monitor
	slow      *slowLog
	backoff   backoff
	conflict  backoff
	budget    budget
	retries   retryCounts
	std       stdlibHandle

	closed atomic.Bool
	stop   context.CancelFunc
	// running are the monitor and the watches.
	running sync.WaitGroup
}

// Querier is what runs statements: a *DB, what its Read returns, and a pgx.Tx.
type Querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error)
}

var _ Querier = (*DB)(nil)

// Open opens a pool and finds out which server is the primary; for servers that
// have not answered it waits for a second at most. It fails with an
// ErrConfig if the configuration is impossible, and, unless
// Config.StartDegraded is set, if no primary could be reached within the
// acquire timeout; replicas may be down. The context bounds Open alone. Whoever
// opened the pool must end it with Shutdown.
func Open(ctx context.Context, config Config) (*DB, error) {
	db, err := prepare(ctx, config)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, db.config.AcquireTimeout)
	defer cancel()
	if err := db.start(bounded); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ended(ctx), err)
		}
		ended, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel()
		return nil, errors.Join(err, db.Shutdown(ended))
	}
	return db, nil
}

// prepare makes the pool without talking to any server.
func prepare(ctx context.Context, config Config) (*DB, error) {
	conn, own, err := parseConnString("PrimaryURL", config.PrimaryURL)
	if err != nil {
		return nil, err
	}
	conns, configs := []*pgx.ConnConfig{conn}, []Config{config.fill(own).withDefaults()}
	for i, text := range config.ReplicaURLs {
		conn, theirs, err := parseConnString(fmt.Sprintf("ReplicaURLs[%d]", i), text)
		if err != nil {
			return nil, err
		}
		conns, configs = append(conns, conn), append(configs, config.fill(theirs).fill(own).withDefaults())
	}
	for _, c := range configs {
		if err := c.check(); err != nil {
			return nil, err
		}
	}
	names, err := serverNames(conns)
	if err != nil {
		return nil, err
	}
	config = configs[0]
	db := &DB{
		config: config, slow: newSlowLog(config.Logger, config.SlowQueryEvery), budget: budget{share: config.RetryBudget},
		backoff:  backoff{first: config.RetryDelay, factor: config.RetryBackoff, longest: longestRetryDelay},
		conflict: backoff{first: config.RetryDelay / conflictShare, factor: config.RetryBackoff, longest: longestRetryDelay / conflictShare},
	}
	for i := range conns {
		e, err := newEndpoint(ctx, names[i], conns[i], configs[i], db.slow, func() { db.monitor.kick() })
		if err != nil {
			db.closePools()
			return nil, err
		}
		db.endpoints = append(db.endpoints, e)
	}
	db.monitor = newMonitor(db.endpoints, config)
	return db, nil
}

// openWait is for how long Open, when it has found a primary, waits for servers that
// have not answered yet: one of them may be the primary that a failover has made.
const openWait = time.Second

// start starts the goroutines and waits until the primary is known.
func (db *DB) start(ctx context.Context) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	db.stop = stop
	db.running.Go(func() { db.monitor.run(running) })
	for _, e := range db.endpoints {
		db.running.Go(func() { e.watch(running) })
	}
	timer := time.NewTimer(min(openWait, db.config.ConnectTimeout))
	defer timer.Stop()
	waited := false
	for {
		t, changed := db.monitor.snapshot()
		switch {
		case usable(t) && (waited || allProbed(t)):
			return nil
		case allProbed(t) && db.config.StartDegraded:
			return nil
		case allProbed(t) && hopeless(t):
			return noPrimaryAtStart(t)
		}
		select {
		case <-changed:
		case <-timer.C:
			waited = true
		case <-ctx.Done():
			if usable(t) || db.config.StartDegraded {
				return nil
			}
			return noPrimaryAtStart(t)
		}
	}
}

// usable says whether there is a primary that connections can be had to.
func usable(t topology) bool { return t.primary >= 0 && t.views[t.primary].unopened == nil }

func allProbed(t topology) bool {
	for _, v := range t.views {
		if !v.probed {
			return false
		}
	}
	return true
}

// hopeless says whether waiting does not help: every server answers, or refuses
// for a reason that somebody has to change.
func hopeless(t topology) bool {
	for _, v := range t.views {
		if class := Classify(cmp.Or(v.err, v.unopened)); class == ClassUnavailable || class == ClassConnectionLost || class == ClassCanceled {
			return false
		}
	}
	return true
}

func noPrimaryAtStart(t topology) error {
	errs := []error{ErrNoPrimary}
	first := t.views[0].err
	if t.primary >= 0 {
		errs, first = nil, t.views[t.primary].unopened
	}
	for _, v := range t.views {
		switch {
		case v.err != nil:
			errs = append(errs, v.err)
		case v.unopened != nil:
			errs = append(errs, v.unopened)
		case v.standby:
			errs = append(errs, errors.New("a server answers and is a standby"))
		case !v.probed:
			errs = append(errs, errors.New("a server has not answered yet"))
		}
	}
	hint := "check that the server runs and that host, port and network are right; set StartDegraded to start without it"
	switch {
	case first == nil && slices.ContainsFunc(t.views, func(v view) bool { return v.standby }):
		hint = "name the primary as PrimaryURL (DATABASE_URL), or promote a standby; set StartDegraded to start without it"
	case isCertificateError(first):
		hint = "check that sslrootcert names the authority that signed the server's certificate, and that the host is a name in it"
	case errors.Is(first, errUnprepared):
		hint = "correct what AfterConnect needs, such as a type that is not there yet; set StartDegraded to start without it"
	case Classify(first) == ClassPermission:
		hint = "check user, password and pg_hba.conf"
	case Classify(first) == ClassInvalid:
		hint = "check the name of the database, and behind a pooler which parameters it takes"
	}
	return &hinted{fmt.Errorf("open the pool: %w", errors.Join(errs...)), hint}
}

// Exec runs a statement on the primary, as pgxpool's does. If nothing was sent,
// it is tried again; if the connection was lost after that, the error is an
// ErrOutcomeUnknown, or with WithIdempotent it is tried again.
func (db *DB) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return db.exec(ctx, attempt{}, sql, args)
}

func (db *DB) exec(ctx context.Context, a attempt, sql string, args []any) (pgconn.CommandTag, error) {
	for {
		tag, err := db.execOnce(ctx, &a, sql, args)
		if err == nil || !db.again(ctx, &a, err) {
			return tag, err
		}
	}
}

func (db *DB) execOnce(ctx context.Context, a *attempt, sql string, args []any) (tag pgconn.CommandTag, err error) {
	conn, err := db.acquire(ctx, a, opExec)
	if err != nil {
		return tag, err
	}
	// Even if an argument's Value panics.
	defer conn.Release()
	if tag, err = conn.Exec(ctx, sql, args...); err != nil {
		return tag, db.statementFailed(ctx, a, conn, err, effects)
	}
	return tag, confirmed(conn.Conn())
}

// Query runs a query on the primary, as pgxpool's does; the connection is given
// back when the rows are read or closed. It is tried again as Exec is, as long
// as no row was seen.
func (db *DB) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return db.query(ctx, attempt{}, sql, args)
}

// QueryRow runs a query that returns one row at most, on the primary, as
// pgxpool's does. It is tried again as Exec is.
func (db *DB) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return db.queryRow(ctx, attempt{}, sql, args)
}

// SendBatch sends a batch to the primary, as pgxpool's does. It is tried again
// only while there is no connection for it.
func (db *DB) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	return db.sendBatch(ctx, attempt{}, batch)
}

// Ping asks the primary for a sign of life.
func (db *DB) Ping(ctx context.Context) error {
	_, err := db.Exec(WithIdempotent(ctx), pingSQL)
	return err
}

const pingSQL = "-- ping"

// Shutdown ends the pool: it refuses new work, waits for what runs until the
// context ends, cuts off the rest, and closes all connections. It returns a
// *ShutdownError if it cut anything off. Calling it again does nothing.
//
// Somebody who never gives a connection back, although it is closed, keeps a few
// goroutines of the pool from ending, and so does a function of the Config that
// does not come back: Shutdown waits five seconds more for them.
func (db *DB) Shutdown(ctx context.Context) error {
	if db.closed.Swap(true) {
		return nil
	}
	var cut []Holder
	for _, e := range db.endpoints {
		select {
		case <-e.gate.close():
			continue
		default:
		}
		select {
		case <-e.gate.close():
		case <-ctx.Done():
			cut = append(cut, e.cut()...)
		}
	}
	for _, e := range db.endpoints {
		e.position.close()
	}
	db.std.close()
	if db.stop != nil {
		db.stop()
	}
	db.closePools()
	if len(cut) > 0 {
		return &ShutdownError{Cut: cut, Err: ended(ctx)}
	}
	return nil
}

// closeWithin is how long Close waits for what runs. It is our choice: longer than the
// requests of most services, and shorter than the half minute after which Kubernetes kills.
const closeWithin = 20 * time.Second

// Close is Shutdown with a time of its own: what still runs after 20 seconds is cut off.
func (db *DB) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	return db.Shutdown(ctx)
}

// cutGrace is how long those whose connections were cut have to notice.
const cutGrace = 5 * time.Second

// closePools closes all connections, when nothing runs any more. Pgxpool waits for
// those that somebody holds, and a probe for the caller's functions; this does not
// wait for ever.
func (db *DB) closePools() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		var closing sync.WaitGroup
		closing.Go(db.running.Wait)
		for _, e := range db.endpoints {
			closing.Go(e.pool.Close)
		}
		closing.Wait()
		for _, e := range db.endpoints {
			e.cancels.Wait()
		}
	}()
	timer := time.NewTimer(cutGrace)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
}
