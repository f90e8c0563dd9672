package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
)

// SnapshotOptions say how a snapshot is taken.
type SnapshotOptions struct {
	// LockTimeout bounds the wait for each batch of locks; zero means 30 s.
	LockTimeout time.Duration
	// Logger gets a warning where the tables are too many to lock. Required.
	Logger *slog.Logger
}

// Snapshot is one moment of a database, exported so that other sessions can
// read the same moment, with every table locked against being rewritten. It
// lives as long as its transaction: Close ends it.
type Snapshot struct {
	// ID is what SET TRANSACTION SNAPSHOT and pg_dump --snapshot take.
	ID string
	// TakenAt is the server's time of the moment.
	TakenAt time.Time
	// Tables are those whose rows a dump holds.
	Tables []pgmedic.Table
	// Locked is false where the tables are too many for the server's lock
	// table, so that only pg_dump's own locks protect them.
	Locked bool

	conn *pgx.Conn
}

// snapshotTable is a table as it is compared before and after the locks: a
// rewrite changes its file.
type snapshotTable struct {
	OID        uint32
	Filenode   uint32
	Kind       string
	Schema     string
	Name       string
	RootSchema string
	RootName   string
	Extension  string
	SizeBytes  int64
}

const snapshotTables = `
WITH RECURSIVE roots AS (
	SELECT c.oid, c.oid AS root FROM pg_catalog.pg_class AS c
	WHERE c.relkind = 'p' AND NOT c.relispartition
	UNION ALL
	SELECT i.inhrelid, roots.root FROM roots
		JOIN pg_catalog.pg_inherits AS i ON i.inhparent = roots.oid
)
SELECT c.oid AS oid, coalesce(pg_catalog.pg_relation_filenode(c.oid), 0) AS filenode,
	c.relkind::text AS kind, n.nspname::text AS schema, c.relname::text AS name,
	coalesce(rn.nspname, '')::text AS root_schema, coalesce(rc.relname, '')::text AS root_name,
	coalesce(e.extname, '')::text AS extension,
	CASE WHEN $1 AND c.relkind = 'r' THEN pg_catalog.pg_table_size(c.oid) ELSE 0 END AS size_bytes
FROM pg_catalog.pg_class AS c
	JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	LEFT JOIN roots ON roots.oid = c.oid AND roots.root <> c.oid
	LEFT JOIN pg_catalog.pg_class AS rc ON rc.oid = roots.root
	LEFT JOIN pg_catalog.pg_namespace AS rn ON rn.oid = rc.relnamespace
	LEFT JOIN pg_catalog.pg_depend AS x ON x.classid = 'pg_catalog.pg_class'::regclass
		AND x.objid = c.oid AND x.objsubid = 0 AND x.deptype = 'e'
		AND x.refclassid = 'pg_catalog.pg_extension'::regclass
	LEFT JOIN pg_catalog.pg_extension AS e ON e.oid = x.refobjid
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
	AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY c.oid`

// TakeSnapshot locks every table of conn's database against being rewritten,
// exports a snapshot and checks that the tables under it are those that were
// locked; if not, it starts over. The order matters: a rewriting ALTER TABLE
// between a snapshot and a lock makes the table read as empty.
//
// The locks are ACCESS SHARE, as a SELECT's, and last until Close. A table that
// is locked exclusively beyond LockTimeout is an error of KindConflict that
// names who holds it.
func TakeSnapshot(ctx context.Context, conn *pgx.Conn, o SnapshotOptions) (*Snapshot, error) {
	if o.LockTimeout <= 0 {
		o.LockTimeout = 30 * time.Second
	}
	const tries = 5
	for range tries {
		s, err := trySnapshot(ctx, conn, o)
		if err != nil || s != nil {
			return s, err
		}
	}
	return nil, pgmedic.Errorf(pgmedic.KindConflict,
		"run the backup while no migration changes the schema",
		"take a snapshot: tables kept changing during %d attempts", tries)
}

func trySnapshot(ctx context.Context, conn *pgx.Conn, o SnapshotOptions) (*Snapshot, error) {
	// Without sizes: to read one locks the table, and nothing bounds that wait
	// yet.
	before, err := collect[snapshotTable](ctx, conn, snapshotTables, false)
	if err != nil {
		return nil, Wrap(err, "list the tables")
	}
	budget, err := lockBudget(ctx, conn)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{conn: conn, Locked: len(before) <= budget}
	if !s.Locked {
		o.Logger.Warn("too many tables to lock ahead of pg_dump; raise max_locks_per_transaction",
			"tables", len(before), "locks", budget)
	}
	// SET and LOCK take no snapshot; the first query does.
	begin := fmt.Sprintf("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = %d",
		o.LockTimeout.Milliseconds())
	if err := execSimple(ctx, conn, begin); err != nil {
		return nil, Wrap(err, "begin the snapshot")
	}
	keep := false
	defer func() {
		if !keep {
			s.Close(ctx)
		}
	}()
	if s.Locked {
		gone, err := lockTables(ctx, conn, before)
		if err != nil {
			return nil, err
		}
		if gone {
			return nil, nil
		}
	}
	err = conn.QueryRow(ctx, "SELECT pg_catalog.pg_export_snapshot(), clock_timestamp()").
		Scan(&s.ID, &s.TakenAt)
	if err != nil {
		return nil, Wrap(err, "export the snapshot")
	}
	s.TakenAt = s.TakenAt.UTC()
	after, err := collect[snapshotTable](ctx, conn, snapshotTables, true)
	if err != nil {
		return nil, Wrap(err, "list the tables under the snapshot")
	}
	if s.Locked && !slices.EqualFunc(before, after, sameTable) {
		return nil, nil
	}
	s.Tables = rowTables(after)
	keep = true
	return s, nil
}

// Close ends the snapshot's transaction and with it the locks. The connection
// stays the caller's.
func (s *Snapshot) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	_ = execSimple(ctx, s.conn, "ROLLBACK") // a broken connection has ended it already
}

func sameTable(a, b snapshotTable) bool {
	return a.OID == b.OID && a.Filenode == b.Filenode && a.Schema == b.Schema && a.Name == b.Name
}

func rowTables(all []snapshotTable) []pgmedic.Table {
	tables := make([]pgmedic.Table, 0, len(all))
	for _, t := range all {
		if t.Kind != "r" {
			continue
		}
		tables = append(tables, pgmedic.Table{
			Schema: t.Schema, Name: t.Name, RootSchema: t.RootSchema, RootName: t.RootName,
			Extension: t.Extension, SizeBytes: t.SizeBytes,
		})
	}
	slices.SortFunc(tables, func(a, b pgmedic.Table) int {
		if c := strings.Compare(a.Schema, b.Schema); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return tables
}

// lockBudget is how many tables we may lock: a quarter of the server's lock
// table, because pg_dump takes as many again and the applications need theirs.
func lockBudget(ctx context.Context, conn *pgx.Conn) (int, error) {
	var slots int
	err := conn.QueryRow(ctx, `
SELECT current_setting('max_locks_per_transaction')::int
	* (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)`).
		Scan(&slots)
	if err != nil {
		return 0, Wrap(err, "read the size of the lock table")
	}
	return slots / 4, nil
}

// lockTables reports gone when a table was dropped or renamed since it was
// listed.
func lockTables(ctx context.Context, conn *pgx.Conn, tables []snapshotTable) (gone bool, err error) {
	for batch := range slices.Chunk(tables, 200) {
		names := make([]string, len(batch))
		for i, t := range batch {
			names[i] = "ONLY " + pgmedic.QuoteQualified(t.Schema, t.Name)
		}
		err := execSimple(ctx, conn, "LOCK TABLE "+strings.Join(names, ", ")+" IN ACCESS SHARE MODE")
		switch Code(err) {
		case "":
			if err != nil {
				return false, Wrap(err, "lock the tables")
			}
		case "42P01", "3F000":
			return true, nil
		case "55P03":
			return false, blockedError(ctx, conn, batch)
		default:
			return false, Wrap(err, "lock the tables")
		}
	}
	return false, nil
}

// blockedError names who holds the lock that we waited for, as far as the role
// may see it.
func blockedError(ctx context.Context, conn *pgx.Conn, batch []snapshotTable) error {
	_ = execSimple(ctx, conn, "ROLLBACK")
	oids := make([]uint32, len(batch))
	for i, t := range batch {
		oids[i] = t.OID
	}
	var pid int
	var schema, table, user, app string
	err := conn.QueryRow(ctx, `
SELECT l.pid, n.nspname::text, c.relname::text, coalesce(a.usename, '')::text, coalesce(a.application_name, '')
FROM pg_catalog.pg_locks AS l
	JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
	JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.relation = ANY ($1)
	AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
ORDER BY l.granted DESC LIMIT 1`, oids).Scan(&pid, &schema, &table, &user, &app)
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindConflict, "try again, or raise backup.lock_timeout",
			"lock the tables: another session holds an exclusive lock on one of them")
	}
	return pgmedic.Errorf(pgmedic.KindConflict,
		fmt.Sprintf("let it finish, or end it: SELECT pg_terminate_backend(%d);", pid),
		"lock table %s: process %d (user %q, application %q) holds it or waits for it exclusively",
		pgmedic.QuoteQualified(schema, table), pid, user, app)
}

// execSimple sends statements by the simple protocol, several at once if need
// be.
func execSimple(ctx context.Context, conn *pgx.Conn, sql string) error {
	_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}
