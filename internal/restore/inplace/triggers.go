package inplace

import (
	"context"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// trigger is one of a table or of its partitions, with when it fires.
type trigger struct{ Table, Name, Enabled string }

// triggers are those of the users that could fire for rows of a table. None are returned if
// all of them are disabled: nothing has to be done then.
func (w *work) triggers(ctx context.Context, t *table) ([]trigger, error) {
	// Before PostgreSQL 15 the triggers of partitions that come with that of their root count
	// as internal.
	all, err := postgres.Collect[trigger](ctx, w.conn, `
WITH tree AS (SELECT $1::oid AS relid, 0 AS level UNION SELECT p.relid, p.level FROM pg_catalog.pg_partition_tree($1) AS p),
	own AS (SELECT t.tgname, t.tgfoid FROM tree JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = tree.relid WHERE NOT t.tgisinternal)
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS "table", t.tgname::text AS name, t.tgenabled::text AS enabled
FROM tree AS p
	JOIN pg_catalog.pg_class AS c ON c.oid = p.relid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = c.oid
WHERE NOT t.tgisinternal OR EXISTS (SELECT FROM own WHERE own.tgname = t.tgname AND own.tgfoid = t.tgfoid) GROUP BY 1, 2, 3, c.oid, t.oid ORDER BY min(p.level), c.oid, t.oid`, t.oid)
	if err != nil {
		return nil, postgres.Wrap(err, "read the triggers of "+t.String())
	}
	if !slices.ContainsFunc(all, func(t trigger) bool { return t.Enabled != "D" }) {
		return nil, nil
	}
	return all, nil
}

// disable disables the triggers of a table for this transaction: they have fired for the
// rows once. They are returned as they were.
func (w *work) disable(ctx context.Context, t *table) ([]trigger, error) {
	all, err := w.triggers(ctx, t)
	if err != nil {
		return nil, err
	}
	t.plan.TriggersOff = len(all) > 0
	for _, tr := range all {
		if tr.Enabled == "D" {
			continue
		}
		if err := w.quietly(ctx, "ALTER TABLE ONLY "+tr.Table+" DISABLE TRIGGER "+sqltext.QuoteIdent(tr.Name), ""); err != nil {
			return nil, postgres.Wrap(err, "disable trigger "+sqltext.QuoteIdent(tr.Name)+" of "+tr.Table)
		}
	}
	return all, nil
}

// enable makes the triggers what they were before.
func (w *work) enable(ctx context.Context, t *table, before []trigger) error {
	verbs := map[string]string{"O": "ENABLE", "D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
	for _, tr := range before { // parents first: on some versions that includes the partitions
		if err := w.quietly(ctx, "ALTER TABLE ONLY "+tr.Table+" "+verbs[tr.Enabled]+" TRIGGER "+sqltext.QuoteIdent(tr.Name), ""); err != nil {
			return postgres.Wrap(err, "enable trigger "+sqltext.QuoteIdent(tr.Name)+" of "+tr.Table+" again")
		}
	}
	after, err := w.triggers(ctx, t)
	if err != nil {
		return err
	}
	if !slices.Equal(before, after) {
		return pgmedic.Errorf(pgmedic.KindConflict, "run the command again", "the triggers of %s would not be what they were", t)
	}
	return nil
}

// moveSequences moves the sequences from which a table's columns take their values on to
// the largest value that is there, so that the next one is free: to one in the table, and to
// one that rows point to by a foreign key that is not valid, which a new row would get as if
// they were its own. A sequence is in no
// transaction: if this one is rolled back, it stays moved on, which does no harm.
func (w *work) moveSequences(ctx context.Context, t *table) error {
	type column struct{ Sequence, Column string }
	columns, err := postgres.Collect[column](ctx, w.conn, `
SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, s.relname) AS sequence, a.attname::text AS column
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS cn ON cn.oid = c.relnamespace
	JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		AND a.atttypid = ANY (ARRAY['pg_catalog.int2', 'pg_catalog.int4', 'pg_catalog.int8']::pg_catalog.regtype[])
	LEFT JOIN pg_catalog.pg_attrdef AS f ON f.adrelid = c.oid AND f.adnum = a.attnum
	JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
			AND d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')
		OR d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
	JOIN pg_catalog.pg_class AS s ON s.relkind = 'S' AND s.oid = CASE WHEN d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass THEN d.objid ELSE d.refobjid END
	JOIN pg_catalog.pg_namespace AS n ON n.oid = s.relnamespace JOIN pg_catalog.pg_sequence AS q ON q.seqrelid = s.oid AND q.seqincrement > 0
WHERE cn.nspname = $1 AND c.relname = $2 ORDER BY 1, 2`, t.Schema, t.Name)
	if err != nil {
		return postgres.Wrap(err, "read the sequences of "+t.String())
	}
	if len(columns) == 0 {
		return nil
	}
	type pointing struct{ Table, Column, Ref string }
	pointed, err := postgres.Collect[pointing](ctx, w.conn, `
SELECT pg_catalog.format('%I.%I', n.nspname, r.relname) AS "table", a.attname::text AS column, f.attname::text AS ref
FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_class AS r ON r.oid = k.conrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
	JOIN pg_catalog.pg_class AS c ON c.oid = k.confrelid JOIN pg_catalog.pg_namespace AS cn ON cn.oid = c.relnamespace
	JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
		AND a.atttypid = ANY (ARRAY['pg_catalog.int2', 'pg_catalog.int4', 'pg_catalog.int8']::pg_catalog.regtype[])
	JOIN pg_catalog.pg_attribute AS f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[1]
WHERE k.contype = 'f' AND NOT k.convalidated AND pg_catalog.cardinality(k.conkey) = 1 AND cn.nspname = $1 AND c.relname = $2 ORDER BY 1, 2`, t.Schema, t.Name)
	if err != nil {
		return postgres.Wrap(err, "read the foreign keys")
	}
	for _, c := range columns {
		largest := []string{"SELECT pg_catalog.max(l." + sqltext.QuoteIdent(c.Column) + ")::pg_catalog.int8 AS most FROM " + t.String() + " AS l"}
		for _, p := range pointed {
			if p.Ref == c.Column {
				largest = append(largest, "SELECT pg_catalog.max(r."+sqltext.QuoteIdent(p.Column)+")::pg_catalog.int8 FROM "+p.Table+" AS r")
			}
		}
		var most *int64
		if err := w.conn.QueryRow(ctx, "SELECT pg_catalog.max(most) FROM ("+strings.Join(largest, " UNION ALL ")+") AS q").Scan(&most); err != nil {
			return postgres.Wrap(err, "read the largest value of sequence "+c.Sequence)
		}
		if most == nil {
			continue
		}
		// A statement of its own: others take values from the sequence meanwhile, and it must
		// not go back behind those that they took while the table was read.
		_, err := w.conn.Exec(ctx, `SELECT pg_catalog.setval(q.seqrelid::pg_catalog.regclass, $2) FROM `+c.Sequence+` AS s, pg_catalog.pg_sequence AS q
WHERE q.seqrelid = $1::pg_catalog.regclass AND $2 <= q.seqmax AND ($2 > s.last_value OR $2 = s.last_value AND NOT s.is_called)`, c.Sequence, *most)
		if err != nil {
			return postgres.Wrap(err, "move sequence "+c.Sequence+" on")
		}
	}
	return nil
}
