package main

import (
	"context"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// replicaPatience bounds how long a report waits for one replica.
const replicaPatience = 15 * time.Second

// readReplicas asks the configured standbys which indexes their own sessions use.
// One that can't be asked is listed as skipped, and then no index that it could
// be using is called droppable.
func (a *app) readReplicas(ctx context.Context, r *monitor.Reading, opts monitor.CollectOptions) error {
	targets, err := a.replicas()
	if err != nil || r.Server.Role == monitor.RoleStandby {
		return err
	}
	seen := map[string]bool{}
	for _, t := range targets {
		err := a.readReplica(ctx, t.WithDatabase(r.Database), r, opts, seen)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			r.UnaskedReplicas = append(r.UnaskedReplicas, place(t))
			r.Skipped = append(r.Skipped, monitor.Skipped{
				Section: monitor.SectionIndexes, Query: "use of indexes on replica " + place(t), Reason: oneLine(err.Error()),
			})
		}
	}
	return nil
}

// readReplica asks one, unless it was asked under another address.
func (a *app) readReplica(ctx context.Context, t postgres.Target, r *monitor.Reading, opts monitor.CollectOptions, seen map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, replicaPatience)
	defer cancel()
	known, err := postgres.ReadReplica(ctx, t, r.Server.SystemIdentifier)
	if err != nil || seen[known.Instance] {
		return err
	}
	seen[known.Instance] = true
	conn, err := postgres.Connect(ctx, t)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	replica := monitor.Replica{Name: place(t), Application: known.Stream.Name, Slot: known.Stream.Slot}
	return monitor.CollectReplica(ctx, conn, r, replica, opts)
}

// place is where a target is, without who goes there.
func place(t postgres.Target) string { return t.With("user", "").With("dbname", "").String() }
