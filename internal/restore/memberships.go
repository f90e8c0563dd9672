package restore

import (
	"context"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// giveMemberships makes the roles that a private server was given members of the
// groups that they were members of where the backup was taken, with the groups
// that it takes, and lets them read past row-level security where they could.
// Materialized views and indexes are made with the rights of their owner, which the
// owner may have only through a group.
func (s *Session) giveMemberships(ctx context.Context, made []string) error {
	if _, ok := s.Backup.Object(pgmedic.RoleGlobals); !ok || len(made) == 0 {
		return nil
	}
	script, err := s.readGlobals(ctx)
	if err != nil {
		return err
	}
	// A session of its own: it speaks the encoding that the statements are in.
	conn, err := postgres.ConnectAdmin(ctx, s.Target, s.Maintenance)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	for _, sql := range script.Settings {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return postgres.Wrap(err, "prepare for the backup's roles")
		}
	}
	there, err := readPresent(ctx, conn)
	if err != nil {
		return err
	}
	statements, groups := memberships(script.Statements, made)
	for _, group := range groups {
		if slices.Contains(there.roles, group) {
			continue
		}
		if err := databases.CreateRole(ctx, conn, pgmedic.Role{Name: group}); err != nil {
			return err
		}
	}
	for _, g := range statements {
		if _, err := conn.Exec(ctx, g.SQL); err != nil {
			return postgres.Wrap(err, "give role "+sqltext.QuoteIdent(g.Roles[len(g.Roles)-1])+" what it could do")
		}
	}
	return nil
}

// memberships chooses of the statements that make a server's roles those by which
// the given ones can read what they could, through groups of groups too, and names
// the groups.
func memberships(all []dumpsql.GlobalStatement, roles []string) (chosen []dumpsql.GlobalStatement, groups []string) {
	wanted := slices.Clone(roles)
	for i := 0; i < len(wanted); i++ {
		for _, g := range all {
			if !g.Membership || g.Roles[1] != wanted[i] {
				continue
			}
			chosen = append(chosen, g)
			if !slices.Contains(wanted, g.Roles[0]) {
				wanted, groups = append(wanted, g.Roles[0]), append(groups, g.Roles[0])
			}
		}
	}
	for _, g := range all {
		if g.Membership || g.Creates || g.Tablespace != "" || g.Provider != "" || len(g.Roles) != 1 || !slices.Contains(wanted, g.Roles[0]) {
			continue
		}
		// The attributes come last but for a password, which holds no spaces.
		_, attributes, found := cutLast(g.SQL, " WITH ")
		for _, word := range []string{"BYPASSRLS", "NOINHERIT"} {
			if found && slices.Contains(strings.Fields(attributes), word) {
				chosen = append(chosen, dumpsql.GlobalStatement{SQL: "ALTER ROLE " + sqltext.QuoteIdent(g.Roles[0]) + " " + word, Roles: g.Roles})
			}
		}
	}
	return chosen, groups
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
