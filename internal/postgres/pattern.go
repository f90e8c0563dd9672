package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
)

// Patterns choose what of a database a backup holds. Each is written as psql and
// pg_dump take it: letters are folded to lower case and * and ? stand for any
// text and any letter, unless in "double quotes"; a dot separates schema and
// name; what else has a meaning in regular expressions has it here, but $.
//
// They choose tables, and what pg_dump counts with them: views, materialized
// views, sequences and foreign tables.
type Patterns struct {
	// Tables and Schemas take in; without either everything is in. A table that
	// is named itself is in whatever ExcludeSchemas says.
	Tables, Schemas []string
	// ExcludeTables and ExcludeSchemas leave out.
	ExcludeTables, ExcludeSchemas []string
	// ExcludeTableData names tables whose definition is in and whose rows are
	// not.
	ExcludeTableData []string
}

// Empty reports whether there is no pattern at all.
func (p Patterns) Empty() bool {
	return len(p.Tables)+len(p.Schemas)+len(p.ExcludeTables)+len(p.ExcludeSchemas)+len(p.ExcludeTableData) == 0
}

// Check refuses with a KindUsage error what is no pattern, whatever the
// database holds.
func (p Patterns) Check() error {
	for _, kind := range p.kinds() {
		for _, text := range kind.patterns {
			if _, err := parsePattern(text, kind.schema); err != nil {
				return err
			}
		}
	}
	return nil
}

// patternKind is one of the five lists, with the flag that sets it.
type patternKind struct {
	flag     string
	patterns []string
	schema   bool
}

func (p Patterns) kinds() []patternKind {
	return []patternKind{
		{"--table", p.Tables, false}, {"--schema", p.Schemas, true},
		{"--exclude-table", p.ExcludeTables, false}, {"--exclude-schema", p.ExcludeSchemas, true},
		{"--exclude-table-data", p.ExcludeTableData, false},
	}
}

// regexes are what a pattern means to the server. An empty schema is none.
type regexes struct{ schema, name string }

// parsePattern translates a pattern into anchored regular expressions. That of a
// schema has only a name.
func parsePattern(text string, schema bool) (regexes, error) {
	bad := func(why, hint string) (regexes, error) {
		return regexes{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "pattern %q %s", text, why)
	}
	var parts []string
	var b strings.Builder
	quoted := false
	runes := []rune(text)
	for i := 0; i < len(runes); i++ {
		c := runes[i]
		next := rune(0)
		if i+1 < len(runes) {
			next = runes[i+1]
		}
		switch {
		case c == '"' && quoted && next == '"':
			b.WriteRune('"')
			i++
		case c == '"':
			quoted = !quoted
		case c == '$', quoted && strings.ContainsRune(`|*+?()[]{}.^\`, c), c == '[' && next == ']':
			// [] is the end of an array type's name and no set of letters.
			b.WriteString(`\` + string(c))
		case quoted:
			b.WriteRune(c)
		case c == '*':
			b.WriteString(".*")
		case c == '?':
			b.WriteString(".")
		case c == '.':
			parts = append(parts, b.String())
			b.Reset()
		case c >= 'A' && c <= 'Z': // as the server folds names
			b.WriteRune(c - 'A' + 'a')
		default:
			b.WriteRune(c)
		}
	}
	parts = append(parts, b.String())
	switch {
	case quoted:
		return bad("has no closing quote", `quote a name as SQL does: "Name"`)
	case schema && len(parts) > 1, len(parts) > 2:
		return bad("has too many dots", `a dot that belongs to a name is written in quotes: "a.b"`)
	case strings.ContainsRune(text, 0), parts[len(parts)-1] == "", parts[0] == "":
		return bad("names nothing", "write a name, or * for all")
	}
	r := regexes{name: "^(" + parts[len(parts)-1] + ")$"}
	if len(parts) == 2 {
		r.schema = "^(" + parts[0] + ")$"
	}
	return r, nil
}

// matching is what the server finds for a pattern. Without a schema a table
// must be one that the role would find under its bare name, as in psql: $3 are
// the schemas in which it would look, in order.
const matching = `SELECT c.oid::int8 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	LEFT JOIN pg_catalog.unnest($3::text[]) WITH ORDINALITY AS p (schema, at) ON p.schema = n.nspname::text
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
	AND c.relpersistence <> 't' AND c.relname COLLATE pg_catalog."default" ~ $1
	AND CASE WHEN $2 = '' THEN p.at IS NOT NULL AND NOT EXISTS (
			SELECT FROM pg_catalog.pg_class AS o JOIN pg_catalog.pg_namespace AS m ON m.oid = o.relnamespace
				JOIN pg_catalog.unnest($3::text[]) WITH ORDINALITY AS q (schema, at) ON q.schema = m.nspname::text
			WHERE o.relname = c.relname AND q.at < p.at)
		ELSE n.nspname COLLATE pg_catalog."default" ~ $2 END`

const matchingSchemas = `SELECT n.oid::int8 FROM pg_catalog.pg_namespace AS n
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname COLLATE pg_catalog."default" ~ $1`

// matched are the objects that patterns name, by OID.
type matched struct {
	tables, schemas, exTables, exSchemas, exData map[uint32]bool
}

// match looks the patterns up. One that names nothing is an error of
// KindNotFound.
func (p Patterns) match(ctx context.Context, conn *pgx.Conn) (m matched, err error) {
	// A session of ours has no search path; what a bare name means is decided
	// by the role's own.
	schemas, err := searchedSchemas(ctx, conn)
	if err != nil {
		return m, err
	}
	return m, p.lookUpAll(ctx, conn, &m, schemas)
}

func (p Patterns) lookUpAll(ctx context.Context, conn *pgx.Conn, m *matched, path []string) error {
	sets := []*map[uint32]bool{&m.tables, &m.schemas, &m.exTables, &m.exSchemas, &m.exData}
	for i, kind := range p.kinds() {
		*sets[i] = map[uint32]bool{}
		for _, text := range kind.patterns {
			oids, err := lookUp(ctx, conn, text, kind, path)
			if err != nil {
				return err
			}
			for _, oid := range oids {
				(*sets[i])[uint32(oid)] = true
			}
		}
	}
	return nil
}

func lookUp(ctx context.Context, conn *pgx.Conn, text string, kind patternKind, path []string) ([]int64, error) {
	r, err := parsePattern(text, kind.schema)
	if err != nil {
		return nil, err
	}
	var oids []int64
	if kind.schema {
		oids, err = collectScalar[int64](ctx, conn, matchingSchemas, r.name)
	} else {
		oids, err = collectScalar[int64](ctx, conn, matching, r.name, r.schema, path)
	}
	if Code(err) == "2201B" {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, `a name with special characters is written in quotes: "a(b)"`,
			"pattern %q of %s is not valid", text, kind.flag)
	}
	if err != nil {
		return nil, Wrap(err, "look for what a pattern names")
	}
	if len(oids) == 0 {
		hint := "check its spelling; a table that is not on the role's search_path is written schema.table"
		if kind.schema {
			hint = "check its spelling; psql's \\dn lists the schemas"
		}
		return nil, pgmedic.Errorf(pgmedic.KindNotFound, hint, "nothing in the database matches pattern %q of %s", text, kind.flag)
	}
	return oids, nil
}
