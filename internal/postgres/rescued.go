package postgres

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// rescuedPattern matches the names of the schemas that a rescue of single tables puts
// them into, which hold the id of a backup: see RescueSchema.
const rescuedPattern = `^pgmedic_rescue_[0-9]{8}t[0-9]{6}z_[0-9a-f]{6}$`

// RescueSchema is the schema that the tables of a backup are rescued into.
func RescueSchema(id string) string {
	return "pgmedic_rescue_" + strings.ReplaceAll(strings.ToLower(id), "-", "_")
}

// ByRescue is who a Story says wrote it where that is a rescue of single tables.
const ByRescue = "rescue"

// RescueStory reads the comment of a schema, and reports whether a rescue made that:
// its name and the comment have to agree, for anybody may write either.
func RescueStory(schema, comment string) (s Story, ok bool) {
	named, err := regexp.MatchString(rescuedPattern, schema)
	ok = err == nil && named && json.Unmarshal([]byte(comment), &s) == nil &&
		s.By == ByRescue && s.Pgmedic != "" && !s.Since.IsZero() && RescueSchema(s.Backup) == schema
	return s, ok
}

// RescuedSchemas lists the schemas of conn's database that rescues made. No backup
// holds them: they are copies of what another backup has.
func RescuedSchemas(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	names, err := collectScalar[string](ctx, conn, `
SELECT n.nspname::text FROM pg_catalog.pg_namespace AS n WHERE n.nspname ~ $1 ORDER BY 1`, rescuedPattern)
	return names, Wrap(err, "look for schemas of rescues")
}

// leaveOutRescued adds to what is left out the schemas that rescues made.
func (l *LeftOut) leaveOutRescued(ctx context.Context, conn *pgx.Conn) (err error) {
	if l.Schemas, err = RescuedSchemas(ctx, conn); err != nil || len(l.Schemas) == 0 {
		return err
	}
	found, err := collect[Relation](ctx, conn, `
SELECT c.oid AS oid, n.nspname::text AS schema, c.relname::text AS name
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND n.nspname = ANY ($1)`, l.Schemas)
	if err != nil {
		return Wrap(err, "list the tables of rescues")
	}
	known := oidSet(l.Tables)
	l.Tables = append(l.Tables, slices.DeleteFunc(found, func(r Relation) bool { return known[r.OID] })...)
	return nil
}

// ofSchema reports whether the identity of a definition is that of one of the
// schemas that are left out, or of something in it.
func (l LeftOut) ofSchema(identity string) bool {
	return slices.ContainsFunc(l.Schemas, func(s string) bool { return strings.Contains(identity, s) })
}
