package pool

import (
	"context"
	"errors"
	"fmt"
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
	pg_backend_pid()`

// controlSQL adds what the control file says, which somebody may have forbidden.
const controlSQL = probeSQL + `,
	(SELECT system_identifier FROM pg_control_system()),
	(SELECT timeline_id FROM pg_control_checkpoint())::int8`

// prober probes one server over a connection of its own, so that a pool without
// a free connection can still be judged. It is used by one goroutine at a time.
type prober struct {
	endpoint *endpoint
	conn     *pgx.Conn
	// plain: the server did not let this session see its control file.
	plain bool
}

// probe asks the server what it is. It takes as long as the connect timeout at
// most.
func (p *prober) probe(ctx context.Context) probe {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, p.endpoint.config.ConnectTimeout)
	defer cancel()
	result, err := p.ask(ctx)
	if err != nil {
		p.reset(ctx)
		// A session that was closed since the last probe says nothing about the
		// server.
		if ctx.Err() == nil && !isConnectError(err) && Classify(err) == ClassConnectionLost {
			result, err = p.ask(ctx)
		}
	}
	if err != nil {
		p.reset(ctx)
		return probe{at: time.Now(), err: fmt.Errorf("probe %s: %w", p.endpoint.name, err), latency: time.Since(began)}
	}
	result.at = time.Now()
	return result
}

func (p *prober) ask(ctx context.Context) (result probe, err error) {
	if p.conn == nil {
		if p.conn, err = p.connect(ctx); err != nil {
			return result, err
		}
	}
	var lsn, timeline string
	var clock, replayed float64
	var oid int64
	var pid uint32
	columns := []any{&result.standby, &lsn, &timeline, &clock, &replayed, &result.database, &oid, &pid}
	began := time.Now()
	if !p.plain {
		err = p.conn.QueryRow(ctx, controlSQL).Scan(append(columns, &result.system, &result.checkpointed)...)
		var refused *pgconn.PgError
		p.plain = errors.As(err, &refused) && refused.SeverityUnlocalized == "ERROR"
	}
	if p.plain {
		began = time.Now()
		err = p.conn.QueryRow(ctx, probeSQL).Scan(columns...)
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
	result.pooled = pid != p.conn.PgConn().PID()
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

// reset closes the connection, so that the next probe opens one.
func (p *prober) reset(ctx context.Context) {
	if p.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = p.conn.Close(ctx)
	p.conn, p.plain = nil, false
}
