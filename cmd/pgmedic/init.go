package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

type initFlags struct {
	preset    string
	rolesOnly bool
	keys      keyFlags
}

// initCommand writes the configuration and a key pair, and prints the SQL of roles.
type initCommand struct {
	*env
	// load reads the configuration, once it is written.
	load  func() (job, error)
	flags initFlags
	// set are the settings that flags give.
	set []config.Flag
}

func initCLI(e *env) *cobra.Command {
	var flags initFlags
	cmd := &cobra.Command{
		Use: "init",
		Example: `  pgmedic init --preset staging
  pgmedic init --no-keys
  pgmedic init --roles-only | psql clinic`,
		Short: "Write a commented pgmedic.yaml, make a key pair, print the SQL for least-privilege roles",
		Long: `Writes pgmedic.yaml (or the file of --config) with every setting and a comment on
each, and prints the SQL that creates roles with only the privileges that reports,
backups and restores need on the configured server's version. It changes nothing on
a server, and does not overwrite an existing file.

Values from flags, the environment and a .env file beside it are copied into the
file, except passwords, URLs, passphrases and lists.

It also makes an age key pair. It writes the secret key to a file that only you can
read, and the public key into the configuration; backups are then encrypted to it.
The secret key (and the passphrase of BACKUP_ENCRYPTION_KEY, if one is set) can read
them: move it off this host, and keep it in two places. Without it the backups are
lost.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			command := &initCommand{env: e, load: func() (job, error) { return e.load(cmd) }, flags: flags, set: changedSettings(cmd)}
			return command.run(cmd.Context())
		},
	}
	addConnection(cmd)
	cmd.Flags().StringVar(&flags.preset, "preset", "production", strings.Join(config.Presets(), ", "))
	cmd.Flags().BoolVar(&flags.rolesOnly, "roles-only", false, "write no file, only print the SQL")
	flags.keys.add(cmd)
	return cmd
}

func (cmd *initCommand) run(ctx context.Context) (err error) {
	out, j := initialised{}, job{}
	if !cmd.flags.rolesOnly {
		if out, err = cmd.writeConfig(); err != nil {
			return err
		}
		// The last word, since a key that is lost is lost for ever.
		defer func() { cmd.printInitialised(out, j.cfg) }()
	}
	if j, err = cmd.load(); err != nil {
		return err
	}
	out.RolesSQL = rolesSQL(cmd.server(ctx, servers{j}), j.cfg.Database.MaintenanceDatabase)
	if cmd.global.json {
		return cmd.printJSON(out)
	}
	cmd.printf("%s", out.RolesSQL)
	return nil
}

// owned is what the SQL of roles has to know of a database.
type owned struct {
	version    string
	versionNum int
	database   string
	// owner owns the database, owners what is in it; superusers are left out
	// of owners.
	owner     string
	superuser bool // owner is one
	owners    []string
}

// server asks the configured server what it is. Without one the newest
// kind is assumed, and said.
func (cmd *initCommand) server(ctx context.Context, s servers) owned {
	assumed := owned{
		version: "14 or later", versionNum: 140000, database: "your_database", owner: "its_owner", owners: []string{"its_owner"},
	}
	t, err := s.databaseTarget("")
	if err != nil {
		fmt.Fprintln(cmd.stderr, "no database is configured yet: the SQL is for PostgreSQL 14 and later")
		return assumed
	}
	o, err := readOwned(ctx, t)
	if err != nil {
		fmt.Fprintf(cmd.stderr, "%s; the SQL is for PostgreSQL 14 and later\n", words.OneLine(err.Error()))
		return assumed
	}
	return o
}

func readOwned(ctx context.Context, t postgres.Target) (owned, error) {
	var o owned
	conn, err := postgres.Connect(ctx, t)
	if err != nil {
		return o, err
	}
	defer postgres.Close(ctx, conn)
	err = conn.QueryRow(ctx, `
SELECT current_setting('server_version'), current_setting('server_version_num')::int, d.datname::text,
	r.rolname::text, r.rolsuper,
	ARRAY(SELECT o.rolname::text FROM pg_catalog.pg_roles AS o WHERE NOT o.rolsuper AND o.rolname !~ '^pg_'
		AND (o.oid = d.datdba OR o.oid IN (SELECT s.refobjid FROM pg_catalog.pg_shdepend AS s
			WHERE s.dbid = d.oid AND s.deptype = 'o' AND s.refclassid = 'pg_catalog.pg_authid'::regclass))
		ORDER BY 1)
FROM pg_catalog.pg_database AS d JOIN pg_catalog.pg_roles AS r ON r.oid = d.datdba
WHERE d.datname = current_database()`).
		Scan(&o.version, &o.versionNum, &o.database, &o.owner, &o.superuser, &o.owners)
	o.version, _, _ = strings.Cut(o.version, " ") // without the packager's words
	return o, postgres.Wrap(err, "look at the database's owners")
}

// rolesSQL is the SQL of four roles with the least privileges that their work
// needs, in one database of a server.
func rolesSQL(o owned, maintenance string) string {
	database, maintenance := sqltext.QuoteIdent(o.database), sqltext.QuoteIdent(maintenance)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("-- Roles for pgmedic on PostgreSQL %s, database %s.", o.version, database)
	line("-- Run as a superuser, in that database; in a further one the roles exist already.")
	line("-- Then give each a password: \\password pgmedic_backup")
	line("")
	line("-- Whatever the database sets: no name below is one of its users'.")
	line("SELECT pg_catalog.set_config('search_path', '', false);")
	line("")
	line("-- Reports and checks: reads statistics, no rows.")
	line("CREATE ROLE pgmedic_monitor LOGIN;")
	line("GRANT pg_monitor TO pgmedic_monitor;")
	line("GRANT CONNECT ON DATABASE %s TO pgmedic_monitor;", database)
	line("")
	line("-- Backups: reads every row, row-level security or not, and writes nothing.")
	line("CREATE ROLE pgmedic_backup LOGIN BYPASSRLS;")
	line("GRANT CONNECT ON DATABASE %s TO pgmedic_backup;", database)
	line("-- for the lock that keeps two runs apart")
	line("GRANT CONNECT ON DATABASE %s TO pgmedic_backup;", maintenance)
	if o.versionNum >= 140000 {
		line("GRANT pg_read_all_data TO pgmedic_backup;")
	} else {
		line("%s", grantsBefore14)
	}
	line("%s", largeObjectGrants)
	line("")
	line("-- Restores: makes, renames and drops databases of the same owners, ends sessions,")
	line("-- and reads every row to compare and to back up what it replaces.")
	line("CREATE ROLE pgmedic_restore LOGIN CREATEDB BYPASSRLS;")
	line("GRANT pg_signal_backend TO pgmedic_restore;")
	line("GRANT CONNECT ON DATABASE %s TO pgmedic_restore;", database)
	line("GRANT CONNECT ON DATABASE %s TO pgmedic_restore;", maintenance)
	for _, owner := range o.owners {
		line("GRANT %s TO pgmedic_restore;", sqltext.QuoteIdent(owner))
	}
	if o.superuser {
		line("-- The database belongs to a superuser, whose rights pgmedic_restore must not have:")
		line("-- only a superuser can replace it, unless it is given to an ordinary role first:")
		line("-- ALTER DATABASE %s OWNER TO …;", database)
	}
	line("-- Only a superuser can restore what only a superuser may make (untrusted extensions and")
	line("-- languages, event triggers, publications of all tables, objects of a superuser), and")
	line("-- objects in a schema that their owner does not own.")
	line("")
	line("-- WAL and base backups, for point-in-time recovery: reads all of every database and the")
	line("-- hashes of all passwords, and writes nothing. Leave it out if you stream no WAL.")
	line("CREATE ROLE pgmedic_replication LOGIN REPLICATION;")
	line("-- In pg_hba.conf, above other lines that fit, with the address of the host that streams:")
	line("-- hostssl replication pgmedic_replication 10.0.0.5/32 scram-sha-256")
	line("-- and then: SELECT pg_catalog.pg_reload_conf();")
	return b.String()
}

// Before 14 there is no role that reads everything: what is made later must be
// granted again.
const grantsBefore14 = `DO $$
DECLARE s name;
BEGIN
	FOR s IN SELECT nspname FROM pg_catalog.pg_namespace
		WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
	LOOP
		EXECUTE format('GRANT USAGE ON SCHEMA %I TO pgmedic_backup', s);
		EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO pgmedic_backup', s);
		EXECUTE format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA %I TO pgmedic_backup', s);
	END LOOP;
END $$;  -- again after new schemas or tables; pgmedic check says what is missing`

// No predefined role reads large objects.
const largeObjectGrants = `DO $$
DECLARE l oid;
BEGIN
	FOR l IN SELECT oid FROM pg_catalog.pg_largeobject_metadata LOOP
		EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO pgmedic_backup', l);
	END LOOP;
END $$;  -- again after new large objects; pgmedic check says what is missing`
