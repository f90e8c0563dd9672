package restore

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
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
			boundExtension, pgmedic.QuoteIdent(allowed)),
		Hint: "docs/limits.md says how the jobs come back",
	}
	if allowed == live {
		c.Detail = fmt.Sprintf("the server makes %s in database %s only (cron.database_name): the extension and its jobs are made right after the swap",
			boundExtension, pgmedic.QuoteIdent(allowed))
		c.Hint = "clients may see the database without it for a moment; docs/limits.md says more"
	}
	return c
}

// bound adds BoundCheck to what is foreseen.
func (p *Preview) bound(ctx context.Context, s *Session) error {
	live := ""
	if p.Swap {
		live = p.Database
	}
	allowed, err := postgres.CronDatabase(ctx, s.admin)
	if err != nil {
		return err
	}
	if c := BoundCheck(s.Backup.Database, allowed, s.Into, live); c != nil {
		p.Checks = append(p.Checks, *c)
	}
	return nil
}
