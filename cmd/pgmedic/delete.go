package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/words"
)

type deleteFlags struct {
	reason         string
	stores         []string
	newest, dryRun bool
}

// deleteCommand deletes one backup that a person has chosen, whatever retention says of it.
type deleteCommand struct {
	job
	retainer retainer
	backups  backups

	id    string
	flags deleteFlags
}

func deleteCLI(e *env) *cobra.Command {
	var flags deleteFlags
	cmd := &cobra.Command{
		Use:   "delete ID",
		Short: "Delete one backup now, in every configured store that has it",
		Long: `Deletes the backup that you name, whatever retention says of it, without a mark and
without a grace, in every configured store that has it. It shows what goes and asks for
the id. A backup that is held, locked by a store, read by a recovery, or needed by others
is not deleted (exit code 14); nor is the newest of its database, the newest proven one,
the newest of a chain while the chain after it is not proven, or a base backup with which
recovery to a moment that retention.pitr promises begins, unless you say so with --newest.
If a configured store can't be read, nothing is deleted: holds and proofs there count as
well. A damaged backup, whose manifest can't be used, is deleted likewise, unless it is
held, locked, read or needed. For backups that are merely old there is prune.`,
		Example: `  pgmedic delete 7f3a9c --reason 'erasure request 118'
  pgmedic delete 20261122T020000Z-7f3a9c --store offsite --reason 'copied to the wrong place'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == catalog.Latest {
				return pgmedic.Errorf(pgmedic.KindUsage, "name one by its id, as pgmedic list shows it", "takes the id of one backup")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.notifiedDeed(cmd, "delete", func(ctx context.Context, j job) error {
				command := &deleteCommand{job: j, retainer: newRetainer(j), backups: newBackups(j), id: args[0], flags: flags}
				return command.run(ctx)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.reason, "reason", "", "why it is deleted, for the audit log")
	f.StringArrayVar(&flags.stores, "store", nil, "delete it in this configured store alone, by its place or the name of a copy; may be repeated")
	f.BoolVar(&flags.newest, "newest", false, "delete it even if it is the newest of its database, the newest proven one, the newest of a chain before one that is not proven, or needed for retention.pitr")
	f.BoolVar(&flags.dryRun, "dry-run", false, "show what would go, and change nothing")
	return cmd
}

// deletedRow is the backup in one store, in the JSON of delete.
type deletedRow struct {
	Store string        `json:"store"`
	ID    string        `json:"id"`
	Proof pgmedic.Proof `json:"proof"`
	Bytes int64         `json:"bytes"`
	// Kept are the reasons for which it is not deleted.
	Kept    []string `json:"kept_because"`
	Deleted bool     `json:"deleted"`
	// Newest is true if the only reasons are that it is the newest of something, or that
	// recovery to a moment that is promised begins with it, which pitr is then true for.
	newest, pitr bool
	series       retention.Series
	// folder is where a backup is whose manifest can't be used, and empty for others.
	folder string
}

func (cmd *deleteCommand) run(ctx context.Context) error {
	if strings.TrimSpace(cmd.flags.reason) == "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "for example, give --reason 'erasure request 118'", "a deletion needs a reason")
	}
	at := cmd.retainer.readStores(ctx, catalog.Filter{Now: cmd.now()})
	defer at.close()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	cmd.readWAL(ctx, at)
	if err := at.unread(); err != nil {
		return pgmedic.Errorf(pgmedic.KindOf(err), pgmedic.HintOf(err), "nothing was deleted: %w", err)
	}
	rows, err := cmd.plan(ctx, at)
	if err != nil {
		return err
	}
	id := rows[0].ID
	_, database := folderNames(rows[0].folder)
	if rows[0].folder == "" {
		b := rows[0].series.Entry(id).Backup
		database = b.Database.Name
		cmd.trail.aboutBackup(b)
	}
	if !cmd.global.json && !cmd.global.quiet {
		cmd.print(rows)
	}
	if err := cmd.refused(rows); err != nil {
		return err
	}
	if cmd.flags.dryRun {
		cmd.trail.forget()
		return cmd.end(rows, nil)
	}
	if err := cmd.confirm(ctx, fmt.Sprintf("Delete backup %s in %s? It can't be undone.", id, words.Plural(len(rows), "store")), id); err != nil {
		return err
	}
	var names []string
	for _, r := range rows {
		names = append(names, r.Store)
	}
	if err := cmd.trail.intend(ctx, act{reason: cmd.flags.reason, lists: map[string][]string{"backups": {id}, "stores": names}}); err != nil {
		return err
	}
	cmd.begin(database)
	err = cmd.remove(ctx, at, rows)
	var gone []string
	for _, r := range rows {
		if r.Deleted {
			gone = append(gone, r.Store)
		}
	}
	cmd.trail.about(act{lists: map[string][]string{"deleted_in": gone}})
	if len(gone) > 0 {
		d := cmd.theDeed()
		d.name, d.done = "backup.deleted", fmt.Sprintf("backup %s was deleted in %s by %s: %s", id, words.Plural(len(gone), "store"), cmd.doer(), cmd.flags.reason)
	}
	return cmd.end(rows, err)
}

// readWAL reads the WAL of the server whose base backup is meant: which moments can be
// recovered without it depends on that.
func (cmd *deleteCommand) readWAL(ctx context.Context, at retained) {
	for _, s := range at {
		for _, e := range s.listing.Entries {
			if e.Backup.Physical != nil && catalog.MatchesID(e.Backup.ID, cmd.id) {
				cmd.retainer.readWAL(ctx, at, e.Backup.Server.Name)
				return
			}
		}
	}
}

// plan finds the backup in the stores, and says for each what keeps it.
func (cmd *deleteCommand) plan(ctx context.Context, at retained) ([]deletedRow, error) {
	names, err := at.chosen(cmd.flags.stores, cmd.dir)
	if err != nil {
		return nil, err
	}
	guarded, others := retention.Unconditional(true), retention.Unconditional(false)
	all := cmd.retainer.plan(at, retentionScope{policy: &guarded})
	held := cmd.retainer.plan(at, retentionScope{policy: &others, withoutPITR: true})
	needed := cmd.retainer.neededForPITR(at)
	var rows []deletedRow
	ids := map[string]bool{}
	for i, s := range all {
		for j, d := range s.Decisions {
			if !catalog.MatchesID(d.ID, cmd.id) || len(names) > 0 && !slices.Contains(names, s.Store) {
				continue
			}
			ids[d.ID] = true
			row := deletedRow{Store: s.Store, ID: d.ID, Proof: d.Proof, Bytes: d.Bytes, Kept: []string{}, series: s}
			switch {
			case s.Stopped != "":
				row.Kept = []string{s.Stopped}
			case held[i].Decisions[j].Verdict == retention.Keep:
				row.Kept = held[i].Decisions[j].Reasons
			case d.Verdict == retention.Keep:
				row.Kept, row.newest = d.Reasons, true
				row.pitr = needed(s.Store, s.Entry(d.ID)) != ""
			}
			if child := at.named(s.Store).needing(s.Server, d.ID); child != "" {
				row.Kept, row.newest = append(slices.Clone(row.Kept), "backup "+child+" is incremental and needs it"), false
			}
			rows = append(rows, row)
		}
	}
	damaged := cmd.damaged(at, names, ids)
	switch {
	case len(rows)+len(damaged) == 0:
		return nil, pgmedic.Errorf(pgmedic.KindNotFound, "`pgmedic list` shows what is there", "no backup %q in the configured stores", cmd.id)
	case len(ids) > 1:
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "give more of the id", "%q names %d backups", cmd.id, len(ids))
	case len(rows) > 0 && len(damaged) > 0:
		return nil, pgmedic.Errorf(pgmedic.KindConflict, "delete that one first, with --store", "nothing was deleted: the manifest of backup %s in %s can't be used", damaged[0].ID, damaged[0].Store)
	case len(damaged) > 0:
		return damaged, cmd.keptDamaged(ctx, at, damaged)
	}
	return rows, cmd.planLocks(ctx, at, rows)
}

// needing returns an incremental backup that needs another one, or an empty text.
func (s *heldStore) needing(server, id string) string {
	for _, e := range s.listing.Entries {
		if p := e.Backup.Physical; p != nil && p.Parent == id && e.Backup.Server.Name == server {
			return e.Backup.ID
		}
	}
	return ""
}

// planLocks adds the locks of stores to what keeps the backup.
func (cmd *deleteCommand) planLocks(ctx context.Context, at retained, rows []deletedRow) error {
	var errs []error
	for i := range rows {
		r := &rows[i]
		one := r.series
		one.Decisions = []retention.Decision{{ID: r.ID, Verdict: retention.Delete}}
		errs = append(errs, cmd.retainer.stores.planLocks(ctx, at, []retention.Series{one}, nil))
		if d := one.Decisions[0]; d.Verdict != retention.Delete {
			r.Kept, r.newest = append(slices.Clone(r.Kept), d.Reasons...), false
		}
	}
	return errors.Join(errs...)
}

// refused is why the backup is deleted nowhere: something keeps it in one of the stores.
func (cmd *deleteCommand) refused(rows []deletedRow) error {
	for _, r := range rows {
		switch {
		case len(r.Kept) == 0, r.newest && cmd.flags.newest:
		case r.newest && r.pitr:
			return pgmedic.Errorf(pgmedic.KindConflict, "wait until the time is over, or shorten retention.pitr; if it has to go now, add --newest: moments before the next base backup are lost with it",
				"nothing was deleted: backup %s in %s is kept: %s", r.ID, r.Store, strings.Join(r.Kept, "; "))
		case r.newest:
			return pgmedic.Errorf(pgmedic.KindConflict, "take a new backup and prove it first; if it has to go now, add --newest",
				"nothing was deleted: backup %s in %s is kept: %s", r.ID, r.Store, strings.Join(r.Kept, "; "))
		default:
			return pgmedic.Errorf(pgmedic.KindConflict, "`pgmedic release "+r.ID+"` takes a hold off; a lock or a lease ends by itself; what needs it has to go first; --store deletes it in other stores alone",
				"nothing was deleted: backup %s in %s is kept: %s", r.ID, r.Store, strings.Join(r.Kept, "; "))
		}
	}
	return nil
}

// remove marks the backup and deletes it, in one store after another.
func (cmd *deleteCommand) remove(ctx context.Context, at retained, rows []deletedRow) error {
	var errs []error
	for i := range rows {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		r := &rows[i]
		mark := catalog.Mark{At: cmd.now().UTC(), Host: hostName(), Reason: "deleted by hand: " + cmd.flags.reason}
		if r.folder != "" {
			err := cmd.removeDamaged(ctx, at, r, mark)
			r.Deleted = err == nil
			errs = append(errs, err)
			continue
		}
		s, e := at.named(r.Store), r.series.Entry(r.ID)
		// Once more: the question may have waited.
		why, err := cmd.retainer.leasedMeanwhile(ctx, s, e)
		if err != nil {
			errs = append(errs, fmt.Errorf("in %s: %w", r.Store, err))
			continue
		}
		if why != "" {
			errs = append(errs, pgmedic.Errorf(pgmedic.KindConflict, "wait until it has ended", "in %s it was not deleted: %s", r.Store, why))
			continue
		}
		err = s.catalog.Mark(ctx, catalog.Folder(e.Backup.Server.Name, e.Backup.Database.Name, e.Backup.ID), mark)
		var kept string
		if err == nil {
			kept, err = s.catalog.Remove(ctx, e, cmd.now())
		}
		switch {
		case err != nil:
			errs = append(errs, pgmedic.Errorf(pgmedic.KindOf(err), "run it again: it continues where it stopped", "in %s: %w", r.Store, err))
		case kept != "":
			errs = append(errs, pgmedic.Errorf(pgmedic.KindConflict, "look at it with `pgmedic show "+r.ID+"`", "in %s it was not deleted: %s", r.Store, kept))
			if e.Mark == nil {
				errs = append(errs, s.catalog.Unmark(ctx, e.Backup, mark))
			}
		default:
			r.Deleted = true
		}
	}
	return errors.Join(errs...)
}

func (cmd *deleteCommand) print(rows []deletedRow) {
	heading := fmt.Sprintf("backup %s in %s, whose manifest can't be used", rows[0].ID, rows[0].folder)
	if rows[0].folder == "" {
		b := rows[0].series.Entry(rows[0].ID).Backup
		of := "database " + b.Database.Name + " on " + b.Server.Name
		if b.Physical != nil {
			of = "all databases of " + b.Server.Name
		}
		heading = fmt.Sprintf("backup %s of %s, taken %s", b.ID, of, words.Ago(cmd.now(), b.StartedAt))
	}
	cmd.wrapf("%s\n", cmd.paint(cmd.stdoutTTY).bold(words.Clean(heading)))
	for _, r := range rows {
		verdict := "delete"
		if len(r.Kept) > 0 && (!r.newest || !cmd.flags.newest) {
			verdict = "keep"
		}
		line := fmt.Sprintf("%s, %s, %s", r.Store, words.Bytes(r.Bytes), r.Proof)
		if len(r.Kept) > 0 {
			line += ": " + strings.Join(r.Kept, "; ")
		}
		cmd.wrapf("  %-6s  %s\n", verdict, words.Clean(line))
	}
}

// end prints what was done.
func (cmd *deleteCommand) end(rows []deletedRow, err error) error {
	if cmd.global.json {
		if printErr := cmd.printJSON(map[string]any{"backups": rows}); printErr != nil {
			return errors.Join(err, printErr)
		}
		return err
	}
	for _, r := range rows {
		switch {
		case !r.Deleted:
		case cmd.global.quiet:
			cmd.wrapf("%s\n", r.ID)
		default:
			cmd.wrapf("%s %s in %s\n", cmd.paint(cmd.stdoutTTY).good("deleted"), r.ID, words.Clean(r.Store))
		}
	}
	if cmd.flags.dryRun && !cmd.global.quiet {
		cmd.wrapf("nothing was deleted\n")
	}
	return err
}
