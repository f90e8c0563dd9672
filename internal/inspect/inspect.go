// Package inspect makes a whole reading of a server: the database that is asked for,
// the server's machine, its replicas and other databases, what the store knows of the
// backups, and what earlier readings are there to be compared with.
package inspect

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/monitor"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// Options say what is read.
type Options struct {
	// Target is the database.
	Target postgres.Target
	// Collect says how each database is read.
	Collect monitor.CollectOptions
	// AllDatabases reads the server's other databases, too.
	AllDatabases bool
	// Replicas are standbys that are asked which indexes their sessions use.
	Replicas []postgres.Target
	// Host is what is stated of the server's machine.
	Host Stated
	// Backups says where the database's backups are.
	Backups Backups
}

// statementsOfConnect is what postgres.Connect sends to set a session up.
const statementsOfConnect = 1

// Server reads a server. There are both a reading and an error of one that went away
// midway.
func Server(ctx context.Context, o Options) (*monitor.Reading, error) {
	conn, err := postgres.Connect(ctx, o.Target)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	reading, err := monitor.Collect(ctx, conn, o.Collect)
	if err != nil {
		return reading, err
	}
	reading.Cost.Statements += statementsOfConnect
	o.Host.read(ctx, conn, reading)
	if err := o.readReplicas(ctx, reading); err != nil {
		return nil, err
	}
	if o.AllDatabases {
		if err := o.readOthers(ctx, conn, reading); err != nil {
			return nil, err
		}
	}
	if !reading.Wants(monitor.SectionBackups) {
		return reading, nil
	}
	return reading, o.Backups.read(ctx, reading)
}

// readOthers reads the databases that the role may connect to, but the first.
func (o Options) readOthers(ctx context.Context, conn *pgx.Conn, reading *monitor.Reading) error {
	reading.Cost.Queries, reading.Cost.Statements = reading.Cost.Queries+1, reading.Cost.Statements+1
	names, err := postgres.ListDatabases(ctx, conn)
	if err != nil {
		return err
	}
	if names, err = connectable(ctx, conn, reading, names); err != nil {
		return err
	}
	return o.otherDatabases(ctx, reading, names)
}
