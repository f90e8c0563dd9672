package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/words"
)

func (a *app) pruneCommand() *cobra.Command {
	var rescued []string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Drop databases that swaps set aside, once their time is over; deletes no backups",
		Long: `Drops databases that swaps set aside, what dead restores left, and schemas of rescues
that you name. It deletes no backups: nothing in this version does.

It prints what pgmedic made or set aside on the server, what it would drop, and why:
databases that a swap or a rollback displaced longer than restore.keep_displaced
ago, what an interrupted DROP DATABASE left of them, and copies that killed
restores left. Ages are by the server's clock. On a terminal it asks; without one it
drops nothing unless --yes is given. A database that somebody is connected to or
opened, or that a replication slot, a subscription or a prepared transaction is
bound to, is never dropped, nor one whose owner could have written its story for
another's database, or that is of a database which is gone.

Schemas that restore --table made are listed, in every database that the role may
connect to. One is dropped only if you name it with --rescued, if it holds nothing
but tables, and if nothing outside of it depends on them; else it is kept, and the
exit code is 14.

With -q it prints the names of the databases and schemas that it dropped.`,
		Example: `  pgmedic prune --dry-run
  pgmedic prune --yes
  pgmedic prune --rescued pgmedic_rescue_20261123t023506z_bb38d4`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.prune(cmd.Context(), rescued, dryRun)
		},
	}
	addConnection(cmd)
	addSetting(cmd, "keep-displaced", "restore.keep_displaced", "how long a database that was set aside is kept, such as 7d")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be dropped, and drop nothing")
	cmd.Flags().StringArrayVar(&rescued, "rescued", nil, "drop this schema of a rescue, too: SCHEMA or DATABASE.SCHEMA; may be repeated")
	return cmd
}

// pruneResult is what prune prints as JSON.
type pruneResult struct {
	Databases []restore.Pruned       `json:"databases"`
	Rescued   []restore.PrunedSchema `json:"rescued"`
	// Unread are databases in which nobody looked for rescues.
	Unread []restore.Unread `json:"unread"`
}

func (p *pruneResult) wouldDrop() bool {
	return slices.ContainsFunc(p.Databases, func(d restore.Pruned) bool { return d.Drop && !d.Dropped }) ||
		slices.ContainsFunc(p.Rescued, func(s restore.PrunedSchema) bool { return s.Drop && !s.Dropped })
}

func (a *app) prune(ctx context.Context, rescued []string, dryRun bool) error {
	t, err := a.target()
	if err != nil {
		return err
	}
	o := restore.PruneOptions{
		Target: t, Maintenance: a.cfg.Database.MaintenanceDatabase, Keep: a.cfg.Restore.KeepDisplaced, Logger: a.log,
	}
	var done pruneResult
	if done.Rescued, done.Unread, err = restore.PlanRescued(ctx, o, rescued); err != nil {
		return err
	}
	shown := false
	confirm := func(plan []restore.Pruned) error {
		if a.global.yes || shown {
			return nil
		}
		shown = true
		done.Databases = plan
		a.printPlan(&done)
		return a.confirm(ctx, "Drop what is marked drop?", "drop")
	}
	if !dryRun && (a.global.yes || a.stdinTTY) {
		o.Confirm = confirm
	}
	done.Databases, err = restore.Prune(ctx, o)
	if done.Databases == nil {
		return err
	}
	if err == nil && o.Confirm != nil {
		err = a.dropRescued(ctx, o, &done)
	}
	switch {
	case a.global.json:
		if printErr := a.printJSON(done); err == nil {
			err = printErr
		}
	case a.global.quiet:
		for _, p := range done.Databases {
			if p.Dropped {
				a.printf("%s\n", p.Database)
			}
		}
		for _, p := range done.Rescued {
			if p.Dropped {
				a.printf("%s.%s\n", p.Database, p.Schema)
			}
		}
	case !shown || err == nil:
		a.printPlan(&done)
		if o.Confirm == nil && !dryRun && done.wouldDrop() {
			a.printf("nothing was dropped; --yes does it\n")
		}
	}
	return err
}

// dropRescued drops the schemas of rescues that were asked for.
func (a *app) dropRescued(ctx context.Context, o restore.PruneOptions, done *pruneResult) error {
	if !slices.ContainsFunc(done.Rescued, func(s restore.PrunedSchema) bool { return s.Drop }) {
		return nil
	}
	if err := o.Confirm(done.Databases); err != nil {
		return err
	}
	var errs []error
	for i := range done.Rescued {
		p := &done.Rescued[i]
		if !p.Drop || ctx.Err() != nil {
			continue
		}
		err := restore.DropRescued(ctx, o, p)
		if err == nil && !p.Dropped { // it was asked for by name
			err = pgmedic.Errorf(pgmedic.KindConflict, "", "schema %s of database %s is kept: %s", p.Schema, p.Database, p.Reason)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, context.Cause(ctx))...)
}

// printPlan prints each database and each schema with what is to become of it, and why.
func (a *app) printPlan(plan *pruneResult) {
	if len(plan.Databases)+len(plan.Rescued) == 0 {
		a.printf("there is nothing to drop: no database was set aside, and no restore or rescue left anything\n")
	}
	paint := a.paint(a.stdoutTTY)
	word := func(drop, dropped bool) string {
		switch {
		case dropped:
			return paint.good("dropped")
		case drop:
			return paint.warn(fmt.Sprintf("%-7s", "drop"))
		}
		return paint.dim(fmt.Sprintf("%-7s", "keep"))
	}
	for _, p := range plan.Databases {
		a.printf("%s  %s  %s, %s: %s\n", word(p.Drop, p.Dropped), words.Clean(p.Database), words.Bytes(p.SizeBytes),
			agoSeconds(p.Since, p.AgeSeconds), words.Clean(p.Reason))
	}
	for _, p := range plan.Rescued {
		a.printf("%s  %s.%s  %s, %s: %s\n", word(p.Drop, p.Dropped), words.Clean(p.Database), words.Clean(p.Schema),
			count(p.Tables, "table"), agoSeconds(p.Since, p.AgeSeconds), words.Clean(p.Reason))
	}
	for _, u := range plan.Unread {
		a.printf("%s  %s: not looked into for rescues: %s\n", paint.warn("unknown"), words.Clean(u.Database), words.OneLine(u.Reason))
	}
}

// agoSeconds says how long ago something was, by the server's clock.
func agoSeconds(since time.Time, seconds float64) string {
	return words.Ago(since.Add(time.Duration(seconds*float64(time.Second))), since)
}
