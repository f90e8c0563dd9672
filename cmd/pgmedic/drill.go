package main

import (
	"context"
	"math/rand/v2"
	"os"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/seal"
)

type drillFlags struct {
	onServer, noAmcheck bool
	sample              int
}

func (a *app) drillCommand() *cobra.Command {
	var flags drillFlags
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
the content is not restricted; missing roles are listed, not created.`,
		Example: `  pgmedic drill latest
  pgmedic drill 7f3a9c --scratch-dir /var/tmp
  pgmedic drill --sample 30            # a random one of the newest 30
  pgmedic drill latest --on-server`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			if cmd.Flags().Changed("sample") && (flags.sample < 1 || len(args) > 0) {
				return pgmedic.Errorf(pgmedic.KindUsage, "write --sample 10, say, and no id", "--sample takes a number of backups to choose from")
			}
			if flags.onServer && cmd.Flags().Changed("scratch") {
				return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--on-server and --scratch together")
			}
			return a.drill(cmd.Context(), args, flags)
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
	f.BoolVar(&flags.noAmcheck, "no-amcheck", false, "skip amcheck, which reads every index and table")
	return cmd
}

func (a *app) drill(ctx context.Context, args []string, flags drillFlags) error {
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	e, err := a.drilled(ctx, c, args, flags.sample)
	if err != nil {
		return err
	}
	if e.Backup, err = c.Whole(ctx, e); err != nil {
		return err
	}
	release, err := a.holdInUse(ctx, c, e, "drill")
	if err != nil {
		return err
	}
	defer release()
	key, err := a.readKey(ctx, c, e.Backup)
	if err != nil {
		return err
	}
	o := a.drillOptions(ctx, c, e.Backup, key)
	if err := a.drillPlace(&o, flags.onServer); err != nil {
		return err
	}
	if flags.noAmcheck {
		o.SkipAmcheck = "left out by --no-amcheck"
	}
	if o.Kind == pgmedic.ScratchPrivate {
		a.warnScratchSpace(ctx, e.Backup)
	}
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

// drilled is the backup that is drilled: the one named, or a random one of the
// newest of the configured database.
func (a *app) drilled(ctx context.Context, c *catalog.Catalog, args []string, sample int) (catalog.Entry, error) {
	if sample == 0 {
		return a.getBackup(ctx, c, args)
	}
	f, err := a.filter()
	if err != nil {
		return catalog.Entry{}, err
	}
	listing, err := c.List(ctx, f)
	if err != nil {
		return catalog.Entry{}, err
	}
	return drill.Sample(listing, sample, rand.IntN)
}

// drillPlace says where the drill restores to: --on-server goes over the
// configured server for drills.
func (a *app) drillPlace(o *drill.Options, onServer bool) (err error) {
	o.Kind, o.Maintenance = pgmedic.ScratchPrivate, a.cfg.Database.MaintenanceDatabase
	switch {
	case onServer:
		o.Kind = pgmedic.ScratchOnServer
		o.Target, err = a.target()
	case a.cfg.Drill.ScratchURL != "":
		o.Kind = pgmedic.ScratchGiven
		o.Target, err = postgres.ParseTarget(a.cfg.Drill.ScratchURL.Reveal())
	}
	return err
}

// drillOptions are those of the configuration, for a private server.
func (a *app) drillOptions(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, key *seal.Key) drill.Options {
	d := a.cfg.Drill
	o := drill.Options{
		Catalog: c, Backup: b, Key: key, Tools: a.tools(), ServerDirs: a.cfg.Postgres.BinDirs, ScratchDir: d.ScratchDir,
		PreloadLibraries: d.PreloadLibraries, Jobs: a.cfg.Backup.Jobs, AssertionTimeout: d.AssertionTimeout,
		Host: a.host(), Version: a.version, ShowData: a.shownData(), Logger: a.log, Now: a.now,
	}
	if !d.Amcheck {
		o.SkipAmcheck = "left out by the configuration (drill.amcheck)"
	}
	for _, s := range d.Assertions {
		o.Assertions = append(o.Assertions, drill.Assertion{Name: s.Name, SQL: s.SQL, Expect: s.Expect, Min: s.Min, Max: s.Max})
	}
	// Where it can't be known the receipt does not say.
	if memory, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		o.MemoryBytes = int64(memory.Total)
	}
	return o
}

// warnScratchSpace warns of a folder that may have no room for the copy. It may
// have: a copy is smaller by what was dead in the source.
func (a *app) warnScratchSpace(ctx context.Context, b *pgmedic.Backup) {
	dir := a.cfg.Drill.ScratchDir
	if dir == "" {
		dir = os.TempDir()
	}
	usage, err := disk.UsageWithContext(ctx, dir)
	if err == nil && usage.Free < uint64(max(b.Database.SizeBytes, 0)) {
		a.log.Warn("the folder for the throwaway server may be too small: name another with --scratch-dir",
			"folder", dir, "free_bytes", usage.Free, "database_bytes", b.Database.SizeBytes)
	}
}
