package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/fetch"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/words"
)

type fetchFlags struct {
	only   string
	tables []string
	sealed bool
}

// fetchCommand writes what is in a backup into a folder.
type fetchCommand struct {
	job
	stores  stores
	keys    keyring
	backups backups

	args  []string
	flags fetchFlags
}

func fetchCLI(e *env) *cobra.Command {
	var flags fetchFlags
	cmd := &cobra.Command{
		Use:   "fetch ID|latest DIR",
		Short: "Write a backup into a folder as files that psql and pg_restore read",
		Long: `Writes what is in a backup into a new folder: globals.sql, and dump.sql of a plain
backup, or schema.dump, rest.dump, the rows of each table and load.sql of a parallel
one, with a README that says how they are loaded. Every byte is checked. The files are
decrypted and readable by you only; with --sealed they are copied as they are stored,
which needs no key. A host that has keys or trusted signers refuses with --sealed, too,
what it can't open or trust. --table writes the rows of these tables only, and reads
nothing else of a parallel backup. With -q it prints the folder.`,
		Example: `  pgmedic fetch latest ./clinic-files
  pgmedic fetch latest ./roles --only globals
  pgmedic fetch latest ./visits --table clinic.encounters
  pgmedic fetch 7f3a9c /mnt/usb/clinic --sealed`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return pgmedic.Errorf(pgmedic.KindUsage, "pgmedic fetch latest ./clinic-files", "name a backup and a new folder")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &fetchCommand{job: j, stores: stores{j}, keys: keyring{j}, backups: newBackups(j), args: args, flags: flags}
			return command.run(cmd.Context())
		},
	}
	addStore(cmd)
	addUnencrypted(cmd)
	cmd.Flags().StringVar(&flags.only, "only", "", "write this part only: "+strings.Join(fetchParts(), ", ")+" (default: all)")
	cmd.Flags().StringArrayVar(&flags.tables, "table", nil, "write the rows of this table only; may be repeated, and be a pattern")
	cmd.Flags().BoolVar(&flags.sealed, "sealed", false, "copy the objects as they are stored, compressed and encrypted")
	return cmd
}

// fetchParts are the values of --only.
func fetchParts() []string {
	return []string{string(fetch.PartSchema), string(fetch.PartGlobals), string(fetch.PartData)}
}

func (cmd *fetchCommand) run(ctx context.Context) error {
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	e, err := cmd.backups.get(ctx, c, cmd.args[:1])
	if err == nil {
		err = refusePhysical(e.Backup, "fetch")
	}
	if err != nil {
		return err
	}
	cmd.tellShrunk(e.Backup.ID, e.Shrunk)
	cmd.trail.about(act{
		params: map[string]string{"into": cmd.absolute(cmd.args[1], ""), "only": cmd.flags.only, "sealed": strconv.FormatBool(cmd.flags.sealed)},
		lists:  map[string][]string{"tables": cmd.flags.tables},
	})
	o := fetch.Options{
		Source: restore.Source{Catalog: c}, Dir: cmd.absolute(cmd.args[1], ""), Only: fetch.Part(cmd.flags.only), Tables: cmd.flags.tables, Sealed: cmd.flags.sealed,
		FreeBytes: freeBytes, Now: cmd.now,
	}
	if o.Backup, err = c.Whole(ctx, e); err != nil {
		return err
	}
	release, err := cmd.backups.holdInUse(ctx, c, e, "fetch")
	if err != nil {
		return err
	}
	defer release()
	openWith := cmd.keys.readKey
	if o.Sealed { // needs no key, but passes nothing on that this host refuses
		openWith = cmd.keys.openKey
	}
	if o.Key, err = openWith(ctx, c, o.Backup); err != nil {
		return err
	}
	listen, stop := cmd.progress()
	defer stop()
	o.Progress = listen
	done, err := fetch.Run(ctx, o)
	if err != nil {
		return err
	}
	switch {
	case cmd.global.json:
		return cmd.printJSON(done)
	case cmd.global.quiet:
		cmd.printf("%s\n", done.Dir)
		return nil
	}
	cmd.printf("%s backup %s into %s: %s, %s\n", cmd.paint(cmd.stdoutTTY).good("fetched"), done.BackupID, words.Clean(done.Dir), words.Plural(done.Files, "file"), words.Bytes(done.Bytes))
	privacy := "the files are not encrypted: remove them when they are no longer needed"
	if done.Sealed {
		privacy = ""
	}
	cmd.fields("note", privacy, "how to load", "README", "by hand", words.Clean(strings.Join(done.ByHand, ", ")))
	return nil
}
