package pool

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// probeSQL asks a server all at once, so that a probe is one round trip. Where
// the server is in the WAL, only one of the functions may be called.
const probeSQL = `SELECT pg_is_in_recovery(),
	CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_lsn() END::text,
	CASE WHEN pg_is_in_recovery() THEN '0' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END,
	extract(epoch FROM clock_timestamp())::float8,
	coalesce(extract(epoch FROM pg_last_xact_replay_timestamp())::float8, 0),
	current_database()::text,
	(SELECT oid::int8 FROM pg_database WHERE datname = current_database()),
	pg_backend_pid(),
	extract(epoch FROM pg_postmaster_start_time())::float8`

// controlSQL adds what the control file says, which somebody may have forbidden.
const controlSQL = probeSQL + `,
	(SELECT system_identifier FROM pg_control_system()),
	(SELECT timeline_id FROM pg_control_checkpoint())::int8`

// The bounds of what a probe believes. A session stays with its server even if the
// name leads to another one by now; so the probe opens a new session at times.
const (
	// probeSessionAge is the longest that a probe goes on with a session while all is
	// well, but for a longer health interval.
	probeSessionAge = time.Minute
	// probeReopen is the least time between two new sessions while something is wrong;
	// it doubles up to the health interval, unless no server is the primary.
	probeReopen = time.Second
)

// prober probes one server over a connection of its own, so that a pool without
// a free connection can still be judged. It is used by one goroutine at a time.
type prober struct {
	endpoint *endpoint
	// primary is where writes go, or nil.
	primary *atomic.Pointer[endpoint]
	session probeSession

	// reopened is when a session was last opened, and pause for how long it is kept
	// while something is wrong.
	reopened time.Time
	pause    time.Duration
}

// probeSession is a session of a probe's; the zero one is none.
type probeSession struct {
	conn *pgx.Conn
	// plain: the server did not let this session see its control file.
	plain bool
	// standby is what the server said last.
	standby bool
}

// probe asks the server what it is, and whether a connection of the pool to it can be
// had. It takes as long as the connect timeout at most, or twice as long if it has to
// find out about connections.
func (p *prober) probe(ctx context.Context) probe {
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, p.endpoint.config.ConnectTimeout)
	defer cancel()
	result, err := p.askAgain(bounded)
	answered := time.Now()
	if err != nil {
		p.reset(ctx)
		return probe{at: time.Now(), err: fmt.Errorf("probe %s: %w", p.endpoint.name, err), latency: time.Since(began)}
	}
	p.endpoint.breaker.succeeded()
	p.endpoint.notePooler(result.pooled)
	result.unopened = p.endpoint.tryOpen(ctx)
	result.at = answered
	return result
}

// askAgain asks the server by the session that there is, or by a new one if that is
// lost or due to be replaced.
func (p *prober) askAgain(ctx context.Context) (probe, error) {
	if p.session.conn != nil && p.due() {
		if result, ok := p.renew(ctx); ok {
			return result, nil
		}
	}
	fresh := p.session.conn == nil
	result, err := p.ask(ctx, &p.session)
	// A session that was closed since the last probe says nothing about the server.
	if err != nil && !fresh && ctx.Err() == nil && Classify(err) == ClassConnectionLost {
		p.reset(ctx)
		result, err = p.ask(ctx, &p.session)
	}
	return result, err
}

// due says whether a new session is to be opened, since the name may lead to another
// server by now.
func (p *prober) due() bool {
	age := time.Since(p.reopened)
	interval := p.endpoint.config.HealthInterval
	reopen := p.endpoint.reopen.Load()
	switch primary := p.primary.Load(); {
	case reopen, primary == nil, !primary.view.Load().healthy():
		p.pause = 0
		return age >= probeReopen
	case !p.endpoint.view.Load().healthy():
		p.pause = min(max(2*p.pause, probeReopen), max(interval, probeReopen))
		return age >= p.pause
	}
	p.pause = 0
	return age >= min(max(probeSessionAge, interval), p.endpoint.config.MaxConnLifetime)
}

// renew opens a new session and asks by it. If it leads to a standby, and the old one
// still is with a primary, the old one stays: the name is wrong, or about to change,
// and whoever is connected may go on.
func (p *prober) renew(ctx context.Context) (result probe, ok bool) {
	p.reopened = time.Now()
	p.endpoint.reopen.Store(false)
	var next probeSession
	result, err := p.ask(ctx, &next)
	if err == nil && next.standby && !p.session.standby && p.primary.Load() == p.endpoint {
		old, failed := p.ask(ctx, &p.session)
		if failed == nil && !old.standby {
			next.close(ctx)
			return old, true
		}
	}
	if err != nil {
		next.close(ctx)
		return result, false
	}
	p.session.close(ctx)
	p.session = next
	return result, true
}

// ask asks the server by a session, which it opens if there is none.
func (p *prober) ask(ctx context.Context, s *probeSession) (result probe, err error) {
	if s.conn == nil {
		if s == &p.session {
			p.reopened = time.Now()
		}
		if s.conn, err = p.connect(ctx); err != nil {
			return result, err
		}
	}
	var lsn, timeline string
	var clock, replayed, started float64
	var oid int64
	var pid uint32
	columns := []any{&result.standby, &lsn, &timeline, &clock, &replayed, &result.database, &oid, &pid, &started}
	began := time.Now()
	if !s.plain {
		err = s.conn.QueryRow(ctx, controlSQL).Scan(append(columns, &result.system, &result.checkpointed)...)
		var refused *pgconn.PgError
		s.plain = errors.As(err, &refused) && refused.SeverityUnlocalized == "ERROR"
	}
	if s.plain {
		began = time.Now()
		err = s.conn.QueryRow(ctx, probeSQL).Scan(columns...)
	}
	if err != nil {
		return result, err
	}
	result.latency = time.Since(began)
	if result.lsn, err = ParseLSN(lsn); err != nil {
		return result, err
	}
	if _, err = fmt.Sscanf(timeline, "%x", &result.timeline); err != nil {
		return result, fmt.Errorf("timeline %q: %w", timeline, err)
	}
	result.clock = time.UnixMicro(int64(clock * 1e6))
	if replayed > 0 {
		result.replayed = time.UnixMicro(int64(replayed * 1e6))
	}
	result.oid = uint32(oid)
	result.started = time.UnixMicro(int64(started * 1e6))
	result.pooled = pid != s.conn.PgConn().PID()
	s.standby = result.standby
	return result, nil
}

func (p *prober) connect(ctx context.Context) (*pgx.Conn, error) {
	cfg := p.endpoint.pool.Config().ConnConfig
	if err := p.endpoint.beforeConnect(ctx, cfg); err != nil {
		return nil, err
	}
	cfg.Tracer = nil
	// It is to say within its time that the server does not answer.
	cfg.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: c.Conn()}
	}
	delete(cfg.RuntimeParams, "statement_timeout")
	return pgx.ConnectConfig(ctx, cfg)
}

// reset closes the session, so that the next probe opens one.
func (p *prober) reset(ctx context.Context) { p.session.close(ctx) }

// close closes the session; there is none then.
func (s *probeSession) close(ctx context.Context) {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx)
	*s = probeSession{}
}

// tryOpen takes a connection of the pool and gives it back, if none is open and there
// was none yet or the last could not be had. A server that answers the probe may
// refuse what is needed besides: the caller's AfterConnect may fail.
func (e *endpoint) tryOpen(ctx context.Context) error {
	if e.open.Load() > 0 || e.failures.Load() == 0 && e.opened.Load() {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, e.config.ConnectTimeout)
	defer cancel()
	conn, err := e.acquire(bounded, opQuery, forSession)
	if err == nil {
		conn.Release()
		return nil
	}
	if ctx.Err() != nil || Classify(err) == ClassOverload || e.open.Load() > 0 {
		return nil // the pool ends, or there are connections that somebody has
	}
	return err
}
