package databases

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Standbys returns the streams to the physical standbys that a server has now.
// Programs that receive WAL and have no sessions are none. What a role may not see
// is empty, and then taken for a standby.
func Standbys(ctx context.Context, conn *pgx.Conn) ([]pgmedic.Stream, error) {
	all, err := postgres.Collect[pgmedic.Stream](ctx, conn, `
SELECT coalesce(r.application_name, '') AS name, coalesce(s.slot_name::text, '') AS slot
FROM pg_catalog.pg_stat_replication AS r LEFT JOIN pg_catalog.pg_replication_slots AS s ON s.active_pid = r.pid
WHERE r.state IS DISTINCT FROM 'backup'
	AND coalesce(r.application_name, '') NOT IN ('pg_basebackup', 'pg_receivewal', 'barman_receive_wal', 'pgmedic wal', 'pgmedic_sync')
	AND s.slot_type IS DISTINCT FROM 'logical'
ORDER BY 1, 2`)
	return all, postgres.Wrap(err, "look for standbys")
}

// Replica is a standby that was asked who it is.
type Replica struct {
	// Instance tells two addresses of one standby from two standbys.
	Instance string
	// Streams is true where it receives WAL now, over Stream. One that reads an
	// archive does not.
	Streams bool
	Stream  pgmedic.Stream
	// Standby is true where it is a standby of the given server.
	Standby bool
	// Paused is true where its replay stands still.
	Paused bool
}

// ReadReplica asks a server whether it is a standby of the one with the given
// system identifier, as far as either may be known.
func ReadReplica(ctx context.Context, t postgres.Target, systemIdentifier string) (Replica, error) {
	var r Replica
	conn, err := postgres.Connect(ctx, t)
	if err != nil {
		return r, err
	}
	defer postgres.Close(ctx, conn)
	server, err := postgres.ReadServer(ctx, conn)
	if err != nil {
		return r, err
	}
	r.Standby = server.Standby && (server.SystemIdentifier == systemIdentifier || server.SystemIdentifier == "" || systemIdentifier == "")
	err = conn.QueryRow(ctx, `SELECT pg_catalog.pg_postmaster_start_time()::text,
		CASE WHEN pg_is_in_recovery() THEN pg_catalog.pg_is_wal_replay_paused() ELSE false END`).Scan(&r.Instance, &r.Paused)
	if err != nil {
		return r, postgres.Wrap(err, "ask a standby for its state")
	}
	var conninfo string
	err = conn.QueryRow(ctx, `SELECT coalesce(slot_name, ''), coalesce(conninfo, '') FROM pg_catalog.pg_stat_wal_receiver`).
		Scan(&r.Stream.Slot, &conninfo)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, nil
	}
	r.Streams, r.Stream.Name = true, nameIn(conninfo)
	return r, postgres.Wrap(err, "ask a standby for its stream")
}

// keyword begins each part of what pg_stat_wal_receiver shows, which quotes no
// value.
var keyword = regexp.MustCompile(`(?:^| )([a-z_]+)=`)

// nameIn is the application_name that a receiver of WAL connects with.
func nameIn(conninfo string) string {
	values := map[string]string{}
	found := keyword.FindAllStringSubmatchIndex(conninfo, -1)
	for i, m := range found {
		end := len(conninfo)
		if i+1 < len(found) {
			end = found[i+1][0]
		}
		values[conninfo[m[2]:m[3]]] = conninfo[m[1]:end]
	}
	return cmp.Or(values["application_name"], values["fallback_application_name"])
}

// EndOnStandby ends the sessions of a database on a standby, once that has
// replayed up to a position of its primary's WAL. It waits at most patience.
func EndOnStandby(ctx context.Context, t postgres.Target, database uint32, lsn string, patience time.Duration) (ended int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not after %s", words.Duration(patience)))
	defer cancel()
	conn, err := postgres.Connect(ctx, t)
	if err != nil {
		return 0, err
	}
	defer postgres.Close(ctx, conn)
	err = until(ctx, func() (bool, error) {
		var replayed bool
		err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_last_wal_replay_lsn() >= $1::pg_lsn", lsn).Scan(&replayed)
		return replayed, postgres.Wrap(err, "read what was replayed")
	})
	if err != nil {
		return 0, fmt.Errorf("wait until it has replayed the swap: %w", err)
	}
	told := map[int32]bool{}
	err = until(ctx, func() (bool, error) {
		pids, err := postgres.CollectScalar[int32](ctx, conn, "SELECT pid FROM pg_catalog.pg_stat_activity WHERE datid = $1", database)
		if err != nil {
			return false, postgres.Wrap(err, "look for sessions")
		}
		for _, pid := range pids {
			if _, err := conn.Exec(ctx, "SELECT pg_catalog.pg_terminate_backend($1)", pid); err != nil {
				return false, postgres.Wrap(err, "end a session")
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
	return lsn, postgres.Wrap(err, "read the position in the WAL")
}

// StandbyError says that sessions on a standby may go on reading the old
// database.
func StandbyError(name string, database uint32, cause error) error {
	return pgmedic.Errorf(pgmedic.KindDegraded,
		fmt.Sprintf("the swap is done; on that standby run: SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datid OPERATOR(pg_catalog.=) %d;", database),
		"end the sessions on standby %s, which go on reading the old database: %w", name, cause)
}

// RefuseStandby refuses a server that can't be written to.
func RefuseStandby(server pgmedic.Server) error {
	if !server.Standby {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindConflict, "name the primary", "the server is a standby and can't be written to")
}
