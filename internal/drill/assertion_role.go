package drill

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// assertionSession opens the session in which assertions are asked. Names in
// them resolve as in any other session with the database, so that they call what
// the content of the backup says they call. In a server of our own they
// therefore run as a role that may read and do nothing else, with a session of
// its own: from a superuser's session any function can make itself a superuser
// again, whatever SET ROLE said before.
func (r *rehearsal) assertionSession(ctx context.Context) (*pgx.Conn, error) {
	target := r.place.copied()
	if r.place.scratch.Kind == pgmedic.ScratchPrivate {
		role, err := r.makeReader(ctx)
		if err != nil {
			return nil, err
		}
		// The options are a superuser's.
		target = target.With("user", role).With("options", "")
	} else if r.place.superuser {
		r.add("assertions' role", pgmedic.OutcomeWarn,
			"a superuser: functions in the backup that the assertions call can do anything on that server; drill with a role that is not a superuser")
	}
	conn, err := postgres.Connect(ctx, target)
	if err != nil {
		return nil, err
	}
	if err = postgres.AllowViews(ctx, conn); err == nil {
		err = postgres.OwnPath(ctx, conn)
	}
	if err != nil {
		postgres.Close(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// makeReader makes a role that reads every row of the copy, row-level security
// or not, and has no other privilege than those of PUBLIC.
func (r *rehearsal) makeReader(ctx context.Context) (role string, err error) {
	conn, err := postgres.Connect(ctx, r.place.copied())
	if err != nil {
		return "", err
	}
	defer postgres.Close(ctx, conn)
	server, err := postgres.ReadServer(ctx, conn)
	if err != nil {
		return "", err
	}
	role = "pgmedic_reader_" + strings.ToLower(rand.Text()[:8])
	statements := []string{
		"CREATE ROLE " + role + " LOGIN BYPASSRLS",
		"GRANT CONNECT ON DATABASE " + sqltext.QuoteIdent(r.place.database) + " TO " + role,
		// As in this session: what the database set would act in the role's, too.
		"ALTER ROLE " + role + " SET session_preload_libraries FROM CURRENT",
		"ALTER ROLE " + role + " SET local_preload_libraries FROM CURRENT",
		"ALTER ROLE " + role + " SET session_replication_role FROM CURRENT",
	}
	if server.Major() >= 14 {
		statements = append(statements, "GRANT pg_read_all_data TO "+role)
	} else {
		grants, err := readGrants(ctx, conn, role)
		if err != nil {
			return "", err
		}
		statements = append(statements, grants...)
	}
	return role, postgres.WithoutEventTriggers(ctx, conn, func() error {
		for _, sql := range statements {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return postgres.Wrap(err, "make the role of the assertions")
			}
		}
		return nil
	})
}

// readGrants are what pg_read_all_data stands for, on servers without it.
func readGrants(ctx context.Context, conn *pgx.Conn, role string) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT pg_catalog.format(g.what, n.nspname) || $1 FROM pg_catalog.pg_namespace AS n,
	(VALUES ('GRANT USAGE ON SCHEMA %I TO '), ('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO '), ('GRANT SELECT ON ALL SEQUENCES IN SCHEMA %I TO ')) AS g (what)
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`, role)
	if err != nil {
		return nil, postgres.Wrap(err, "list the schemas")
	}
	grants, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return grants, postgres.Wrap(err, "list the schemas")
}
