package inspect

import (
	"context"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/words"
)

// replicaPatience bounds how long a report waits for one replica.
const replicaPatience = 15 * time.Second

// readReplicas asks the configured standbys which indexes their own sessions use.
// One that can't be asked is listed as skipped, and then no index that it could
// be using is called droppable.
func (o Options) readReplicas(ctx context.Context, r *reading.Reading) error {
	if r.Server.Role == reading.RoleStandby {
		return nil
	}
	seen := map[string]bool{}
	for _, t := range o.Replicas {
		err := o.readReplica(ctx, t.WithDatabase(r.Database), r, seen)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			r.UnaskedReplicas = append(r.UnaskedReplicas, place(t))
			r.Skipped = append(r.Skipped, reading.Skipped{
				Section: reading.SectionIndexes, Query: "use of indexes on replica " + place(t), Reason: words.OneLine(err.Error()),
			})
		}
	}
	return nil
}

// readReplica asks one, unless it was asked under another address.
func (o Options) readReplica(ctx context.Context, t postgres.Target, r *reading.Reading, seen map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, replicaPatience)
	defer cancel()
	known, err := databases.ReadReplica(ctx, t, r.Server.SystemIdentifier)
	if err != nil || seen[known.Instance] {
		return err
	}
	seen[known.Instance] = true
	conn, err := postgres.Connect(ctx, t)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	replica := reading.Replica{Name: place(t), Application: known.Stream.Name, Slot: known.Stream.Slot}
	return collect.Replica(ctx, conn, r, replica, o.Collect)
}

// place is where a target is, without who goes there.
func place(t postgres.Target) string { return t.With("user", "").With("dbname", "").String() }
