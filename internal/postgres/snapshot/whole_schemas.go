package snapshot

import (
	"context"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

// WholeSchema is a schema in which the tables that are taken over are all that
// holds rows, so that pg_dump need not be told of each.
type WholeSchema struct {
	// Name is the schema's; empty means every schema of the database.
	Name string
	// Sequences is whether there are sequences in it, whose values pg_dump is to
	// keep. Their names end in what PostgreSQL ends them with where it chooses
	// them, and by that they are told from tables.
	Sequences bool
}

// sequenceSuffix is what PostgreSQL ends the name of a serial or identity
// column's sequence with.
const sequenceSuffix = "_seq"

// Covers reports whether a table or sequence of that name is among the whole
// schema's rows. What it doesn't cover has to be named.
func (w WholeSchema) Covers(name string) bool {
	return !w.Sequences || !strings.HasSuffix(name, sequenceSuffix) && !strings.HasSuffix(sequenceSuffix, name)
}

// WholeSchemas returns the schemas that hold no rows but those of tables, sorted; or
// one for all of them.
func (s *Snapshot) WholeSchemas(ctx context.Context, tables []RowTable) ([]WholeSchema, error) {
	left := make(map[string]int)
	for _, t := range s.Tables {
		left[t.Schema]++
	}
	for _, t := range tables {
		left[t.Schema]--
	}
	type row struct {
		Schema, Name string
		View         bool
	}
	others, err := postgres.Collect[row](ctx, s.conn, `
SELECT n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'm' AS view
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('S', 'm')`)
	if err != nil {
		return nil, postgres.Wrap(err, "list the sequences and materialized views")
	}
	// Whether all sequences of a schema can be told from tables, and no pattern
	// takes the rows of a materialized view for a table's: pg_dump would leave out
	// that it is to be filled.
	named := make(map[string]bool)
	for _, q := range others {
		before, known := named[q.Schema]
		named[q.Schema] = (before || !known) && !q.View && !WholeSchema{Sequences: true}.Covers(q.Name)
	}
	var whole []WholeSchema
	every := WholeSchema{Sequences: len(named) > 0}
	for schema, n := range left {
		can, has := named[schema]
		if n == 0 && (can || !has) {
			whole = append(whole, WholeSchema{Name: schema, Sequences: has})
		}
	}
	told := func() bool {
		for _, can := range named { // also of schemas without tables
			if !can {
				return false
			}
		}
		return true
	}
	// To pg_dump each schema is a query of its own, which takes long where the
	// catalogue was never analyzed.
	if len(whole) == len(left) && len(whole) > 1 && told() {
		return []WholeSchema{every}, nil
	}
	slices.SortFunc(whole, func(a, b WholeSchema) int { return strings.Compare(a.Name, b.Name) })
	return whole, nil
}

// LargeObjectBytes returns how many bytes the large objects of the snapshot's
// database take, dead ones included.
func (s *Snapshot) LargeObjectBytes(ctx context.Context) (n int64, err error) {
	err = s.conn.QueryRow(ctx, "SELECT pg_catalog.pg_relation_size('pg_catalog.pg_largeobject')").Scan(&n)
	return n, postgres.Wrap(err, "read the size of the large objects")
}
