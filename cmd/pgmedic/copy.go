package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
)

type copyFlags struct {
	all bool
	to  []string
}

// copyCommand copies backups to other stores.
type copyCommand struct {
	job
	stores  stores
	backups backups
	copier  copier

	args  []string
	flags copyFlags
}

// copyRow is one backup and one place in the JSON of pgmedic copy.
type copyRow struct {
	ID    string `json:"id"`
	To    string `json:"to"`
	Store string `json:"store"`
	catalog.Copied
	// Error says why the copy is not whole.
	Error string `json:"error,omitempty"`
}

func copyCLI(e *env) *cobra.Command {
	var flags copyFlags
	cmd := &cobra.Command{
		Use:   "copy [ID|latest]",
		Short: "Copy backups to another store, or complete partial copies",
		Long: `Copies a backup from the store to another store without decrypting it, so it needs
no key. A host that has keys copies only backups that it can open, and refuses
edited ones. The size and hash of each object are checked during the copy, the
manifest is written last, and nothing is overwritten. Objects that are already there
and equal are kept, so an interrupted copy continues where it stopped. A copy is a
complete store: all commands work on it with --store.

With --all, a backup that retention would delete there is left out.

With a base backup, or with --all, the WAL that the store of copies lacks is copied
first, as far as retention needs it there. Between two runs, new WAL is in the first
store alone.

Without --to, backups are copied to each store listed under copies: in pgmedic.yaml,
and to the bucket of CLOUD_STORAGE_ENABLED.`,
		Example: `  pgmedic copy latest --to /mnt/nas/backups
  pgmedic copy --all --to s3://another-bucket/clinic
  pgmedic copy --all`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.notified(cmd, "copy", func(ctx context.Context, j job) (err error) {
				command := &copyCommand{job: j, stores: stores{j}, backups: newBackups(j), copier: newCopier(j), args: args, flags: flags}
				return command.run(ctx)
			})
		},
	}
	addStore(cmd)
	addUnencrypted(cmd)
	addSetting(cmd, "jobs", "backup.jobs", "objects to copy at once, 8 at most (default: 4)")
	cmd.Flags().BoolVar(&flags.all, "all", false, "copy every backup in the store")
	cmd.Flags().StringArrayVar(&flags.to, "to", nil, "where to: a folder, the URL of a bucket (s3://, azblob://, gs://), or the name of a configured copy; may be repeated")
	return cmd
}

func (cmd *copyCommand) run(ctx context.Context) error {
	if cmd.flags.all && len(cmd.args) > 0 {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--all and an id together")
	}
	targets, err := cmd.copyTargets(cmd.flags.to)
	if err != nil {
		return err
	}
	from, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	entries, problem, err := cmd.backups.choose(ctx, from, cmd.args, cmd.flags.all)
	if err != nil {
		return err
	}
	rows, walRows := []copyRow{}, []walCopyRow{}
	for _, target := range targets {
		wanted := entries
		if cmd.flags.all {
			wanted = cmd.retainedCopies(ctx, target, entries)
		}
		walDone, err := cmd.copier.copyWAL(ctx, from, target, wanted, cmd.flags.all)
		walRows = append(walRows, walDone...)
		if err != nil {
			problem, wanted = errors.Join(problem, err), withoutBase(wanted)
		}
		if ctx.Err() != nil {
			break
		}
		done, err := cmd.copier.copyAll(ctx, from, target, wanted, true)
		rows = append(rows, done...)
		problem = errors.Join(problem, err)
		if ctx.Err() != nil {
			break
		}
	}
	if cmd.global.json {
		if err := cmd.printJSON(map[string]any{"copies": rows, "wal": walRows}); err != nil {
			return err
		}
	}
	return problem
}

// copyTargets are the stores that are named, or else the configured ones.
func (cmd *copyCommand) copyTargets(named []string) ([]config.Copy, error) {
	if len(named) == 0 {
		if err := cmd.cfg.CheckBackup(); err != nil {
			return nil, err
		}
		if len(cmd.cfg.Copies) == 0 {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "say where with --to, or name stores under copies: in pgmedic.yaml", "no copies are configured")
		}
		return cmd.cfg.Copies, nil
	}
	targets := make([]config.Copy, 0, len(named))
	for _, text := range named {
		target, err := cmd.cfg.ParseCopy(text, cmd.dir)
		if err != nil {
			return nil, err
		}
		targets = append(targets, target)
	}
	return targets, nil
}
