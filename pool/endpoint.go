package pool

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jackc/puddle/v2"
)

// endpoint is one server with the pool of connections to it.
type endpoint struct {
	name    string
	config  Config // of this server, with all defaults
	epoch   time.Time
	tracers tracers
	slow    *slowLog
	// failed is called on trouble that a probe should check.
	failed func()

	pool    *pgxpool.Pool
	gate    *gate
	breaker *breaker
	// view is what the last probe saw; never nil.
	view atomic.Pointer[view]
	// position is where it is in the log, if it is a standby.
	position position
	// pooled says whether there is a pooler in between.
	pooled atomic.Int32

	// open is how many connections are open, and held how many of them somebody
	// has.
	open, held atomic.Int64

	// ended: who gets a connection from now on must not use it.
	ended atomic.Bool

	// lostAt is when a connection was last lost, on the endpoint's clock.
	lostAt atomic.Int64
	// reopen asks the prober for a new session.
	reopen atomic.Bool
	// failures counts the connections that could not be opened or prepared since
	// one last could.
	failures atomic.Int64
	// opened: one could, at some time.
	opened atomic.Bool

	queue    queue
	mu       sync.Mutex
	sessions map[*session]struct{}
	// cancels are the cancel requests under way.
	cancels sync.WaitGroup

	waits     histogram
	durations durations
	timeouts  atomic.Int64
	rejected  atomic.Int64
	overdue   atomic.Int64
	leaks     atomic.Int64
}

// The values of endpoint.pooled.
const (
	pooledUnknown = iota
	pooledNo
	pooledYes
)

func newEndpoint(ctx context.Context, name string, conn *pgx.ConnConfig, cfg Config, slow *slowLog, failed func()) (*endpoint, error) {
	e := &endpoint{
		name: name, config: cfg, epoch: time.Now(), tracers: tracersOf(cfg.Tracer), slow: slow, failed: failed,
		gate: newGate(cfg.MaxConns, cfg.MaxWaiting),
		breaker: newBreaker(breakerPolicy{
			failures: cfg.BreakerFailures, cooldown: cfg.BreakerCooldown, longest: longestBreakerCooldown,
		}),
		sessions: map[*session]struct{}{},
	}
	e.view.Store(&view{})
	switch cfg.Pooler {
	case PoolerNone:
		e.pooled.Store(pooledNo)
	case PoolerTransaction, PoolerPrepared:
		e.pooled.Store(pooledYes)
	}
	poolConfig, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, fmt.Errorf("the defaults of pgxpool: %w", err)
	}
	conn.ConnectTimeout = cfg.ConnectTimeout
	conn.Tracer = e.tracers.forPool(e)
	if cfg.DialFunc != nil {
		conn.DialFunc = cfg.DialFunc
	}
	conn.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &canceler{conn: c, grace: cfg.CancelGrace}
	}
	told := conn.OnNotice
	conn.OnNotice = func(c *pgconn.PgConn, n *pgconn.Notice) {
		// A warning, since the commit is done here; its text is translated.
		if s, _ := c.CustomData()[sessionKey].(*session); s != nil && n.Routine == "SyncRepWaitForLSN" {
			s.unreplicated.Store(true)
		}
		if told != nil {
			told(c, n)
		}
	}
	poolConfig.ConnConfig = conn
	poolConfig.MaxConns = int32(cfg.MaxConns)
	poolConfig.MinConns = int32(cfg.MinConns)
	poolConfig.MinIdleConns = int32(cfg.MinIdleConns)
	poolConfig.MaxConnLifetime = cfg.MaxConnLifetime
	poolConfig.MaxConnLifetimeJitter = cfg.MaxConnLifetimeJitter
	poolConfig.MaxConnIdleTime = cfg.MaxConnIdleTime
	poolConfig.PingTimeout = cfg.ConnectTimeout
	poolConfig.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
		if err := e.beforeConnect(ctx, c); err != nil {
			return err
		}
		s := &session{endpoint: e}
		c.Tracer, c.BuildFrontend = s, s.wire.frontend
		return nil
	}
	poolConfig.AfterConnect = e.connected
	poolConfig.ShouldPing = e.shouldPing
	poolConfig.PrepareConn = e.prepare
	poolConfig.BeforeClose = e.closing
	// The values of the context of Open must not reach connections that are
	// opened in the background.
	e.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), poolConfig)
	if err != nil {
		return nil, fmt.Errorf("open a pool to %s: %w", e.name, err)
	}
	return e, nil
}

// clock is the monotonic time since the endpoint was made.
func (e *endpoint) clock() time.Duration { return time.Since(e.epoch) }

// errNoSession marks errors of the caller's functions that prepare a connection: there
// was none, so that nothing was sent.
var errNoSession = errors.New("no session")

// beforeConnect sets how to connect, this time.
func (e *endpoint) beforeConnect(ctx context.Context, c *pgx.ConnConfig) error {
	e.prepareConnect(c)
	if e.config.BeforeConnect == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.config.ConnectTimeout)
	defer cancel()
	if err := e.config.BeforeConnect(ctx, c); err != nil {
		return fmt.Errorf("BeforeConnect: %w: %w", errNoSession, err)
	}
	return nil
}

// prepareConnect sets what depends on whether there is a pooler.
func (e *endpoint) prepareConnect(c *pgx.ConnConfig) {
	if e.pooled.Load() == pooledNo {
		if e.config.QueryTimeout > 0 {
			c.RuntimeParams["statement_timeout"] = strconv.FormatInt(max(e.config.QueryTimeout.Milliseconds(), 1), 10)
		}
		return
	}
	// PgBouncer refuses what it does not know, and this is what Prisma writes for
	// the default.
	if c.RuntimeParams["search_path"] == `"public"` {
		delete(c.RuntimeParams, "search_path")
	}
	if e.config.Pooler == PoolerPrepared {
		return
	}
	switch c.DefaultQueryExecMode {
	case pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec:
		c.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
}

// connected prepares a connection that was just opened.
func (e *endpoint) connected(ctx context.Context, conn *pgx.Conn) error {
	s, _ := conn.Config().Tracer.(*session)
	s.conn = conn.PgConn()
	s.conn.CustomData()[sessionKey] = s
	s.socket.open(s.conn.Conn())
	if err := s.findRole(ctx, e.config.ConnectTimeout); err != nil {
		return fmt.Errorf("ask for its role: %w: %w", errNoSession, err)
	}
	if err := e.afterConnect(ctx, conn); err != nil {
		return err
	}
	s.opened = e.clock()
	s.lastUsed = s.opened
	e.failures.Store(0)
	e.opened.Store(true)
	e.mu.Lock()
	e.sessions[s] = struct{}{}
	e.mu.Unlock()
	e.open.Add(1)
	// The server may have been started again since it was asked: a standby begins
	// further back then.
	e.position.known.Store(0)
	return nil
}

// afterConnect runs the caller's AfterConnect. It has a limit of its own: pgxpool
// gives it none, and a connection that is never ready would keep its place for ever.
func (e *endpoint) afterConnect(ctx context.Context, conn *pgx.Conn) error {
	if e.config.AfterConnect == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.config.ConnectTimeout)
	defer cancel()
	err := e.config.AfterConnect(ctx, conn)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%w: %w", errUnprepared, err)
	switch Classify(err) {
	case ClassCanceled, ClassTimeout, ClassConnectionLost:
		// Not the caller's statement: there was no connection for it.
		return fmt.Errorf("%w: %w", errNoSession, err)
	default:
		return err
	}
}

// closing notes that a connection is closed. It may be called when the release
// of the connection has told so already.
func (e *endpoint) closing(conn *pgx.Conn) {
	if s := sessionOf(conn); s != nil {
		e.forget(s)
	}
}

func (e *endpoint) forget(s *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, known := e.sessions[s]; known {
		delete(e.sessions, s)
		e.open.Add(-1)
	}
}

// released notes that a connection is about to be given back, and lets the next
// caller in.
func (e *endpoint) released(conn *pgx.Conn) {
	s := sessionOf(conn)
	if pg := conn.PgConn(); conn.IsClosed() || pg.IsBusy() || pg.TxStatus() != 'I' {
		// pgxpool will close it, which may take a while.
		e.forget(s)
	}
	s.released()
	e.held.Add(-1)
	e.gate.leave()
}

// acquire takes a connection for this operation, within the acquire timeout.
// Whoever gets one must Release it, which opens the gate, too.
func (e *endpoint) acquire(ctx context.Context, op operation, p purpose) (*pgxpool.Conn, error) {
	began := e.clock()
	if err := e.admit(ctx, began); err != nil {
		return nil, err
	}
	bounded := e.bounded(ctx, began)
	bounded.session = p == forSession
	defer bounded.stop()
	conn, err := e.pool.Acquire(bounded) //nolint:contextcheck // it is the caller's, with a deadline
	if err != nil {
		e.gate.leave()
		return nil, e.notConnected(ctx, bounded, began, err)
	}
	e.got(conn.Conn(), op, began)
	if e.ended.Load() { // else cut has seen it
		conn.Release()
		return nil, ErrShutdown
	}
	if err := e.setAccess(bounded, sessionOf(conn.Conn()), p); err != nil { //nolint:contextcheck // it is the caller's, with a deadline
		conn.Release()
		return nil, e.notConnected(ctx, bounded, began, err)
	}
	return conn, nil
}

// bounded is the context of a caller who came at that time, with the acquire
// timeout.
func (e *endpoint) bounded(ctx context.Context, began time.Duration) *lateDeadline {
	bounded := &lateDeadline{Context: ctx, endpoint: e, began: began, end: began + e.config.AcquireTimeout}
	if e.tracers.acquire != nil {
		bounded.asked.Store(1) // a tracer may wait as well
	}
	return bounded
}

// admit lets the caller through the breaker and the gate.
func (e *endpoint) admit(ctx context.Context, began time.Duration) error {
	if !e.breaker.admit(time.Now) {
		return &hinted{fmt.Errorf("%s: %w", e.name, ErrCircuitOpen), "it is tried again within seconds; see what Health says of it"}
	}
	if !e.gate.tryEnter() {
		leave := e.queue.join(ctx, began, e.config.LeakAfter > 0)
		err := e.gate.enter(ctx, e.config.AcquireTimeout)
		leave()
		if err != nil {
			return e.notAdmitted(err, e.clock()-began)
		}
	}
	return nil
}

// got notes that somebody has a connection now, and for what.
func (e *endpoint) got(conn *pgx.Conn, op operation, began time.Duration) {
	e.breaker.succeeded()
	now := e.clock()
	e.waits.observe(now - began)
	e.held.Add(1)
	sessionOf(conn).taken(now, op, now-began)
}

// notConnected is the error of a caller who came through the gate and got no
// connection. Bounded is the caller's context with the acquire timeout.
func (e *endpoint) notConnected(ctx, bounded context.Context, began time.Duration, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("wait for a connection to %s: %w", e.name, ended(ctx))
	case errors.Is(err, puddle.ErrClosedPool), e.ended.Load():
		return ErrShutdown
	case bounded.Err() != nil:
		e.trouble()
		e.timeouts.Add(1)
		return e.poolTimeout(e.clock() - began)
	}
	if !isConnectError(err) && !errors.Is(err, errNoSession) && !errors.Is(err, errUnprepared) {
		// Pgxpool found each connection dead, a new one, too.
		err = fmt.Errorf("%w: %w", errNoSession, err)
	}
	e.failures.Add(1)
	if class := Classify(err); class == ClassUnavailable || class == ClassConnectionLost {
		e.trouble()
	}
	return fmt.Errorf("connect to %s: %w", e.name, err)
}

// trouble notes that the server could not be reached.
func (e *endpoint) trouble() {
	e.breaker.failed(time.Now())
	e.failed()
}

// notAdmitted is the error of a caller that the gate turned away.
func (e *endpoint) notAdmitted(err error, waited time.Duration) error {
	switch {
	case errors.Is(err, errGateClosed):
		return ErrShutdown
	case errors.Is(err, errGateFull):
		e.rejected.Add(1)
		return &hinted{
			fmt.Errorf("%s: %w (%d)", e.name, ErrOverloaded, e.config.MaxWaiting),
			"answer with 503 and let the client come back; raise MaxWaiting only if callers can wait that long",
		}
	case errors.Is(err, errGateTimeout):
		e.timeouts.Add(1)
		return e.poolTimeout(waited)
	}
	return fmt.Errorf("wait for a connection to %s: %w", e.name, err)
}

func (e *endpoint) poolTimeout(waited time.Duration) error {
	inside, waiting := e.gate.load()
	holders := e.holders()
	return &AcquireTimeoutError{
		Server: e.name, Waited: waited, InUse: min(len(holders), inside), Max: e.config.MaxConns, Waiting: waiting,
		Holders: holders[:min(holdersNamed, len(holders))],
	}
}

// holders returns who has connections, the longest first.
func (e *endpoint) holders() (all []Holder) {
	now := e.clock()
	for _, s := range e.allSessions() {
		if h, held := s.holder(now); held {
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b Holder) int { return int(b.Held - a.Held) })
	return all
}

func (e *endpoint) allSessions() []*session {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*session, 0, len(e.sessions))
	for s := range e.sessions {
		all = append(all, s)
	}
	return all
}

// notePooler keeps what a probe found out about poolers. Connections that were
// opened before are kept from then on to what is safe behind one, or not, only
// as they are replaced; so those are closed.
func (e *endpoint) notePooler(pooled bool) {
	if e.config.Pooler != PoolerAuto {
		return
	}
	is := int32(pooledNo)
	if pooled {
		is = pooledYes
	}
	if e.pooled.Swap(is) != is {
		e.pool.Reset()
	}
}

// statements returns how many times a connection was taken.
func (e *endpoint) statements() (n int64) {
	for i := range e.waits.buckets {
		n += e.waits.buckets[i].Load()
	}
	return n
}

// cut closes the connections that are held, and returns who held them.
func (e *endpoint) cut() []Holder {
	e.ended.Store(true)
	holders := e.holders()
	for _, s := range e.allSessions() {
		s.mu.Lock()
		if s.held {
			_ = s.conn.Conn().Close()
		}
		s.mu.Unlock()
	}
	return holders
}

// stdlibConn takes a connection for database/sql. Pgx makes it, so that it can
// do all that pgx's can; so it takes it out of pgxpool by itself, after the gate,
// which the release of the connection opens.
func (e *endpoint) stdlibConn(ctx context.Context) (driver.Conn, error) {
	began := e.clock()
	if err := e.admit(ctx, began); err != nil {
		return nil, err
	}
	bounded := e.bounded(ctx, began)
	defer bounded.stop()
	conn, err := stdlib.GetPoolConnector(e.pool).Connect(bounded) //nolint:contextcheck // it is the caller's, with a deadline
	if err != nil {
		e.gate.leave()
		return nil, e.notConnected(ctx, bounded, began, err)
	}
	inner, ok := conn.(*stdlib.Conn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a connection for database/sql is a %T", conn), conn.Close())
	}
	e.got(inner.Conn(), opQuery, began)
	if e.ended.Load() {
		return nil, errors.Join(ErrShutdown, conn.Close())
	}
	if err := e.setAccess(bounded, sessionOf(inner.Conn()), forWrites); err != nil { //nolint:contextcheck // it is the caller's, with a deadline
		return nil, errors.Join(e.notConnected(ctx, bounded, began, err), conn.Close())
	}
	return stdConn{inner, new(bool)}, nil
}
