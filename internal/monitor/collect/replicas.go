package collect

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// Replica asks a standby of the server that a Reading is of, connected to
// the same database, which of the Reading's unused indexes it uses, and adds it
// to the Reading's Replicas under what is known of it already. It looks as
// Collect does, within the same limits.
func Replica(ctx context.Context, conn Conn, r *reading.Reading, known reading.Replica, opts Options) error {
	opts = opts.withDefaults()
	c := newCollector(opts)
	c.reading.Indexes = r.Indexes
	c.reading.Replicas = []reading.Replica{known}
	err := c.run(ctx, conn, func(q query) bool {
		return q.replica || slices.Contains([]string{"system identifier", "standbys", "replication slots"}, q.name)
	})
	r.Cost.Queries += c.reading.Cost.Queries
	r.Cost.Statements += c.reading.Cost.Statements
	r.Cost.Connections++
	if err != nil {
		return err
	}
	there := c.reading
	switch id := there.Server.SystemIdentifier; {
	case there.Server.Role != reading.RoleStandby, there.Database != r.Database,
		id != "" && r.Server.SystemIdentifier != "" && id != r.Server.SystemIdentifier:
		return pgmedic.Errorf(pgmedic.KindUsage, "", "it is not a standby of the server that this report is about")
	}
	for _, s := range there.Skipped {
		if s.Query != "system identifier" {
			return pgmedic.Errorf(pgmedic.KindUnreachable, "", "%s: %s", s.Query, s.Reason)
		}
	}
	replica := there.Replicas[0]
	replica.StartedAt = there.Server.StartedAt
	if reset := there.Server.StatsReset; reset != nil && (replica.StatsReset == nil || reset.After(*replica.StatsReset)) {
		replica.StatsReset = reset // after a crash of one of its processes
	}
	if there.Replication != nil {
		replica.Standbys = there.Replication.Physical()
	}
	r.Replicas = append(r.Replicas, replica)
	return nil
}

const sqlReplicaStatistics = `select stats_reset from pg_stat_database where datname = current_database()`

const sqlReplicaIndexes = `
select i.indexrelid as oid, pg_stat_get_numscans(i.indexrelid) as scans
from pg_index i where i.indexrelid = any($1::oid[]) order by 1`

// replicaQueries are what replicas alone are asked.
func replicaQueries() []query {
	return []query{
		{
			name: "age of statistics", section: reading.SectionIndexes, replica: true, sql: sqlReplicaStatistics,
			scan: func(rows pgx.Rows, r *reading.Reading) error {
				reset, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[*time.Time])
				utc(reset)
				r.Replicas[0].StatsReset = reset
				return err
			},
		},
		{
			name: "use of indexes", section: reading.SectionIndexes, replica: true, sql: sqlReplicaIndexes, args: unusedOIDs,
			scan: list(func(r *reading.Reading) *[]reading.ReplicaIndex { return &r.Replicas[0].Indexes }),
		},
	}
}

// unusedOIDs are the indexes that nothing on the primary has scanned.
func unusedOIDs(r *reading.Reading, _ Options) []any {
	oids := []uint32{}
	if r.Indexes != nil {
		for _, x := range r.Indexes.Unused {
			oids = append(oids, x.OID)
		}
	}
	return []any{oids}
}
