package maintain

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
)

const (
	// lockTimeout is how long a statement waits for a lock. Readers and writers do not
	// queue behind it: VACUUM, ANALYZE and REINDEX CONCURRENTLY wait for locks that do
	// not conflict with theirs.
	lockTimeout = "5s"
	// costDelay slows VACUUM and ANALYZE down as autovacuum is by default
	// (autovacuum_vacuum_cost_delay).
	costDelay = "2ms"
	// userSchemas leaves out the system's own.
	userSchemas = `n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'`
)

// Session is a session that maintains one database.
type Session struct {
	target     postgres.Target
	conn       *pgx.Conn
	versionNum int
	warned     []string
}

// Open connects for maintenance. The error is of KindConflict on a standby, and where
// another session maintains the database.
func Open(ctx context.Context, t postgres.Target) (_ *Session, err error) {
	s := &Session{target: t}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close(ctx)
		}
	}()
	server, err := postgres.ReadServer(ctx, s.conn)
	if err != nil {
		return nil, err
	}
	if err := databases.RefuseStandby(server); err != nil {
		return nil, err
	}
	s.versionNum = server.VersionNum
	return s, s.lock(ctx)
}

// connect opens the session. Indexes of expressions are rebuilt with the database's own
// settings, which the values of those may depend on.
func (s *Session) connect(ctx context.Context) error {
	conn, err := postgres.ConnectComputing(ctx, s.target.Hearing(s.hear))
	if err != nil {
		return err
	}
	s.conn = conn
	err = postgres.ExecSimple(ctx, conn, fmt.Sprintf("SET lock_timeout = '%s'; SET vacuum_cost_delay = '%s'; SET client_min_messages = 'warning'", lockTimeout, costDelay))
	if err != nil {
		s.Close(ctx)
	}
	return postgres.Wrap(err, "set up the session")
}

// hear notes that the server warned of something: VACUUM that passes a table over is no
// error to it.
func (s *Session) hear(code string) { s.warned = append(s.warned, code) }

// lock keeps two runs on one database apart.
func (s *Session) lock(ctx context.Context) error {
	got, holder, err := databases.TryNamedLock(ctx, s.conn, "pgmedic maintain")
	if err != nil || got {
		return err
	}
	who := "another session"
	hint := "run the command again when it has ended"
	if holder != nil {
		who = holder.String()
		hint += "; to end it: " + holder.End()
	}
	return pgmedic.Errorf(pgmedic.KindConflict, hint, "another pgmedic maintain works on the database: %s", who)
}

// Close ends the session.
func (s *Session) Close(ctx context.Context) {
	if s.conn != nil {
		databases.CloseUnlocked(ctx, s.conn)
		s.conn = nil
	}
}

// maintainSQL says whether the role has the privilege MAINTAIN of PostgreSQL 17 on a
// table, or before owns the relation c.
func (s *Session) maintainSQL(table string) string {
	if s.versionNum >= 170000 {
		return "pg_catalog.has_table_privilege(" + table + ", 'MAINTAIN')"
	}
	return "pg_catalog.pg_has_role(c.relowner, 'USAGE')"
}

// relationColumns are those of Relation, of c in n, with i for an index.
func (s *Session) relationColumns() string {
	return `c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relpersistence = 't' AS temporary,
	coalesce(i.indisexclusion, false) AS exclusion, NOT (` + userSchemas + `) AS system,
	coalesce((SELECT t.spcname::text FROM pg_catalog.pg_tablespace AS t WHERE t.oid = CASE WHEN c.reltablespace = 0
		THEN (SELECT d.dattablespace FROM pg_catalog.pg_database AS d WHERE d.datname = current_database()) ELSE c.reltablespace END
		AND t.spcname <> 'pg_default'), '') AS tablespace,
	coalesce(` + s.maintainSQL("c.oid") + `, false) OR NOT c.relisshared AND EXISTS (SELECT FROM pg_catalog.pg_database AS d
		WHERE d.datname = current_database() AND pg_catalog.pg_has_role(d.datdba, 'USAGE')) AS may_vacuum,
	coalesce(` + s.maintainSQL("i.indrelid") + `, false) AS may_reindex`
}

const relationFrom = `
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	LEFT JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid`

// row is a Relation as it is read, with what only some queries have.
type row struct {
	OID                  int64
	Schema, Name         string
	Temporary, Exclusion bool
	System               bool
	Tablespace           string
	MayVacuum            bool
	MayReindex           bool
}

func (r row) relation() Relation {
	return Relation{
		OID: uint32(r.OID), Schema: r.Schema, Name: r.Name, Temporary: r.Temporary, Exclusion: r.Exclusion, System: r.System,
		Tablespace: r.Tablespace, MayVacuum: r.MayVacuum, MayReindex: r.MayReindex,
	}
}

func relations(rows []row) []Relation {
	all := make([]Relation, 0, len(rows))
	for _, r := range rows {
		all = append(all, r.relation())
	}
	return all
}

// Complete adds to the reading, findings, kinds and thresholds of some facts what else a
// plan rests on.
func (s *Session) Complete(ctx context.Context, f Facts) (Facts, error) {
	settings, err := postgres.ReadSettings(ctx, s.conn, []string{"autovacuum_analyze_threshold", "autovacuum_analyze_scale_factor"})
	if err != nil {
		return f, err
	}
	f.AnalyzeThreshold, f.AnalyzeScale = 50, 0.1 // PostgreSQL's defaults
	for name, value := range map[string]*float64{"autovacuum_analyze_threshold": &f.AnalyzeThreshold, "autovacuum_analyze_scale_factor": &f.AnalyzeScale} {
		if n, err := strconv.ParseFloat(settings[name], 64); err == nil {
			*value = n
		}
	}
	schemas, names := mentioned(f.Reading)
	rows, err := postgres.Collect[row](ctx, s.conn, "SELECT "+s.relationColumns()+relationFrom+`
	JOIN unnest($1::text[], $2::text[]) AS w (schema, name) ON w.schema = n.nspname AND w.name = c.relname`, schemas, names)
	if err != nil {
		return f, postgres.Wrap(err, "read what may be done to tables and indexes")
	}
	f.Relations = relations(rows)
	if f.Partitioned, err = s.readPartitioned(ctx); err != nil {
		return f, err
	}
	if err := s.readCheckable(ctx, &f); err != nil {
		return f, err
	}
	standbys, err := databases.Standbys(ctx, s.conn)
	f.Standbys = len(standbys) > 0
	return f, err
}

// mentioned returns the names of the tables and indexes of a reading.
func mentioned(r *reading.Reading) (schemas, names []string) {
	schemas, names = []string{}, []string{}
	add := func(schema, name string) { schemas, names = append(schemas, schema), append(names, name) }
	if r.Tables != nil {
		for _, t := range r.Tables.Items {
			add(t.Schema, t.Name)
		}
	}
	if r.Limits != nil {
		for _, t := range r.Limits.Tables {
			add(t.Schema, t.Name)
		}
	}
	if r.Indexes != nil {
		for _, x := range r.Indexes.Largest {
			add(x.Schema, x.Name)
		}
	}
	// A table may be there twice: the join must not say it twice.
	seen := map[[2]string]bool{}
	n := 0
	for i := range schemas {
		if key := [2]string{schemas[i], names[i]}; !seen[key] {
			seen[key] = true
			schemas[n], names[n] = schemas[i], names[i]
			n++
		}
	}
	return schemas[:n], names[:n]
}

// readPartitioned reads the tables at the tops of trees of partitions. It takes no locks.
// How many rows ANALYZE saw of a whole one is known from PostgreSQL 14.
func (s *Session) readPartitioned(ctx context.Context) ([]Partitioned, error) {
	seen, analyzed := "-1::float8", `EXISTS (SELECT FROM pg_catalog.pg_stats AS p WHERE p.schemaname = n.nspname AND p.tablename = c.relname AND p.inherited)`
	if s.versionNum >= 140000 {
		seen, analyzed = "c.reltuples::float8", "c.reltuples >= 0"
	}
	type partitioned struct {
		row
		LeafRows, AnalyzedRows float64
		Analyzed               bool
	}
	rows, err := postgres.Collect[partitioned](ctx, s.conn, `
WITH RECURSIVE tree (root, relid) AS (
	SELECT c.oid, c.oid FROM pg_catalog.pg_class AS c WHERE c.relkind = 'p' AND NOT c.relispartition
	UNION ALL SELECT t.root, h.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS h ON h.inhparent = t.relid
), leaves AS (
	SELECT t.root, sum(greatest(l.reltuples, 0))::float8 AS rows
	FROM tree AS t JOIN pg_catalog.pg_class AS l ON l.oid = t.relid WHERE l.relkind = 'r' GROUP BY t.root
)
SELECT `+s.relationColumns()+`, l.rows AS leaf_rows, `+seen+` AS analyzed_rows, `+analyzed+` AS analyzed`+relationFrom+`
	JOIN leaves AS l ON l.root = c.oid
WHERE `+userSchemas)
	if err != nil {
		return nil, postgres.Wrap(err, "read the partitioned tables")
	}
	all := make([]Partitioned, 0, len(rows))
	for _, r := range rows {
		all = append(all, Partitioned{Relation: r.relation(), LeafRows: r.LeafRows, AnalyzedRows: r.AnalyzedRows, Analyzed: r.Analyzed})
	}
	return all, nil
}

// readCheckable reads what amcheck can read, where that is wanted.
func (s *Session) readCheckable(ctx context.Context, f *Facts) error {
	p := planner{Facts: *f}
	if !p.wants(Amcheck) {
		return nil
	}
	schemas, err := postgres.CollectScalar[string](ctx, s.conn, `SELECT n.nspname::text FROM pg_catalog.pg_extension AS e
		JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'`)
	if err != nil || len(schemas) == 0 {
		return postgres.Wrap(err, "look for the extension amcheck")
	}
	f.AmcheckSchema = schemas[0]
	rows, err := postgres.Collect[row](ctx, s.conn, "SELECT "+s.relationColumns()+relationFrom+`
	JOIN pg_catalog.pg_am AS a ON a.oid = c.relam AND a.amname = 'btree'
WHERE c.relkind = 'i' AND i.indisvalid AND i.indisready AND c.relpersistence <> 't' AND `+userSchemas)
	f.Checkable = relations(rows)
	return postgres.Wrap(err, "read the B-trees")
}
