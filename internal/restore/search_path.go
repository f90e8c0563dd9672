package restore

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// retryPath is the search path with which what was refused is tried again: the
// schema of the object, the path that the database has, and public. It is that in
// which an application's own sessions made it, as far as that is known.
func retryPath(schema, own string) string {
	path := []string{own, "public"}
	if schema != "" {
		path = append([]string{sqltext.QuoteIdent(schema)}, path...)
	}
	// Nothing is found before what PostgreSQL brings along, whatever the path says.
	if strings.Contains(strings.ToLower(own), "pg_catalog") {
		path = append([]string{"pg_catalog"}, path...)
	}
	return strings.Join(slices.DeleteFunc(path, func(p string) bool { return strings.TrimSpace(p) == "" || p == `""` }), ", ")
}

// retryPath is the function's path, or none once others use the database: they could
// have made functions there since, which would run as the restoring role.
func (s *Session) retryPath(schema, own string) string {
	if s.live {
		return ""
	}
	return retryPath(schema, own)
}

// SearchAsApplication gives a session the search path with which a restore tries
// again what was refused without one, for something in a schema. From here on a bare
// name may be a function of anybody who may create one.
func SearchAsApplication(ctx context.Context, conn *pgx.Conn, schema string) error {
	own, err := postgres.ReadOwnPath(ctx, conn)
	if err != nil {
		return err
	}
	return setPath(ctx, conn, retryPath(schema, own))
}

// SearchNothing gives a session the empty search path again that it began with.
func SearchNothing(ctx context.Context, conn *pgx.Conn) error { return setPath(ctx, conn, "") }

func setPath(ctx context.Context, conn *pgx.Conn, path string) error {
	_, err := conn.Exec(ctx, "SELECT pg_catalog.set_config('search_path', $1, false)", path)
	return postgres.Wrap(err, "set the search path")
}
