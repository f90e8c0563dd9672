package rescue

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// tableShape is a table as the catalogue shows it. It is read without a lock.
type tableShape struct {
	exists      bool
	partitioned bool
	columns     []shapeColumn
	// key are the columns of the primary key, equal the qualified operators by
	// which its index finds two values of each the same.
	key, equal []string
	// deferrable is whether its uniqueness may be checked at the end of a transaction.
	deferrable bool
}

type shapeColumn struct {
	name string
	// typ is the type as it is declared, cast its qualified name without the
	// modifier: an explicit cast to varchar(5) would cut a text without a word,
	// where an assignment refuses it.
	typ, cast string
	// base shows whether two columns can be compared as they are.
	base                uint32
	generated, identity bool
	// always is whether the identity is one that no UPDATE can change.
	always bool
	// castToText is whether a cast to text is the application's, which may give two values
	// one text.
	castToText bool
}

func (s *tableShape) column(name string) (shapeColumn, bool) {
	i := slices.IndexFunc(s.columns, func(c shapeColumn) bool { return c.name == name })
	if i < 0 {
		return shapeColumn{}, false
	}
	return s.columns[i], true
}

const describeTable = `
SELECT c.relkind = 'p', coalesce(k.columns, '{}'), coalesce(k.operators, '{}'), coalesce(k.deferrable, false), c.oid
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	LEFT JOIN LATERAL (
		SELECT array_agg(a.attname::text ORDER BY u.n) AS columns,
			array_agg(pg_catalog.format('OPERATOR(%I.%s)', s.nspname, o.oprname) ORDER BY u.n) AS operators, NOT pg_catalog.bool_and(i.indimmediate) AS deferrable
		FROM pg_catalog.pg_index AS i CROSS JOIN unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS u (attnum, opclass, n)
			JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = u.attnum
			JOIN pg_catalog.pg_opclass AS p ON p.oid = u.opclass JOIN pg_catalog.pg_am AS m ON m.oid = p.opcmethod AND m.amname = 'btree'
			JOIN pg_catalog.pg_amop AS x ON x.amopfamily = p.opcfamily AND x.amopstrategy = 3
				AND x.amoplefttype = p.opcintype AND x.amoprighttype = p.opcintype
			JOIN pg_catalog.pg_operator AS o ON o.oid = x.amopopr JOIN pg_catalog.pg_namespace AS s ON s.oid = o.oprnamespace
		WHERE i.indrelid = c.oid AND i.indisprimary AND u.n <= i.indnkeyatts) AS k ON true
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')`

const describeColumns = `
SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod),
	(SELECT pg_catalog.format('%I.%I', n.nspname, t.typname) FROM pg_catalog.pg_type AS t
		JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace WHERE t.oid = a.atttypid), q.base, a.attgenerated <> '', a.attidentity <> '', a.attidentity = 'a',
	EXISTS (SELECT FROM pg_catalog.pg_cast AS s WHERE s.castsource = q.base AND s.casttarget = 'pg_catalog.text'::pg_catalog.regtype
		AND s.castmethod <> 'b' AND s.oid >= 16384) -- those of the server itself have lower ones
FROM pg_catalog.pg_attribute AS a CROSS JOIN LATERAL (
	WITH RECURSIVE chain AS (
		SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type AS t WHERE t.oid = a.atttypid
		UNION ALL
		SELECT t.oid, t.typtype, t.typbasetype FROM chain JOIN pg_catalog.pg_type AS t ON t.oid = chain.typbasetype WHERE chain.typtype = 'd')
	SELECT oid AS base FROM chain WHERE typtype <> 'd') AS q
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`

// describe reads a table of the live database; one that is not there has no
// columns.
func describe(ctx context.Context, conn *pgx.Conn, schema, name string) (*tableShape, error) {
	s := &tableShape{}
	var oid uint32
	err := conn.QueryRow(ctx, describeTable, schema, name).Scan(&s.partitioned, (*postgres.TextArray)(&s.key), (*postgres.TextArray)(&s.equal), &s.deferrable, &oid)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, nil
	}
	what := "read the columns of table " + sqltext.QuoteQualified(schema, name)
	if err != nil {
		return nil, postgres.Wrap(err, what)
	}
	rows, err := conn.Query(ctx, describeColumns, oid)
	if err != nil {
		return nil, postgres.Wrap(err, what)
	}
	s.exists = true
	s.columns, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c shapeColumn, err error) {
		err = row.Scan(&c.name, &c.typ, &c.cast, &c.base, &c.generated, &c.identity, &c.always, &c.castToText)
		return c, err
	})
	return s, postgres.Wrap(err, what)
}

// writeSQL compares each table with the living one and writes the SQL for it.
func (r *rescue) writeSQL(ctx context.Context) error {
	for k, n := range r.names {
		live, err := describe(ctx, r.conn, n.schema, n.name)
		if err != nil {
			return err
		}
		saved, err := describe(ctx, r.conn, r.schema, n.as)
		if err != nil {
			return err
		}
		t := &r.done.Tables[k]
		t.Live = live.exists
		if !live.exists {
			continue
		}
		w := newSQLWriter(n, t.As, live, saved)
		t.Notes, t.Key = w.notes, w.key
		if len(w.columns) > 0 {
			t.SQL = w.sql()
		}
	}
	return nil
}

// pair is a column that the backup and the living table both have.
type pair struct {
	name string
	live shapeColumn
	same bool // they can be compared as they are
	// output is whether the text of one is not that of its type's own output.
	output bool
}

// sqlWriter writes the SQL that compares a rescued table, b, with the living
// one, l. It is pasted into a session with any search path, by a role that may be
// a superuser: every operator and type in it is qualified.
type sqlWriter struct {
	saved, live, from string
	columns           []pair
	key, equal        []string
	deferrable        bool
	identity          bool
	notes             []string
}

func newSQLWriter(n tableName, as string, live, saved *tableShape) *sqlWriter {
	w := &sqlWriter{saved: as, live: n.String(), from: "ONLY " + n.String(), key: live.key, equal: live.equal, deferrable: live.deferrable}
	if live.partitioned {
		w.from = n.String()
	}
	var lost, added []string
	for _, c := range saved.columns {
		l, ok := live.column(c.name)
		if !ok || l.generated {
			lost = append(lost, sqltext.QuoteIdent(c.name))
			continue
		}
		w.identity = w.identity || l.identity
		w.columns = append(w.columns, pair{c.name, l, l.base == c.base, l.castToText || c.castToText})
	}
	for _, l := range live.columns {
		if _, ok := saved.column(l.name); !ok && !l.generated {
			added = append(added, sqltext.QuoteIdent(l.name))
		}
	}
	if len(lost) > 0 {
		w.notes = append(w.notes, "the living table does not have, or computes: "+strings.Join(lost, ", "))
	}
	if len(added) > 0 {
		w.notes = append(w.notes, "the backup does not have, so that rows put back get the default: "+strings.Join(added, ", "))
	}
	for _, k := range w.key {
		if !slices.ContainsFunc(w.columns, func(p pair) bool { return p.name == k }) {
			w.key = nil
			w.notes = append(w.notes, "the backup does not have all of the primary key: rows are compared whole")
			break
		}
	}
	if len(w.columns) == 0 {
		w.notes = append(w.notes, "the two have no column in common: only their rows can be counted")
	}
	return w
}

func (w *sqlWriter) sql() *SQL {
	if len(w.key) == 0 {
		return w.whole()
	}
	s := &SQL{
		Missing: "SELECT b.*\nFROM " + w.saved + " AS b\nWHERE NOT EXISTS (SELECT FROM " + w.from + " AS l WHERE " + w.match() + ");",
		Added:   "SELECT l.*\nFROM " + w.from + " AS l\nWHERE NOT EXISTS (SELECT FROM " + w.saved + " AS b WHERE " + w.match() + ");",
		PutBack: w.insert("b") + "\nFROM " + w.saved + " AS b\nWHERE NOT EXISTS (SELECT FROM " + w.from + " AS l WHERE " + w.match() + ");",
	}
	if slices.ContainsFunc(w.columns, func(c pair) bool { return !c.same }) {
		s.PutBack = inText(s.PutBack)
	}
	if len(w.columns) > len(w.key) {
		s.Changed = "SELECT b.*\nFROM " + w.saved + " AS b JOIN " + w.from + " AS l ON " + w.match() +
			"\nWHERE ROW(" + w.texts("b.", "") + ")::pg_catalog.record\n  OPERATOR(pg_catalog.*<>) ROW(" + w.texts("l.", "") + ")::pg_catalog.record;"
	}
	return s.printable()
}

// whole compares rows as text, because many types have no equality operator, and counts
// those that occur more than once.
func (w *sqlWriter) whole() *SQL {
	saved := "SELECT " + w.texts("b.", "as") + "\nFROM " + w.saved + " AS b"
	live := "SELECT " + w.texts("l.", "as") + "\nFROM " + w.from + " AS l"
	missing := saved + "\nEXCEPT ALL\n" + live
	return (&SQL{
		Missing: missing + ";", Added: live + "\nEXCEPT ALL\n" + saved + ";",
		PutBack: inText(w.insert("m") + "\nFROM (\n" + missing + "\n) AS m;"),
	}).printable()
}

// inText makes a statement that takes values through text independent of how the
// session prints them: in some styles a time zone's or a number's text says less
// than the value.
func inText(sql string) string {
	return "BEGIN;\nSET LOCAL datestyle = 'ISO';\nSET LOCAL intervalstyle = 'postgres';\nSET LOCAL extra_float_digits = 3;\n" + sql + "\nCOMMIT;"
}

// texts lists the columns as text, which is compared byte by byte; with as they
// keep their names.
func (w *sqlWriter) texts(of, as string) string {
	list := make([]string, len(w.columns))
	for i, c := range w.columns {
		name := sqltext.QuoteIdent(c.name)
		list[i] = c.text(of+name) + ` COLLATE pg_catalog."C"`
		if as != "" {
			list[i] += " AS " + name
		}
	}
	return strings.Join(list, ", ")
}

// text is a value of the column as text, from which it can be read again.
func (c pair) text(value string) string {
	if c.output {
		return "(CASE pg_catalog.num_nulls(" + value + ") WHEN 0 THEN pg_catalog.concat(" + value + ") END)"
	}
	return value + "::pg_catalog.text"
}

// match is the condition that two rows have the same key.
func (w *sqlWriter) match() string {
	conditions := make([]string, len(w.key))
	for i, k := range w.key {
		at := slices.IndexFunc(w.columns, func(p pair) bool { return p.name == k })
		conditions[i] = "l." + sqltext.QuoteIdent(k) + " " + w.equal[i] + " " + w.value("b", w.columns[at])
	}
	return strings.Join(conditions, " AND ")
}

// value is a column of the rescued rows as the living table takes it.
func (w *sqlWriter) value(of string, c pair) string {
	name := of + "." + sqltext.QuoteIdent(c.name)
	switch {
	case of == "m":
		return name + "::" + c.live.cast
	case c.same:
		return name
	}
	return c.text(name) + "::" + c.live.cast
}

// insert is the head of the INSERT, up to the columns that are selected.
func (w *sqlWriter) insert(of string) string {
	names, values := make([]string, len(w.columns)), make([]string, len(w.columns))
	for i, c := range w.columns {
		names[i], values[i] = sqltext.QuoteIdent(c.name), w.value(of, c)
	}
	overriding := ""
	if w.identity {
		overriding = "\nOVERRIDING SYSTEM VALUE"
	}
	return "INSERT INTO " + w.live + " (" + strings.Join(names, ", ") + ")" + overriding + "\nSELECT " + strings.Join(values, ", ")
}

func (s *SQL) printable() *SQL {
	return &SQL{Missing: sqltext.Printable(s.Missing), Added: sqltext.Printable(s.Added), Changed: sqltext.Printable(s.Changed), PutBack: sqltext.Printable(s.PutBack)}
}
