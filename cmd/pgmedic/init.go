package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/render"
)

func (a *app) initCommand() *cobra.Command {
	var preset string
	var rolesOnly bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented pgmedic.yaml and print the SQL of least-privilege roles",
		Long: `Writes pgmedic.yaml (or the file of --config) with every setting, commented, and
prints the SQL that makes roles with just the privileges that reports, backups and
restores need on the configured server's version. Nothing is changed on a server,
and a file that exists is left alone.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.init(cmd, preset, rolesOnly)
		},
	}
	addConnection(cmd)
	cmd.Flags().StringVar(&preset, "preset", "production", strings.Join(config.Presets(), ", "))
	cmd.Flags().BoolVar(&rolesOnly, "roles-only", false, "write no file, only print the SQL")
	return cmd
}

func (a *app) init(cmd *cobra.Command, preset string, rolesOnly bool) error {
	if !rolesOnly {
		path, err := a.writeExample(preset)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stderr, "wrote %s\n", path)
	}
	if err := a.load(cmd); err != nil {
		return err
	}
	server, database := a.initServer(cmd.Context())
	a.printf("%s", rolesSQL(server, database))
	return nil
}

// writeExample writes the commented configuration, and never over another.
func (a *app) writeExample(preset string) (string, error) {
	data, err := config.Example(preset)
	if err != nil {
		return "", err
	}
	path := a.global.config
	if path == "" {
		path = "pgmedic.yaml"
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(a.dir, path)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // a password may be added
	if errors.Is(err, fs.ErrExist) {
		return "", pgmedic.Errorf(pgmedic.KindConflict, "name another with --config, or add --roles-only", "%s exists already", path)
	}
	if err != nil {
		return "", pgmedic.Errorf(pgmedic.KindUnreachable, "", "write the configuration: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(path))
	}
	return path, nil
}

// initServer asks the configured server what it is. Without one the newest
// kind is assumed, and said.
func (a *app) initServer(ctx context.Context) (pgmedic.Server, pgmedic.Database) {
	assumed := pgmedic.Server{Version: "14 or later", VersionNum: 140000}
	unknown := pgmedic.Database{Name: "your_database", Owner: "its_owner"}
	t, err := a.databaseTarget("")
	if err != nil {
		fmt.Fprintln(a.stderr, "no database is configured yet: the SQL is for PostgreSQL 14 and later")
		return assumed, unknown
	}
	conn, err := postgres.Connect(ctx, t)
	if err == nil {
		defer postgres.Close(ctx, conn)
		server, serverErr := postgres.ReadServer(ctx, conn)
		if err = serverErr; err == nil {
			var database pgmedic.Database
			if database, err = postgres.ReadDatabase(ctx, conn, server.VersionNum); err == nil {
				return server, database
			}
		}
	}
	fmt.Fprintf(a.stderr, "%s; the SQL is for PostgreSQL 14 and later\n", render.Clean(err.Error()))
	return assumed, unknown
}

// rolesSQL is the SQL of three roles with the least privileges that their work
// needs, in one database of a server.
func rolesSQL(server pgmedic.Server, d pgmedic.Database) string {
	database, owner := pgmedic.QuoteIdent(d.Name), pgmedic.QuoteIdent(d.Owner)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("-- Roles for pgmedic on PostgreSQL %s, database %s. Run as a superuser, in that database.", server.Version, database)
	line("-- Then give each a password: \\password pgmedic_backup")
	line("")
	line("-- Reports and checks: reads statistics, no rows.")
	line("CREATE ROLE pgmedic_monitor LOGIN;")
	line("GRANT pg_monitor TO pgmedic_monitor;")
	line("GRANT CONNECT ON DATABASE %s TO pgmedic_monitor;", database)
	line("")
	line("-- Backups: reads every row, row-level security or not, and writes nothing.")
	line("CREATE ROLE pgmedic_backup LOGIN BYPASSRLS;")
	line("GRANT CONNECT ON DATABASE %s TO pgmedic_backup;", database)
	line("GRANT CONNECT ON DATABASE postgres TO pgmedic_backup;  -- for the lock that keeps two runs apart")
	if server.VersionNum >= 140000 {
		line("GRANT pg_read_all_data TO pgmedic_backup;")
	} else {
		line("%s", grantsBefore14)
	}
	line("%s", largeObjectGrants)
	line("")
	line("-- Restores: makes, renames and drops databases of the same owner, and ends sessions.")
	line("-- A database that holds objects of a superuser needs a superuser to restore.")
	line("CREATE ROLE pgmedic_restore LOGIN CREATEDB;")
	line("GRANT pg_signal_backend TO pgmedic_restore;")
	line("GRANT %s TO pgmedic_restore;", owner)
	line("GRANT CONNECT ON DATABASE postgres TO pgmedic_restore;")
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
END $$;  -- again after new schemas or tables; pgmedic check names what is missing`

// No predefined role reads large objects.
const largeObjectGrants = `DO $$
DECLARE l oid;
BEGIN
	FOR l IN SELECT oid FROM pg_catalog.pg_largeobject_metadata LOOP
		EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO pgmedic_backup', l);
	END LOOP;
END $$;  -- again after new large objects, if the database has any`
