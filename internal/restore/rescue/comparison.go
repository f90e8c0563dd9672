package rescue

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Selected is a table that patterns name, with the name of its copy.
type Selected struct {
	Schema, Name string
	// As is the name of the copy in the schema of the rescue.
	As string
	// WithoutRows is whether the backup holds the definition of the table, or of one of its
	// partitions, and none of its rows.
	WithoutRows bool
}

// String is the quoted name.
func (s Selected) String() string { return sqltext.QuoteQualified(s.Schema, s.Name) }

// Select returns the tables that Run would bring back, in its order, and the schema that
// it would bring them into. Its errors are those of Run.
func Select(o Options) (schema string, tables []Selected, err error) {
	names, err := chooseTables(o.Backup, o.Tables, o.whole())
	if err != nil {
		return "", nil, err
	}
	for _, n := range names {
		without := slices.ContainsFunc(n.tables, func(i int) bool { return o.Backup.Tables[i].WithoutRows })
		tables = append(tables, Selected{Schema: n.schema, Name: n.name, As: n.as, WithoutRows: without})
	}
	return schemaOf(o.Backup), tables, nil
}

// KeptStory is the comment, as an SQL literal, of a table in the schema of a rescue that
// holds rows which a living table had.
func KeptStory(of, backup string, since time.Time) (string, error) {
	text, err := json.Marshal(pgmedic.Story{Pgmedic: storyKept, Of: of, By: databases.ByRescue, Backup: backup, Since: since.UTC()})
	if err != nil {
		return "", fmt.Errorf("write what the table is: %w", err)
	}
	return sqltext.QuoteLiteral(string(text)), nil
}

// storyKept is the state in the comment of a table that holds replaced rows.
const storyKept = "replaced"

// Comparison compares a living table, l, with its copy in the schema of a rescue, b. Its
// statements name everything with its schema, and values that go through text need a
// session that prints them whole (ISO dates, extra_float_digits 3).
type Comparison struct {
	// Exists is whether the living table is there, and Rescued whether the copy is.
	Exists, Rescued bool
	// Key is the primary key of the living table, if the copy has all of it.
	Key []string
	// Lost are quoted columns of the copy that the living table has not.
	Lost []string
	// Notes say how the columns of the two differ.
	Notes []string
	w     *sqlWriter
}

// Compare reads how a living table and its copy differ in their columns, without a lock. If
// one of them is not there, the result has no statements.
func Compare(ctx context.Context, conn *pgx.Conn, s Selected, schema string) (*Comparison, error) {
	live, err := describe(ctx, conn, s.Schema, s.Name)
	if err != nil {
		return nil, err
	}
	saved, err := describe(ctx, conn, schema, s.As)
	if err != nil {
		return nil, err
	}
	if !live.exists || !saved.exists {
		return &Comparison{Exists: live.exists, Rescued: saved.exists, Key: live.key}, nil
	}
	w := newSQLWriter(tableName{schema: s.Schema, name: s.Name}, sqltext.QuoteQualified(schema, s.As), live, saved)
	c := &Comparison{Exists: true, Rescued: true, Key: w.key, Notes: w.notes, w: w}
	for _, column := range saved.columns {
		if _, ok := live.column(column.name); !ok {
			c.Lost = append(c.Lost, sqltext.QuoteIdent(column.name))
		}
	}
	return c, nil
}

// Comparable is whether the two have a column in common.
func (c *Comparison) Comparable() bool { return len(c.w.columns) > 0 }

// KeyChanged reports whether the primary key has other types than in the copy.
func (c *Comparison) KeyChanged() bool {
	return slices.ContainsFunc(c.w.columns, func(p pair) bool { return !p.same && slices.Contains(c.Key, p.name) })
}

// Live is what the rows of the living table are selected from.
func (c *Comparison) Live() string { return c.w.from }

// Missing selects one row for each that the copy has and the living table has not.
func (c *Comparison) Missing() string {
	if len(c.Key) == 0 {
		return c.rest(c.w.whole().Missing)
	}
	return "SELECT 1 FROM " + c.w.saved + " AS b WHERE NOT EXISTS (SELECT FROM " + c.w.from + " AS l WHERE " + c.w.match() + ")"
}

// Added selects one row for each that the living table has and the copy has not.
func (c *Comparison) Added() string {
	if len(c.Key) == 0 {
		return c.rest(c.w.whole().Added)
	}
	return "SELECT 1 FROM " + c.w.from + " AS l WHERE " + c.added()
}

// added is the condition that the copy has no row with the key of l.
func (c *Comparison) added() string {
	return "NOT EXISTS (SELECT FROM " + c.w.saved + " AS b WHERE " + c.w.match() + ")"
}

// AddedWhere is the condition that a row of the living table, l, is not in the copy. It
// needs a key.
func (c *Comparison) AddedWhere() string { return c.added() }

// Staying is a subquery of the rows of the living table whose key the copy has. It needs a
// key.
func (c *Comparison) Staying() string {
	return "(SELECT l.* FROM " + c.w.from + " AS l WHERE EXISTS (SELECT FROM " + c.w.saved + " AS b WHERE " + c.w.match() + "))"
}

// rest is a statement as a subquery.
func (c *Comparison) rest(sql string) string { return strings.TrimSuffix(sql, ";") }

// Changed selects one row for each that has the same key in both, and other values; it is
// empty where there is nothing but a key.
func (c *Comparison) Changed() string {
	if len(c.Key) == 0 || len(c.w.columns) <= len(c.Key) {
		return ""
	}
	return "SELECT 1 FROM " + c.w.saved + " AS b JOIN " + c.w.from + " AS l ON " + c.w.match() + " WHERE " + c.differ()
}

// differ is the condition that l and b have different values.
func (c *Comparison) differ() string {
	return "ROW(" + c.w.texts("b.", "") + ")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(" + c.w.texts("l.", "") + ")::pg_catalog.record"
}

// Repeated selects keys that the copy has more than once.
func (c *Comparison) Repeated() string {
	keys := make([]string, len(c.Key))
	for i, k := range c.Key {
		at := slices.IndexFunc(c.w.columns, func(p pair) bool { return p.name == k })
		keys[i] = c.w.value("b", c.w.columns[at])
	}
	return "SELECT 1 FROM " + c.w.saved + " AS b GROUP BY " + strings.Join(keys, ", ") + " HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1"
}

// InsertAll inserts all rows of the copy.
func (c *Comparison) InsertAll() string { return c.w.insert("b") + "\nFROM " + c.w.saved + " AS b" }

// InsertMissing inserts the rows of the copy whose key the living table has not, and
// returns how many it inserted, and how many of them are not as in the copy. A row that
// another session inserts meanwhile stays.
func (c *Comparison) InsertMissing() string {
	names := make([]string, len(c.w.columns))
	for i, p := range c.w.columns {
		names[i] = sqltext.QuoteIdent(p.name)
	}
	keys := make([]string, len(c.Key))
	for i, k := range c.Key {
		keys[i] = sqltext.QuoteIdent(k)
	}
	conflict := "\nON CONFLICT (" + strings.Join(keys, ", ") + ") DO NOTHING"
	if c.w.deferrable { // which the server does not take there: a row of another session is an error
		conflict = ""
	}
	return "WITH put AS (" + c.InsertAll() + "\nWHERE NOT EXISTS (SELECT FROM " + c.w.from + " AS l WHERE " + c.w.match() + ")" +
		conflict + " RETURNING " + strings.Join(names, ", ") + ")" +
		"\nSELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE b.ctid IS NULL OR " + c.differ() + ")" +
		" FROM put AS l LEFT JOIN " + c.w.saved + " AS b ON " + c.w.match()
}

// UpdateChanged gives rows with the same key the values of the copy. The server changes no
// column that is GENERATED ALWAYS AS IDENTITY: where one differs, the row stays Changed. It
// is empty where nothing can be changed.
func (c *Comparison) UpdateChanged() string {
	var set []string
	for _, p := range c.w.columns {
		if !slices.Contains(c.Key, p.name) && !p.live.always {
			set = append(set, sqltext.QuoteIdent(p.name)+" = "+c.w.value("b", p))
		}
	}
	if len(set) == 0 {
		return ""
	}
	return "UPDATE " + c.w.from + " AS l SET " + strings.Join(set, ", ") + " FROM " + c.w.saved + " AS b WHERE " + c.w.match() + " AND " + c.differ()
}

// DeleteAdded deletes the rows of the living table that the copy has not.
func (c *Comparison) DeleteAdded() string {
	return "DELETE FROM " + c.w.from + " AS l WHERE " + c.added()
}
