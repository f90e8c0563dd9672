package inplace

import (
	"context"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// as does something with the rows of a table, inside a transaction, as the table's owner
// where the session is a superuser's: what the owner has attached to the table, such as a
// function in a check or a cast of a type, runs with the rights of the one who writes or
// compares the rows. The owner may read the rescued copy meanwhile.
func (w *work) as(ctx context.Context, t *table, do func() error) error {
	if w.quiet == "" {
		return do()
	}
	var owner string
	var superuser bool
	err := w.conn.QueryRow(ctx, `SELECT pg_catalog.quote_ident(r.rolname), r.rolsuper
		FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles AS r ON r.oid = c.relowner
		WHERE n.nspname = $1 AND c.relname = $2`, t.Schema, t.Name).Scan(&owner, &superuser)
	if err != nil {
		return postgres.Wrap(err, "look for the owner of "+t.String())
	}
	if superuser {
		return do()
	}
	schema := sqltext.QuoteIdent(w.schema)
	on := "GRANT USAGE ON SCHEMA " + schema + " TO " + owner + "; GRANT SELECT ON TABLE " + t.plan.As + " TO " + owner
	off := "REVOKE SELECT ON TABLE " + t.plan.As + " FROM " + owner + "; REVOKE USAGE ON SCHEMA " + schema + " FROM " + owner
	if err := w.quietly(ctx, on, "SET LOCAL ROLE "+owner); err != nil {
		return postgres.Wrap(err, "let the owner of "+t.String()+" read the rescued copy")
	}
	if err := do(); err != nil {
		return err // the transaction has failed, or is rolled back
	}
	if err := postgres.ExecSimple(ctx, w.conn, "SET LOCAL ROLE NONE"); err != nil {
		return postgres.Wrap(err, "go back to the session's role")
	}
	return postgres.Wrap(w.quietly(ctx, off, ""), "take the rescued copy from the owner of "+t.String())
}

// quietly runs statements for which no event trigger of the application fires, and then
// another one with the session as it was.
func (w *work) quietly(ctx context.Context, sql, then string) error {
	if w.quiet != "" {
		sql = "SET LOCAL session_replication_role = replica; " + sql + "; SET LOCAL session_replication_role = " + w.firing
	}
	if then != "" {
		sql += "; " + then
	}
	return postgres.ExecSimple(ctx, w.conn, sql)
}
