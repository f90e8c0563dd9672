package snapshot

import (
	"context"
	"slices"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// columnsSQL reads the columns of tables. Those of a partition are in the order of
// its topmost parent, whose partitions may each have another: rows are compared
// wherever they are.
const columnsSQL = `
WITH RECURSIVE above AS (
	SELECT c.oid, c.oid AS root, c.relispartition AS more FROM pg_catalog.pg_class AS c WHERE c.oid = ANY ($1)
	UNION ALL
	SELECT above.oid, i.inhparent, p.relispartition FROM above
		JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = above.root
		JOIN pg_catalog.pg_class AS p ON p.oid = i.inhparent
	WHERE above.more
)
SELECT above.oid AS oid, a.attname::text AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
	-- The binary form of an enum is its label: text.
	CASE WHEN t.typtype = 'e' THEN 25 ELSE a.atttypid::int8 END AS type_oid, a.attgenerated <> '' AS generated
FROM above
	JOIN pg_catalog.pg_attribute AS a ON a.attrelid = above.oid AND a.attnum > 0 AND NOT a.attisdropped
	JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
	LEFT JOIN pg_catalog.pg_attribute AS r ON r.attrelid = above.root AND r.attname = a.attname AND NOT r.attisdropped
WHERE NOT above.more
ORDER BY above.oid, r.attnum, a.attnum`

type tableColumn struct {
	OID        uint32
	Name, Type string
	TypeOID    int64 `db:"type_oid"`
	Generated  bool
}

// readColumns returns the columns of tables by their OIDs.
func readColumns(ctx context.Context, conn *pgx.Conn, oids []uint32) (map[uint32][]tableColumn, error) {
	rows, err := postgres.Collect[tableColumn](ctx, conn, columnsSQL, oids)
	if err != nil {
		return nil, postgres.Wrap(err, "list the columns")
	}
	columns := make(map[uint32][]tableColumn, len(oids))
	for _, r := range rows {
		columns[r.OID] = append(columns[r.OID], r)
	}
	return columns, nil
}

// isUTF8 reports whether a database is in UTF8. COPY's option ENCODING holds for the
// text format only: in the binary one text is in the session's encoding, which is
// UTF8 for us and for recover.sh.
func isUTF8(conn *pgx.Conn) bool { return conn.PgConn().ParameterStatus("server_encoding") == "UTF8" }

// take gives the table its columns, and the format that is right for them.
func (t *RowTable) take(columns []tableColumn, utf8 bool) {
	t.Format = pgmedic.CopyBinary
	for _, c := range columns {
		// Of a table with generated columns all are read, and in one format.
		if !slices.Contains(stableBinary(), c.TypeOID) && t.TextFor == "" {
			t.Format, t.TextFor = pgmedic.CopyText, "column "+sqltext.QuoteIdent(c.Name)+" is of type "+c.Type
		}
		if c.Generated {
			t.Generated = append(t.Generated, c.Name)
			continue
		}
		t.Columns = append(t.Columns, pgmedic.Column{Name: c.Name, Type: c.Type})
	}
	if len(t.Columns) == 0 || !utf8 {
		t.Format, t.TextFor = pgmedic.CopyText, "the database is not encoded in UTF8"
	}
}

// Describe returns tables of the snapshot as COPY can read them, without their
// sizes. Where UTF8 lacks a column's name, all names are as they are stored.
func (s *Snapshot) Describe(ctx context.Context, tables []pgmedic.Table) ([]RowTable, error) {
	oids := make(map[string]uint32, len(s.names))
	for oid, name := range s.names {
		oids[name] = oid
	}
	wanted := make([]uint32, len(tables))
	for i, t := range tables {
		wanted[i] = oids[sqltext.QuoteQualified(t.Schema, t.Name)]
	}
	var columns map[uint32][]tableColumn
	err := postgres.ElseInBytes(ctx, s.conn, func() (err error) {
		columns, err = readColumns(ctx, s.conn, wanted)
		return err
	})
	if err != nil {
		return nil, err
	}
	described := make([]RowTable, len(tables))
	for i, t := range tables {
		described[i] = RowTable{OID: wanted[i], Schema: t.Schema, Name: t.Name}
		described[i].take(columns[wanted[i]], isUTF8(s.conn))
	}
	return described, nil
}

// CopyAllSQL is CopyOutSQL with the generated columns after the others.
func CopyAllSQL(t RowTable, r BlockRange, encoding string) string {
	columns := slices.Clone(t.Columns)
	for _, name := range t.Generated {
		columns = append(columns, pgmedic.Column{Name: name})
	}
	return "COPY " + selectPart(t, columns, r) + " TO STDOUT " + copyOptions(t.Format, encoding)
}

// refuseColumns returns an error for a column that can't be named in UTF8. The
// columns were read as elseInBytes reads them, and are given the names that they have
// in the session. A transaction goes on.
func refuseColumns(ctx context.Context, conn *pgx.Conn, schema, table string, columns []tableColumn) error {
	encoding := conn.PgConn().ParameterStatus("server_encoding")
	for i, c := range columns {
		if utf8.ValidString(c.Name) || postgres.AsBytes(encoding) {
			continue
		}
		var decoded []string
		err := postgres.InSavepoint(ctx, conn, func() (err error) {
			decoded, err = postgres.Decode(ctx, conn, encoding, []string{c.Name})
			return err
		})
		if postgres.Untranslatable(err) {
			return postgres.UntranslatableName("column "+sqltext.QuoteIdent(c.Name)+" of "+schema+"."+table, encoding)
		}
		if err != nil {
			return err
		}
		columns[i].Name = decoded[0]
	}
	return nil
}
