package postgres

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// RetryPath is the search path with which what a server refused of a backup is tried again:
// the schema of the object, the path that the database has, which is own, and public. It is
// that in which an application's own sessions made it, as far as that is known.
func RetryPath(schema, own string) string {
	path := []string{own, "public"}
	if schema != "" {
		path = append([]string{sqltext.QuoteIdent(schema)}, path...)
	}
	// PostgreSQL's own objects are found first, whatever the path says.
	if strings.Contains(strings.ToLower(own), "pg_catalog") {
		path = append([]string{"pg_catalog"}, path...)
	}
	return strings.Join(slices.DeleteFunc(path, func(p string) bool { return strings.TrimSpace(p) == "" || p == `""` }), ", ")
}

// SearchAsApplication gives a session the search path with which a restore tries
// again what was refused without one, for something in a schema. From here on an
// unqualified name may be a function of any role that may create one.
func SearchAsApplication(ctx context.Context, conn *pgx.Conn, schema string) error {
	own, err := ReadOwnPath(ctx, conn)
	if err != nil {
		return err
	}
	return SetPath(ctx, conn, RetryPath(schema, own))
}

// SearchNothing gives a session the empty search path again that it began with.
func SearchNothing(ctx context.Context, conn *pgx.Conn) error { return SetPath(ctx, conn, "") }

// SetPath gives a session a search path: a list of names, each quoted where it needs to be.
func SetPath(ctx context.Context, conn *pgx.Conn, path string) error {
	_, err := conn.Exec(ctx, "SELECT pg_catalog.set_config('search_path', $1, false)", path)
	return Wrap(err, "set the search path")
}
