package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/diff"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// live is the word for the live database in the place of a backup's id.
const live = "live"

type diffFlags struct {
	database      string
	noDefinitions bool
	exitCode      bool
	all           bool
}

// diffCommand shows what changed between two backups, or a backup and the live database.
type diffCommand struct {
	job
	servers servers
	stores  stores
	keys    keyring
	backups backups

	args  []string
	flags diffFlags
}

func diffCLI(e *env) *cobra.Command {
	var flags diffFlags
	cmd := &cobra.Command{
		Use:   "diff ID|latest [ID|latest|live]",
		Short: "Show what changed between two backups, or a backup and the live database",
		Long: `Shows which tables and columns came, went or changed from the first to the second, with
the rows of each table before and after, and which definitions differ. Without a second,
or with the word live, that is the live database: its rows are counted one by one at one
moment, which reads every table, and nothing is changed. With live first, it is the other
way round.
Tables, columns and numbers of rows are in the manifests, and need no key. The definitions
of an encrypted backup do: on a host without it they are listed as not compared, and the
exit code is 15; with --no-definitions they are left out, and it is 0. It is 15, too, if
the rows of a table were not counted, such as one that was backed up without its rows.
Equal numbers of rows can hold other values: those are compared by a drill or a restore.`,
		Example: `  pgmedic diff 7f3a9c latest
  pgmedic diff latest                    # with the live database
  pgmedic diff latest live --database clinic_copy
  pgmedic diff 7f3a9c latest --no-definitions --json
  pgmedic diff 7f3a9c latest --exit-code # 3 if anything changed`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return pgmedic.Errorf(pgmedic.KindUsage, "pgmedic diff ID latest, or pgmedic diff latest live", "name one backup or two")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &diffCommand{job: j, servers: servers{j}, stores: stores{j}, keys: keyring{j}, backups: newBackups(j), args: args, flags: flags}
			return command.run(cmd.Context())
		},
	}
	addConnection(cmd)
	addStore(cmd)
	addUnencrypted(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.database, "database", "", "the live database to compare with (default: the configured one, else the backup's)")
	f.BoolVar(&flags.noDefinitions, "no-definitions", false, "compare tables, columns and numbers of rows only: needs no key")
	f.BoolVar(&flags.exitCode, "exit-code", false, "exit 3 if anything changed")
	f.BoolVar(&flags.all, "all", false, "print every change, not only the first of each kind")
	return cmd
}

// moment is one side as the result names it.
type moment struct {
	// Backup is the id, or empty of the live database.
	Backup   string    `json:"backup,omitempty"`
	Live     bool      `json:"live"`
	Database string    `json:"database"`
	At       time.Time `json:"at"`
	// Authenticated is true where the backup's key showed who wrote the manifest, and of a
	// live database. Of any other, anyone who can write to the store may have written it.
	Authenticated bool `json:"authenticated"`
	// unopened is true of an encrypted one that was not authenticated.
	unopened bool
}

func (m moment) words() string {
	name := "backup " + m.Backup + " of " + m.Database
	if m.Live {
		name = "the live database " + m.Database
	}
	return words.Clean(name + ", " + m.At.UTC().Format(time.RFC3339))
}

// diffResult is the result of a comparison.
type diffResult struct {
	From moment `json:"from"`
	To   moment `json:"to"`
	diff.Changes
}

func (cmd *diffCommand) run(ctx context.Context) error {
	args := cmd.args
	if len(args) == 1 {
		args = []string{args[0], live}
	}
	if args[0] == live && args[1] == live {
		return pgmedic.Errorf(pgmedic.KindUsage, "name a backup: `pgmedic list` shows them", "the live database is compared with itself")
	}
	if cmd.flags.database != "" && args[0] != live && args[1] != live {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave it out, or name one backup only", "--database names a live database, and two backups are compared")
	}
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	// What is in the store is found before a server is asked to count.
	var backups [2]*pgmedic.Backup
	for i, arg := range args {
		if arg == live {
			continue
		}
		e, err := cmd.backups.get(ctx, c, []string{arg})
		if err == nil {
			err = refusePhysical(e.Backup, "diff")
		}
		if err != nil {
			return err
		}
		if backups[i], err = c.Whole(ctx, e); err != nil {
			return err
		}
	}
	var sides [2]diff.Side
	var moments [2]moment
	for i, b := range backups {
		if b != nil {
			if sides[i], moments[i], err = cmd.stored(ctx, c, b); err != nil {
				return err
			}
		}
	}
	for i, b := range backups {
		if b == nil {
			if sides[i], moments[i], err = cmd.living(ctx, backups[1-i]); err != nil {
				return err
			}
		}
	}
	result := diffResult{From: moments[0], To: moments[1], Changes: diff.Between(sides[0], sides[1])}
	if cmd.global.json {
		err = cmd.printJSON(result)
	} else {
		cmd.print(result)
	}
	if err != nil {
		return err
	}
	return cmd.outcome(result.Changes)
}

// outcome is the exit code. A change that was found stays one, whatever was not compared.
func (cmd *diffCommand) outcome(c diff.Changes) error {
	definitions := c.DefinitionsCompared || cmd.flags.noDefinitions
	const hint = "the lines under \"not checked\" say why"
	switch {
	case cmd.flags.exitCode && !c.None():
		return &statusError{code: 3}
	case len(c.RowsNotCompared) > 0 && !definitions:
		return pgmedic.Errorf(pgmedic.KindDegraded, hint, "definitions and the rows of %s were not compared", words.Plural(len(c.RowsNotCompared), "table"))
	case len(c.RowsNotCompared) > 0:
		return pgmedic.Errorf(pgmedic.KindDegraded, hint, "the rows of %s were not compared", words.Plural(len(c.RowsNotCompared), "table"))
	case !definitions:
		return pgmedic.Errorf(pgmedic.KindDegraded, hint+"; --no-definitions leaves them out", "tables and rows were compared, and definitions were not")
	}
	return nil
}

// stored reads a backup's side. A key that this host lacks is not an error: the manifest has
// the tables.
func (cmd *diffCommand) stored(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup) (diff.Side, moment, error) {
	side := diff.Side{
		Name: "backup " + b.ID, At: b.SnapshotAt.UTC(), Major: b.Server.Major(), Partial: b.Partial(), Tables: b.Tables, Extensions: b.Database.Extensions,
	}
	m := moment{Backup: b.ID, Database: b.Database.Name, At: side.At, Authenticated: true}
	key, err := cmd.keys.openKey(ctx, c, b)
	switch {
	case err != nil && pgmedic.KindOf(err) != pgmedic.KindUsage:
		return side, m, err
	case err != nil:
		side.Unread = side.Name + " is encrypted, and the key of this host does not open it: " + words.OneLine(err.Error())
	case key == nil && b.Seal.Encryption != string(seal.EncryptionNone):
		side.Unread = side.Name + " is encrypted, and this host has no key"
	}
	m.Authenticated, m.unopened = key != nil, side.Unread != ""
	if cmd.flags.noDefinitions || side.Unread != "" {
		if cmd.flags.noDefinitions {
			side.Unread = ""
		}
		return side, m, nil
	}
	inventory, err := restore.ReadInventory(ctx, restore.Source{Catalog: c, Backup: b, Key: key})
	switch {
	case errors.Is(err, restore.ErrManyDefinitions):
		side.Unread = side.Name + ": " + err.Error()
	case err != nil:
		return side, m, err
	default:
		side.Inventory = &inventory
	}
	return side, m, nil
}

// living reads the live database, by default that of the backup's name.
func (cmd *diffCommand) living(ctx context.Context, b *pgmedic.Backup) (diff.Side, moment, error) {
	t, err := cmd.servers.target()
	if err != nil {
		return diff.Side{}, moment{}, err
	}
	name := cmd.flags.database
	if name == "" {
		if name = databaseName(t); name == "" {
			name = b.Database.Name
		}
	}
	side, err := diff.Live(ctx, diff.LiveOptions{
		Target: t.WithDatabase(name), LockTimeout: cmd.cfg.Backup.LockTimeout, WithoutDefinitions: cmd.flags.noDefinitions, Logger: cmd.log,
	})
	return side, moment{Live: true, Database: name, At: side.At, Authenticated: true}, err
}
