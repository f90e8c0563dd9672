package snapshot

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// refuseUnreadable returns an error of KindUnreachable that names tables which
// the role may not read, or may read only in part because of row-level
// security, and the statement that changes that. Without it a backup would find
// out at its end, and name one.
func refuseUnreadable(ctx context.Context, conn *pgx.Conn, tables []snapshotTable) error {
	oids := make([]uint32, len(tables))
	for i, t := range tables {
		oids[i] = t.OID
	}
	type row struct {
		Role, Schema, Name string
		MayUse             bool `db:"may_use"`
		MayRead            bool `db:"may_read"`
	}
	// What was dropped since it was listed has no privileges, and is null.
	rows, err := postgres.Collect[row](ctx, conn, `
SELECT current_user::text AS role, n.nspname::text AS schema, c.relname::text AS name,
	pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS may_use, pg_catalog.has_table_privilege(c.oid, 'SELECT') AS may_read
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = ANY ($1) AND (NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
	OR NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') OR pg_catalog.row_security_active(c.oid))
ORDER BY 4, 5, 2, 3 LIMIT 100`, oids)
	if err != nil {
		return postgres.Wrap(err, "look at the role's privileges")
	}
	if len(rows) == 0 {
		return nil
	}
	first := rows[0]
	var names []string
	for _, r := range rows {
		if r.MayUse == first.MayUse && r.MayRead == first.MayRead {
			names = append(names, sqltext.QuoteQualified(r.Schema, r.Name))
		}
	}
	more := ""
	if len(names) > 3 {
		more = fmt.Sprintf(" and %d more", len(names)-3)
		names = names[:3]
	}
	role, all := sqltext.QuoteIdent(first.Role), strings.Join(names, ", ")
	switch {
	case !first.MayUse:
		return pgmedic.Errorf(pgmedic.KindUnreachable, fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s; or, from PostgreSQL 14 on, GRANT pg_read_all_data TO %[2]s;",
			sqltext.QuoteIdent(first.Schema), role), "permission denied for schema %s: role %s may not read table %s%s",
			sqltext.QuoteIdent(first.Schema), role, all, more)
	case !first.MayRead:
		return pgmedic.Errorf(pgmedic.KindUnreachable, fmt.Sprintf("GRANT SELECT ON TABLE %s TO %s; or, from PostgreSQL 14 on, GRANT pg_read_all_data TO %[2]s;",
			all, role), "permission denied for table %s%s: role %s may not read it", all, more, role)
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable, fmt.Sprintf("ALTER ROLE %s BYPASSRLS; or back up as the tables' owner or a superuser: else the backup would miss rows", role),
		"row-level security hides rows of table %s%s from role %s", all, more, role)
}
