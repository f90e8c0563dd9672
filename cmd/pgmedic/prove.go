package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/render"
)

// worse keeps an error that says more than that a receipt was not stored.
func worse(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// failedReceipts makes failed receipts the error of the run.
func failedReceipts(receipts []*pgmedic.Receipt, other error) error {
	for _, r := range receipts {
		if check, failed := r.Failed(); failed {
			hint := check.Hint
			if hint == "" {
				hint = "do not count on this backup: take a new one, and look at the store"
			}
			return pgmedic.Errorf(pgmedic.KindIntegrity, hint, "backup %s: %s: %s", r.BackupID, check.Name, check.Detail)
		}
	}
	return other
}

func (a *app) drillCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drill [ID|latest]",
		Short: "Prove a backup: restore it into a throwaway server and check the copy",
		Long: `Restores the backup into a private server of the same major version on this
machine, with durable settings and no network, compares rows and schema with what
was recorded, measures the time to recover, stores a receipt, and drops the
server. It exits with 0 only if the backup is proven.`,
		Example: `  pgmedic drill latest
  pgmedic drill 7f3a9c --scratch-dir /var/tmp`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.drill(cmd.Context(), args)
		},
	}
	addStore(cmd)
	addSetting(cmd, "scratch-dir", "drill.scratch_dir", "folder for the throwaway server; needs room for the whole database")
	return cmd
}

func (a *app) drill(ctx context.Context, args []string) error {
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	e, err := a.getBackup(ctx, c, args)
	if err != nil {
		return err
	}
	key, err := a.readKey(ctx, c, e.Backup)
	if err != nil {
		return err
	}
	o := a.drillOptions(ctx, c, e.Backup, key)
	listen, done := a.progress()
	o.Progress = listen
	r, err := drill.Run(ctx, o)
	done()
	if r == nil {
		return err
	}
	if a.global.json {
		if jsonErr := a.printJSON(r); jsonErr != nil {
			return jsonErr
		}
	} else {
		a.printReceipt(r, e.Backup)
	}
	return failedReceipts([]*pgmedic.Receipt{r}, err)
}

// printReceipt prints what was proven, and each check.
func (a *app) printReceipt(r *pgmedic.Receipt, b *pgmedic.Backup) {
	p := a.paint(a.stdoutTTY)
	if a.global.quiet {
		a.printf("%s\n", r.BackupID)
		return
	}
	line := p.proof(r.Proof) + ": backup " + r.BackupID + " of " + render.Clean(b.Database.Name)
	if r.Sample != nil && r.Outcome == pgmedic.OutcomeOK {
		line = "sampled: backup " + r.BackupID + " of " + render.Clean(b.Database.Name) + ", " + sampleWords(r)
	}
	if r.RecoverySeconds > 0 {
		line += " recovers in " + p.bold(secondsWords(r.RecoverySeconds))
	}
	a.printf("%s\n", line)
	a.printChecks(r.Checks)
}
