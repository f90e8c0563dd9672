package snapshot

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Patterns choose what of a database a backup holds. Each is written as
// sqltext.Pattern says.
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

// Check refuses with a KindUsage error what is not a pattern, whatever the
// database holds.
func (p Patterns) Check() error {
	for _, kind := range p.kinds() {
		for _, text := range kind.patterns {
			if _, err := kind.parse(text); err != nil {
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

func (k patternKind) parse(text string) (sqltext.Pattern, error) {
	if k.schema {
		return sqltext.ParseSchemaPattern(text)
	}
	return sqltext.ParseTablePattern(text)
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
	schemas, err := postgres.SearchedSchemas(ctx, conn)
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
	p, err := kind.parse(text)
	if err != nil {
		return nil, err
	}
	var oids []int64
	if kind.schema {
		oids, err = postgres.CollectScalar[int64](ctx, conn, matchingSchemas, p.NameRegex())
	} else {
		oids, err = postgres.CollectScalar[int64](ctx, conn, matching, p.NameRegex(), p.SchemaRegex(), path)
	}
	if postgres.Code(err) == "2201B" {
		return nil, fmt.Errorf("%s: %w", kind.flag, p.NoPattern())
	}
	if err != nil {
		return nil, postgres.Wrap(err, "look for what a pattern names")
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
