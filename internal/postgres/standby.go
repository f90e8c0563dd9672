package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
)

// Standbys returns the names of the physical standbys that a server streams to
// now. Programs that receive WAL and have no sessions are none.
func Standbys(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	// What a role may not see is null, and then taken for a standby.
	names, err := collectScalar[string](ctx, conn, `
SELECT coalesce(nullif(r.application_name, ''), r.pid::text) FROM pg_catalog.pg_stat_replication AS r
WHERE r.state IS DISTINCT FROM 'backup'
	AND coalesce(r.application_name, '') NOT IN ('pg_basebackup', 'pg_receivewal', 'barman_receive_wal')
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots AS s
		WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
ORDER BY 1`)
	return names, Wrap(err, "look for standbys")
}

// Replica is a standby that was asked who it is.
type Replica struct {
	// Instance tells two addresses of one standby from two standbys.
	Instance string
	// Standby is true where it is a standby of the given server.
	Standby bool
	// Paused is true where its replay stands still.
	Paused bool
}

// ReadReplica asks a server whether it is a standby of the one with the given
// system identifier, as far as either may be known.
func ReadReplica(ctx context.Context, t Target, systemIdentifier string) (Replica, error) {
	var r Replica
	conn, err := Connect(ctx, t)
	if err != nil {
		return r, err
	}
	defer Close(ctx, conn)
	server, err := ReadServer(ctx, conn)
	if err != nil {
		return r, err
	}
	r.Standby = server.Standby && (server.SystemIdentifier == systemIdentifier || server.SystemIdentifier == "" || systemIdentifier == "")
	err = conn.QueryRow(ctx, `SELECT pg_catalog.pg_postmaster_start_time()::text,
		CASE WHEN pg_is_in_recovery() THEN pg_catalog.pg_is_wal_replay_paused() ELSE false END`).Scan(&r.Instance, &r.Paused)
	return r, Wrap(err, "ask a standby for its state")
}

// EndOnStandby ends the sessions of a database on a standby, once that has
// replayed up to a position of its primary's WAL. It waits at most patience.
func EndOnStandby(ctx context.Context, t Target, database uint32, lsn string, patience time.Duration) (ended int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not after %s", patience))
	defer cancel()
	conn, err := Connect(ctx, t)
	if err != nil {
		return 0, err
	}
	defer Close(ctx, conn)
	err = until(ctx, func() (bool, error) {
		var replayed bool
		err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_last_wal_replay_lsn() >= $1::pg_lsn", lsn).Scan(&replayed)
		return replayed, Wrap(err, "read what was replayed")
	})
	if err != nil {
		return 0, fmt.Errorf("wait until it has replayed the swap: %w", err)
	}
	told := map[int32]bool{}
	err = until(ctx, func() (bool, error) {
		pids, err := collectScalar[int32](ctx, conn, "SELECT pid FROM pg_catalog.pg_stat_activity WHERE datid = $1", database)
		if err != nil {
			return false, Wrap(err, "look for sessions")
		}
		for _, pid := range pids {
			if _, err := conn.Exec(ctx, "SELECT pg_catalog.pg_terminate_backend($1)", pid); err != nil {
				return false, Wrap(err, "end a session")
			}
			told[pid] = true
		}
		return len(pids) == 0, nil
	})
	return len(told), err
}

// until asks again and again until the answer is yes.
func until(ctx context.Context, holds func() (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := holds(); ok || err != nil {
			if err != nil && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// WALPosition is the end of the WAL that is on disk.
func WALPosition(ctx context.Context, conn *pgx.Conn) (string, error) {
	var lsn string
	err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_current_wal_flush_lsn()::text").Scan(&lsn)
	return lsn, Wrap(err, "read the position in the WAL")
}

// StandbyError says that sessions on a standby may go on reading the old
// database.
func StandbyError(name string, database uint32, cause error) error {
	return pgmedic.Errorf(pgmedic.KindDegraded,
		fmt.Sprintf("the swap is done; on that standby run: SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datid = %d;", database),
		"end the sessions on standby %s, which go on reading the old database: %w", name, cause)
}
