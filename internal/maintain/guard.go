package maintain

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/words"
)

// diskFactor is how many times the size of an index has to be free on the disk: the new
// index beside the old one, and the same once more for its WAL and its sorting.
const diskFactor = 2

// Disk returns the free bytes of the disk that holds the data directory, or says why that
// is not known.
type Disk func(ctx context.Context, conn *pgx.Conn) (free int64, unknown string)

// refuseReindex says why the index is not rebuilt now, or nothing.
func (r *runner) refuseReindex(ctx context.Context, x Relation) (why string, err error) {
	if h, err := databases.RunLockHolder(ctx, r.conn, r.plan.Database); err != nil || h != nil {
		if err != nil {
			return "", err
		}
		return "a backup or another run of pgmedic works on the database: " + h.String(), nil
	}
	if why, err := r.busy(ctx); why != "" || err != nil {
		return why, err
	}
	if why, err := r.lagging(ctx); why != "" || err != nil {
		return why, err
	}
	var size int64
	if err := r.conn.QueryRow(ctx, "SELECT coalesce(pg_catalog.pg_relation_size($1::oid), 0)", int64(x.OID)).Scan(&size); err != nil {
		return "", postgres.Wrap(err, "measure the index")
	}
	if why, err := r.noRoom(ctx, x, size); why != "" || err != nil {
		return why, err
	}
	return r.slotsInDanger(ctx, size)
}

// busy says which session of the database a REINDEX would wait for, or be waited for by.
func (r *runner) busy(ctx context.Context) (string, error) {
	var hidden, dumps int
	var oldest float64
	err := r.conn.QueryRow(ctx, `
SELECT count(*) FILTER (WHERE state IS NULL OR state = 'disabled')::int,
	count(*) FILTER (WHERE application_name LIKE 'pg\_dump%')::int,
	greatest(coalesce(max(extract(epoch FROM pg_catalog.clock_timestamp() - xact_start)), 0),
		(SELECT coalesce(max(extract(epoch FROM pg_catalog.clock_timestamp() - p.prepared)), 0)
		 FROM pg_catalog.pg_prepared_xacts AS p WHERE p.database = current_database()))::float8
FROM pg_catalog.pg_stat_activity AS a
WHERE datname = current_database() AND pid <> pg_catalog.pg_backend_pid() AND (backend_type IS NULL OR backend_type = 'client backend')`).
		Scan(&hidden, &dumps, &oldest)
	switch {
	case err != nil:
		return "", postgres.Wrap(err, "look for long transactions")
	case dumps > 0:
		return "pg_dump works on the database", nil
	case oldest >= r.o.LongTransaction.Seconds():
		return fmt.Sprintf("a transaction has been open for %s, and REINDEX CONCURRENTLY would wait for it", words.Seconds(oldest)), nil
	case hidden > 0:
		return fmt.Sprintf("whether long transactions run is not known: the state of %s is hidden from this role or not tracked: GRANT pg_monitor to it, and set track_activities on",
			words.Plural(hidden, "session")), nil
	}
	return "", nil
}

// lagging says which standby is too far behind, or whether a base backup is being taken.
func (r *runner) lagging(ctx context.Context) (string, error) {
	var hidden, backups, catchingUp int
	var lag float64
	err := r.conn.QueryRow(ctx, `
SELECT count(*) FILTER (WHERE state IS NULL)::int, count(*) FILTER (WHERE state = 'backup')::int,
	count(*) FILTER (WHERE state IN ('startup', 'catchup'))::int, coalesce(max(extract(epoch FROM replay_lag)), 0)::float8
FROM pg_catalog.pg_stat_replication WHERE application_name IS DISTINCT FROM 'pgmedic wal'`).Scan(&hidden, &backups, &catchingUp, &lag)
	switch {
	case err != nil:
		return "", postgres.Wrap(err, "read the replication lag")
	case hidden > 0:
		return "the replication lag is hidden from this role: GRANT pg_monitor to it", nil
	case backups > 0:
		return "a base backup is being taken", nil
	case catchingUp > 0:
		return "a standby is catching up", nil
	case lag >= r.o.MaxLag.Seconds():
		return "a standby is " + words.Seconds(lag) + " behind", nil
	}
	return "", nil
}

// noRoom says why there is no room for a second index.
func (r *runner) noRoom(ctx context.Context, x Relation, size int64) (string, error) {
	if x.Tablespace != "" {
		return "free disk space is not known: the index is in tablespace " + words.Clean(x.Tablespace), nil
	}
	free, unknown := int64(0), "this run does not measure it"
	if r.o.Disk != nil {
		free, unknown = r.o.Disk(ctx, r.conn)
	}
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case unknown != "":
		return "free disk space is not known: " + unknown, nil
	case free <= diskFactor*size:
		return fmt.Sprintf("%s of disk space are free, and twice the size of the index is needed, %s", words.Bytes(free), words.Bytes(diskFactor*size)), nil
	}
	return "", nil
}

// slotsInDanger says whether the WAL of a new index would have a replication slot
// invalidated, see max_slot_wal_keep_size (PostgreSQL 13).
func (r *runner) slotsInDanger(ctx context.Context, size int64) (string, error) {
	if r.session.versionNum < 130000 {
		return "", nil
	}
	slots, err := postgres.CollectScalar[string](ctx, r.conn, `SELECT slot_name::text FROM pg_catalog.pg_replication_slots
		WHERE safe_wal_size IS NOT NULL AND safe_wal_size <= $1::int8 ORDER BY safe_wal_size`, diskFactor*size)
	if err != nil || len(slots) == 0 {
		return "", postgres.Wrap(err, "read the replication slots")
	}
	return "its WAL could invalidate the replication slot " + words.Clean(slots[0]) + " (max_slot_wal_keep_size)", nil
}
