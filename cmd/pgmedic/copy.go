package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/words"
)

type copyFlags struct {
	all bool
	to  []string
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

func (a *app) copyCommand() *cobra.Command {
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

Without --to, backups are copied to each store listed under copies: in pgmedic.yaml,
and to the bucket of CLOUD_STORAGE_ENABLED.`,
		Example: `  pgmedic copy latest --to /mnt/nas/backups
  pgmedic copy --all --to s3://another-bucket/clinic
  pgmedic copy --all`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			if flags.all && len(args) > 0 {
				return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--all and an id together")
			}
			return a.copy(cmd.Context(), args, flags)
		},
	}
	addStore(cmd)
	addUnencrypted(cmd)
	addSetting(cmd, "jobs", "backup.jobs", "objects to copy at once, 8 at most (default: 4)")
	cmd.Flags().BoolVar(&flags.all, "all", false, "copy every backup in the store")
	cmd.Flags().StringArrayVar(&flags.to, "to", nil, "where to: a folder, s3://bucket/prefix, or the name of a configured copy; may be repeated")
	return cmd
}

func (a *app) copy(ctx context.Context, args []string, flags copyFlags) error {
	targets, err := a.copyTargets(flags.to)
	if err != nil {
		return err
	}
	from, closed, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	entries, problem, err := a.selectBackups(ctx, from, args, flags.all)
	if err != nil {
		return err
	}
	rows := []copyRow{}
	for _, target := range targets {
		wanted := entries
		if flags.all {
			wanted = a.retainedCopies(ctx, target, entries)
		}
		done, err := a.copyAll(ctx, from, target, wanted, true)
		rows = append(rows, done...)
		problem = errors.Join(problem, err)
		if ctx.Err() != nil {
			break
		}
	}
	if a.global.json {
		if err := a.printJSON(map[string]any{"copies": rows}); err != nil {
			return err
		}
	}
	return problem
}

// copyTargets are the stores that are named, or else the configured ones.
func (a *app) copyTargets(named []string) ([]config.Copy, error) {
	if len(named) == 0 {
		if err := a.cfg.CheckBackup(); err != nil {
			return nil, err
		}
		if len(a.cfg.Copies) == 0 {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "say where with --to, or name stores under copies: in pgmedic.yaml", "no copies are configured")
		}
		return a.cfg.Copies, nil
	}
	targets := make([]config.Copy, 0, len(named))
	for _, text := range named {
		target, err := a.cfg.ParseCopy(text, a.dir)
		if err != nil {
			return nil, err
		}
		targets = append(targets, target)
	}
	return targets, nil
}

// copyAll copies backups to one place. What is wrong with one of them does not
// keep the others from being copied, unless the place can't be reached.
func (a *app) copyAll(ctx context.Context, from *catalog.Catalog, target config.Copy, entries []catalog.Entry, tell bool) (rows []copyRow, problem error) {
	to, closed, err := a.openPlace(ctx, target.Place(), target.S3, false)
	if err != nil {
		return nil, fmt.Errorf("open copy store %s: %w", target.Name, err)
	}
	defer closed()
	for _, e := range entries {
		copied, err := a.copyEntry(ctx, from, to, e)
		row := copyRow{ID: e.Backup.ID, To: target.Name, Store: location(to), Copied: copied}
		if err != nil {
			row.Error = words.OneLine(err.Error())
			problem = errors.Join(problem, err)
		}
		rows = append(rows, row)
		if tell {
			a.printCopy(row)
		}
		if kind := pgmedic.KindOf(err); err != nil && (ctx.Err() != nil || kind == pgmedic.KindUnreachable) {
			break
		}
	}
	return rows, problem
}

// copyEntry copies one backup. What was edited since it was sealed is not handed on
// by a host that can tell.
func (a *app) copyEntry(ctx context.Context, from, to *catalog.Catalog, e catalog.Entry) (catalog.Copied, error) {
	b, _, err := a.wholeBackup(ctx, from, e)
	if err != nil {
		return catalog.Copied{}, err
	}
	listen, done := a.progress()
	defer done()
	return from.CopyTo(ctx, catalog.CopyOptions{To: to, Backup: b, Jobs: min(a.cfg.Backup.Jobs, maxCopyJobs), Progress: listen})
}

// maxCopyJobs bounds what copies hold in memory: some 24 MiB for each in S3.
const maxCopyJobs = 8

func (a *app) printCopy(r copyRow) {
	if a.global.json || r.Error != "" { // which is printed once, as the error of the run
		return
	}
	if a.global.quiet {
		a.printf("%s\n", r.ID)
		return
	}
	phrase := fmt.Sprintf("%d objects, %s", r.Copied.Copied, words.Bytes(r.CopiedBytes))
	switch {
	case r.Copied.Copied == 0:
		phrase = "was whole"
	case r.Kept > 0:
		phrase += fmt.Sprintf("; %d were there", r.Kept)
	}
	a.printf("%s %s to %s: %s\n", a.paint(a.stdoutTTY).good("copied"), r.ID, words.Clean(r.Store), phrase)
}

// copyTaken copies a backup that was just taken to each configured copy. The
// backup stands whatever comes of that: what failed is of KindDegraded.
func (a *app) copyTaken(ctx context.Context, from *catalog.Catalog, b *pgmedic.Backup) (copiesRow, error) {
	row := copiesRow{Complete: 1, Wanted: 1 + len(a.cfg.Copies)}
	var problem error
	for _, target := range a.cfg.Copies {
		_, err := a.copyAll(ctx, from, target, []catalog.Entry{{Backup: b}}, !a.global.quiet)
		switch {
		case err == nil:
			row.Complete++
		case ctx.Err() != nil:
			return row, errors.Join(problem, context.Cause(ctx))
		default:
			hint := "`pgmedic copy " + b.ID + "` completes the copy"
			if cause := pgmedic.HintOf(err); cause != "" {
				hint = cause + "; then " + hint
			}
			problem = errors.Join(problem, pgmedic.Errorf(pgmedic.KindDegraded, hint,
				"backup %s is taken, and its copy is not whole: %w", b.ID, err))
		}
	}
	return row, problem
}
