// Package inspect makes a whole reading of a server: the database that is asked for,
// the server's machine, its replicas and other databases, what the store knows of the
// backups, and what earlier readings are there to be compared with.
package inspect

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/poolstate"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
)

// Options say what is read.
type Options struct {
	// Target is the database.
	Target postgres.Target
	// Collect says how each database is read.
	Collect collect.Options
	// AllDatabases reads the server's other databases, too.
	AllDatabases bool
	// Replicas are standbys that are asked which indexes their sessions use.
	Replicas []postgres.Target
	// Host is what is stated of the server's machine.
	Host Stated
	// Pools are where services describe their connection pools.
	Pools []poolstate.Source
	// Unread is called with each of Pools that could not be read, and why. Nil ignores that:
	// the reading lists them as skipped.
	Unread func(poolstate.Source, error)
	// Backups says where the database's backups are.
	Backups Backups
}

// statementsOfConnect is what postgres.Connect sends to set a session up.
const statementsOfConnect = 1

// Server reads a server. There are both a reading and an error of one that went away
// midway.
func Server(ctx context.Context, o Options) (*reading.Reading, error) {
	conn, err := postgres.Connect(ctx, o.Target)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	r, err := collect.Collect(ctx, conn, o.Collect)
	if err != nil {
		return r, err
	}
	r.Cost.Statements += statementsOfConnect
	o.Host.read(ctx, conn, r)
	if err := o.readReplicas(ctx, r); err != nil {
		return nil, err
	}
	if len(o.Pools) > 0 && r.Wants(reading.SectionServices) {
		if err := o.readServices(ctx, conn, r); err != nil {
			return nil, err
		}
	}
	if o.AllDatabases {
		if err := o.readOthers(ctx, conn, r); err != nil {
			return nil, err
		}
	}
	if !r.Wants(reading.SectionBackups) {
		return r, nil
	}
	return r, o.Backups.read(ctx, r)
}

// readOthers reads the databases that the role may connect to, but the first.
func (o Options) readOthers(ctx context.Context, conn *pgx.Conn, r *reading.Reading) error {
	r.Cost.Queries, r.Cost.Statements = r.Cost.Queries+1, r.Cost.Statements+1
	names, err := databases.List(ctx, conn)
	if err != nil {
		return err
	}
	if names, err = connectable(ctx, conn, r, names); err != nil {
		return err
	}
	return o.otherDatabases(ctx, r, names)
}
