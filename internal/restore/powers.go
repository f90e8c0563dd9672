package restore

import (
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// powerfulRoles are the roles of PostgreSQL's own whose members reach beyond what they are
// granted: files and programs of the server, all rows, all tables, other sessions, or
// subscriptions (https://www.postgresql.org/docs/18/predefined-roles.html). On a version
// that lacks one it has no members. The others of that page read settings and statistics,
// set off checkpoints, use reserved connections, or have no members.
func powerfulRoles() []string {
	return []string{
		"pg_execute_server_program", "pg_read_server_files", "pg_write_server_files", "pg_read_all_data", "pg_write_all_data",
		"pg_maintain", "pg_signal_backend", "pg_create_subscription",
	}
}

// powerful names the roles that statements give more than what is theirs, superusers left
// out, each with what it gets. There are those of the server that have as much already:
// a member of one of them, or of a member, has it, too.
func powerful(statements []dumpsql.GlobalStatement, superusers, there []string) (named []string) {
	has := slices.Concat(powerfulRoles(), superusers, there)
	gets := map[string][]string{}
	note := func(role, what string) {
		if !slices.Contains(gets[role], what) {
			gets[role] = append(gets[role], what)
		}
	}
	for _, g := range statements {
		for _, power := range g.Powers {
			note(g.Roles[0], power)
			has = append(has, g.Roles[0])
		}
	}
	// A group may get its power only after its members are named.
	for before := -1; before != len(has); {
		before = len(has)
		for _, g := range statements {
			if g.Membership && slices.Contains(has, g.Roles[0]) {
				note(g.Roles[1], g.Roles[0])
				if !slices.Contains(has, g.Roles[1]) {
					has = append(has, g.Roles[1])
				}
			}
		}
	}
	for role, what := range gets {
		if !slices.Contains(superusers, role) {
			slices.Sort(what)
			named = append(named, sqltext.QuoteIdent(role)+" ("+strings.Join(what, ", ")+")")
		}
	}
	slices.Sort(named)
	return named
}
