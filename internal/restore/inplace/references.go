package inplace

import (
	"context"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// reference is a foreign key by which rows of a table refer to those of another.
type reference struct {
	Name, Table string
	OID         uint32
	// OnUpdate is whether it changes the rows that refer to one whose columns are changed.
	OnUpdate                 bool
	Columns, Refs, Operators []string
}

// references are the foreign keys that refer to a table, to a partition of it, or to what
// it is a partition of. Those of partitions that come with that of their root are not
// among them.
func (w *work) references(ctx context.Context, t *table) (keys []reference, err error) {
	rows, err := w.conn.Query(ctx, `
WITH tree AS (SELECT $1::pg_catalog.oid AS relid UNION SELECT p.relid FROM pg_catalog.pg_partition_tree($1) AS p)
SELECT k.conname::text, pg_catalog.format('%I.%I', n.nspname, r.relname), k.conrelid, k.confupdtype NOT IN ('a', 'r'),
	ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u (num, at) JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.at),
	ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS u (num, at) JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.at),
	ARRAY(SELECT pg_catalog.format('OPERATOR(%I.%s)', s.nspname, o.oprname) FROM pg_catalog.unnest(k.conpfeqop) WITH ORDINALITY AS u (oid, at)
		JOIN pg_catalog.pg_operator AS o ON o.oid = u.oid JOIN pg_catalog.pg_namespace AS s ON s.oid = o.oprnamespace ORDER BY u.at)
FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_class AS r ON r.oid = k.conrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
WHERE k.contype = 'f' AND k.confrelid IN (SELECT relid FROM tree)
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS root WHERE root.oid = k.conparentid AND root.confrelid IN (SELECT relid FROM tree)) ORDER BY 2, 1`, t.oid)
	if err != nil {
		return nil, postgres.Wrap(err, "read the foreign keys")
	}
	defer rows.Close()
	for rows.Next() {
		var k reference
		if err := rows.Scan(&k.Name, &k.Table, &k.OID, &k.OnUpdate, (*postgres.TextArray)(&k.Columns), (*postgres.TextArray)(&k.Refs), (*postgres.TextArray)(&k.Operators)); err != nil {
			return nil, postgres.Wrap(err, "read the foreign keys")
		}
		keys = append(keys, k)
	}
	return keys, postgres.Wrap(rows.Err(), "read the foreign keys")
}

// replaced is the table whose rows refer to others by a key, if they are replaced, too.
func (w *work) replaced(k reference) *table {
	i := slices.IndexFunc(w.tables, func(t *table) bool { return t.oid == k.OID && t.plan.Action == ActionReplace })
	if i < 0 {
		return nil
	}
	return w.tables[i]
}

// toAdded selects rows of r that refer to rows of a table which the backup has not.
func (k reference) toAdded(from string, c *rescue.Comparison) string {
	match := make([]string, len(k.Columns))
	for i := range k.Columns {
		match[i] = "l." + sqltext.QuoteIdent(k.Refs[i]) + " " + k.Operators[i] + " r." + sqltext.QuoteIdent(k.Columns[i])
	}
	return "SELECT 1 FROM " + from + " AS r JOIN " + c.Live() + " AS l ON " + strings.Join(match, " AND ") + " WHERE " + c.AddedWhere()
}

const missingRowsHint = "--missing-rows keeps all rows that are there and adds those that are missing"

// refused is the error where rows can't be removed because of it.
func (k reference) refused(t *table) error {
	return pgmedic.Errorf(pgmedic.KindConflict, missingRowsHint,
		"rows of %s that the backup has not are referred to by rows of %s, by foreign key %s", t, k.Table, sqltext.QuoteIdent(k.Name))
}

// refuseReferences refuses to remove rows to which rows of tables refer that are not
// replaced, and to change values that a foreign key would change there, too.
func (w *work) refuseReferences(ctx context.Context, t *table, c *rescue.Comparison) error {
	keys, err := w.references(ctx, t)
	if err != nil {
		return err
	}
	if len(keys) > 0 && c.KeyChanged() && *t.plan.Deleted > 0 {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave --in-place out: the SQL that `restore --table` prints compares the rows",
			"the primary key of %s has another type than in the backup, and other tables refer to it", t)
	}
	for _, k := range keys {
		if w.replaced(k) != nil {
			continue // its rows are put back, too
		}
		inKey := !slices.ContainsFunc(k.Refs, func(name string) bool { return !slices.Contains(c.Key, name) })
		if k.OnUpdate && !inKey && *t.plan.Updated > 0 {
			return pgmedic.Errorf(pgmedic.KindConflict, missingRowsHint, "to correct rows of %s would change rows of %s, by foreign key %s", t, k.Table, sqltext.QuoteIdent(k.Name))
		}
		unused, err := w.none(ctx, k.toAdded(k.Table, c))
		if err != nil {
			return err
		}
		if !unused {
			return k.refused(t)
		}
	}
	return nil
}

// referring is a foreign key by which rows of tables that are replaced, too, refer to rows
// of a table that are to be removed; nil if there is none. Rows that are to be removed
// themselves don't count in the tables of which without is true.
func (w *work) referring(ctx context.Context, t *table, without func(*table) bool) (*reference, error) {
	keys, err := w.references(ctx, t)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		other := w.replaced(k)
		if other == nil || len(other.comparison.Key) == 0 { // refused before, or empty until now
			continue
		}
		from := other.comparison.Live()
		// Casts of types that changed are not for this session's role to run.
		if without(other) && !other.comparison.KeyChanged() {
			from = other.comparison.Staying()
		}
		unused, err := w.none(ctx, k.toAdded(from, t.comparison))
		if err != nil {
			return nil, err
		}
		if !unused {
			return &k, nil
		}
	}
	return nil, nil
}
