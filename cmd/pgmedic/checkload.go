package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/words"
)

// room is what a server has room for, as a backup needs it. The limits of role
// and database are -1 where there is none.
type room struct {
	Max, Reserved, Used               int
	Superuser                         bool
	RoleLimit, RoleUsed               int
	DatabaseLimit, DatabaseUsed       int
	Tables, Slots, PreparedAndBackend int
}

const roomSQL = `
SELECT current_setting('max_connections')::int,
	current_setting('superuser_reserved_connections')::int + coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0),
	(SELECT coalesce(sum(numbackends), 0)::int FROM pg_catalog.pg_stat_database), r.rolsuper,
	r.rolconnlimit, (SELECT count(*)::int FROM pg_catalog.pg_stat_activity AS a WHERE a.usesysid = r.oid AND a.backend_type = 'client backend'),
	d.datconnlimit, (SELECT numbackends FROM pg_catalog.pg_stat_database AS s WHERE s.datid = d.oid),
	(SELECT count(*)::int FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'),
	current_setting('max_locks_per_transaction')::int,
	current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int
FROM pg_catalog.pg_roles AS r, pg_catalog.pg_database AS d
WHERE r.rolname = current_user AND d.datname = current_database()`

// checkLoad says what a backup will ask of the server, and whether there is
// room for it.
func (cmd *checkCommand) checkLoad(ctx context.Context, l *checklist, conn *pgx.Conn) error {
	var r room
	err := conn.QueryRow(ctx, roomSQL).Scan(&r.Max, &r.Reserved, &r.Used, &r.Superuser, &r.RoleLimit, &r.RoleUsed,
		&r.DatabaseLimit, &r.DatabaseUsed, &r.Tables, &r.Slots, &r.PreparedAndBackend)
	if err != nil {
		return postgres.Wrap(err, "look at the server's limits")
	}
	l.checks = append(l.checks, r.connections(backup.Connections(cmd.method())), r.locks())
	return nil
}

// connections compares those that a backup needs with those that are free. The
// one that looks is counted as used, and is free by then.
func (r room) connections(need int) pgmedic.Check {
	c := pgmedic.Check{Name: "connections", Outcome: pgmedic.OutcomeOK}
	most, setting := r.Max, "max_connections"
	if !r.Superuser {
		most -= r.Reserved
	}
	used := r.Used
	if !r.Superuser && r.RoleLimit >= 0 && r.RoleLimit-r.RoleUsed < most-used {
		most, used, setting = r.RoleLimit, r.RoleUsed, "the role's CONNECTION LIMIT"
	}
	if !r.Superuser && r.DatabaseLimit >= 0 && r.DatabaseLimit-r.DatabaseUsed < most-used {
		most, used, setting = r.DatabaseLimit, r.DatabaseUsed, "the database's CONNECTION LIMIT"
	}
	used = max(used-1, 0)
	c.Detail = fmt.Sprintf("a backup opens up to %d; %d of %d are in use (%s)", need, used, most, setting)
	if need > most-used {
		c.Outcome = pgmedic.OutcomeWarn
		c.Hint = "raise " + setting + ", lower backup.jobs, or back up when fewer sessions are open"
	}
	return c
}

// locks compares the tables with the server's lock table, of which a snapshot
// takes a quarter at most.
func (r room) locks() pgmedic.Check {
	c := pgmedic.Check{Name: "locks", Outcome: pgmedic.OutcomeOK}
	budget := r.Slots * r.PreparedAndBackend / 4
	c.Detail = fmt.Sprintf("%s; up to %s are locked ahead of a backup", words.Plural(int64(r.Tables), "table"), words.Count(int64(budget)))
	if r.Tables > budget {
		c.Outcome = pgmedic.OutcomeWarn
		c.Detail += ": with more, a migration meanwhile can make it fail"
		c.Hint = fmt.Sprintf("set max_locks_per_transaction to %d and restart the server", 4*r.Tables/max(r.PreparedAndBackend, 1)+1)
	}
	return c
}
