package monitor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"

	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Replica is a standby of the server and what its own sessions use there: each
// server keeps statistics for itself.
type Replica struct {
	// Name is where it was reached, such as db2.example.com:5432.
	Name string `json:"name"`
	// Application and Slot are what its primary knows its stream by, empty where
	// it didn't say.
	Application string `json:"application"`
	Slot        string `json:"slot"`
	// StartedAt and StatsReset bound since when its statistics are known: before
	// PostgreSQL 15 a standby begins them anew whenever it starts, and after it a
	// standby that crashed does.
	StartedAt  time.Time  `json:"started_at"`
	StatsReset *time.Time `json:"stats_reset"`
	// Indexes are the scans there of those that the primary doesn't use.
	Indexes []ReplicaIndex `json:"indexes"`
	// Standbys are those that follow it.
	Standbys []Standby `json:"standbys"`
}

// ReplicaIndex is how often sessions of a replica have scanned an index.
type ReplicaIndex struct {
	OID   uint32 `json:"oid"`
	Scans int64  `json:"scans"`
}

// countedSince is since when the replica's statistics are known to be kept.
func (p *Replica) countedSince() time.Time {
	if p.StatsReset != nil && p.StatsReset.After(p.StartedAt) {
		return *p.StatsReset
	}
	return p.StartedAt
}

// CollectReplica asks a standby of the server that a Reading is of, connected to
// the same database, which of the Reading's unused indexes it uses, and adds it
// to the Reading's Replicas under what is known of it already. It looks as
// Collect does, within the same limits.
func CollectReplica(ctx context.Context, conn Conn, r *Reading, known Replica, opts CollectOptions) error {
	opts = opts.withDefaults()
	c := newCollector(opts)
	c.reading.Indexes = r.Indexes
	c.reading.Replicas = []Replica{known}
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
	case there.Server.Role != RoleStandby, there.Database != r.Database,
		id != "" && r.Server.SystemIdentifier != "" && id != r.Server.SystemIdentifier:
		return pgmedic.Errorf(pgmedic.KindUsage, "", "it is no standby of the server that was looked at")
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
		replica.Standbys = there.Replication.physical()
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
			name: "age of statistics", section: SectionIndexes, replica: true, sql: sqlReplicaStatistics,
			scan: func(rows pgx.Rows, r *Reading) error {
				reset, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[*time.Time])
				utc(reset)
				r.Replicas[0].StatsReset = reset
				return err
			},
		},
		{
			name: "use of indexes", section: SectionIndexes, replica: true, sql: sqlReplicaIndexes, args: unusedOIDs,
			scan: list(func(r *Reading) *[]ReplicaIndex { return &r.Replicas[0].Indexes }),
		},
	}
}

// unusedOIDs are the indexes that nothing on the primary has scanned.
func unusedOIDs(r *Reading, _ CollectOptions) []any {
	oids := []uint32{}
	if r.Indexes != nil {
		for _, x := range r.Indexes.Unused {
			oids = append(oids, x.OID)
		}
	}
	return []any{oids}
}

// physical are those of the processes that WAL is sent to that can have sessions
// of their own on the same indexes. What this role may not see is among them.
func (r *Replication) physical() []Standby {
	return slices.DeleteFunc(slices.Clone(r.Standbys), func(s Standby) bool {
		logical := slices.ContainsFunc(r.Slots, func(x Slot) bool { return x.Name == s.Slot && x.Type == "logical" })
		program := slices.Contains([]string{"pg_basebackup", "pg_receivewal", "barman_receive_wal"}, s.Application)
		return logical || program || s.State == "backup"
	})
}

// unseenReplicas names the standbys that may use an index and were not asked:
// those that are configured and did not answer, those connected now, and those
// that a slot is kept for. It is false where it is not known which there are.
func (a *analysis) unseenReplicas() (names []string, known bool) {
	names = append(names, a.reading.UnaskedReplicas...)
	r := a.whole.Replication
	if r == nil || r.Standbys == nil {
		return names, false
	}
	var streams, ends []postgres.Stream
	follow := func(all []Standby) {
		for _, s := range all {
			streams = append(streams, postgres.Stream{Name: s.Application, Slot: s.Slot})
		}
	}
	follow(r.physical())
	for _, s := range r.Slots {
		if s.Type == "physical" && !s.Active && !s.Temporary {
			streams = append(streams, postgres.Stream{Slot: s.Name})
		}
	}
	for _, p := range a.reading.Replicas {
		follow(p.Standbys)
		ends = append(ends, postgres.Stream{Name: p.Application, Slot: p.Slot})
	}
	unmatched := postgres.Unmatched(streams, ends)
	for _, s := range a.lateStandbys() {
		same := func(x postgres.Stream) bool { return x == s }
		if !slices.ContainsFunc(streams, same) && !slices.ContainsFunc(ends, same) {
			unmatched = append(unmatched, s)
		}
	}
	for _, s := range unmatched {
		switch {
		case s.Name != "":
			names = append(names, sqltext.Readable(s.Name))
		case s.Slot != "":
			names = append(names, "the standby of slot "+sqltext.Readable(s.Slot))
		default:
			names = append(names, "a standby that this role may not see")
		}
	}
	return names, true
}

// lateStandbys are those that earlier looks, as far back as an index has to be known
// to be unused, saw connected to the server or to one of its replicas: one that is
// gone without a slot may come back.
func (a *analysis) lateStandbys() []postgres.Stream {
	var late []postgres.Stream
	for _, e := range a.earlier {
		if e.Server.SystemIdentifier != a.whole.Server.SystemIdentifier || a.reading.TakenAt.Sub(e.TakenAt) > max(a.limits.UnusedIndexAge, newAfter) {
			continue
		}
		var all []Standby
		if e.Replication != nil {
			all = append(all, e.Replication.physical()...)
		}
		for _, p := range e.Replicas {
			all = append(all, p.Standbys...)
		}
		for _, s := range all {
			stream := postgres.Stream{Name: s.Application, Slot: s.Slot}
			if stream != (postgres.Stream{}) && !slices.Contains(late, stream) {
				late = append(late, stream)
			}
		}
	}
	return late
}

// onReplicas says what the replicas that were asked know of an index: whether
// one of them uses it, and since when all of them are known not to. It is false
// where one of them doesn't know the index.
func (a *analysis) onReplicas(x Index) (scans int64, since time.Time, known bool) {
	known = true
	for _, p := range a.reading.Replicas {
		i := slices.IndexFunc(p.Indexes, func(y ReplicaIndex) bool { return y.OID == x.OID })
		if i < 0 {
			known = false
			continue
		}
		scans += p.Indexes[i].Scans
		if at := p.countedSince(); at.After(since) {
			since = at
		}
	}
	return scans, since, known
}

// replicasSeen names the replicas that were asked.
func (a *analysis) replicasSeen() string {
	if len(a.reading.Replicas) == 0 {
		return "none"
	}
	var names []string
	for _, p := range a.reading.Replicas {
		names = append(names, fmt.Sprintf("%s since %s", p.Name, p.countedSince().UTC().Format(time.DateOnly)))
	}
	return strings.Join(names, ", ")
}
