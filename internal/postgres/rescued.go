package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// RescuedPattern matches the names of the schemas that a rescue of single tables puts
// them into, which hold the id of a backup: see RescueSchema.
const RescuedPattern = `^pgmedic_rescue_[0-9]{8}t[0-9]{6}z_[0-9a-f]{6}$`

// RescueSchema is the schema that the tables of a backup are rescued into.
func RescueSchema(id string) string {
	return "pgmedic_rescue_" + strings.ReplaceAll(strings.ToLower(id), "-", "_")
}

// RescuedSchemas lists the schemas of conn's database that rescues made. No backup
// holds them: they are copies of what another backup has.
func RescuedSchemas(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	names, err := CollectScalar[string](ctx, conn, `
SELECT n.nspname::text FROM pg_catalog.pg_namespace AS n WHERE n.nspname ~ $1 ORDER BY 1`, RescuedPattern)
	return names, Wrap(err, "look for schemas of rescues")
}
