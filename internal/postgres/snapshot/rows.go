package snapshot

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// RowTable is a table whose rows COPY can take out and bring back exactly.
type RowTable struct {
	OID          uint32
	Schema, Name string
	// HeapBlocks is the number of blocks of the table itself; SizeBytes is
	// that and its TOAST.
	HeapBlocks int64
	SizeBytes  int64
	Columns    []pgmedic.Column
	// Generated are the names of generated columns, which COPY of a table leaves out.
	Generated []string
	Format    pgmedic.CopyFormat
	// TextFor says why Format is text; empty where it is not.
	TextFor string
}

// copyableTables lists what is positively known to be plain rows: permanent or
// unlogged heap tables that no extension owns. Left out are partitions below a
// table that is partitioned by the hash of something other than a built-in
// type: an enum's hash depends on OIDs, so its rows must come back through the
// root, which pg_dump sees to.
const copyableTables = `
WITH RECURSIVE hashed AS (
	SELECT p.partrelid AS oid FROM pg_catalog.pg_partitioned_table AS p
	WHERE p.partstrat = 'h' AND EXISTS (
		SELECT FROM unnest(p.partattrs::int2[]) AS k LEFT JOIN pg_catalog.pg_attribute AS a
			ON a.attrelid = p.partrelid AND a.attnum = k
		WHERE k = 0 OR a.atttypid >= 16384)
	UNION
	SELECT i.inhrelid FROM hashed JOIN pg_catalog.pg_inherits AS i ON i.inhparent = hashed.oid
)
SELECT c.oid AS oid, n.nspname::text AS schema, c.relname::text AS name,
	current_setting('block_size')::bigint AS block_size
FROM pg_catalog.pg_class AS c
	JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	JOIN pg_catalog.pg_am AS am ON am.oid = c.relam AND am.amname = 'heap'
WHERE c.relkind = 'r'
	AND (c.relpersistence = 'p' OR c.relpersistence = 'u' AND NOT pg_catalog.pg_is_in_recovery())
	AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	AND c.oid NOT IN (SELECT oid FROM hashed) AND c.oid <> ALL ($1)
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS x WHERE x.classid = 'pg_catalog.pg_class'::regclass
		AND x.objid = c.oid AND x.objsubid = 0 AND x.deptype = 'e')
ORDER BY c.oid`

// RowTables returns the tables under the snapshot whose rows can be taken over
// from pg_dump. What is not positively recognised is not among them.
func (s *Snapshot) RowTables(ctx context.Context) ([]RowTable, error) {
	type row struct {
		OID          uint32
		Schema, Name string
		BlockSize    int64
	}
	rows, err := postgres.Collect[row](ctx, s.conn, copyableTables, s.LeftOut.tables())
	if err != nil {
		return nil, postgres.RefuseUntranslatable(ctx, s.conn, postgres.Wrap(err, "list the tables to copy"))
	}
	utf8 := isUTF8(s.conn)
	sizes := s.sizes
	oids := make([]uint32, len(rows))
	for i, r := range rows {
		oids[i] = r.OID
	}
	var columns map[uint32][]tableColumn
	err = postgres.ElseInBytes(ctx, s.conn, func() (err error) {
		columns, err = readColumns(ctx, s.conn, oids)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !s.Locked { // estimates; each table is asked now, with lock_timeout against one that is locked
		if sizes, err = readSizes(ctx, s.conn, oids, true); err != nil {
			return nil, err
		}
	}
	withoutRows := oidSet(s.LeftOut.WithoutRows)
	tables := make([]RowTable, 0, len(rows))
	for _, r := range rows {
		if withoutRows[r.OID] {
			continue
		}
		// pg_dump takes the names of tables in the database's encoding, and only
		// ASCII is the same in all of them.
		if !utf8 && strings.ContainsFunc(r.Schema+r.Name, func(c rune) bool { return c >= 0x80 }) {
			continue
		}
		size := sizes[r.OID]
		t := RowTable{
			OID: r.OID, Schema: r.Schema, Name: r.Name, HeapBlocks: size.HeapBytes / r.BlockSize, SizeBytes: size.SizeBytes,
		}
		if err := refuseColumns(ctx, s.conn, r.Schema, r.Name, columns[r.OID]); err != nil {
			return nil, err
		}
		t.take(columns[r.OID], utf8)
		tables = append(tables, t)
	}
	return tables, nil
}

// stableBinary are the OIDs of built-in types, and their arrays, whose binary
// form is the same in every version from 12 to 18. The text of money (790) says
// another amount where lc_monetary is another.
func stableBinary() []int64 {
	return []int64{
		16, 17, 20, 21, 23, 25, 26, 114, 650, 700, 701, 790, 791, 829, 869, 1042, 1043, 1082, 1083, 1114, 1184, 1186,
		1266, 1700, 2950, 3802,
		199, 651, 1000, 1001, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1028, 1040, 1041, 1115, 1182,
		1183, 1185, 1187, 1231, 1270, 2951, 3807,
	}
}

// BlockRange is a part of a table: blocks From (0: the first) up to, not
// including, To (0: the end).
type BlockRange struct{ From, To int64 }

// Whole reports whether the range is all of the table.
func (r BlockRange) Whole() bool { return r.From == 0 && r.To == 0 }

// CopyOutSQL is the COPY that takes a part of a table's rows out. The encoding
// is the database's own, so that nothing is converted on the way.
func CopyOutSQL(t RowTable, r BlockRange, encoding string) string {
	source := sqltext.QuoteQualified(t.Schema, t.Name) + " (" + columnList(t.Columns) + ")"
	if !r.Whole() || len(t.Columns) == 0 {
		source = selectPart(t, t.Columns, r)
	}
	return "COPY " + source + " TO STDOUT " + copyOptions(t.Format, encoding)
}

// selectPart is the query of some columns of a part of a table.
func selectPart(t RowTable, columns []pgmedic.Column, r BlockRange) string {
	var where []string
	if r.From > 0 {
		where = append(where, fmt.Sprintf("ctid >= '(%d,0)'::tid", r.From))
	}
	if r.To > 0 {
		where = append(where, fmt.Sprintf("ctid < '(%d,0)'::tid", r.To))
	}
	source := "(SELECT " + columnList(columns) + " FROM ONLY " + sqltext.QuoteQualified(t.Schema, t.Name)
	if len(where) > 0 {
		source += " WHERE " + strings.Join(where, " AND ")
	}
	return source + ")"
}

// CopyInSQL is the COPY that brings rows of t back into a table, which is t or
// a partitioned table above it.
func CopyInSQL(table string, columns []pgmedic.Column, format pgmedic.CopyFormat, encoding string) string {
	list := ""
	if len(columns) > 0 {
		list = " (" + columnList(columns) + ")"
	}
	return "COPY " + table + list + " FROM STDIN " + copyOptions(format, encoding)
}

// CopyInFrozenSQL is CopyInSQL with rows that need no further visit: nobody has to
// find out again that the transaction that wrote them was committed. Only a table
// that this transaction made or emptied takes them.
func CopyInFrozenSQL(table string, columns []pgmedic.Column, format pgmedic.CopyFormat, encoding string) string {
	return strings.TrimSuffix(CopyInSQL(table, columns, format, encoding), ")") + ", FREEZE)"
}

func copyOptions(format pgmedic.CopyFormat, encoding string) string {
	return fmt.Sprintf("WITH (FORMAT %s, ENCODING %s)", format, sqltext.QuoteLiteral(encoding))
}

func columnList(columns []pgmedic.Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = sqltext.QuoteIdent(c.Name)
	}
	return strings.Join(names, ", ")
}

// BeginChunk begins a transaction on another connection in the snapshot, holding
// the locks of the tables. They are taken at once or not at all: waiting behind
// DDL that itself waits for the snapshot's locks would never end.
//
// Where the snapshot could not lock the tables ahead, a table's file must still
// be the one that it had before the snapshot: a table that was rewritten in
// between reads as empty.
func (s *Snapshot) BeginChunk(ctx context.Context, conn *pgx.Conn, tables []RowTable) error {
	names := quotedNames(tables)
	err := postgres.ExecSimple(ctx, conn, enterSQL(s.ID)+"; LOCK TABLE ONLY "+strings.Join(names, ", ONLY ")+" IN ACCESS SHARE MODE NOWAIT")
	if err != nil {
		return notEntered(err, "lock table "+strings.Join(names, ", "))
	}
	if s.Locked {
		return refuseOthers(ctx, conn, tables, names)
	}
	for _, name := range names {
		if err := s.refuseRewritten(ctx, conn, name); err != nil {
			return err
		}
	}
	return nil
}

// refuseOthers makes sure that the names meant the tables when they were locked.
func refuseOthers(ctx context.Context, conn *pgx.Conn, tables []RowTable, names []string) error {
	oids := make([]uint32, len(tables))
	for i, t := range tables {
		oids[i] = t.OID
	}
	others, err := postgres.CollectScalar[string](ctx, conn, `SELECT t.name FROM unnest($1::oid[], $2::text[]) AS t (oid, name)
		WHERE pg_catalog.to_regclass(t.name)::oid IS DISTINCT FROM t.oid LIMIT 1`, oids, names)
	if err != nil {
		return postgres.Wrap(err, "look at the locked tables")
	}
	if len(others) > 0 {
		return changedError(others[0])
	}
	return nil
}

func quotedNames(tables []RowTable) []string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = sqltext.QuoteQualified(t.Schema, t.Name)
	}
	return names
}

// HoldChunk is BeginChunk for the snapshot's own connection. Where that holds
// the tables' locks already, there is nothing to wait for; where it does not,
// the wait is bounded by the snapshot's LockTimeout.
func (s *Snapshot) HoldChunk(ctx context.Context, tables []RowTable) error {
	for _, name := range quotedNames(tables) {
		if err := s.hold(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// hold locks a table on the snapshot's connection, unless it has been locked all
// along, and makes sure that it is still the one that the snapshot sees.
func (s *Snapshot) hold(ctx context.Context, name string) error {
	if s.Locked {
		return nil
	}
	if err := postgres.ExecSimple(ctx, s.conn, "LOCK TABLE ONLY "+name+" IN ACCESS SHARE MODE"); err != nil {
		return postgres.Wrap(err, "lock table "+name)
	}
	return s.refuseRewritten(ctx, s.conn, name)
}

func (s *Snapshot) refuseRewritten(ctx context.Context, conn *pgx.Conn, name string) error {
	if s.Locked {
		return nil
	}
	var oid, filenode uint32
	err := conn.QueryRow(ctx, "SELECT $1::text::regclass::oid, coalesce(pg_catalog.pg_relation_filenode($1::text::regclass), 0)", name).
		Scan(&oid, &filenode)
	if err != nil {
		return postgres.Wrap(err, "look at the file of table "+name)
	}
	if before, ok := s.filenodes[oid]; !ok || filenode != before {
		return changedError(name)
	}
	return nil
}

// EndChunk ends the transaction of BeginChunk.
func EndChunk(ctx context.Context, conn *pgx.Conn) error {
	return postgres.Wrap(postgres.ExecSimple(ctx, conn, "COMMIT"), "end the copy")
}

// Conn returns the connection that holds the snapshot and its locks.
func (s *Snapshot) Conn() *pgx.Conn { return s.conn }

// Readable locks a table on the snapshot's connection and reports whether its rows
// can be read. Unlogged tables have none on a standby, which can't even be asked for
// them; pg_dump leaves their rows out there, too.
func (s *Snapshot) Readable(ctx context.Context, t RowTable) (bool, error) {
	name := sqltext.QuoteQualified(t.Schema, t.Name)
	if err := s.hold(ctx, name); err != nil {
		return false, err
	}
	var unreadable bool
	err := s.conn.QueryRow(ctx, `SELECT relpersistence = 'u' AND pg_catalog.pg_is_in_recovery()
		FROM pg_catalog.pg_class WHERE oid = $1::text::regclass`, name).Scan(&unreadable)
	return !unreadable, postgres.Wrap(err, "look at table "+name)
}
