package main

import (
	"cmp"
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
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/shrunk"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

type backupFlags struct {
	labels   []string
	newKey   string
	physical physicalFlags
}

// backupCommand takes a backup of each database that args name, copies it, and prunes.
type backupCommand struct {
	job
	servers  servers
	stores   stores
	keys     keyring
	backups  backups
	copier   copier
	retainer retainer

	args  []string
	flags backupFlags
}

func backupCLI(e *env) *cobra.Command {
	var flags backupFlags
	cmd := &cobra.Command{
		Use:   "backup [DATABASE…]",
		Short: "Take a backup",
		Long: `Takes a backup of each named database, or of the configured one, and prints its
id. Each backup is a consistent snapshot; reads and writes continue meanwhile. A run
that fails or is interrupted leaves no backup. With several databases, each gets its
own backup, and one that fails does not stop the others. If copies are configured,
the backup is then copied, after its locks on the database are released. If a copy
fails, the backup stays (exit code 15), and pgmedic copy completes the copy.

Patterns work as in psql and pg_dump: * matches any text and ? any letter, and names
are folded to lower case unless in "double quotes". They select tables, views and
sequences; all other definitions are in every backup. A partial backup is marked
as partial, is never what latest means, and cannot be swapped in.

With --method physical it takes a base backup: the files of all databases of the
server, over the replication protocol, with the WAL that makes them consistent. The
role needs the attribute REPLICATION. With --reader sql it reads the files by SQL
functions, which the role must be granted. The backup is stored and the exit code is 15 if
pages of the server are damaged.

--new-key makes a key beside backup.recipients, where later backups need it.`,
		Example: `  pgmedic backup
  pgmedic backup clinic --label release=4.2
  pgmedic backup --all-databases
  pgmedic backup --exclude-table-data 'audit.*'
  pgmedic backup --method physical --max-rate 50M
  id=$(pgmedic backup --quiet) && pgmedic drill "$id"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.notified(cmd, "backup", func(ctx context.Context, j job) (err error) {
				if err := flags.physical.check(cmd, j.cfg.Backup.Method); err != nil {
					return err
				}
				if err := j.useNewKey(flags.newKey); err != nil {
					return err
				}
				command := &backupCommand{
					job: j, servers: servers{j}, stores: stores{j}, keys: keyring{j}, backups: newBackups(j), copier: newCopier(j), retainer: newRetainer(j),
					args: args, flags: flags,
				}
				return command.run(ctx)
			})
		},
	}
	addConnection(cmd)
	addStore(cmd)
	addSwitch(cmd, "all-databases", "backup.all_databases", "back up every database of the server, each into its own backup")
	addList(cmd, "table", "backup.tables", "back up only tables that match this pattern")
	addList(cmd, "exclude-table", "backup.exclude_tables", "leave out tables that match this pattern")
	addList(cmd, "schema", "backup.schemas", "back up only tables of schemas that match this pattern")
	addList(cmd, "exclude-schema", "backup.exclude_schemas", "leave out tables of schemas that match this pattern")
	addList(cmd, "exclude-table-data", "backup.exclude_table_data", "leave out the rows of tables that match this pattern")
	addSetting(cmd, "method", "backup.method", "parallel (the default), plain, which is one SQL dump, or physical, a base backup of the whole server")
	addSetting(cmd, "jobs", "backup.jobs", "connections for rows of a parallel backup, or chunks that a physical one seals at once (default: one for each processor)")
	addSetting(cmd, "compression", "backup.compression", "gzip, zstd or none (default: zstd, and gzip for plain)")
	addSetting(cmd, "lock-timeout", "backup.lock_timeout", "longest wait for a lock on a table")
	addSetting(cmd, "max-duration", "backup.max_duration", "stop a backup that takes longer; 0 means no limit")
	flags.add(cmd)
	return cmd
}

// add adds the flags that are no settings.
func (f *backupFlags) add(cmd *cobra.Command) {
	f.physical.add(cmd)
	cmd.Flags().StringVar(&f.newKey, "new-key", "", "where the old key is lost: make a new one into this file, which opens this backup, too")
	cmd.Flags().StringArrayVar(&f.labels, "label", nil, "label to give it, as key=value; may be repeated; shrunk=expected announces a deletion")
}

func (cmd *backupCommand) run(ctx context.Context) error {
	how, err := cmd.keys.sealing(ctx)
	if err == nil {
		err = refusesOwn(cmd.cfg)
	}
	if err != nil {
		return err
	}
	if err := refusesAnnounced(cmd.cfg.Backup.Labels); err != nil {
		return err
	}
	labels, err := mergeLabels(cmd.cfg.Backup.Labels, cmd.flags.labels)
	if err != nil {
		return err
	}
	if cmd.cfg.Backup.Method == string(pgmedic.MethodPhysical) {
		return cmd.physical(ctx, labels, how)
	}
	databases, err := cmd.chooseDatabases(ctx)
	if err != nil {
		return err
	}
	names := databases
	if len(names) == 1 && names[0] == "" {
		names = []string{cmd.configured()}
	}
	cmd.trail.about(act{lists: map[string][]string{"databases": names}})
	c, closed, err := cmd.stores.makeCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	rows, failures, problem, err := cmd.backupEach(ctx, c, databases, labels, how)
	if err != nil {
		return errors.Join(err, problem)
	}
	pruned, err := cmd.pruneAfterBackup(ctx, rows)
	problem = errors.Join(problem, err)
	if cmd.global.json {
		result := map[string]any{"backups": rows, "failed": failures}
		if pruned != nil {
			result["pruned"] = pruned.orEmpty()
		}
		if err := cmd.printJSON(result); err != nil {
			return err
		}
	}
	return errors.Join(cmd.failedBackups(failures, len(databases)), problem)
}

// backupEach backs databases up one after the other. Of several, one that fails does not keep
// the others from being taken; err is that of the only one, or of a run that was ended.
// Problem is what happened to copies.
func (cmd *backupCommand) backupEach(ctx context.Context, c *catalog.Catalog, databases []string, labels map[string]string, how sealing) (rows []backupRow, failures []backupFailure, problem, err error) {
	rows, failures = []backupRow{}, []backupFailure{}
	for _, name := range databases {
		e, err := cmd.backupOne(ctx, c, name, labels, how)
		if err != nil {
			cmd.trail.about(act{lists: map[string][]string{"failed": {cmp.Or(name, cmd.configured())}}})
		}
		if err != nil && (len(databases) == 1 || ctx.Err() != nil) {
			cmd.outcomes.add(outcome{database: cmp.Or(name, cmd.configured()), err: err})
			return rows, failures, problem, err
		}
		if err != nil {
			cmd.outcomes.add(outcome{database: name, err: err})
			failures = append(failures, backupFailure{Database: name, Error: words.OneLine(err.Error()), Hint: pgmedic.HintOf(err), err: err})
			continue
		}
		if !cmd.global.json {
			cmd.printBackup(e.Backup, c)
		}
		cmd.trail.aboutBackup(e.Backup)
		row := rowOf(e)
		fall, compared := cmd.backups.shrunkSince(ctx, c, e.Backup)
		row.Shrunk = fall
		cmd.tellShrunk(e.Backup.ID, fall)
		if compared {
			cmd.outcomes.noteShrunk(cmd.notifier, e.Backup, fall)
		}
		if row.Copies, err = cmd.copier.copyTaken(ctx, c, e.Backup); err != nil {
			problem = errors.Join(problem, err)
		}
		cmd.outcomes.add(outcome{database: e.Backup.Database.Name, backup: e.Backup.ID, err: err})
		if rows = append(rows, row); ctx.Err() != nil {
			break
		}
	}
	return rows, failures, problem, nil
}

// configured is the database that is backed up where none is named, or empty.
func (cmd *backupCommand) configured() string {
	t, err := cmd.servers.target()
	if err != nil {
		return ""
	}
	return databaseName(t)
}

// chooseDatabases returns the databases to back up: those that are named, or
// all, or the configured one, whose name is empty.
func (cmd *backupCommand) chooseDatabases(ctx context.Context) ([]string, error) {
	all := cmd.cfg.Backup.AllDatabases
	switch {
	case all && len(cmd.args) > 0 && cmd.cfg.Origin("backup.all_databases").Source == config.SourceFlag:
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--all-databases and names of databases together")
	case len(cmd.args) > 0:
		return cmd.args, nil
	case all && !cmd.patterns().Empty():
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "name the databases, or leave the patterns out",
			"patterns of tables and schemas are for databases that are named, not for all")
	case !all:
		return []string{""}, nil
	}
	t, err := cmd.servers.target()
	if err != nil {
		return nil, err
	}
	conn, err := postgres.Connect(ctx, t.WithDatabase(cmd.cfg.Database.MaintenanceDatabase))
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

func (cmd *backupCommand) backupOne(ctx context.Context, c *catalog.Catalog, name string, labels map[string]string, how sealing) (catalog.Entry, error) {
	t, err := cmd.servers.databaseTarget(name)
	if err != nil {
		return catalog.Entry{}, err
	}
	o := cmd.backupOptions(t, c, how)
	o.Labels, o.Patterns = labels, cmd.patterns()
	listen, done := cmd.progress()
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
func (cmd *backupCommand) patterns() snapshot.Patterns {
	b := cmd.cfg.Backup
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
func (cmd *backupCommand) failedBackups(failures []backupFailure, of int) error {
	if len(failures) == 0 {
		return nil
	}
	names := make([]string, len(failures))
	for i, f := range failures {
		names[i] = sqltext.QuoteIdent(f.Database)
		fmt.Fprintf(cmd.stderr, "%s %s: %s\n", cmd.paint(cmd.stderrTTY).bad("failed"), words.Clean(f.Database), f.Error)
		if f.Hint != "" {
			fmt.Fprintf(cmd.stderr, "       %s\n", words.OneLine(f.Hint))
		}
	}
	return pgmedic.Errorf(pgmedic.KindOf(failures[0].err), "the lines above say why",
		"%d of %d databases have no new backup: %s", len(failures), of, strings.Join(names, ", "))
}

func (cmd *backupCommand) printBackup(b *pgmedic.Backup, c *catalog.Catalog) {
	if cmd.global.quiet {
		cmd.printf("%s\n", b.ID)
		return
	}
	cmd.wrapf("%s %s in %s\n", cmd.paint(cmd.stdoutTTY).good("backed up"), words.Clean(b.Database.Name),
		words.Duration(b.FinishedAt.Sub(b.StartedAt)))
	cmd.fields("id", b.ID, "size", sizeWords(b), "rows", rowWords(b), "partial", scopeWords(b), "left out", leftOutWords(b),
		"load", loadWords(b.Load), "in", location(c), "next", "pgmedic drill "+b.ID)
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
	return words.Count(b.Rows()) + " in " + words.Plural(len(b.Tables), "table")
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

// refusesAnnounced refuses a configured label that announces a deletion: it would announce all
// later ones, too, and no backup would be marked.
func refusesAnnounced(configured map[string]string) error {
	if _, ok := configured[shrunk.Label]; !ok {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindUsage, "remove it there, and announce a single deletion with --label "+shrunk.Label+"="+shrunk.Expected,
		"backup.labels has the label %s, which would announce every deletion", shrunk.Label)
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
	if value, ok := labels[shrunk.Label]; ok && value != shrunk.Expected {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "write it as --label "+shrunk.Label+"="+shrunk.Expected+", or give it another key",
			"label %s announces a deletion, and its value is %s, not %q", shrunk.Label, shrunk.Expected, value)
	}
	return labels, nil
}
