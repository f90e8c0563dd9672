package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/render"
)

func (a *app) verifyCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "verify [ID…|latest]",
		Short: "Read every stored byte of a backup back and compare hashes and rows",
		Long: `Reads every object of the backup from the store, compares sizes and SHA-256
hashes with the manifest, decompresses, counts the rows, and stores a receipt.
That shows that the bytes are there; that they restore is shown by drill.`,
		Example: `  pgmedic verify latest
  pgmedic verify --all --quiet`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			if all && len(args) > 0 {
				return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--all and ids together")
			}
			return a.verify(cmd.Context(), args, all)
		},
	}
	addStore(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "verify every backup in the store")
	return cmd
}

func (a *app) verify(ctx context.Context, args []string, all bool) error {
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	entries, problem := []catalog.Entry(nil), error(nil)
	if all {
		listing, err := c.List(ctx, catalog.Filter{})
		if err != nil {
			return err
		}
		entries = listing.Entries
		for _, d := range listing.Damaged {
			problem = errors.Join(problem, d.Err)
		}
	} else {
		if len(args) == 0 {
			args = []string{catalog.Latest}
		}
		for _, ref := range args {
			e, err := a.getBackup(ctx, c, []string{ref})
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
	}
	receipts := []*pgmedic.Receipt{}
	for _, e := range entries {
		key, err := a.openKey(ctx, c, e.Backup)
		if err != nil {
			if !all || ctx.Err() != nil {
				return errors.Join(err, problem)
			}
			problem = worse(problem, err) // one bad backup must not hide the next
			continue
		}
		listen, done := a.progress()
		r, err := drill.Verify(ctx, drill.VerifyOptions{
			Catalog: c, Backup: e.Backup, Key: key, Host: a.host(), Version: a.version, Progress: listen, Now: a.now,
		})
		done()
		if r == nil {
			return errors.Join(err, problem)
		}
		problem = worse(problem, err)
		receipts = append(receipts, r)
		if !a.global.json {
			a.printReceipt(r, e.Backup)
		}
	}
	if a.global.json {
		if err := a.printJSON(map[string]any{"receipts": receipts}); err != nil {
			return err
		}
	}
	return failedReceipts(receipts, problem)
}

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

// printReceipt prints what was proven, and each check.
func (a *app) printReceipt(r *pgmedic.Receipt, b *pgmedic.Backup) {
	p := a.paint(a.stdoutTTY)
	if a.global.quiet {
		a.printf("%s\n", r.BackupID)
		return
	}
	line := p.proof(r.Proof) + ": backup " + r.BackupID + " of " + render.Clean(b.Database.Name)
	if r.RecoverySeconds > 0 {
		line += " recovers in " + p.bold(secondsWords(r.RecoverySeconds))
	}
	a.printf("%s\n", line)
	a.printChecks(r.Checks)
}
