package inspect

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/words"
)

// connectable leaves out the databases that the role may not connect to, and lists
// them as skipped: the server would log each refusal.
func connectable(ctx context.Context, conn *pgx.Conn, r *reading.Reading, names []string) ([]string, error) {
	r.Cost.Queries, r.Cost.Statements = r.Cost.Queries+1, r.Cost.Statements+1
	rows, err := conn.Query(ctx, `SELECT datname::text FROM pg_catalog.pg_database WHERE pg_catalog.has_database_privilege(oid, 'CONNECT')`)
	if err != nil {
		return nil, postgres.Wrap(err, "read which databases the role may connect to")
	}
	may, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, postgres.Wrap(err, "read which databases the role may connect to")
	}
	return slices.DeleteFunc(names, func(name string) bool {
		if slices.Contains(may, name) {
			return false
		}
		r.Skipped = append(r.Skipped, reading.Skipped{
			Section: reading.SectionOverview, Query: "database " + words.OneLine(name), Reason: "this role lacks CONNECT on it",
		})
		return true
	}), nil
}

// otherDatabases looks at the server's other databases, one after the other. One
// that can't be read is listed as skipped.
func (o Options) otherDatabases(ctx context.Context, r *reading.Reading, names []string) error {
	opts := o.Collect
	opts.DatabaseOnly, opts.Interval = true, 0
	for _, name := range names {
		if name == r.Database {
			continue
		}
		other, err := func() (*reading.Reading, error) {
			conn, err := postgres.Connect(ctx, o.Target.WithDatabase(name))
			if err != nil {
				return nil, err
			}
			defer postgres.Close(ctx, conn)
			return collect.Collect(ctx, conn, opts)
		}()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			r.Skipped = append(r.Skipped, reading.Skipped{
				Section: reading.SectionOverview, Query: "database " + words.OneLine(name), Reason: words.OneLine(err.Error()),
			})
			continue
		}
		if err := o.readReplicas(ctx, other); err != nil {
			return err
		}
		r.Databases = append(r.Databases, other)
		r.Cost.Queries += other.Cost.Queries
		r.Cost.Statements += other.Cost.Statements + statementsOfConnect
		r.Cost.Connections += other.Cost.Connections
		r.Cost.Seconds += other.Cost.Seconds
	}
	return nil
}
