// Package snapshot has what is read of a database at one moment: an exported snapshot,
// its tables and their rows, what of them a backup holds, and an inventory of objects.
package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Options say how a snapshot is taken.
type Options struct {
	// LockTimeout bounds the wait for each batch of locks; zero means DefaultLockTimeout.
	LockTimeout time.Duration
	// Patterns choose what is in the snapshot; without any it is everything.
	Patterns Patterns
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
	// LSN is the end of the WAL then, on a standby of what was replayed.
	LSN string
	// Timeline is the one that the server writes its WAL on; zero on a standby.
	Timeline int64
	// Tables are those whose rows a dump holds.
	Tables []pgmedic.Table
	// LeftOut is what the patterns left out of it.
	LeftOut LeftOut
	// Locked is false where the tables are too many for the server's lock
	// table, so that only pg_dump's own locks protect them.
	Locked bool

	conn      *pgx.Conn
	sizes     map[uint32]tableSize
	filenodes map[uint32]uint32 // of each table, from before the snapshot
	names     map[uint32]string // and what it is called, quoted
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
	coalesce(e.extname, '')::text AS extension
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

// tableSize is how much of the disk a table takes.
type tableSize struct {
	OID       uint32
	HeapBytes int64
	SizeBytes int64 // with TOAST
}

// tableSizes is read apart from the list and after the locks, because
// pg_relation_size takes one and would wait for ever for a table that another
// session has locked. Without locks the estimate of the last VACUUM or ANALYZE
// has to do. Other forks are not looked at: each is a call to the file system.
const tableSizes = `
SELECT s.oid AS oid, coalesce(s.heap, 0) AS heap_bytes, coalesce(s.heap, 0) + coalesce(s.toast, 0) AS size_bytes FROM (
	SELECT c.oid,
		CASE WHEN $1 THEN pg_catalog.pg_relation_size(c.oid) ELSE c.relpages::bigint * current_setting('block_size')::bigint END AS heap,
		CASE WHEN $1 THEN pg_catalog.pg_relation_size(t.oid) ELSE t.relpages::bigint * current_setting('block_size')::bigint END AS toast
	FROM pg_catalog.pg_class AS c LEFT JOIN pg_catalog.pg_class AS t ON t.oid = c.reltoastrelid
	WHERE c.oid = ANY ($2)
) AS s`

// DefaultLockTimeout is how long a session waits for a lock on a table where nothing else is
// said: the default of backup.lock_timeout. It is our choice.
const DefaultLockTimeout = 30 * time.Second

// Take locks every table of conn's database against being rewritten,
// exports a snapshot and checks that the tables under it are those that were
// locked; if not, it starts over. The order matters: a rewriting ALTER TABLE
// between a snapshot and a lock makes the table read as empty.
//
// The locks are ACCESS SHARE, as a SELECT's, and last until Close. A table that
// is locked exclusively beyond LockTimeout is an error of KindConflict that
// names who holds it.
func Take(ctx context.Context, conn *pgx.Conn, o Options) (*Snapshot, error) {
	if o.LockTimeout <= 0 {
		o.LockTimeout = DefaultLockTimeout
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

func trySnapshot(ctx context.Context, conn *pgx.Conn, o Options) (*Snapshot, error) {
	// For the session and not the transaction alone: sizes are read under a lock,
	// too, and a retry begins outside.
	if err := SetLockTimeout(ctx, conn, o.LockTimeout); err != nil {
		return nil, err
	}
	budget, err := lockBudget(ctx, conn)
	if err != nil {
		return nil, err
	}
	// From here to the locks nothing is asked that can wait: the less time passes,
	// the less has changed.
	before, _, err := listTables(ctx, conn, o.Patterns)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{conn: conn, Locked: len(before) <= budget}
	if !s.Locked {
		o.Logger.Warn("too many tables to lock ahead of pg_dump; raise max_locks_per_transaction",
			"tables", len(before), "locks", budget)
	}
	// SET and LOCK take no snapshot; the first query does.
	if err := postgres.ExecSimple(ctx, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return nil, postgres.Wrap(err, "begin the snapshot")
	}
	keep := false
	defer func() {
		if !keep {
			s.Close(ctx)
		}
	}()
	if s.Locked {
		gone, err := lockTables(ctx, conn, before)
		if postgres.Code(err) == "42501" {
			_ = postgres.ExecSimple(ctx, conn, "ROLLBACK") // it has failed already
			err = cmp.Or(refuseUnreadable(ctx, conn, before), err)
		}
		if err != nil || gone {
			return nil, err
		}
	}
	if err := s.export(ctx); err != nil {
		return nil, err
	}
	after, leftOut, err := listTables(ctx, conn, o.Patterns)
	if err != nil {
		return nil, err
	}
	if !slices.EqualFunc(before, after, sameTable) {
		return nil, nil
	}
	if err := refuseUnreadable(ctx, conn, after); err != nil {
		return nil, err
	}
	if err := s.record(ctx, before, after, leftOut); err != nil {
		return nil, err
	}
	keep = true
	return s, nil
}

// export exports the snapshot, and notes the moment and the place in the WAL.
func (s *Snapshot) export(ctx context.Context) error {
	err := s.conn.QueryRow(ctx, `SELECT pg_catalog.pg_export_snapshot(), clock_timestamp(), coalesce(CASE WHEN pg_catalog.pg_is_in_recovery()
		THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END::text, ''),
	-- The name of a file of WAL begins with its timeline, in eight hex digits.
	CASE WHEN pg_catalog.pg_is_in_recovery() THEN 0
		ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int8 END`).
		Scan(&s.ID, &s.TakenAt, &s.LSN, &s.Timeline)
	if err != nil {
		return postgres.Wrap(err, "export the snapshot")
	}
	s.TakenAt = s.TakenAt.UTC()
	return nil
}

// record notes the tables that the snapshot has, and those that were listed before it was
// taken.
func (s *Snapshot) record(ctx context.Context, before, after []snapshotTable, leftOut LeftOut) error {
	var oids []uint32
	for _, t := range after {
		if t.Kind == "r" {
			oids = append(oids, t.OID)
		}
	}
	sizes, err := readSizes(ctx, s.conn, oids, s.Locked)
	if err != nil {
		return err
	}
	s.sizes = sizes
	s.Tables, s.filenodes, s.names = rowTables(after, sizes, leftOut), make(map[uint32]uint32, len(before)), make(map[uint32]string, len(before))
	s.LeftOut = leftOut
	for _, t := range before {
		s.filenodes[t.OID], s.names[t.OID] = t.Filenode, sqltext.QuoteQualified(t.Schema, t.Name)
	}
	return nil
}

func readSizes(ctx context.Context, conn *pgx.Conn, oids []uint32, locked bool) (map[uint32]tableSize, error) {
	rows, err := postgres.Collect[tableSize](ctx, conn, tableSizes, locked, oids)
	if err != nil {
		return nil, postgres.Wrap(err, "read the sizes of the tables")
	}
	sizes := make(map[uint32]tableSize, len(rows))
	for _, r := range rows {
		sizes[r.OID] = r
	}
	return sizes, nil
}

// Held makes sure, when all has been read, that what was read is what the
// snapshot sees: that its transaction still lasts, that each table's name still
// means the same table, and, where files says so, that each still has its file.
// Names are looked up in the catalogue as it is now, and to rename a schema takes
// no lock on its tables: COPY and pg_dump would read another table of the same
// name, as empty.
func (s *Snapshot) Held(ctx context.Context, files bool) error {
	oids := slices.Collect(maps.Keys(s.names))
	names, nodes := make([]string, len(oids)), make([]uint32, len(oids))
	for i, oid := range oids {
		names[i], nodes[i] = s.names[oid], s.filenodes[oid]
	}
	changed, err := postgres.CollectScalar[string](ctx, s.conn, `
SELECT t.name FROM unnest($1::oid[], $2::text[], $3::oid[]) AS t (oid, name, node)
WHERE pg_catalog.to_regclass(t.name)::oid IS DISTINCT FROM t.oid
	OR $4 AND coalesce(pg_catalog.pg_relation_filenode(t.oid), 0) <> t.node
ORDER BY 1 LIMIT 1`, oids, names, nodes, files)
	if err != nil {
		return postgres.Wrap(err, "make sure that the snapshot lasted")
	}
	if len(changed) > 0 {
		return changedError(changed[0])
	}
	return nil
}

func changedError(table string) error {
	return pgmedic.Errorf(pgmedic.KindConflict, "run the backup while no migration changes the schema",
		"table %s was renamed, replaced or rewritten while the backup ran", table)
}

// Close ends the snapshot's transaction and with it the locks. The connection
// stays the caller's.
func (s *Snapshot) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	_ = postgres.ExecSimple(ctx, s.conn, "ROLLBACK") // a broken connection has ended it already
}

func sameTable(a, b snapshotTable) bool {
	return a.OID == b.OID && a.Filenode == b.Filenode && a.Schema == b.Schema && a.Name == b.Name
}

// listTables lists the tables that are in, and says what is not.
func listTables(ctx context.Context, conn *pgx.Conn, p Patterns) ([]snapshotTable, LeftOut, error) {
	leftOut, err := p.resolve(ctx, conn)
	if err != nil {
		return nil, leftOut, err
	}
	all, err := postgres.Collect[snapshotTable](ctx, conn, snapshotTables)
	if err != nil {
		return nil, leftOut, postgres.RefuseUntranslatable(ctx, conn, postgres.Wrap(err, "list the tables"))
	}
	out := oidSet(leftOut.Tables)
	return slices.DeleteFunc(all, func(t snapshotTable) bool { return out[t.OID] }), leftOut, nil
}

func oidSet(relations []Relation) map[uint32]bool {
	set := make(map[uint32]bool, len(relations))
	for _, r := range relations {
		set[r.OID] = true
	}
	return set
}

func rowTables(all []snapshotTable, sizes map[uint32]tableSize, leftOut LeftOut) []pgmedic.Table {
	withoutRows := oidSet(leftOut.WithoutRows)
	tables := make([]pgmedic.Table, 0, len(all))
	for _, t := range all {
		if t.Kind != "r" {
			continue
		}
		tables = append(tables, pgmedic.Table{
			Schema: t.Schema, Name: t.Name, RootSchema: t.RootSchema, RootName: t.RootName,
			Extension: t.Extension, SizeBytes: sizes[t.OID].SizeBytes, WithoutRows: withoutRows[t.OID],
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
		return 0, postgres.Wrap(err, "read the size of the lock table")
	}
	return slots / 4, nil
}

// lockTables reports gone when a table was dropped or renamed since it was
// listed.
func lockTables(ctx context.Context, conn *pgx.Conn, tables []snapshotTable) (gone bool, err error) {
	for batch := range slices.Chunk(tables, 200) {
		names := make([]string, len(batch))
		for i, t := range batch {
			names[i] = "ONLY " + sqltext.QuoteQualified(t.Schema, t.Name)
		}
		err := postgres.ExecSimple(ctx, conn, "LOCK TABLE "+strings.Join(names, ", ")+" IN ACCESS SHARE MODE")
		switch postgres.Code(err) {
		case "":
			if err != nil {
				return false, postgres.Wrap(err, "lock the tables")
			}
		case "42P01", "3F000":
			return true, nil
		case "55P03":
			return false, blockedError(ctx, conn, batch)
		default:
			return false, postgres.Wrap(err, "lock the tables")
		}
	}
	return false, nil
}

// SetLockTimeout bounds how long the session's statements wait for a lock.
func SetLockTimeout(ctx context.Context, conn *pgx.Conn, d time.Duration) error {
	err := postgres.ExecSimple(ctx, conn, fmt.Sprintf("SET lock_timeout = %d", d.Milliseconds()))
	return postgres.Wrap(err, "set the lock timeout")
}

// blockedError names who holds the lock that we waited for, as far as the role
// may see it.
func blockedError(ctx context.Context, conn *pgx.Conn, batch []snapshotTable) error {
	_ = postgres.ExecSimple(ctx, conn, "ROLLBACK")
	oids := make([]uint32, len(batch))
	for i, t := range batch {
		oids[i] = t.OID
	}
	var pid int
	var schema, table, user, app, database string
	err := conn.QueryRow(ctx, `
SELECT l.pid, n.nspname::text, c.relname::text, coalesce(a.usename, '')::text, coalesce(a.application_name, ''), current_database()::text
FROM pg_catalog.pg_locks AS l
	JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
	JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.relation = ANY ($1)
	AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
ORDER BY l.granted DESC, l.pid LIMIT 1`, oids).Scan(&pid, &schema, &table, &user, &app, &database)
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindConflict, "try again, or raise backup.lock_timeout",
			"lock the tables: another session holds an exclusive lock on one of them")
	}
	return pgmedic.Errorf(pgmedic.KindConflict,
		fmt.Sprintf("let it finish, or end it: SELECT pg_catalog.pg_terminate_backend(%d);", pid),
		"lock table %s: process %d (user %q, application %q, database %q) holds it or waits for it exclusively",
		sqltext.QuoteQualified(schema, table), pid, user, app, database)
}
