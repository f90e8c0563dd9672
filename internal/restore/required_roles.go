package restore

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// RefuseOther returns an error of KindUsage where the backup is of another server or
// database than the one that it is to be brought back into, unless fromServer is the
// name that the backup's server is filed under.
func (o *Options) RefuseOther(server pgmedic.Server, database, fromServer string) error {
	if o.Dump != nil { // it does not record its server; the caller knows its database
		return nil
	}
	b := o.Backup
	same := b.Server.SystemIdentifier == server.SystemIdentifier && server.SystemIdentifier != ""
	if same && b.Database.Name == database || fromServer != "" && fromServer == b.Server.Name {
		return nil
	}
	hint := "to restore it all the same, add --from-server " + b.Server.Name
	if same {
		return pgmedic.Errorf(pgmedic.KindUsage, hint, "backup %s is of database %q, not %q", b.ID, b.Database.Name, database)
	}
	return pgmedic.Errorf(pgmedic.KindUsage, hint, "backup %s is of another server (%s)", b.ID, b.Server.Name)
}

// refuseTaken refuses the name of a database that is there.
func (s *Session) refuseTaken(ctx context.Context) error {
	exists, err := databases.Exists(ctx, s.admin, s.Into)
	if err == nil && exists {
		err = pgmedic.Errorf(pgmedic.KindConflict, "choose another name with --into, or drop it first", "database %q exists already", s.Into)
	}
	return err
}

func (s *Session) prepareRoles(ctx context.Context) error {
	missing, err := databases.MissingRoles(ctx, s.admin, s.Backup.Database.Roles)
	if err != nil {
		return err
	}
	if !s.CreateRoles && len(missing) > 0 {
		names := make([]string, len(missing))
		for i, r := range missing {
			names[i] = sqltext.QuoteIdent(r.Name)
		}
		return pgmedic.Errorf(pgmedic.KindNotFound,
			"restore with --globals, which makes them as the backup has them, or create them first: CREATE ROLE "+strings.Join(names, "; CREATE ROLE ")+";",
			"the server lacks roles that the backup needs: %s", strings.Join(names, ", "))
	}
	made := make([]string, len(missing))
	for i, r := range missing {
		if err := databases.CreateRole(ctx, s.admin, r); err != nil {
			return err
		}
		made[i] = r.Name
	}
	return s.giveMemberships(ctx, made)
}

// refusePowerless refuses a role that may not create the database, or not give it to
// its owner, before hours have been spent.
func (s *Session) refusePowerless(ctx context.Context) error {
	p := databases.Power{Owner: s.Backup.Database.Owner}
	err := s.admin.QueryRow(ctx, `SELECT rolname::text, rolsuper OR rolcreatedb,
		rolsuper OR coalesce((SELECT pg_catalog.pg_has_role(o.oid, 'USAGE') FROM pg_catalog.pg_roles AS o WHERE o.rolname = $1), true)
		FROM pg_catalog.pg_roles WHERE rolname = current_user`, p.Owner).Scan(&p.Role, &p.Creates, &p.Owns)
	if err != nil {
		return postgres.Wrap(err, "read the role's privileges")
	}
	return p.Refuse()
}

func (s *Session) prepareTablespaces(ctx context.Context) error {
	missing, err := databases.MissingTablespaces(ctx, s.admin, s.Backup.Database)
	if err != nil {
		return err
	}
	for _, name := range missing {
		if s.TablespaceDir == nil {
			return pgmedic.Errorf(pgmedic.KindNotFound, "create it first: CREATE TABLESPACE "+sqltext.QuoteIdent(name)+" LOCATION '…';",
				"the server lacks tablespace %q, which the backup needs", name)
		}
		dir, err := s.TablespaceDir(name)
		if err != nil {
			return fmt.Errorf("make a folder for tablespace %q: %w", name, err)
		}
		if err := databases.CreateTablespace(ctx, s.admin, name, dir); err != nil {
			return err
		}
	}
	return nil
}

// refuseMissingExtensions tells a server that lacks an extension's files from a
// backup that does not load.
func (s *Session) refuseMissingExtensions(ctx context.Context) error {
	names := make([]string, len(s.Backup.Database.Extensions))
	for i, e := range s.Backup.Database.Extensions {
		names[i] = e.Name
	}
	rows, err := s.admin.Query(ctx, `SELECT name FROM unnest($1::text[]) AS name
		WHERE name NOT IN (SELECT a.name::text FROM pg_catalog.pg_available_extensions AS a) ORDER BY 1`, names)
	if err != nil {
		return postgres.Wrap(err, "list the extensions")
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(missing) == 0 {
		return postgres.Wrap(err, "list the extensions")
	}
	return pgmedic.Errorf(pgmedic.KindUsage, "install their packages on the server's host (on Debian and Ubuntu postgresql-<version>-<name>)",
		"the server lacks extensions that the backup needs: %s", strings.Join(missing, ", "))
}
