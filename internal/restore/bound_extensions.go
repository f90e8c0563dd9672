package restore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// boundExtension can be made only in the database that cron.database_name names.
const boundExtension = "pg_cron"

// BoundCheck warns of an extension that a server makes in one database only, where
// a copy of d is loaded under another name. It returns nil where there is none.
// Allowed is the name of that database. Live is the one that the copy will replace;
// empty where it keeps its name.
func BoundCheck(d pgmedic.Database, allowed, copied, live string) *pgmedic.Check {
	has := func(e pgmedic.Extension) bool { return e.Name == boundExtension }
	if allowed == copied || !slices.ContainsFunc(d.Extensions, has) {
		return nil
	}
	c := &pgmedic.Check{
		Name: "bound extension", Outcome: pgmedic.OutcomeWarn,
		Detail: fmt.Sprintf("the server makes %s in database %s only (cron.database_name), and a copy has another name while it is loaded: it can't have the extension and its jobs",
			boundExtension, sqltext.QuoteIdent(allowed)),
		Hint: "docs/limits.md says how the jobs come back",
	}
	if allowed == live {
		c.Detail = fmt.Sprintf("the server makes %s in database %s only (cron.database_name): the extension and its jobs are made right after the swap",
			boundExtension, sqltext.QuoteIdent(allowed))
		c.Hint = "clients may see the database without it for a moment; docs/limits.md says more"
	}
	return c
}

// privileged warns of extensions that only a superuser can create, where the role is
// not one. A provider may allow another role to create them; the server does not say so.
func (p *Preview) privileged(ctx context.Context, s *Session) error {
	names := make([]string, len(s.Backup.Database.Extensions))
	for i, e := range s.Backup.Database.Extensions {
		names[i] = e.Name
	}
	// The column trusted came with PostgreSQL 13.
	rows, err := s.admin.Query(ctx, `
SELECT v.name::text FROM pg_catalog.pg_available_extensions AS a
	JOIN pg_catalog.pg_available_extension_versions AS v ON v.name = a.name AND v.version = a.default_version
WHERE a.name = ANY ($1) AND v.superuser AND coalesce(pg_catalog.to_jsonb(v) ->> 'trusted', 'false') = 'false'
	AND NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user)
ORDER BY 1`, names)
	if err != nil {
		return postgres.Wrap(err, "list the extensions")
	}
	taking, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil && len(taking) > 0 {
		p.Checks = append(p.Checks, pgmedic.Check{
			Name: "extensions", Outcome: pgmedic.OutcomeWarn,
			Detail: "the role is not a superuser and may not be able to create " + strings.Join(taking, ", "),
			Hint:   "what cannot be created is named, and everything else is restored; see docs/limits.md",
		})
	}
	return postgres.Wrap(err, "list the extensions")
}

// bound adds BoundCheck to what is foreseen.
func (p *Preview) bound(ctx context.Context, s *Session) error {
	live := ""
	if p.Swap {
		live = p.Database
	}
	allowed, err := databases.CronDatabase(ctx, s.admin)
	if err != nil {
		return err
	}
	if c := BoundCheck(s.Backup.Database, allowed, s.Into, live); c != nil {
		p.Checks = append(p.Checks, *c)
	}
	return nil
}
