package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/restore"
)

func (a *app) pruneCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Drop databases that swaps set aside, once their time is over",
		Long: `Prints what pgmedic made or set aside on the server, what it would drop, and why:
databases that a swap or a rollback displaced longer than restore.keep_displaced
ago, what an interrupted DROP DATABASE left of them, and copies that killed
restores left. Ages are by the server's clock. On a terminal it asks; without one it
drops nothing unless --yes is given. A database that somebody is connected to or
opened, or that a replication slot, a subscription or a prepared transaction is
bound to, is never dropped, nor one whose owner could have written its story for
another's database, or that is of a database which is gone. Backups are not pruned yet.
With -q it prints the names of the databases that it dropped.`,
		Example: `  pgmedic prune
  pgmedic prune --yes`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.prune(cmd.Context())
		},
	}
	addConnection(cmd)
	addSetting(cmd, "keep-displaced", "restore.keep_displaced", "how long a database that was set aside is kept, such as 168h")
	return cmd
}

// pruneResult is what prune prints as JSON. Backups will have a list beside it.
type pruneResult struct {
	Databases []restore.Pruned `json:"databases"`
}

func (a *app) prune(ctx context.Context) error {
	t, err := a.target()
	if err != nil {
		return err
	}
	o := restore.PruneOptions{
		Target: t, Maintenance: a.cfg.Database.MaintenanceDatabase, Keep: a.cfg.Restore.KeepDisplaced, Logger: a.log,
	}
	shown := false
	if a.global.yes || a.stdinTTY {
		o.Confirm = func(plan []restore.Pruned) error {
			if a.global.yes {
				return nil
			}
			shown = true
			a.printPlan(plan)
			return a.confirm(ctx, "Drop these databases?", "drop")
		}
	}
	plan, err := restore.Prune(ctx, o)
	if plan == nil {
		return err
	}
	switch {
	case a.global.json:
		if printErr := a.printJSON(pruneResult{Databases: plan}); err == nil {
			err = printErr
		}
	case a.global.quiet:
		for _, p := range plan {
			if p.Dropped {
				a.printf("%s\n", p.Database)
			}
		}
	case !shown || err == nil:
		a.printPlan(plan)
		if o.Confirm == nil && wouldDrop(plan) {
			a.printf("nothing was dropped; --yes does it\n")
		}
	}
	return err
}

func wouldDrop(plan []restore.Pruned) bool {
	for _, p := range plan {
		if p.Drop && !p.Dropped {
			return true
		}
	}
	return false
}

// printPlan prints each database with what is to become of it, and why.
func (a *app) printPlan(plan []restore.Pruned) {
	if len(plan) == 0 {
		a.printf("there is nothing to drop: no database was set aside, and no restore left one\n")
		return
	}
	paint := a.paint(a.stdoutTTY)
	for _, p := range plan {
		word := paint.dim(fmt.Sprintf("%-7s", "keep"))
		switch {
		case p.Dropped:
			word = paint.good("dropped")
		case p.Drop:
			word = paint.warn(fmt.Sprintf("%-7s", "drop"))
		}
		a.printf("%s  %s  %s, %s: %s\n", word, render.Clean(p.Database), render.Bytes(p.SizeBytes), render.Ago(p.Since.Add(time.Duration(p.AgeSeconds*float64(time.Second))), p.Since), render.Clean(p.Reason))
	}
}
