package snapshot

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Extent is what there is of a table to read.
type Extent struct {
	// There is false where no table has the name.
	There bool
	// HeapBlocks is the number of blocks of the table itself, SizeBytes that and its
	// TOAST.
	HeapBlocks, SizeBytes int64
}

// ReadExtents returns the extents of tables by their quoted names, in their order.
func ReadExtents(ctx context.Context, conn *pgx.Conn, names []string) ([]Extent, error) {
	extents, err := postgres.Collect[Extent](ctx, conn, `
SELECT c.oid IS NOT NULL AS there,
	coalesce(pg_catalog.pg_relation_size(c.oid), 0) / pg_catalog.current_setting('block_size')::int8 AS heap_blocks,
	coalesce(pg_catalog.pg_relation_size(c.oid), 0) + coalesce(pg_catalog.pg_relation_size(nullif(c.reltoastrelid, 0)), 0) AS size_bytes
FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS t (name, place)
	LEFT JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(t.name) AND c.relkind = 'r'
ORDER BY t.place`, names)
	return extents, postgres.Wrap(err, "read the sizes of the tables")
}

// Split cuts a table of so many blocks and bytes into ranges of about chunk bytes.
// Without TID range scans (before 14) a part of a table would cost a scan of all of
// it, so there is one range.
func Split(blocks, bytes, chunk int64, versionNum int) []BlockRange {
	parts := min(max((bytes+chunk-1)/chunk, 1), max(blocks, 1))
	if versionNum < 140000 {
		parts = 1
	}
	step := (blocks + parts - 1) / parts
	var ranges []BlockRange
	for n := range parts {
		r := BlockRange{From: n * step, To: (n + 1) * step}
		if n == parts-1 || r.To >= blocks {
			r.To = 0 // open, for rows behind the size that was read
		}
		if ranges = append(ranges, r); r.To == 0 {
			break
		}
	}
	return ranges
}

// SequenceValue is the state of a sequence.
type SequenceValue struct {
	Value  int64
	Called bool
}

// ReadSequences returns the values of sequences by their names, which are qualified,
// and quoted where they need to be. One that is not there has no entry.
func ReadSequences(ctx context.Context, conn *pgx.Conn, names []string) (map[string]SequenceValue, error) {
	type sequence struct {
		Name, Quoted string
	}
	there, err := postgres.Collect[sequence](ctx, conn, `
SELECT t.name AS name, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS quoted
FROM pg_catalog.unnest($1::text[]) AS t (name)
	JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(t.name) AND c.relkind = 'S'
	JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace`, names)
	if err != nil {
		return nil, postgres.Wrap(err, "list the sequences")
	}
	values := make(map[string]SequenceValue, len(there))
	const together = 200
	for len(there) > 0 {
		batch := there[:min(len(there), together)]
		there = there[len(batch):]
		var sql strings.Builder
		for i, s := range batch {
			if i > 0 {
				sql.WriteString(" UNION ALL ")
			}
			sql.WriteString("SELECT " + sqltext.QuoteLiteral(s.Name) + "::text AS name, last_value AS value, is_called AS called FROM " + s.Quoted)
		}
		type value struct {
			Name string
			SequenceValue
		}
		read, err := postgres.Collect[value](ctx, conn, sql.String())
		if err != nil {
			return nil, postgres.Wrap(err, "read the sequences")
		}
		for _, v := range read {
			values[v.Name] = v.SequenceValue
		}
	}
	return values, nil
}

// ReadFilledViews returns the quoted names of the materialized views that hold rows.
func ReadFilledViews(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	names, err := postgres.CollectScalar[string](ctx, conn, `
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND c.relispopulated ORDER BY 1`)
	return names, postgres.Wrap(err, "list the materialized views")
}
