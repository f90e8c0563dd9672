package restore

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

// analyze gathers the statistics that the planner needs, over as many connections
// as have loaded, the largest tables first.
func (s *Session) analyze(ctx context.Context) error {
	conn, err := postgres.Connect(ctx, s.Database)
	if err != nil {
		return err
	}
	names, err := analyzable(ctx, conn)
	postgres.Close(ctx, conn)
	if err != nil {
		return err
	}
	queue := make(chan analyzed, len(names))
	for _, name := range names {
		queue <- name
	}
	close(queue)
	connect := func(ctx context.Context) (*pgx.Conn, error) { return postgres.ConnectLoading(ctx, s.Database) }
	return postgres.Workers(ctx, min(s.jobs(), len(names)), connect, func(ctx context.Context, conn *pgx.Conn) error {
		return s.analyzeSome(ctx, conn, queue)
	})
}

func (s *Session) analyzeSome(ctx context.Context, conn *pgx.Conn, queue <-chan analyzed) error {
	// Functions in expression indexes may read views, as they may for everyone
	// else.
	if err := postgres.AllowViews(ctx, conn); err != nil {
		return err
	}
	for t := range queue {
		if err := s.analyzeOne(ctx, conn, t); err != nil {
			return err
		}
	}
	return nil
}

// analyzeOne analyzes a table. One that has an index whose function needs a search
// path is analyzed with the database's own; if that fails, too, the table only lacks its
// statistics.
func (s *Session) analyzeOne(ctx context.Context, conn *pgx.Conn, t analyzed) error {
	sql := "ANALYZE " + t.name
	_, err := conn.Exec(ctx, sql)
	if !postgres.RefusedContent(err) || s.live {
		return postgres.Wrap(err, "analyze "+t.name)
	}
	if err := postgres.SearchAsApplication(ctx, conn, t.schema); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	if postgres.RefusedContent(err) {
		s.Logger.Warn("a table can't be analyzed: the planner lacks its statistics", "table", t.name, "reason", postgres.Condition(postgres.Code(err)))
		err = nil
	}
	if pathErr := postgres.SearchNothing(ctx, conn); err == nil {
		return pathErr
	}
	return postgres.Wrap(err, "analyze "+t.name)
}

// analyzed is a table that is analyzed: its schema, and its quoted name with that.
type analyzed struct{ schema, name string }

// analyzable lists what is passed to ANALYZE, the largest first: all that it would
// take by itself, and a partitioned table in place of its partitions. Left out
// are tables that have partitions or children on other servers, but not those
// that are here: ANALYZE would ask those servers for rows, which a copy must
// not do, least of all in a drill.
func analyzable(ctx context.Context, conn *pgx.Conn) ([]analyzed, error) {
	rows, err := conn.Query(ctx, `
WITH RECURSIVE above (oid) AS (
	SELECT i.inhparent FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
	WHERE c.relkind = 'f'
	UNION SELECT i.inhparent FROM above JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = above.oid
), below (root, oid) AS (
	SELECT c.oid, c.oid FROM pg_catalog.pg_class AS c
	WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND c.oid NOT IN (SELECT oid FROM above)
		AND (NOT c.relispartition OR EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid AND i.inhparent IN (SELECT oid FROM above)))
	UNION ALL
	SELECT b.root, c.oid FROM below AS b JOIN pg_catalog.pg_inherits AS i ON i.inhparent = b.oid
		JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND c.relispartition
)
SELECT n.nspname::text, format('%I.%I', n.nspname, c.relname) FROM below AS b
	JOIN pg_catalog.pg_class AS c ON c.oid = b.root JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	JOIN pg_catalog.pg_class AS p ON p.oid = b.oid
GROUP BY b.root, n.nspname, c.relname ORDER BY sum(pg_catalog.pg_relation_size(p.oid)) DESC, 2`)
	if err != nil {
		return nil, postgres.Wrap(err, "list the tables to analyze")
	}
	names, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t analyzed, err error) { return t, row.Scan(&t.schema, &t.name) })
	return names, postgres.Wrap(err, "list the tables to analyze")
}
