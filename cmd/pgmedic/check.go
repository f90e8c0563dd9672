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

func checkCLI(e *env) *cobra.Command {
	var notifies bool
	cmd := &cobra.Command{
		Use:   "check [DATABASE]",
		Short: "Check now for anything that would make the next backup or a restore fail",
		Long: `Checks the connection, privileges, client programs, the store, disk space, clocks,
the audit log, and, where WAL is streamed or is to be, what that needs. Prints one line
for each: ok, warn, failed or skipped, with the reason and what to do. It cleans up: it
deletes the objects that it writes into the store, and does not create a missing folder.
Where a bucket keeps versions or locks objects, some 5 MB of them stay. It does not read
the rows of a backup; drill does.
With --notify each channel is sent a quiet message, and what fails is reported.
With -q it prints only warnings and failures.`,
		Example: `  pgmedic check
  pgmedic check clinic --json
  pgmedic check --notify      # and try the channels`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			check := func(ctx context.Context, j job) error {
				command := &checkCommand{job: j, servers: servers{j}, stores: stores{j}, keys: keyring{j}, args: args}
				command.plan, command.planErr = newPlanner(j, "")
				return command.run(ctx)
			}
			if notifies {
				return e.notified(cmd, checkJob, check)
			}
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			return check(cmd.Context(), j)
		},
	}
	addConnection(cmd)
	addStore(cmd)
	cmd.Flags().BoolVar(&notifies, "notify", false, "send each channel a quiet message to try it, and report what fails and what is mended since the last check with --notify")
	withoutSecrets(cmd) // each is a check of its own
	return cmd
}

// checkCommand does, as far as that leaves nothing, what the next backup and a restore
// will do.
type checkCommand struct {
	job
	servers servers
	stores  stores
	keys    keyring
	// plan is what is scheduled, if that could be found out.
	plan    planner
	planErr error

	args []string
}

// checklist gathers checks. The first failure decides the exit code.
type checklist struct {
	checks []pgmedic.Check
	// kinds are those of checks that failed, by name: of the first of each.
	kinds  map[string]pgmedic.Kind
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
	if l.kinds == nil {
		l.kinds = map[string]pgmedic.Kind{}
	}
	if _, known := l.kinds[name]; !known {
		l.kinds[name] = pgmedic.KindOf(err)
	}
	l.add(name, pgmedic.OutcomeFailed, words.OneLine(err.Error()), pgmedic.HintOf(err))
}

func (cmd *checkCommand) run(ctx context.Context) error {
	l := &checklist{}
	checkSecrets(ctx, cmd.cfg, cmd.secrets.Resolve, cmd.now, l)
	how, err := cmd.keys.unsignedSealing()
	if err != nil {
		l.fail("settings", err)
	} else {
		cmd.checkSettings(l)
	}
	named := ""
	if len(cmd.args) > 0 {
		named = cmd.args[0]
	}
	size := cmd.checkServer(ctx, l, named)
	cmd.checkWAL(ctx, l)
	cmd.checkStore(ctx, l)
	cmd.checkCopies(ctx, l)
	cmd.checkRooms(ctx, l)
	if dir := cmd.cfg.Backup.Place().Dir; dir != "" {
		cmd.checkSpace(ctx, l, "space for backups", nearestFolder(dir), size)
	}
	scratchDir := cmd.cfg.Drill.ScratchDir
	if scratchDir == "" {
		scratchDir = os.TempDir()
	}
	cmd.checkSpace(ctx, l, "space for drills", scratchDir, size)
	cmd.checkCage(ctx, l)
	cmd.checkEncryption(l, how)
	cmd.checkSigning(ctx, l)
	cmd.checkRetention(l)
	cmd.checkAudit(ctx, l)
	cmd.checkSchedules(ctx, l)
	cmd.checkNotifications(ctx, l)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	cmd.reportChecks(ctx, l)
	return cmd.printChecklist(l)
}

func (cmd *checkCommand) printChecklist(l *checklist) error {
	if cmd.global.json {
		if err := cmd.printJSON(map[string]any{"ok": !l.failed, "checks": l.checks}); err != nil {
			return err
		}
	} else {
		p := cmd.paint(cmd.stdoutTTY)
		for _, c := range l.checks {
			if cmd.global.quiet && c.Outcome != pgmedic.OutcomeWarn && c.Outcome != pgmedic.OutcomeFailed {
				continue
			}
			const column = 26 // of the details: outcome and name come before
			cmd.wrapf("%s %-17s %s\n", p.outcome(c.Outcome), words.Clean(c.Name), cmd.fit(words.Clean(c.Detail), column))
			if c.Hint != "" {
				cmd.wrapf("%*s%s\n", column, "", p.dim(cmd.fit(words.Clean(c.Hint), column)))
			}
		}
	}
	if l.failed {
		return &statusError{code: exitCode(l.kind)}
	}
	return nil
}

// checkServer checks what a connection shows, and returns the database's size.
func (cmd *checkCommand) checkServer(ctx context.Context, l *checklist, named string) (size int64) {
	t, err := cmd.servers.databaseTarget(named)
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
	if newer := postgres.NewerThanKnown(server.VersionNum); newer != "" {
		l.add("version", pgmedic.OutcomeWarn, newer+": base backups are refused, and what is new in it is not checked", "update pgmedic")
	}
	if postgres.Pooled(conn) {
		l.add("pooler", pgmedic.OutcomeWarn, "the connection goes through a pooler in session mode; a backup takes several of its sessions at once",
			"set DIRECT_URL to the server itself")
	}
	for _, check := range []func(context.Context, *checklist, *pgx.Conn) error{cmd.checkTLS, cmd.checkRead, cmd.checkLoad, cmd.checkRestoreRole, cmd.checkRunLock, cmd.checkClock} {
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
	cmd.checkPrograms(ctx, l, server)
	return database.SizeBytes
}

func (cmd *checkCommand) checkTLS(ctx context.Context, l *checklist, conn *pgx.Conn) error {
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
func (cmd *checkCommand) checkRead(ctx context.Context, l *checklist, conn *pgx.Conn) error {
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

func (cmd *checkCommand) checkRestoreRole(ctx context.Context, l *checklist, conn *pgx.Conn) error {
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
func (cmd *checkCommand) checkRunLock(ctx context.Context, l *checklist, conn *pgx.Conn) error {
	database := conn.Config().Database
	holder, err := databases.RunLockHolder(ctx, conn, database)
	switch {
	case err != nil:
		return err
	case holder != nil:
		l.add("run lock", pgmedic.OutcomeWarn, fmt.Sprintf("held, so that no backup, restore or rollback of %s begins: %s", database, holder),
			"if you do not know that run, end it: "+holder.End())
	default:
		l.ok("run lock", "free: no run works on the database")
	}
	return nil
}

func (cmd *checkCommand) checkClock(ctx context.Context, l *checklist, conn *pgx.Conn) error {
	ahead, err := postgres.Clock(ctx, conn, cmd.now)
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

func (cmd *checkCommand) checkPrograms(ctx context.Context, l *checklist, server pgmedic.Server) {
	var versions []string
	for _, name := range []string{"pg_dump", "pg_dumpall", "pg_restore"} {
		tool, err := cmd.tools().Find(ctx, name, server.Major())
		if err != nil {
			l.fail("client programs", err)
			return
		}
		versions = append(versions, name+" "+tool.Version)
	}
	l.ok("client programs", "%s", strings.Join(versions, ", "))
	found, err := scratch.Find(ctx, scratch.FindOptions{SearchDirs: cmd.cfg.Postgres.BinDirs})
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
func (cmd *checkCommand) checkSpace(ctx context.Context, l *checklist, name, dir string, needed int64) {
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
