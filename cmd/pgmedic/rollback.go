package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/words"
)

// rollbackCommand puts the database back that a swap replaced.
type rollbackCommand struct {
	job
	servers servers
	swaps   swapPrinter

	database        string
	standbysHandled bool
}

func rollbackCLI(e *env) *cobra.Command {
	var standbysHandled bool
	cmd := &cobra.Command{
		Use:   "rollback DATABASE",
		Short: "Undo a swap: restore the database it replaced",
		Long: `Swaps the newest kept database back into its place. Writes since the swap stay in
the displaced database, which is kept in turn under the name that is printed; a
second rollback makes it live again.`,
		Example: `  pgmedic rollback clinic
  pgmedic rollback clinic --yes`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return pgmedic.Errorf(pgmedic.KindUsage, "name it: pgmedic rollback DATABASE; pgmedic prune lists what swaps kept", "which database is to be rolled back?")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.notifiedDeed(cmd, "rollback", func(ctx context.Context, j job) error {
				command := &rollbackCommand{job: j, servers: servers{j}, swaps: swapPrinter{e}, database: args[0], standbysHandled: standbysHandled}
				return command.run(ctx)
			})
		},
	}
	addConnection(cmd)
	cmd.Flags().BoolVar(&standbysHandled, "standbys-handled", false, "I will end sessions on the standbys myself")
	return cmd
}

func (cmd *rollbackCommand) run(ctx context.Context) error {
	t, err := cmd.servers.target()
	if err != nil {
		return err
	}
	replicas, err := cmd.servers.replicas()
	if err != nil {
		return err
	}
	cmd.trail.about(act{object: cmd.database, params: map[string]string{"database": cmd.database}})
	done, err := swap.Rollback(ctx, swap.Options{
		Options: restore.Options{Target: t, Maintenance: cmd.cfg.Database.MaintenanceDatabase, Logger: cmd.log, Now: cmd.now},
		Live:    cmd.database, StandbysHandled: cmd.standbysHandled, Replicas: replicas,
		Confirm: func(p swap.Plan) error {
			if err := cmd.confirmRollback(ctx, p); err != nil {
				return err
			}
			if err := cmd.trail.intend(ctx, act{params: swapParams("rollback", p)}); err != nil {
				return err
			}
			cmd.beginSwap(ctx, p)
			return nil
		},
	})
	if err != nil {
		return err
	}
	cmd.swapped(done, "rolled_back", done.Incoming)
	if err := cmd.swaps.printSwapped(done, "rolled back"); err != nil {
		return err
	}
	if !cmd.global.quiet && !cmd.global.json && done.Kept != "" {
		cmd.wrapf("  writes since the swap stay in %s\n", words.Clean(done.Kept))
	}
	return done.Degraded()
}

func (cmd *rollbackCommand) confirmRollback(ctx context.Context, p swap.Plan) error {
	if cmd.global.yes && (cmd.global.quiet || cmd.global.json) {
		return nil
	}
	noticef(cmd.env, "database %s is to be replaced by %s\n", words.Clean(p.Live), words.Clean(p.Incoming))
	cmd.before("data as of", p.Since.UTC().Format("2006-01-02 15:04:05Z")+", "+words.Ago(cmd.now(), p.Since))
	if p.LiveExists {
		cmd.before("later writes", "stay in "+words.Clean(p.Kept))
		cmd.before("its sessions", fmt.Sprintf("are ended: %d now", p.Sessions))
	}
	cmd.swaps.printClosed(p)
	cmd.swaps.printOutside(p)
	return cmd.confirm(ctx, "Roll database "+words.Clean(p.Live)+" back?", p.Live)
}
