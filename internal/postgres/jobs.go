package postgres

import (
	"context"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// Jobs returns how many connections work at once where so many were asked for. With 0
// it is one for each processor that this process may use: in a container its quota,
// not the machine's number.
func Jobs(asked int) int {
	if asked > 0 {
		return asked
	}
	return runtime.GOMAXPROCS(0)
}

// TooManyConnections is the SQLSTATE of a server, a database or a role that has no
// connection left.
const TooManyConnections = "53300"

// patience is for how long a patient Target's connection is tried.
const patience = 5 * time.Second

// Patient returns the Target for a run that connects again and again. A server that has no
// connection left is asked for some seconds: a session that has just ended, the run's own or
// that of a client program, counts until its process is gone.
func (t Target) Patient() Target {
	t.patient = true
	return t
}

// spareConnections are left to others by whoever takes several: to an administrator, and to
// an application that opens one more.
const spareConnections = 2

// Workers runs work over n sessions at once, each of which it closes. It needs one: where
// fewer are left, those that there are do all of the work, which is why work takes what it
// does from a queue that they share.
func Workers(ctx context.Context, n int, connect func(context.Context) (*pgx.Conn, error), work func(context.Context, *pgx.Conn) error) error {
	if n <= 0 {
		return nil
	}
	first, err := connect(ctx)
	if err != nil {
		return err
	}
	if n > 1 { // a role that may not count them takes what it is given
		if free, err := freeConnections(ctx, first); err == nil {
			n = min(n, 1+max(0, free-spareConnections))
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	// Nothing waits for a connection when the work is done.
	connecting, done := context.WithCancel(groupCtx)
	defer done()
	group.Go(func() error {
		defer Close(groupCtx, first)
		defer done()
		return work(groupCtx, first)
	})
	for range n - 1 {
		group.Go(func() error {
			conn, err := connect(connecting)
			switch {
			case err == nil:
			case Code(err) == TooManyConnections, connecting.Err() != nil:
				return nil
			default:
				return err
			}
			defer Close(groupCtx, conn)
			return work(groupCtx, conn)
		})
	}
	return group.Wait()
}

// JobsWithin returns how many of the connections that were asked for the server can give
// the session's role in its database now, where others are left to further programs. It
// is at least 1: whoever takes that one learns whether it is there.
func JobsWithin(ctx context.Context, conn *pgx.Conn, asked, others int) (int, error) {
	free, err := freeConnections(ctx, conn)
	if err != nil {
		return 0, err
	}
	return max(1, min(asked, free-others)), nil
}

// freeConnections counts those that are left for the session's role in its database. Those
// that the server keeps for superusers are not counted: who has to end a run needs one.
func freeConnections(ctx context.Context, conn *pgx.Conn) (free int, err error) {
	// The type of what others run is hidden from most roles, and NULL then.
	err = conn.QueryRow(ctx, `
WITH me AS (SELECT oid, rolsuper, rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = session_user),
here AS (SELECT oid, datconnlimit FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()),
clients AS (SELECT datid, usesysid FROM pg_catalog.pg_stat_activity
	WHERE datid IS NOT NULL AND usesysid IS NOT NULL AND COALESCE(backend_type, 'client backend') = 'client backend')
SELECT LEAST(free,
	CASE WHEN NOT rolsuper AND rolconnlimit >= 0 THEN rolconnlimit - (SELECT count(*) FROM clients WHERE usesysid = me.oid) END,
	CASE WHEN NOT rolsuper AND datconnlimit >= 0 THEN datconnlimit - (SELECT count(*) FROM clients WHERE datid = here.oid) END)::int
FROM me, here, (SELECT pg_catalog.current_setting('max_connections')::int - pg_catalog.current_setting('superuser_reserved_connections')::int
	- COALESCE(pg_catalog.current_setting('reserved_connections', true), '0')::int - (SELECT count(*) FROM clients) AS free) AS server`).Scan(&free)
	return free, Wrap(err, "count the connections that are free")
}
