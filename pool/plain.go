package pool

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PlainOptions are those of a plain pool.
type PlainOptions struct {
	// MaxConns bounds its connections, by default 4. They come on top of those of
	// the DB.
	MaxConns int
}

// NewPlain returns a plain *pgxpool.Pool to the primary, for a library that wants one,
// such as River's own driver. It connects as the DB does, to whichever server is the
// primary at that time, and closes its idle connections to one that is not, or that
// the server has ended. All else it does as pgxpool does: nothing is tried again or
// classified, callers wait without a limit of their own, there is no gate, breaker,
// standby or slow log, and Stats, Health and Shutdown of the DB know nothing of it.
// Statements keep the QueryTimeout by the server, but behind a pooler.
//
// The caller closes it, before the Shutdown of the DB: after that it can't connect.
func (db *DB) NewPlain(ctx context.Context, opts PlainOptions) (*pgxpool.Pool, error) {
	if opts.MaxConns < 0 {
		return nil, &ConfigError{"MaxConns", fmt.Sprintf("is %d", opts.MaxConns), "it is a number of connections, from 1 on"}
	}
	first, err := db.writable()
	if err != nil {
		return nil, err
	}
	config := first.pool.Config()
	config.MaxConns, config.MinConns, config.MinIdleConns = int32(orDefault(opts.MaxConns, defaultPlainConns)), 0, 0
	config.ConnConfig.Tracer = db.config.Tracer
	config.ConnConfig.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: c.Conn()} // pgx's own
	}
	config.BeforeClose = nil
	config.ShouldPing = nil
	config.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
		e, err := db.writable()
		if err != nil {
			return err
		}
		own := e.pool.Config().ConnConfig
		own.Tracer, own.BuildContextWatcherHandler = c.Tracer, c.BuildContextWatcherHandler
		*c = *own
		return e.beforeConnect(ctx, c)
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		e, err := db.writable()
		if err != nil {
			return err
		}
		p := &plainConn{of: e, conn: session{conn: conn.PgConn()}}
		p.conn.socket.open(conn.PgConn().Conn())
		conn.PgConn().CustomData()[plainKey] = p
		if err := p.conn.findRole(ctx, e.config.ConnectTimeout); err != nil {
			return err
		}
		if p.conn.standby && e.pooled.Load() == pooledNo {
			e.misled()
			return errMisled
		}
		return e.afterConnect(ctx, conn)
	}
	config.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		p, _ := conn.PgConn().CustomData()[plainKey].(*plainConn)
		e := db.monitor.primary.Load()
		return p != nil && (e == nil || e == p.of) && p.conn.alive(ctx), nil
	}
	plain, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	if err != nil {
		return nil, fmt.Errorf("open a plain pool to %s: %w", first.name, err)
	}
	return plain, nil
}

const (
	defaultPlainConns = 4
	// plainKey is where a connection of a plain pool keeps its plainConn.
	plainKey = "pgmedic.plain"
)

// plainConn is what is known of a connection of a plain pool.
type plainConn struct {
	of   *endpoint
	conn session
}
