package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Waiter is a session that waits for a lock which sessions of ours hold.
type Waiter struct {
	PID               int32
	User, Application string
	Schema, Table     string
	// Mode is the lock that it wants, such as AccessExclusiveLock.
	Mode string
	// Waited is for how long, or zero where the server does not tell (before
	// 14).
	Waited time.Duration
}

// ReadWaiters lists who waits in conn's database for a table's lock that is
// held by the session with the given process id, or by one of its role and
// application name. A session that waits behind a waiter is not listed. To ask
// costs the server next to nothing while no session waits.
func ReadWaiters(ctx context.Context, conn *pgx.Conn, holder uint32, versionNum int) ([]Waiter, error) {
	waited := "0::float8"
	if versionNum >= 140000 {
		waited = "coalesce(extract(epoch FROM clock_timestamp() - l.waitstart), 0)::float8"
	}
	type row struct {
		PID               int32
		User, Application string
		Schema, Table     string
		Mode              string
		Seconds           float64
	}
	rows, err := Collect[row](ctx, conn, `
WITH ours AS (
	SELECT pid FROM pg_catalog.pg_stat_activity
	WHERE pid = $1 OR usename = current_user AND application_name = current_setting('application_name')
)
SELECT l.pid AS pid, coalesce(a.usename, '')::text AS user, coalesce(a.application_name, '') AS application,
	n.nspname::text AS schema, c.relname::text AS table, l.mode AS mode, `+waited+` AS seconds
FROM pg_catalog.pg_locks AS l
	JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
	JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE NOT l.granted AND l.locktype = 'relation'
	AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
	AND l.pid NOT IN (SELECT pid FROM ours)
	AND EXISTS (SELECT FROM unnest(pg_catalog.pg_blocking_pids(l.pid)) AS b (pid) WHERE b.pid IN (SELECT pid FROM ours))
ORDER BY l.pid`, int64(holder))
	if err != nil {
		return nil, Wrap(err, "check for sessions that wait for the backup")
	}
	waiters := make([]Waiter, len(rows))
	for i, r := range rows {
		waiters[i] = Waiter{
			PID: r.PID, User: r.User, Application: r.Application, Schema: r.Schema, Table: r.Table, Mode: r.Mode,
			Waited: time.Duration(r.Seconds * float64(time.Second)),
		}
	}
	return waiters, nil
}

// Alive reports whether the session with the given process id is there.
func Alive(ctx context.Context, conn *pgx.Conn, pid uint32) (alive bool, err error) {
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE pid = $1)", int64(pid)).Scan(&alive)
	return alive, Wrap(err, "look for a session")
}

// WALBytes is the place in the WAL that the server has written, or on a standby
// replayed, in bytes from its beginning.
func WALBytes(ctx context.Context, conn *pgx.Conn) (n int64, err error) {
	err = conn.QueryRow(ctx, `SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
		ELSE pg_catalog.pg_current_wal_lsn() END - '0/0'::pg_lsn)::int8`).Scan(&n)
	return n, Wrap(err, "read the server's place in the WAL")
}
