package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/drill"
)

type verifyFlags struct {
	all    bool
	sample string
	// deep has WAL opened.
	deep bool
	// percent is what sample says, or 0 for all of the bytes.
	percent float64
}

// verifyCommand reads backups back: all of each, or with a percentage a sample of all.
type verifyCommand struct {
	job
	stores  stores
	keys    keyring
	backups backups

	args  []string
	flags verifyFlags
}

func verifyCLI(e *env) *cobra.Command {
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
the backup as failed; one that finds none leaves its proof unchanged.

With --all, and with base backups, it also checks that no WAL is missing between the
first and the last that is stored, that sizes are possible, and, where this host has
a key, that what the index lists is there. With --deep it opens all of that WAL, which
needs a key, compares hashes, and reads every record.`,
		Example: `  pgmedic verify latest
  pgmedic verify --all --quiet
  pgmedic verify --all --sample 5%`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.notified(cmd, "verify", func(ctx context.Context, j job) (err error) {
				if flags.all && len(args) > 0 {
					return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--all and ids together")
				}
				if cmd.Flags().Changed("sample") {
					if flags.percent, err = drill.ParsePercent(flags.sample); err != nil {
						return fmt.Errorf("--sample: %w", err)
					}
				}
				command := &verifyCommand{job: j, stores: stores{j}, keys: keyring{j}, backups: newBackups(j), args: args, flags: flags}
				return command.run(ctx)
			})
		},
	}
	addStore(cmd)
	addUnencrypted(cmd)
	addSetting(cmd, "jobs", "backup.jobs", "objects to read at once, 8 at most (default: one for each processor)")
	cmd.Flags().BoolVar(&flags.all, "all", false, "verify every backup in the store")
	cmd.Flags().BoolVar(&flags.deep, "deep", false, "open the WAL that is checked, too: each segment, tail and history")
	cmd.Flags().StringVar(&flags.sample, "sample", "", "read only this share of the bytes, such as 5%, in turns")
	return cmd
}

func (cmd *verifyCommand) run(ctx context.Context) error {
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	entries, problem, err := cmd.backups.choose(ctx, c, cmd.args, cmd.flags.all)
	if err != nil {
		return err
	}
	if err := cmd.flags.checkDeep(); err != nil {
		return err
	}
	parts := make([]*drill.SamplePart, len(entries))
	if cmd.flags.percent > 0 {
		parts = drill.ChooseSample(drill.SampleOptions{
			Entries: entries, Percent: cmd.flags.percent, Store: location(c), HasKey: cmd.keys.hasKey, Now: cmd.now(),
		})
	}
	receipts := []*pgmedic.Receipt{}
	chains := chainsVerified{c: c, keys: cmd.keys, all: map[string][]*pgmedic.Backup{}}
	for i, e := range entries {
		if cmd.flags.percent > 0 && parts[i] == nil {
			continue
		}
		b, key, err := cmd.keys.wholeBackup(ctx, c, e)
		if err != nil && !errors.Is(err, errNoWraps) { // which Verify makes a receipt of
			if !cmd.flags.all || ctx.Err() != nil {
				cmd.outcomes.add(outcome{database: e.Backup.Database.Name, backup: e.Backup.ID, err: err})
				return errors.Join(err, problem)
			}
			problem = worse(problem, err) // one bad backup must not hide the next
			continue
		}
		listen, done := cmd.progress()
		r, err := drill.Verify(ctx, drill.VerifyOptions{
			Catalog: c, Backup: b, Key: key, Sample: parts[i], Jobs: cmd.cfg.Backup.Jobs,
			Host: hostName(), Version: cmd.version, Progress: listen, Now: cmd.now,
		})
		done()
		if r == nil {
			cmd.outcomes.add(outcome{database: b.Database.Name, backup: b.ID, err: err})
			return errors.Join(err, problem)
		}
		err = worse(err, chains.check(ctx, b))
		// Of all there is one outcome, and each that is intact ends what was wrong of it.
		one := outcome{database: b.Database.Name, backup: b.ID, err: failedReceipts([]*pgmedic.Receipt{r}, err), quiet: cmd.flags.all}
		if !one.quiet || one.err == nil {
			cmd.outcomes.add(one)
		}
		problem = worse(problem, err)
		receipts = append(receipts, r)
		if !cmd.global.json {
			cmd.printReceipt(r, b)
		}
	}
	walRows, walProblem := cmd.verifyWAL(ctx, c, entries)
	if problem = worse(problem, walProblem); len(entries)+len(walRows) == 0 && problem == nil {
		return nothingToVerify(c)
	}
	if cmd.global.json {
		if err := cmd.printJSON(map[string]any{"receipts": receipts, "wal": orEmpty(walRows)}); err != nil {
			return err
		}
	}
	return failedReceipts(receipts, problem)
}

// sampleWords says what a receipt's sample was.
func sampleWords(r *pgmedic.Receipt) string {
	if r.Sample == nil {
		return ""
	}
	return fmt.Sprintf("a sample of %d of %d objects", r.Sample.Objects, r.Sample.OfObjects)
}
