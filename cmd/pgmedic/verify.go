package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/seal"
)

type verifyFlags struct {
	all    bool
	sample string
}

func (a *app) verifyCommand() *cobra.Command {
	var flags verifyFlags
	cmd := &cobra.Command{
		Use:   "verify [ID…|latest]",
		Short: "Read back every stored byte of a backup and compare hashes and row counts",
		Long: `Reads every object of the backup from the store, compares sizes and SHA-256
hashes with the manifest, decompresses, counts the rows, and stores a receipt.
This shows that the bytes are intact; that they restore is shown by drill.

With --all, a folder whose manifest is missing is a failure; folders of runs that
never finished are counted, not verified. A store without backups is exit code 10.

With --sample it reads whole objects up to that share of the bytes, least recently
read first: run repeatedly, it reads everything. A sample that finds damage marks
the backup as failed; one that finds none leaves its proof unchanged.`,
		Example: `  pgmedic verify latest
  pgmedic verify --all --quiet
  pgmedic verify --all --sample 5%`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			if flags.all && len(args) > 0 {
				return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--all and ids together")
			}
			percent := 0.0
			if cmd.Flags().Changed("sample") {
				var err error
				if percent, err = drill.ParsePercent(flags.sample); err != nil {
					return fmt.Errorf("--sample: %w", err)
				}
			}
			return a.verify(cmd.Context(), args, flags.all, percent)
		},
	}
	addStore(cmd)
	addUnencrypted(cmd)
	addSetting(cmd, "jobs", "backup.jobs", "objects to read at once, 8 at most (default: one for each processor)")
	cmd.Flags().BoolVar(&flags.all, "all", false, "verify every backup in the store")
	cmd.Flags().StringVar(&flags.sample, "sample", "", "read only this share of the bytes, such as 5%, in turns")
	return cmd
}

// verify reads backups back: all of each, or with a percentage a sample of all.
func (a *app) verify(ctx context.Context, args []string, all bool, percent float64) error {
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	entries, problem, err := a.selectBackups(ctx, c, args, all)
	if err != nil {
		return err
	}
	if len(entries) == 0 && problem == nil {
		return pgmedic.Errorf(pgmedic.KindNotFound, "look elsewhere with --store, and see that its disk is mounted; `pgmedic backup` takes one",
			"there is no backup to verify in %s", location(c))
	}
	parts := make([]*drill.SamplePart, len(entries))
	if percent > 0 {
		parts = drill.ChooseSample(drill.SampleOptions{
			Entries: entries, Percent: percent, Store: location(c), HasKey: a.hasKey, Now: a.now(),
		})
	}
	receipts := []*pgmedic.Receipt{}
	for i, e := range entries {
		if percent > 0 && parts[i] == nil {
			continue
		}
		b, key, err := a.wholeBackup(ctx, c, e)
		if err != nil && !errors.Is(err, errNoWraps) { // which Verify makes a receipt of
			if !all || ctx.Err() != nil {
				return errors.Join(err, problem)
			}
			problem = worse(problem, err) // one bad backup must not hide the next
			continue
		}
		listen, done := a.progress()
		r, err := drill.Verify(ctx, drill.VerifyOptions{
			Catalog: c, Backup: b, Key: key, Sample: parts[i], Jobs: a.cfg.Backup.Jobs,
			Host: a.host(), Version: a.version, Progress: listen, Now: a.now,
		})
		done()
		if r == nil {
			return errors.Join(err, problem)
		}
		problem = worse(problem, err)
		receipts = append(receipts, r)
		if !a.global.json {
			a.printReceipt(r, b)
		}
	}
	if a.global.json {
		if err := a.printJSON(map[string]any{"receipts": receipts}); err != nil {
			return err
		}
	}
	return failedReceipts(receipts, problem)
}

// wholeBackup reads all of a backup, opens it, and authenticates it as openKey
// does. The backup comes with errNoWraps, too.
func (a *app) wholeBackup(ctx context.Context, c *catalog.Catalog, e catalog.Entry) (*pgmedic.Backup, *seal.Key, error) {
	b, err := c.Whole(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	key, err := a.openKey(ctx, c, b)
	return b, key, err
}

// selectBackups returns the backups that are named, or all; problem is what is
// wrong with others of all.
func (a *app) selectBackups(ctx context.Context, c *catalog.Catalog, args []string, all bool) (entries []catalog.Entry, problem, err error) {
	if all {
		listing, err := c.List(ctx, a.trusting(catalog.Filter{}))
		if err != nil {
			return nil, nil, err
		}
		for _, d := range listing.Damaged {
			problem = errors.Join(problem, d.Err)
		}
		if n := len(listing.Orphans); n > 0 {
			a.log.Warn("folders without a manifest were not verified: runs that never finished, or are going on; pgmedic list --orphans shows them", "folders", n)
		}
		return listing.Entries, problem, nil
	}
	if len(args) == 0 {
		args = []string{catalog.Latest}
	}
	for _, ref := range args {
		e, err := a.getBackup(ctx, c, []string{ref})
		if err != nil {
			return nil, nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil, nil
}

// hasKey reports whether this host has what may open a backup.
func (a *app) hasKey(b *pgmedic.Backup) bool {
	if b.Seal.Encryption == string(seal.EncryptionAge) && len(a.cfg.Backup.IdentityFiles) > 0 {
		return true
	}
	return a.cfg.Backup.EncryptionKey.Reveal() != ""
}

// sampleWords says what a receipt's sample was.
func sampleWords(r *pgmedic.Receipt) string {
	if r.Sample == nil {
		return ""
	}
	return fmt.Sprintf("a sample of %d of %d objects", r.Sample.Objects, r.Sample.OfObjects)
}
