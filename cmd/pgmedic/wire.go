package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// target says how to reach the configured database.
func (a *app) target() (postgres.Target, error) {
	c := a.cfg.Connection()
	var t postgres.Target
	if c.URL != "" {
		var err error
		if t, err = postgres.ParseTarget(c.URL.Reveal()); err != nil {
			key := "database.url"
			if c.URL == a.cfg.Database.DirectURL {
				key = "database.direct_url"
			}
			return t, fmt.Errorf("%s: %w", a.cfg.Origin(key), err)
		}
	}
	port := ""
	if c.Port != 0 {
		port = strconv.Itoa(c.Port)
	}
	for _, p := range []struct{ keyword, value string }{
		{"host", c.Host}, {"port", port}, {"dbname", c.Database}, {"user", c.User}, {"password", c.Password.Reveal()},
	} {
		if p.value != "" {
			t = t.With(p.keyword, p.value)
		}
	}
	if c.ConnectTimeoutSet || !t.Has("connect_timeout") && c.ConnectTimeout > 0 {
		seconds := int((c.ConnectTimeout + time.Second - 1) / time.Second)
		t = t.With("connect_timeout", strconv.Itoa(seconds))
	}
	return t, nil
}

// databaseTarget is target for commands that work on one database, which must
// be named somewhere: guessing the role's own name helps nobody.
func (a *app) databaseTarget(named string) (postgres.Target, error) {
	t, err := a.target()
	if err != nil {
		return t, err
	}
	if named != "" {
		t = t.WithDatabase(named)
	}
	if t.Database() == "" && !a.environmentNames("PGDATABASE", "PGSERVICE") && !t.Has("service") {
		return t, pgmedic.Errorf(pgmedic.KindUsage, "name one: on the command line, with DB_NAME, or in DATABASE_URL",
			"no database is named")
	}
	return t, nil
}

// databaseName is the database that a target means, from libpq's environment
// and service files where the target leaves it to them; or empty.
func (a *app) databaseName(t postgres.Target) string {
	if name := t.Database(); name != "" {
		return name
	}
	// Read and not connected with; what it complains about is told by the
	// commands that connect.
	cfg, err := pgx.ParseConfig(t.Conninfo())
	if err != nil {
		return ""
	}
	return cfg.Database
}

func (a *app) environmentNames(names ...string) bool {
	for _, name := range names {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}

// serverSideEncryption is the setting in S3's words.
func serverSideEncryption(setting string) string {
	switch setting {
	case "default":
		return ""
	case "aes256":
		return "AES256"
	}
	return setting
}

func (a *app) tools() pgtool.Finder { return pgtool.Finder{Dirs: a.cfg.Postgres.BinDirs} }

func (a *app) host() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// backupOptions are those of the configuration.
func (a *app) backupOptions(t postgres.Target, c *catalog.Catalog) backup.Options {
	return backup.Options{
		Target: t, Maintenance: a.cfg.Database.MaintenanceDatabase, ServerName: a.cfg.Server,
		Catalog: c, Method: a.method(), Tools: a.tools(),
		Seal: a.seal, Wraps: a.wraps,
		Labels: a.cfg.Backup.Labels, LockTimeout: a.cfg.Backup.LockTimeout, MaxDuration: a.cfg.Backup.MaxDuration,
		Host: a.host(), Version: a.version, Logger: a.log, Now: a.now,
	}
}

// method is the configured way to take a backup.
func (a *app) method() backup.Method {
	if pgmedic.Method(a.cfg.Backup.Method) == pgmedic.MethodParallel {
		return backup.Parallel{Jobs: a.cfg.Backup.Jobs}
	}
	return backup.Plain{}
}

// restoreOptions are those of the configuration.
func (a *app) restoreOptions(t postgres.Target, c *catalog.Catalog, b *pgmedic.Backup, key *seal.Key) restore.Options {
	return restore.Options{
		Catalog: c, Backup: b, Key: key, Target: t, Maintenance: a.cfg.Database.MaintenanceDatabase, Tools: a.tools(),
		Jobs: a.cfg.Backup.Jobs, ShowData: a.shownData(), Logger: a.log, Now: a.now,
	}
}

// filter is the part of the catalogue that latest means: the configured
// server's and database's, as far as they are configured.
func (a *app) filter() (catalog.Filter, error) {
	t, err := a.target()
	if err != nil {
		return catalog.Filter{}, err
	}
	return catalog.Filter{Server: a.cfg.Server, Database: a.databaseName(t), Now: a.now()}, nil
}

// getBackup finds one backup. An id is looked for everywhere, latest among the
// configured database's.
func (a *app) getBackup(ctx context.Context, c *catalog.Catalog, args []string) (catalog.Entry, error) {
	ref := catalog.Latest
	if len(args) > 0 {
		ref = args[0]
	}
	var f catalog.Filter
	if ref == catalog.Latest {
		var err error
		if f, err = a.filter(); err != nil {
			return catalog.Entry{}, err
		}
	}
	return c.Get(ctx, ref, f)
}

// judgedBackup is getBackup with the receipts authenticated, where this host can.
func (a *app) judgedBackup(ctx context.Context, c *catalog.Catalog, args []string) (catalog.Entry, error) {
	ref, f := catalog.Latest, catalog.Filter{}
	if len(args) > 0 {
		ref = args[0]
	}
	if ref == catalog.Latest {
		var err error
		if f, err = a.filter(); err != nil {
			return catalog.Entry{}, err
		}
	}
	return c.Get(ctx, ref, a.trusting(f))
}

// location names the store for people.
func location(c *catalog.Catalog) string { return fmt.Sprint(c.Store()) }
