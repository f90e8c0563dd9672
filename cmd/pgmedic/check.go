package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

func (a *app) checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [DATABASE]",
		Short: "Try now everything that would make tonight's backup or a restore fail",
		Long: `Connects, looks at privileges, client programs, the store, space and clocks, and
prints a line for each: ok, warn, failed or skipped, with the reason and what to
do. It leaves nothing behind: the objects that it writes into the store are deleted
again, and a folder that is not there yet is not made. Where a bucket keeps versions
or locks objects, some 5 MB of them stay. It reads no rows of a backup: drill does.
With -q only warnings and failures are printed.`,
		Example: `  pgmedic check
  pgmedic check clinic --json`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.check(cmd.Context(), args)
		},
	}
	addConnection(cmd)
	addStore(cmd)
	return cmd
}

// checklist gathers checks. The first failure decides the exit code.
type checklist struct {
	checks []pgmedic.Check
	kind   pgmedic.Kind
	failed bool
}

func (l *checklist) add(name string, o pgmedic.Outcome, detail, hint string) {
	l.checks = append(l.checks, pgmedic.Check{Name: name, Outcome: o, Detail: detail, Hint: hint})
}

func (l *checklist) ok(name, format string, args ...any) {
	l.add(name, pgmedic.OutcomeOK, fmt.Sprintf(format, args...), "")
}

func (l *checklist) fail(name string, err error) {
	if !l.failed {
		l.failed, l.kind = true, pgmedic.KindOf(err)
	}
	l.add(name, pgmedic.OutcomeFailed, words.OneLine(err.Error()), pgmedic.HintOf(err))
}

func (a *app) check(ctx context.Context, args []string) error {
	l := &checklist{}
	if err := a.prepareBackup(); err != nil {
		l.fail("settings", err)
	} else {
		a.checkSettings(l)
	}
	named := ""
	if len(args) > 0 {
		named = args[0]
	}
	size := a.checkServer(ctx, l, named)
	a.checkStore(ctx, l)
	a.checkCopies(ctx, l)
	if dir := a.cfg.Backup.Place().Dir; dir != "" {
		a.checkSpace(ctx, l, "space for backups", nearestFolder(dir), size)
	}
	scratchDir := a.cfg.Drill.ScratchDir
	if scratchDir == "" {
		scratchDir = os.TempDir()
	}
	a.checkSpace(ctx, l, "space for drills", scratchDir, size)
	a.checkCage(ctx, l)
	a.checkEncryption(l)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return a.printChecklist(l)
}

func (a *app) printChecklist(l *checklist) error {
	if a.global.json {
		if err := a.printJSON(map[string]any{"ok": !l.failed, "checks": l.checks}); err != nil {
			return err
		}
	} else {
		p := a.paint(a.stdoutTTY)
		for _, c := range l.checks {
			if a.global.quiet && c.Outcome != pgmedic.OutcomeWarn && c.Outcome != pgmedic.OutcomeFailed {
				continue
			}
			const column = 26 // of the details: outcome and name come before
			a.printf("%s %-17s %s\n", p.outcome(c.Outcome), words.Clean(c.Name), a.fit(words.Clean(c.Detail), column))
			if c.Hint != "" {
				a.printf("%*s%s\n", column, "", p.dim(a.fit(words.Clean(c.Hint), column)))
			}
		}
	}
	if l.failed {
		return &statusError{code: exitCode(l.kind)}
	}
	return nil
}

// checkServer checks what a connection shows, and returns the database's size.
func (a *app) checkServer(ctx context.Context, l *checklist, named string) (size int64) {
	t, err := a.databaseTarget(named)
	if err != nil {
		l.fail("connection", err)
		return 0
	}
	conn, err := postgres.Connect(ctx, t)
	if err != nil {
		l.fail("connection", err)
		return 0
	}
	defer postgres.Close(ctx, conn)
	server, err := postgres.ReadServer(ctx, conn)
	if err != nil {
		l.fail("connection", err)
		return 0
	}
	database, err := postgres.ReadDatabase(ctx, conn, server.VersionNum)
	if err != nil {
		l.fail("connection", err)
		return 0
	}
	role := "primary"
	if server.Standby {
		role = "standby"
	}
	l.ok("connection", "PostgreSQL %s, %s, database %s, %s", server.Version, role, database.Name, words.Bytes(database.SizeBytes))
	if postgres.Pooled(conn) {
		l.add("pooler", pgmedic.OutcomeWarn, "the connection goes through a pooler in session mode; a backup takes several of its sessions at once",
			"set DIRECT_URL to the server itself")
	}
	for _, check := range []func(context.Context, *checklist, *pgx.Conn) error{a.checkTLS, a.checkRead, a.checkLoad, a.checkRestoreRole, a.checkRunLock, a.checkClock} {
		if err := check(ctx, l, conn); err != nil {
			l.fail("connection", err)
			return database.SizeBytes
		}
	}
	if allowed, err := databases.CronDatabase(ctx, conn); err != nil {
		l.fail("connection", err)
	} else if c := restore.BoundCheck(database, allowed, "", database.Name); c != nil {
		l.add(c.Name, c.Outcome, c.Detail, c.Hint)
	}
	a.checkPrograms(ctx, l, server)
	return database.SizeBytes
}

func (a *app) checkTLS(ctx context.Context, l *checklist, conn *pgx.Conn) error {
	var remote, encrypted bool
	err := conn.QueryRow(ctx, `
SELECT coalesce(NOT (inet_client_addr() << '127.0.0.0/8' OR inet_client_addr() = '::1'), false),
	coalesce((SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid()), false)`).Scan(&remote, &encrypted)
	switch {
	case err != nil:
		return postgres.Wrap(err, "look whether the connection is encrypted")
	case encrypted:
		l.ok("tls", "the connection is encrypted")
	case remote:
		l.add("tls", pgmedic.OutcomeWarn, "the connection is not encrypted", "add sslmode=verify-full to the connection string")
	default:
		l.ok("tls", "not needed: the connection does not leave this machine")
	}
	return nil
}

// checkRead looks for tables that the role could not back up.
func (a *app) checkRead(ctx context.Context, l *checklist, conn *pgx.Conn) error {
	var tables, filtered []string
	var role string
	rescued, err := postgres.RescuedSchemas(ctx, conn)
	if err != nil {
		return err
	}
	for _, schema := range rescued {
		l.add("rescued", pgmedic.OutcomeWarn, "schema "+schema+" was left by a rescue; no backup holds it",
			"when it is no longer needed: DROP SCHEMA "+sqltext.QuoteIdent(schema)+" CASCADE;")
	}
	err = conn.QueryRow(ctx, `
WITH t AS (
	SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name,
		has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable,
		c.relrowsecurity AND (c.relforcerowsecurity OR NOT pg_has_role(c.relowner, 'USAGE'))
			AND NOT (SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user) AS filtered
	FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p', 'm', 'S') AND c.relpersistence <> 't'
		AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> ALL ($1)
)
SELECT current_user::text, coalesce(array_agg(name ORDER BY name) FILTER (WHERE NOT readable), '{}'),
	coalesce(array_agg(name ORDER BY name) FILTER (WHERE filtered), '{}') FROM t`, rescued).Scan(&role, &tables, &filtered)
	if err != nil {
		return postgres.Wrap(err, "look at the role's privileges")
	}
	closed, err := closedLargeObjects(ctx, conn)
	if err != nil {
		return err
	}
	user := sqltext.QuoteIdent(role)
	switch {
	case len(tables) > 0:
		l.fail("may read", pgmedic.Errorf(pgmedic.KindUnreachable, "GRANT pg_read_all_data TO "+user+"; (PostgreSQL 14 and later)",
			"role %s may not read %s", role, few(tables)))
	case len(filtered) > 0:
		l.fail("may read", pgmedic.Errorf(pgmedic.KindUnreachable, "ALTER ROLE "+user+" BYPASSRLS;",
			"row-level security hides rows of %s from role %s", few(filtered), role))
	case closed > 0:
		l.fail("may read", pgmedic.Errorf(pgmedic.KindUnreachable, "`pgmedic init --roles-only` prints the statement that grants it",
			"role %s may not read %d large objects", role, closed))
	default:
		l.ok("may read", "role %s may read all tables and large objects of the database", role)
	}
	return nil
}

// closedLargeObjects counts the large objects that the role may not read. Most
// versions have no function that tells.
func closedLargeObjects(ctx context.Context, conn *pgx.Conn) (n int64, err error) {
	readable := `(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
	OR pg_has_role(l.lomowner, 'USAGE')
	OR EXISTS (SELECT FROM aclexplode(l.lomacl) AS a WHERE a.privilege_type = 'SELECT'
		AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))`
	var known bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE proname = 'has_largeobject_privilege')").Scan(&known)
	if err == nil {
		if known {
			readable = "has_largeobject_privilege(l.oid, 'SELECT')"
		}
		err = conn.QueryRow(ctx, "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata AS l WHERE NOT ("+readable+")").Scan(&n)
	}
	return n, postgres.Wrap(err, "look at the privileges on large objects")
}

func few(names []string) string {
	if len(names) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
	}
	return strings.Join(names, ", ")
}

func (a *app) checkRestoreRole(ctx context.Context, l *checklist, conn *pgx.Conn) error {
	var super, create, signal, owner bool
	err := conn.QueryRow(ctx, `
SELECT r.rolsuper, r.rolcreatedb, pg_has_role(current_user, 'pg_signal_backend', 'USAGE'),
	pg_has_role(current_user, d.datdba, 'USAGE')
FROM pg_catalog.pg_roles AS r, pg_catalog.pg_database AS d
WHERE r.rolname = current_user AND d.datname = current_database()`).Scan(&super, &create, &signal, &owner)
	if err != nil {
		return postgres.Wrap(err, "look at the role's privileges")
	}
	var lacks []string
	for _, p := range []struct {
		has  bool
		what string
	}{{create, "CREATEDB"}, {owner, "ownership of the database"}, {signal, "pg_signal_backend"}} {
		if !p.has && !super {
			lacks = append(lacks, p.what)
		}
	}
	if len(lacks) > 0 {
		l.add("may restore", pgmedic.OutcomeWarn, "this role can't restore with --swap: it lacks "+strings.Join(lacks, ", "),
			"use another role for restores; `pgmedic init` prints it")
		return nil
	}
	l.ok("may restore", "the role may create and rename databases and end sessions")
	return nil
}

// checkRunLock says who keeps other runs away from the database. Any role that may
// log in can.
func (a *app) checkRunLock(ctx context.Context, l *checklist, conn *pgx.Conn) error {
	database := conn.Config().Database
	holder, err := databases.RunLockHolder(ctx, conn, database)
	switch {
	case err != nil:
		return err
	case holder != nil:
		l.add("run lock", pgmedic.OutcomeWarn, fmt.Sprintf("held, so that no backup, restore or rollback of %s begins: %s", database, holder),
			"if it is no run that you know, end it: "+holder.End())
	default:
		l.ok("run lock", "free: no run works on the database")
	}
	return nil
}

func (a *app) checkClock(ctx context.Context, l *checklist, conn *pgx.Conn) error {
	ahead, err := postgres.Clock(ctx, conn, a.now)
	if err != nil {
		return err
	}
	if ahead.Abs() > 5*time.Second {
		l.add("clock", pgmedic.OutcomeWarn, fmt.Sprintf("the server's clock differs from this host's by %s", words.Duration(ahead.Abs())),
			"run an NTP client on both: backups are found by their time")
		return nil
	}
	l.ok("clock", "agrees with the server's")
	return nil
}

func (a *app) checkPrograms(ctx context.Context, l *checklist, server pgmedic.Server) {
	var versions []string
	for _, name := range []string{"pg_dump", "pg_dumpall", "pg_restore"} {
		tool, err := a.tools().Find(ctx, name, server.Major())
		if err != nil {
			l.fail("client programs", err)
			return
		}
		versions = append(versions, name+" "+tool.Version)
	}
	l.ok("client programs", "%s", strings.Join(versions, ", "))
	found, err := scratch.Find(ctx, scratch.FindOptions{SearchDirs: a.cfg.Postgres.BinDirs})
	if err == nil {
		for _, i := range found {
			if i.Major == server.Major() {
				l.ok("drills", "PostgreSQL %s in %s", i.Version, i.BinDir)
				return
			}
		}
	}
	l.add("drills", pgmedic.OutcomeWarn, fmt.Sprintf("no PostgreSQL %d server is installed here to drill with", server.Major()),
		fmt.Sprintf("apt-get install postgresql-%d, or drill on another host that reads the store", server.Major()))
}

// checkSpace compares free space with the database's size, the most that either
// use can need.
func (a *app) checkSpace(ctx context.Context, l *checklist, name, dir string, needed int64) {
	usage, err := disk.UsageWithContext(ctx, dir)
	if err != nil {
		l.add(name, pgmedic.OutcomeSkipped, "free space can't be known here", "")
		return
	}
	free := int64(usage.Free)
	if free < needed {
		l.add(name, pgmedic.OutcomeWarn, fmt.Sprintf("%s free in %s, the database is %s", words.Bytes(free), dir, words.Bytes(needed)),
			"free space there, or name another folder")
		return
	}
	l.ok(name, "%s free in %s", words.Bytes(free), dir)
}
