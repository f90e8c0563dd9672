package diff

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// LiveOptions say how a live database is read. Required: Target and Logger.
type LiveOptions struct {
	// Target is the database.
	Target postgres.Target
	// LockTimeout bounds the wait for each batch of locks; zero means 30 s.
	LockTimeout time.Duration
	// WithoutDefinitions leaves the inventory out.
	WithoutDefinitions bool
	Logger             *slog.Logger
}

// Live reads a live database at one moment: its tables, with their rows counted one by one,
// and its definitions. It locks each table as a SELECT does until it has counted all of
// them, and changes nothing.
func Live(ctx context.Context, o LiveOptions) (Side, error) {
	conn, err := postgres.Connect(ctx, o.Target)
	if err != nil {
		return Side{}, err
	}
	defer postgres.Close(ctx, conn)
	server, err := postgres.ReadServer(ctx, conn)
	if err != nil {
		return Side{}, err
	}
	database, err := postgres.ReadDatabase(ctx, conn, server.VersionNum)
	if err != nil {
		return Side{}, err
	}
	s, err := snapshot.Take(ctx, conn, snapshot.Options{LockTimeout: o.LockTimeout, Logger: o.Logger})
	if err != nil {
		return Side{}, err
	}
	defer s.Close(ctx)
	side := Side{At: s.TakenAt, Live: true, Name: "the live database " + sqltext.QuoteIdent(database.Name), Major: server.Major(), Extensions: database.Extensions}
	described, err := s.Describe(ctx, s.Tables)
	if err != nil {
		return Side{}, err
	}
	for i, t := range s.Tables {
		t.Columns = described[i].Columns
		if err := side.count(ctx, s, described[i], &t); err != nil {
			return Side{}, err
		}
		side.Tables = append(side.Tables, t)
	}
	if err := s.Held(ctx, true); err != nil {
		return Side{}, err
	}
	if !o.WithoutDefinitions {
		side.Inventory, err = inventory(ctx, s, o, server)
	}
	return side, err
}

// count counts the rows of one table. Those of an unlogged one can't be read on a standby.
func (side *Side) count(ctx context.Context, s *snapshot.Snapshot, described snapshot.RowTable, t *pgmedic.Table) error {
	readable, err := s.Readable(ctx, described)
	if err != nil {
		return err
	}
	if !readable {
		if side.Uncounted == nil {
			side.Uncounted = map[string]string{}
		}
		side.Uncounted[countedAs(*t)] = "an unlogged table can't be read on a standby"
		return nil
	}
	counted, err := databases.CountRows(ctx, s.Conn(), []pgmedic.Table{*t})
	t.Rows = counted[sqltext.CountedAs(*t)]
	return err
}

// inventory reads the definitions in the snapshot, over a session of its own: an object
// that is dropped while it is printed is an error that would end the snapshot's.
func inventory(ctx context.Context, s *snapshot.Snapshot, o LiveOptions, server pgmedic.Server) (*snapshot.Inventory, error) {
	conn, err := postgres.Connect(ctx, o.Target)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	const tries = 3
	for try := 1; ; try++ {
		read, err := readIn(ctx, conn, s.ID, s.LeftOut, o.LockTimeout, server.VersionNum)
		if err == nil || try == tries || postgres.Code(err) != "XX000" {
			return read, err
		}
	}
}

func readIn(ctx context.Context, conn *pgx.Conn, id string, leftOut snapshot.LeftOut, timeout time.Duration, versionNum int) (*snapshot.Inventory, error) {
	if timeout <= 0 {
		timeout = 30 * time.Second
	}
	if err := snapshot.SetLockTimeout(ctx, conn, timeout); err != nil {
		return nil, err
	}
	return snapshot.ReadInventoryIn(ctx, conn, id, versionNum, leftOut)
}
