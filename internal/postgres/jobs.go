package postgres

import (
	"context"
	"runtime"

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

// tooManyConnections is the SQLSTATE of a server, a database or a role that has no
// connection left.
const tooManyConnections = "53300"

// Workers runs work over n sessions at once, each of which it closes. It needs one: where
// no connection is left for another, those that are there do all of the work, which is
// why work takes what it does from a queue that they share.
func Workers(ctx context.Context, n int, connect func(context.Context) (*pgx.Conn, error), work func(context.Context, *pgx.Conn) error) error {
	if n <= 0 {
		return nil
	}
	first, err := connect(ctx)
	if err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer Close(groupCtx, first)
		return work(groupCtx, first)
	})
	for range n - 1 {
		group.Go(func() error {
			conn, err := connect(groupCtx)
			switch {
			case Code(err) == tooManyConnections:
				return nil
			case err != nil:
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
	var free int
	err := conn.QueryRow(ctx, `
WITH me AS (SELECT oid, rolsuper, rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = session_user),
here AS (SELECT oid, datconnlimit FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()),
clients AS (SELECT datid, usesysid FROM pg_catalog.pg_stat_activity WHERE datid IS NOT NULL AND usesysid IS NOT NULL)
SELECT CASE WHEN rolsuper THEN free
	ELSE LEAST(free - pg_catalog.current_setting('superuser_reserved_connections')::int - COALESCE(pg_catalog.current_setting('reserved_connections', true), '0')::int,
		CASE WHEN rolconnlimit >= 0 THEN rolconnlimit - (SELECT count(*) FROM clients WHERE usesysid = me.oid) END,
		CASE WHEN datconnlimit >= 0 THEN datconnlimit - (SELECT count(*) FROM clients WHERE datid = here.oid) END) END::int
FROM me, here, (SELECT pg_catalog.current_setting('max_connections')::int - count(*) AS free FROM clients) AS server`).Scan(&free)
	if err != nil {
		return 0, Wrap(err, "count the connections that are free")
	}
	return max(1, min(asked, free-others)), nil
}
