package physical

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// space is in which tablespace the files of a database are by default.
type space struct {
	OID, Space uint32
	Name       string
}

// spaces returns where the files of all databases are, and nil where there is no session.
func (r *run) spaces(ctx context.Context) ([]space, error) {
	if r.sql == nil {
		return nil, nil
	}
	r.sql.mu.Lock()
	defer r.sql.mu.Unlock()
	return readSpaces(ctx, r.sql.conn)
}

func readSpaces(ctx context.Context, conn *pgx.Conn) ([]space, error) {
	rows, err := postgres.Collect[space](ctx, conn, "SELECT oid, dattablespace AS space, datname::text AS name FROM pg_catalog.pg_database ORDER BY oid")
	return rows, postgres.Wrap(err, "read in which tablespaces the databases are")
}

// checkMoved refuses a backup during which a database was moved to another tablespace (ALTER
// DATABASE … SET TABLESPACE): WAL has of that only that the folder is to be copied, and of the
// folder the backup may lack what was moved away before it was read. Recovery then empties the
// new folder, too, and says nothing (dbase_redo in dbcommands.c).
func (r *run) checkMoved(ctx context.Context, before []space) error {
	if before == nil {
		return nil // openSQL has warned
	}
	after, err := r.spaces(ctx)
	if err != nil && ctx.Err() == nil { // the files can take hours, after which the session may be gone
		after, err = r.spacesAgain(ctx)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		r.Logger.Warn("not checked whether a database was moved to another tablespace during the backup, which would then lack files", "error", err)
		return nil
	}
	return moved(before, after)
}

// spacesAgain is spaces by a session of its own.
func (r *run) spacesAgain(ctx context.Context) ([]space, error) {
	target := r.Target
	if target.Database() == "" {
		target = target.WithDatabase(r.Maintenance)
	}
	conn, err := postgres.Connect(ctx, target)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	return readSpaces(ctx, conn)
}

// moved returns an error for databases that are in another tablespace than before. It is pure.
func moved(before, after []space) error {
	was := map[uint32]uint32{}
	for _, s := range before {
		was[s.OID] = s.Space
	}
	var names []string
	for _, s := range after {
		if from, there := was[s.OID]; there && from != s.Space {
			names = append(names, sqltext.QuoteIdent(s.Name))
		}
	}
	if len(names) == 0 {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindFailed, "run it again, and let ALTER DATABASE … SET TABLESPACE wait until it has ended",
		"during the backup a database was moved to another tablespace, of which the backup would lack files: %s", strings.Join(names, ", "))
}
