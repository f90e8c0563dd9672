package databases

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

// Member is an object that belongs to an extension.
type Member struct {
	Extension string
	// Type and Identity are as pg_identify_object has them.
	Type, Identity string
	// Schema and Name are those of a table or a sequence, as they are stored. A schema
	// has a Name alone; what is of another kind has neither.
	Schema, Name string
}

// ReadMembers lists what belongs to extensions of conn's database. One that the
// database lacks has none.
func ReadMembers(ctx context.Context, conn *pgx.Conn, extensions []string) ([]Member, error) {
	members, err := postgres.Collect[Member](ctx, conn, `
SELECT e.extname::text AS extension, i.type, i.identity,
	coalesce(o.nspname::text, '') AS schema, coalesce(c.relname::text, n.nspname::text, '') AS name
FROM pg_catalog.pg_extension AS e
	JOIN pg_catalog.pg_depend AS d ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
	CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) AS i
	LEFT JOIN pg_catalog.pg_class AS c ON d.classid = 'pg_catalog.pg_class'::regclass AND c.oid = d.objid
	LEFT JOIN pg_catalog.pg_namespace AS o ON o.oid = c.relnamespace
	LEFT JOIN pg_catalog.pg_namespace AS n ON d.classid = 'pg_catalog.pg_namespace'::regclass AND n.oid = d.objid
WHERE e.extname = ANY ($1) ORDER BY 1, 2, 3`, extensions)
	return members, postgres.Wrap(err, "list what belongs to extensions")
}
