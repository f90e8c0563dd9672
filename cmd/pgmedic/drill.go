package main

import (
	"context"
	"math/rand/v2"
	"os"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

type drillFlags struct {
	onServer, noAmcheck bool
	sample              int
}

// drillCommand proves a backup.
type drillCommand struct {
	job
	servers servers
	stores  stores
	keys    keyring
	backups backups

	args  []string
	flags drillFlags
}

func drillCLI(e *env) *cobra.Command {
	var flags drillFlags
	var moment momentFlags
	cmd := &cobra.Command{
		Use:   "drill [ID|latest]",
		Short: "Prove a backup: restore it into a throwaway server and check the copy",
		Long: `Restores the backup into a throwaway server or database (the scratch) and checks the
copy: rows and definitions against what was recorded, every index and table with
amcheck, and the configured assertions. It measures the time to recover, stores a
receipt, and drops the scratch. It exits with 0 only if the backup is proven, and
with 11 if it failed.

By default the scratch is a private server of the same major version on this machine,
with durable settings, no network, and restrictions on what the backup's content can
do: the receipt lists those that were in force (cage). With --on-server it is a
temporary database on the configured server, with --scratch on another server. There
the content is not restricted; missing roles are listed, not created.

With --at a whole cluster is recovered to a moment, from a base backup and WAL, in a
private server. The drill checks that the recovery ended with the predicted transaction,
the checksum of every page, and every database with amcheck; assertions are asked of the
configured database. --at random draws a moment out of all that can be recovered.`,
		Example: `  pgmedic drill latest
  pgmedic drill 7f3a9c --scratch-dir /var/tmp
  pgmedic drill --sample 30            # a random one of the newest 30
  pgmedic drill latest --on-server
  pgmedic drill --at random --within 7d`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.notified(cmd, "drill", func(ctx context.Context, j job) (err error) {
				if cmd.Flags().Changed("sample") && (flags.sample < 1 || len(args) > 0) {
					return pgmedic.Errorf(pgmedic.KindUsage, "write --sample 10, say, and no id", "--sample takes a number of backups to choose from")
				}
				if flags.onServer && cmd.Flags().Changed("scratch") {
					return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--on-server and --scratch together")
				}
				if err := checkMoment(cmd.Flags(), moment, args); err != nil {
					return err
				}
				command := &drillCommand{job: j, servers: servers{j}, stores: stores{j}, keys: keyring{j}, backups: newBackups(j), args: args, flags: flags}
				if moment.at != "" {
					return (&momentCommand{drillCommand: *command, moment: moment}).run(ctx)
				}
				return command.run(ctx)
			})
		},
	}
	addConnection(cmd)
	addStore(cmd)
	addUnencrypted(cmd)
	addSetting(cmd, "scratch-dir", "drill.scratch_dir", "folder for the throwaway server; needs room for the whole database")
	addSetting(cmd, "scratch", "drill.scratch_url", "connection URL of a server to drill on, without a password")
	f := cmd.Flags()
	f.BoolVar(&flags.onServer, "on-server", false, "drill on the configured server, in a temporary database")
	f.IntVar(&flags.sample, "sample", 0, "drill one of the newest N backups, chosen at random")
	addMoment(f, &moment)
	f.BoolVar(&flags.noAmcheck, "no-amcheck", false, "skip amcheck, which reads every index and table")
	return cmd
}

func (cmd *drillCommand) run(ctx context.Context) error {
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	e, err := cmd.drilled(ctx, c, cmd.flags.sample)
	if err != nil {
		return err
	}
	if err := refusePhysical(e.Backup, "a drill of a database"); err != nil {
		return pgmedic.Errorf(pgmedic.KindUsage, "drill a moment of its cluster, such as --at latest; or name a backup of a database (`pgmedic list`)", "%w", err)
	}
	cmd.trail.aboutBackup(e.Backup)
	about := outcome{database: e.Backup.Database.Name, backup: e.Backup.ID}
	if e.Backup, err = c.Whole(ctx, e); err != nil {
		about.err = err
		cmd.outcomes.add(about)
		return err
	}
	release, err := cmd.backups.holdInUse(ctx, c, e, "drill")
	if err != nil {
		return err
	}
	defer release()
	key, err := cmd.keys.readKey(ctx, c, e.Backup)
	if err != nil {
		about.err = err
		cmd.outcomes.add(about)
		return err
	}
	o := cmd.drillOptions(ctx, c, e.Backup, key)
	if err := cmd.drillPlace(&o, cmd.flags.onServer); err != nil {
		return err
	}
	if cmd.flags.noAmcheck {
		o.SkipAmcheck = "left out by --no-amcheck"
	}
	if o.Kind == pgmedic.ScratchPrivate {
		cmd.warnScratchSpace(ctx, e.Backup)
	}
	listen, done := cmd.progress()
	o.Progress = listen
	r, err := drill.Run(ctx, o)
	done()
	return cmd.finish(about, e.Backup, r, err, nil)
}

// finish says how a drill ended; more prints what only this one has.
func (cmd *drillCommand) finish(about outcome, b *pgmedic.Backup, r *pgmedic.Receipt, err error, more func()) error {
	if about.err = err; r != nil {
		about.err = failedReceipts([]*pgmedic.Receipt{r}, err)
	}
	cmd.outcomes.add(about)
	if r == nil {
		return err
	}
	if cmd.global.json {
		if err := cmd.printJSON(r); err != nil {
			return err
		}
		return about.err
	}
	cmd.printReceipt(r, b)
	if more != nil {
		more()
	}
	return about.err
}

// drilled is the backup that is drilled: the one named, or a random one of the
// newest of the configured database.
func (cmd *drillCommand) drilled(ctx context.Context, c *catalog.Catalog, sample int) (catalog.Entry, error) {
	if sample == 0 {
		return cmd.backups.get(ctx, c, cmd.args)
	}
	f, err := cmd.backups.filter()
	if err != nil {
		return catalog.Entry{}, err
	}
	listing, err := c.List(ctx, f)
	if err != nil {
		return catalog.Entry{}, err
	}
	return drill.Sample(listing, sample, rand.IntN)
}

// drillPlace says where the drill restores to: --on-server overrides the
// configured server for drills.
func (cmd *drillCommand) drillPlace(o *drill.Options, onServer bool) (err error) {
	o.Kind, o.Maintenance = pgmedic.ScratchPrivate, cmd.cfg.Database.MaintenanceDatabase
	switch {
	case onServer:
		o.Kind = pgmedic.ScratchOnServer
		o.Target, err = cmd.servers.target()
	case cmd.cfg.Drill.ScratchURL != "":
		o.Kind = pgmedic.ScratchGiven
		o.Target, err = postgres.ParseTarget(cmd.cfg.Drill.ScratchURL.Reveal())
		o.Target = cmd.servers.renewedScratch(o.Target.Below(cmd.cfg.Folder("drill.scratch_url")))
	}
	return err
}

// warnScratchSpace warns of a folder that may have no room for the copy. It may
// have: a copy is smaller by what was dead in the source.
func (cmd *drillCommand) warnScratchSpace(ctx context.Context, b *pgmedic.Backup) {
	dir := cmd.cfg.Drill.ScratchDir
	if dir == "" {
		dir = os.TempDir()
	}
	usage, err := disk.UsageWithContext(ctx, dir)
	if err == nil && usage.Free < uint64(max(b.Database.SizeBytes, 0)) {
		cmd.log.Warn("the folder for the throwaway server may be too small: name another with --scratch-dir",
			"folder", dir, "free_bytes", usage.Free, "database_bytes", b.Database.SizeBytes)
	}
}
