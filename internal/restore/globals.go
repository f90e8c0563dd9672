package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// GlobalsMode says what is done with the roles and tablespaces of the backup's
// server. They belong to the whole server, and so to other databases, too.
type GlobalsMode string

// The modes.
const (
	// GlobalsNone makes none.
	GlobalsNone GlobalsMode = ""
	// GlobalsMissing makes those that are missing, with their attributes,
	// passwords, settings and memberships, and leaves the others as they are.
	GlobalsMissing GlobalsMode = "missing"
	// GlobalsAll also sets the others to what the backup has, except the role
	// that restores.
	GlobalsAll GlobalsMode = "all"
)

// Globals is what was made of the backup's roles and tablespaces.
type Globals struct {
	// Made are the roles that were missing, Changed those that were there and
	// were set to what the backup has, Kept those that were left as they are.
	Made    []string `json:"made,omitempty"`
	Changed []string `json:"changed,omitempty"`
	Kept    []string `json:"kept,omitempty"`
	// Superusers are those of Made and Changed that are superusers now.
	Superusers []string `json:"superusers,omitempty"`
	// Powerful are those of Made and Changed that are not superusers and get what reaches
	// beyond their own databases, each with what that is: "ana" (pg_read_server_files).
	Powerful []string `json:"powerful,omitempty"`
	// NotGranted are memberships in new roles that old ones had: they are not given
	// back unasked.
	NotGranted []string `json:"not_granted,omitempty"`
	// Tablespaces are those that were made.
	Tablespaces []string `json:"tablespaces,omitempty"`
	// NotPlaced are tablespaces that are missing and were not made (Options.Displaced).
	NotPlaced []string `json:"not_placed,omitempty"`
	// NotLabelled are the roles and tablespaces whose security label is not restored,
	// each with its provider: the server has not loaded that one's library.
	NotLabelled []string `json:"not_labelled,omitempty"`
	// NotRun are kinds of statements of the backup's globals that pgmedic does not
	// run, because pg_dumpall does not write them.
	NotRun []string `json:"not_run,omitempty"`
}

// Degraded returns what of the globals was asked for and was not made, as an error
// of KindDegraded, or nil.
func (g *Globals) Degraded() error {
	switch {
	case g == nil:
	case len(g.NotLabelled) > 0:
		return pgmedic.Errorf(pgmedic.KindDegraded, "add the providers' libraries to shared_preload_libraries, restart the server, and run SECURITY LABEL for each, or restore with --globals=all again",
			"security labels are not restored: %s", words.FirstFew(g.NotLabelled))
	case len(g.NotRun) > 0:
		return pgmedic.Errorf(pgmedic.KindDegraded, "check the backup's globals (RECOVER.md says how), and run what is missing by hand",
			"the backup's globals have statements that were not run: %s", words.FirstFew(g.NotRun))
	}
	return nil
}

// String returns one line for people, with at most ten names of each kind.
func (g Globals) String() string {
	var parts []string
	for _, kind := range []struct {
		words string
		names []string
	}{
		{"made", g.Made}, {"changed", g.Changed}, {"superusers among them", g.Superusers}, {"powerful among them", g.Powerful}, {"left as they are", g.Kept},
		{"not granted", g.NotGranted}, {"tablespaces made", g.Tablespaces}, {"tablespaces not made", g.NotPlaced},
		{"not labelled", g.NotLabelled}, {"not run", g.NotRun},
	} {
		names, rest := kind.names, ""
		if len(names) > 10 {
			names, rest = names[:10], fmt.Sprintf(" and %d more", len(names)-10)
		}
		if len(names) > 0 {
			parts = append(parts, kind.words+": "+strings.Join(names, ", ")+rest)
		}
	}
	if len(parts) == 0 {
		return "none in the backup"
	}
	return strings.Join(parts, "; ")
}

// restoreGlobals makes the backup's roles, all or none of them, and then its
// tablespaces.
func (s *Session) restoreGlobals(ctx context.Context) (*Globals, error) {
	script, err := s.readGlobals(ctx)
	if err != nil {
		return nil, err
	}
	// A session of its own: it speaks the encoding of the server that the
	// statements came from.
	conn, err := postgres.ConnectAdmin(ctx, s.Target, s.Maintenance)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	for _, sql := range script.Settings {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return nil, postgres.Wrap(err, "prepare for the backup's roles")
		}
	}
	there, err := readPresent(ctx, conn)
	if err != nil {
		return nil, err
	}
	plan := s.planGlobals(script, there)
	if err := plan.leaveOutLabels(ctx, conn); err != nil {
		return nil, err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, postgres.Wrap(err, "begin to make roles")
	}
	for _, g := range plan.roles {
		if _, err := tx.Exec(ctx, g.SQL); err != nil {
			// The statement may hold a password's hash.
			return nil, errors.Join(postgres.Wrap(err, "make role "+sqltext.QuoteIdent(g.Roles[len(g.Roles)-1])), tx.Rollback(ctx))
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, postgres.Wrap(err, "make the roles")
	}
	for _, g := range plan.tablespaces { // CREATE TABLESPACE can't run in a transaction
		if _, err := conn.Exec(ctx, g.SQL); err != nil {
			return nil, postgres.Wrap(err, "make tablespace "+sqltext.QuoteIdent(g.Tablespace))
		}
	}
	return &plan.Globals, nil
}

// PlannedGlobals is what Load would make now of the backup's roles and tablespaces, in
// the mode of o.Globals. Admin is a session of postgres.ConnectAdmin.
func (o *Options) PlannedGlobals(ctx context.Context, admin *pgx.Conn) (*Globals, error) {
	script, err := o.readGlobals(ctx)
	if err != nil {
		return nil, err
	}
	there, err := readPresent(ctx, admin)
	if err != nil {
		return nil, err
	}
	plan := o.planGlobals(script, there)
	return &plan.Globals, plan.leaveOutLabels(ctx, admin)
}

// confirmGlobals asks before existing roles are changed: other databases use them, too.
func (s *Session) confirmGlobals(ctx context.Context) error {
	if s.Globals != GlobalsAll || s.ConfirmGlobals == nil {
		return nil
	}
	g, err := s.PlannedGlobals(ctx, s.admin)
	if err != nil || len(g.Changed) == 0 {
		return err
	}
	return s.ConfirmGlobals(*g)
}

// afterGlobals is what restoreGlobals would do, and what the backup needs that
// the server would lack even then.
type afterGlobals struct {
	Globals
	roles, tablespaces error
}

func (s *Session) foreseeGlobals(ctx context.Context) (*afterGlobals, error) {
	planned, err := s.PlannedGlobals(ctx, s.admin)
	if err != nil {
		return nil, err
	}
	after := &afterGlobals{Globals: *planned}
	roles, err := databases.MissingRoles(ctx, s.admin, s.Backup.Database.Roles)
	if err != nil {
		return nil, err
	}
	for _, r := range roles {
		if !slices.Contains(after.Made, r.Name) && after.roles == nil {
			after.roles = pgmedic.Errorf(pgmedic.KindNotFound, "create it first: CREATE ROLE "+sqltext.QuoteIdent(r.Name)+";",
				"the server lacks role %q, and so do the backup's globals", r.Name)
		}
	}
	tablespaces, err := databases.MissingTablespaces(ctx, s.admin, s.Backup.Database)
	if err != nil {
		return nil, err
	}
	for _, name := range tablespaces {
		if !slices.Contains(after.Tablespaces, name) && after.tablespaces == nil {
			after.tablespaces = pgmedic.Errorf(pgmedic.KindNotFound, "create it first: CREATE TABLESPACE "+sqltext.QuoteIdent(name)+" LOCATION '…';",
				"the server lacks tablespace %q, and so do the backup's globals", name)
		}
	}
	return after, nil
}

func (o *Options) readGlobals(ctx context.Context) (script dumpsql.GlobalsScript, err error) {
	if o.Dump != nil {
		return o.Dump.globals(ctx)
	}
	object, ok := o.Backup.Object(pgmedic.RoleGlobals)
	if !ok {
		return script, pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup, or without --globals", "the manifest names no globals")
	}
	r, err := o.Source().Open(ctx, object)
	if err != nil {
		return script, err
	}
	script, err = dumpsql.ReadGlobals(r)
	if err != nil {
		err = fmt.Errorf("read %s: %w", object.Name, err)
	}
	return script, errors.Join(err, r.Close())
}

// present is what a server has.
type present struct {
	me                 string
	roles, tablespaces []string
	// powerful are those of roles that have an attribute of superusers', are among
	// powerfulRoles, or are members of such a role.
	powerful []string
}

func readPresent(ctx context.Context, conn *pgx.Conn) (p present, err error) {
	err = conn.QueryRow(ctx, `SELECT current_user::text, (SELECT array_agg(rolname::text) FROM pg_catalog.pg_roles),
		(SELECT array_agg(spcname::text) FROM pg_catalog.pg_tablespace),
		(SELECT array_agg(r.rolname::text) FROM pg_catalog.pg_roles AS r WHERE EXISTS (SELECT FROM pg_catalog.pg_roles AS g
			WHERE (g.rolsuper OR g.rolcreaterole OR g.rolbypassrls OR g.rolreplication OR g.rolname = ANY ($1)) AND pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER')))`, powerfulRoles()).
		Scan(&p.me, (*postgres.TextArray)(&p.roles), (*postgres.TextArray)(&p.tablespaces), (*postgres.TextArray)(&p.powerful))
	return p, postgres.Wrap(err, "list the roles and tablespaces")
}

// globalsPlan is what will be run, in this order.
type globalsPlan struct {
	Globals
	roles, tablespaces []dumpsql.GlobalStatement
}

// planGlobals is planGlobals in the mode of o.Globals, without the tablespaces if they are
// displaced.
func (o *Options) planGlobals(script dumpsql.GlobalsScript, there present) globalsPlan {
	p := planGlobals(script, there, o.Globals)
	if o.Displaced {
		p.NotPlaced, p.Tablespaces, p.tablespaces = p.Tablespaces, nil, nil
	}
	return p
}

// planGlobals chooses the statements that make what is missing, and in the mode
// for all also those that change what is there.
func planGlobals(script dumpsql.GlobalsScript, there present, mode GlobalsMode) globalsPlan {
	statements := script.Statements
	p := globalsPlan{Globals: Globals{NotRun: script.Unknown}}
	for _, g := range statements {
		switch {
		case !g.Creates:
		case g.Tablespace != "":
			if !slices.Contains(there.tablespaces, g.Tablespace) {
				p.Tablespaces = append(p.Tablespaces, g.Tablespace)
			}
		case !slices.Contains(there.roles, g.Roles[0]):
			p.Made = append(p.Made, g.Roles[0])
		case mode == GlobalsAll && g.Roles[0] != there.me:
			p.Changed = append(p.Changed, g.Roles[0])
		default:
			p.Kept = append(p.Kept, g.Roles[0])
		}
	}
	touched := func(role string) bool { return slices.Contains(p.Made, role) || slices.Contains(p.Changed, role) }
	exists := func(role string) bool { return slices.Contains(there.roles, role) || slices.Contains(p.Made, role) }
	for _, g := range statements {
		switch {
		case g.Tablespace != "":
			if slices.Contains(p.Tablespaces, g.Tablespace) {
				p.tablespaces = append(p.tablespaces, g)
			}
		case g.Creates:
			if slices.Contains(p.Made, g.Roles[0]) {
				p.roles = append(p.roles, g)
			} else if touched(g.Roles[0]) {
				p.roles = append(p.roles, defaults(g.Roles[0])...)
			}
		case g.Membership:
			// What a role may do as a member is its own: one that was there does not get
			// more because a group of the backup's is made.
			group, member := g.Roles[0], g.Roles[1]
			switch {
			case !exists(group) || !exists(member):
			case touched(member):
				p.roles = append(p.roles, g)
			case slices.Contains(p.Made, group):
				p.NotGranted = append(p.NotGranted, sqltext.QuoteIdent(group)+" to "+sqltext.QuoteIdent(member))
			}
		case touched(g.Roles[0]):
			p.roles = append(p.roles, g)
			if g.Superuser {
				p.Superusers = append(p.Superusers, g.Roles[0])
			}
		}
	}
	p.Powerful = powerful(p.roles, p.Superusers, there.powerful)
	return p
}

// leaveOutLabels takes out of a plan the labels whose provider's library the server
// has not loaded, and names them.
func (p *globalsPlan) leaveOutLabels(ctx context.Context, conn *pgx.Conn) error {
	var providers []string
	for _, g := range slices.Concat(p.roles, p.tablespaces) {
		if g.Provider != "" && !slices.Contains(providers, g.Provider) {
			providers = append(providers, g.Provider)
		}
	}
	missing, err := databases.MissingLabelProviders(ctx, conn, providers)
	if err != nil {
		return err
	}
	left := func(g dumpsql.GlobalStatement) bool {
		if g.Provider == "" || !slices.Contains(missing, g.Provider) {
			return false
		}
		what := "tablespace " + sqltext.QuoteIdent(g.Tablespace)
		if g.Tablespace == "" {
			what = "role " + sqltext.QuoteIdent(g.Roles[0])
		}
		p.NotLabelled = append(p.NotLabelled, fmt.Sprintf("%s (provider %s)", what, sqltext.QuoteIdent(g.Provider)))
		return true
	}
	p.roles, p.tablespaces = slices.DeleteFunc(p.roles, left), slices.DeleteFunc(p.tablespaces, left)
	return nil
}

// defaults sets the attributes of a role that pg_dumpall leaves out.
func defaults(role string) []dumpsql.GlobalStatement {
	alter := "ALTER ROLE " + sqltext.QuoteIdent(role)
	return []dumpsql.GlobalStatement{
		{SQL: alter + " CONNECTION LIMIT -1 VALID UNTIL 'infinity'", Roles: []string{role}},
		{SQL: alter + " RESET ALL", Roles: []string{role}},
	}
}
