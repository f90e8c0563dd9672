package drill

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// constraints checks what the server says about the copy's constraints. It made
// them all from the rows that it has, so it has tested every row against each
// that it calls valid; a dump has no other way to make them so. That those which
// are not valid were not in the source is the schema's check.
func (r *rehearsal) constraints(ctx context.Context, conn *pgx.Conn) error {
	var valid, not int
	var broken []string
	err := conn.QueryRow(ctx, constraintsSQL).Scan(&valid, &not, &broken)
	if err != nil {
		return postgres.Wrap(err, "read the constraints")
	}
	r.receipt.Counted.Constraints = valid
	detail := pgmedic.Count(valid) + " hold for every row: the server tested them as it made them"
	if not > 0 {
		detail += fmt.Sprintf("; %s not validated, as in the source", pgmedic.Count(not))
	}
	if len(broken) > 0 {
		r.add("constraints", pgmedic.OutcomeFailed, "indexes that the server does not hold valid: "+words.FirstFew(broken))
		return nil
	}
	r.add("constraints", pgmedic.OutcomeOK, detail)
	return nil
}

// constraintsSQL counts constraints that are valid and not, and names indexes
// that are not. A dump carries none of the latter, but for those of partitioned
// tables that lack a partition's: one that has them all was not made as the dump says, and
// foreign keys to the table and ON CONFLICT are refused.
const constraintsSQL = `
SELECT count(*) FILTER (WHERE k.convalidated), count(*) FILTER (WHERE NOT k.convalidated), (
	SELECT coalesce(array_agg(quote_ident(n.nspname) || '.' || quote_ident(c.relname) ORDER BY 1), '{}')
	FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
		JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND (c.relkind = 'i' OR NOT EXISTS (
		SELECT FROM pg_catalog.pg_inherits AS p WHERE p.inhparent = i.indrelid AND NOT EXISTS (
			SELECT FROM pg_catalog.pg_inherits AS a JOIN pg_catalog.pg_index AS own ON own.indexrelid = a.inhrelid
			WHERE a.inhparent = i.indexrelid AND own.indrelid = p.inhrelid AND own.indisvalid))))
FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_namespace AS n ON n.oid = k.connamespace
WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`

// extensions looks for the recorded extensions. Another version is the server's
// doing and not the backup's, and may still behave otherwise.
func (r *rehearsal) extensions(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, "SELECT extname::text, extversion FROM pg_catalog.pg_extension")
	if err != nil {
		return postgres.Wrap(err, "list the extensions")
	}
	have := map[string]string{}
	var name, version string
	_, err = pgx.ForEachRow(rows, []any{&name, &version}, func() error { have[name] = version; return nil })
	if err != nil {
		return postgres.Wrap(err, "list the extensions")
	}
	var missing, other []string
	for _, e := range r.Backup.Database.Extensions {
		switch version, ok := have[e.Name]; {
		case !ok:
			missing = append(missing, sqltext.QuoteIdent(e.Name))
		case version != e.Version:
			other = append(other, fmt.Sprintf("%s is %s here, %s in the source", sqltext.QuoteIdent(e.Name), version, e.Version))
		}
	}
	switch {
	case len(missing) > 0:
		r.add("extensions", pgmedic.OutcomeFailed, "missing in the copy: "+words.FirstFew(missing))
	case len(other) > 0:
		r.add("extensions", pgmedic.OutcomeWarn, words.FirstFew(other))
	default:
		r.add("extensions", pgmedic.OutcomeOK, pgmedic.Count(len(r.Backup.Database.Extensions))+" with the recorded versions")
	}
	return nil
}

// cutOff takes from the copy the ways out that are left: without a handler, a
// foreign-data wrapper reaches for no server. It comes after the comparison,
// which would find it.
func (r *rehearsal) cutOff(ctx context.Context) error {
	p := r.place
	conn, err := postgres.Connect(ctx, p.copied())
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	rows, err := conn.Query(ctx, "SELECT fdwname::text FROM pg_catalog.pg_foreign_data_wrapper WHERE fdwhandler <> 0 ORDER BY 1")
	if err != nil {
		return postgres.Wrap(err, "list the foreign-data wrappers")
	}
	wrappers, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return postgres.Wrap(err, "list the foreign-data wrappers")
	}
	off := []string{cmp.Or(p.detached, "subscriptions are detached")}
	if p.scratch.NoNetwork {
		off = append([]string{"no network"}, off...)
	}
	if p.superuser {
		off = append(off, "event triggers and libraries for sessions are off")
	}
	if p.scratch.Kind == pgmedic.ScratchPrivate {
		off = append(off, "so are archiving and replication")
	}
	if len(wrappers) > 0 && !p.superuser {
		r.receipt.Checks = append(r.receipt.Checks, pgmedic.Check{
			Name: "live effects", Outcome: pgmedic.OutcomeWarn,
			Detail: "foreign servers can be reached from the copy: only a superuser can cut them off",
			Hint:   "assertions that read foreign tables read them on their servers",
		})
		return nil
	}
	if len(wrappers) > 0 {
		err := postgres.WithoutEventTriggers(ctx, conn, func() error {
			for _, name := range wrappers {
				if _, err := conn.Exec(ctx, "ALTER FOREIGN DATA WRAPPER "+sqltext.QuoteIdent(name)+" NO HANDLER"); err != nil {
					return postgres.Wrap(err, "cut off foreign-data wrapper "+sqltext.QuoteIdent(name))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		off = append(off, "foreign servers are cut off")
	}
	r.add("live effects", pgmedic.OutcomeOK, strings.Join(off, "; "))
	return nil
}
