package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/inspect"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

type backupFlags struct{ labels []string }

func (a *app) backupCommand() *cobra.Command {
	var flags backupFlags
	cmd := &cobra.Command{
		Use:   "backup [DATABASE…]",
		Short: "Take a backup",
		Long: `Takes a backup of each database named, or of the configured one, and prints its
id. The rows are those of one moment; nothing is stopped. A run that fails or is
interrupted leaves no backup. Of several databases each has a backup of its own,
and one that fails does not keep the others from theirs. Where copies are
configured a backup is then copied, when the database is no longer held; a copy
that fails leaves the backup (exit code 15), and pgmedic copy completes it.

Patterns are those of psql and pg_dump: * and ? stand for any text and any letter,
names are folded to lower case unless in "double quotes". They choose tables, views
and sequences; all other definitions are in every backup. A partial backup is
marked as such, is never what latest means, and is not swapped in.`,
		Example: `  pgmedic backup
  pgmedic backup clinic --label release=4.2
  pgmedic backup --all-databases
  pgmedic backup --exclude-table-data 'audit.*'
  id=$(pgmedic backup --quiet) && pgmedic drill "$id"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.backup(cmd.Context(), args, flags)
		},
	}
	addConnection(cmd)
	addStore(cmd)
	addSwitch(cmd, "all-databases", "backup.all_databases", "back up every database of the server, each by itself")
	addList(cmd, "table", "backup.tables", "back up only tables that match this pattern")
	addList(cmd, "exclude-table", "backup.exclude_tables", "leave tables that match this pattern out")
	addList(cmd, "schema", "backup.schemas", "back up only tables of schemas that match this pattern")
	addList(cmd, "exclude-schema", "backup.exclude_schemas", "leave tables of schemas that match this pattern out")
	addList(cmd, "exclude-table-data", "backup.exclude_table_data", "leave the rows of tables that match this pattern out")
	addSetting(cmd, "method", "backup.method", "how it is taken: parallel (the default) or plain, one SQL dump")
	addSetting(cmd, "jobs", "backup.jobs", "connections for rows of a parallel backup (default: one for each processor)")
	addSetting(cmd, "compression", "backup.compression", "gzip, zstd or none (default: zstd, and gzip for plain)")
	addSetting(cmd, "lock-timeout", "backup.lock_timeout", "longest wait for a lock on a table")
	addSetting(cmd, "max-duration", "backup.max_duration", "end a backup that takes longer; 0 is no limit")
	cmd.Flags().StringArrayVar(&flags.labels, "label", nil, "label to give it, as key=value; may be repeated")
	return cmd
}

func (a *app) backup(ctx context.Context, databases []string, flags backupFlags) error {
	if err := a.prepareBackup(); err != nil {
		return err
	}
	labels, err := mergeLabels(a.cfg.Backup.Labels, flags.labels)
	if err != nil {
		return err
	}
	databases, err = a.chooseDatabases(ctx, databases)
	if err != nil {
		return err
	}
	c, closed, err := a.makeCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	rows, failures, problem := []backupRow{}, []backupFailure{}, error(nil)
	for _, name := range databases {
		e, err := a.backupOne(ctx, c, name, labels)
		if err != nil && (len(databases) == 1 || ctx.Err() != nil) {
			return errors.Join(err, problem)
		}
		if err != nil {
			failures = append(failures, backupFailure{Database: name, Error: words.OneLine(err.Error()), Hint: pgmedic.HintOf(err), err: err})
			continue
		}
		if !a.global.json {
			a.printBackup(e.Backup, c)
		}
		row := rowOf(e)
		row.Shrunk = a.shrunkSince(ctx, c, e.Backup)
		a.tellShrunk(e.Backup.ID, row.Shrunk)
		if row.Copies, err = a.copyTaken(ctx, c, e.Backup); err != nil {
			problem = errors.Join(problem, err)
		}
		if rows = append(rows, row); ctx.Err() != nil {
			break
		}
	}
	pruned, err := a.pruneAfterBackup(ctx, rows)
	problem = errors.Join(problem, err)
	if a.global.json {
		result := map[string]any{"backups": rows, "failed": failures}
		if pruned != nil {
			result["pruned"] = pruned.orEmpty()
		}
		if err := a.printJSON(result); err != nil {
			return err
		}
	}
	return errors.Join(a.failedBackups(failures, len(databases)), problem)
}

// chooseDatabases returns the databases to back up: those that are named, or
// all, or the configured one, whose name is empty.
func (a *app) chooseDatabases(ctx context.Context, named []string) ([]string, error) {
	all := a.cfg.Backup.AllDatabases
	switch {
	case all && len(named) > 0 && a.cfg.Origin("backup.all_databases").Source == config.SourceFlag:
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--all-databases and names of databases together")
	case len(named) > 0:
		return named, nil
	case all && !a.patterns().Empty():
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "name the databases, or leave the patterns out",
			"patterns of tables and schemas are for databases that are named, not for all")
	case !all:
		return []string{""}, nil
	}
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	conn, err := postgres.Connect(ctx, t.WithDatabase(a.cfg.Database.MaintenanceDatabase))
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	databases, err := databases.List(ctx, conn)
	if err == nil && len(databases) == 0 {
		err = pgmedic.Errorf(pgmedic.KindNotFound, "name them: pgmedic backup DATABASE…", "the server has no database to back up but those that are templates, closed or set aside")
	}
	return databases, err
}

func (a *app) backupOne(ctx context.Context, c *catalog.Catalog, name string, labels map[string]string) (catalog.Entry, error) {
	t, err := a.databaseTarget(name)
	if err != nil {
		return catalog.Entry{}, err
	}
	o := a.backupOptions(t, c)
	o.Labels, o.Patterns = labels, a.patterns()
	listen, done := a.progress()
	defer done()
	o.Progress = listen
	b, err := backup.Take(ctx, o)
	if err != nil {
		return catalog.Entry{}, err
	}
	return catalog.Entry{Backup: b, Keys: len(o.Wraps), Rows: b.Rows(), Tables: len(b.Tables)}, nil
}

// patterns are the configured ones. Other backups than those that somebody asks
// for by this command are whole.
func (a *app) patterns() snapshot.Patterns {
	b := a.cfg.Backup
	return snapshot.Patterns{
		Tables: b.Tables, Schemas: b.Schemas, ExcludeTables: b.ExcludeTables, ExcludeSchemas: b.ExcludeSchemas,
		ExcludeTableData: b.ExcludeTableData,
	}
}

// backupFailure is a database that has no new backup, and why.
type backupFailure struct {
	Database string `json:"database"`
	Error    string `json:"error"`
	Hint     string `json:"hint,omitempty"`
	err      error
}

// failedBackups tells of each failure and makes them the error of the run. The
// first decides the exit code.
func (a *app) failedBackups(failures []backupFailure, of int) error {
	if len(failures) == 0 {
		return nil
	}
	names := make([]string, len(failures))
	for i, f := range failures {
		names[i] = sqltext.QuoteIdent(f.Database)
		fmt.Fprintf(a.stderr, "%s %s: %s\n", a.paint(a.stderrTTY).bad("failed"), words.Clean(f.Database), f.Error)
		if f.Hint != "" {
			fmt.Fprintf(a.stderr, "       %s\n", words.OneLine(f.Hint))
		}
	}
	return pgmedic.Errorf(pgmedic.KindOf(failures[0].err), "the lines above say why",
		"%d of %d databases have no new backup: %s", len(failures), of, strings.Join(names, ", "))
}

func (a *app) printBackup(b *pgmedic.Backup, c *catalog.Catalog) {
	if a.global.quiet {
		a.printf("%s\n", b.ID)
		return
	}
	a.printf("%s %s in %s\n", a.paint(a.stdoutTTY).good("backed up"), words.Clean(b.Database.Name),
		words.Duration(b.FinishedAt.Sub(b.StartedAt)))
	a.fields("id", b.ID, "size", sizeWords(b), "rows", rowWords(b), "partial", scopeWords(b), "left out", leftOutWords(b),
		"load", loadWords(b.Load), "in", location(c), "next", "pgmedic drill "+b.ID)
}

// shrunkSince compares a backup with the one before it, and warns where it can't.
func (a *app) shrunkSince(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup) *catalog.Shrunk {
	ctx, cancel := context.WithTimeout(ctx, inspect.StorePatience)
	defer cancel()
	s, err := c.ShrunkSince(ctx, b)
	if err != nil {
		a.log.Warn("the backup was not compared with the one before it", "backup", b.ID, "error", words.OneLine(err.Error()))
	}
	return s
}

// tellShrunk warns of a backup that has far less than the one before it.
func (a *app) tellShrunk(id string, s *catalog.Shrunk) {
	if s != nil {
		a.log.Warn("the backup has far less than the one before it", "backup", id, "has", s.String(), "before", s.Before,
			"hint", "if data was deleted by mistake, restore from "+s.Before+": latest means the newer one")
	}
}

func sizeWords(b *pgmedic.Backup) string {
	plain := plainBytes(b)
	phrase := words.Bytes(b.StoredBytes())
	if plain > b.StoredBytes() {
		phrase += " stored, " + words.Bytes(plain)
		if b.Method == pgmedic.MethodPlain {
			phrase += " as SQL"
		} else {
			phrase += " before compression"
		}
	}
	return phrase
}

func rowWords(b *pgmedic.Backup) string {
	return words.Count(b.Rows()) + " in " + words.Count(int64(len(b.Tables))) + " tables"
}

// scopeWords says what a partial backup was asked to hold; it is empty for a
// whole one.
func scopeWords(b *pgmedic.Backup) string {
	if !b.Partial() {
		return ""
	}
	var phrase []string
	for _, s := range []struct {
		what     string
		patterns []string
	}{
		{"only tables", b.Scope.Tables}, {"only schemas", b.Scope.Schemas}, {"no tables", b.Scope.ExcludeTables},
		{"no schemas", b.Scope.ExcludeSchemas}, {"no rows of", b.Scope.ExcludeTableData},
	} {
		if len(s.patterns) > 0 {
			phrase = append(phrase, s.what+" "+words.Clean(strings.Join(s.patterns, ", ")))
		}
	}
	return strings.Join(phrase, "; ")
}

// leftOutWords says what a partial backup had to leave out for that.
func leftOutWords(b *pgmedic.Backup) string {
	if !b.Partial() {
		return ""
	}
	var phrase, keys []string
	for _, k := range b.Scope.LeftOutForeignKeys {
		keys = append(keys, sqltext.ForeignKey(k))
	}
	if len(keys) > 0 {
		phrase = append(phrase, "foreign keys to rows that are not in it: "+words.Clean(few(keys)))
	}
	if b.Scope.WithoutLargeObjects {
		phrase = append(phrase, "large objects")
	}
	return strings.Join(phrase, "; ")
}

func plainBytes(b *pgmedic.Backup) int64 {
	var n int64
	for _, o := range b.Objects {
		n += o.PlainBytes
	}
	return n
}

func mergeLabels(configured map[string]string, given []string) (map[string]string, error) {
	labels := maps.Clone(configured)
	for _, kv := range given {
		key, value, ok := strings.Cut(kv, "=")
		lacks := ""
		switch {
		case !ok:
			lacks = "value"
		case key == "":
			lacks = "key"
		}
		if lacks != "" {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "write it as --label key=value", "label %q has no %s", kv, lacks)
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[key] = value
	}
	return labels, nil
}
