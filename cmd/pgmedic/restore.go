package main

import (
	"context"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/restore"
)

type restoreFlags struct {
	into                   string
	swap                   bool
	database               string
	fromServer, skipSafety string
	standbysHandled        bool
	skipDiskCheck, resume  bool
}

func (a *app) restoreCommand() *cobra.Command {
	var flags restoreFlags
	cmd := &cobra.Command{
		Use:   "restore [ID|latest]",
		Short: "Restore a backup beside the live database, or in its place",
		Long: `Restores a backup into a new database, always, and compares the copy with what
was recorded. With --into that is all. With --swap the live database is then
backed up and the two trade names in one transaction; the old one is kept, and
` + "`pgmedic rollback`" + ` puts it back. Up to the swap the live database is only read.
With -q it prints the new database's name, or that of the one that is kept.
--resume looks for what a --swap left that was killed: it swaps a copy in that was
loaded and compared, having compared it again, and drops a half-loaded one.`,
		Example: `  pgmedic restore latest --into clinic_copy
  pgmedic restore latest --swap
  pgmedic restore 20261122T020000Z-7f3a9c --swap --yes
  pgmedic restore --resume`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			if flags.resume {
				return a.resume(cmd.Context(), args, flags)
			}
			if (flags.into == "") == !flags.swap {
				return pgmedic.Errorf(pgmedic.KindUsage, "--into NAME makes a new database, --swap replaces the live one",
					"say where to restore to: --into NAME or --swap")
			}
			if flags.into != "" && (flags.database != "" || flags.skipSafety != "" || flags.standbysHandled || flags.skipDiskCheck) {
				return pgmedic.Errorf(pgmedic.KindUsage, "leave them out: --into touches no other database",
					"--database, --skip-safety-backup, --standbys-handled and --skip-disk-check are for --swap")
			}
			return a.restore(cmd.Context(), args, flags)
		},
	}
	addConnection(cmd)
	addStore(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.into, "into", "", "name of the new database to make")
	f.BoolVar(&flags.swap, "swap", false, "replace the live database")
	f.StringVar(&flags.database, "database", "", "with --swap: the database to replace (default: the configured one, else the backup's)")
	f.StringVar(&flags.fromServer, "from-server", "", "allow a backup of another server or database, filed under this server's name")
	f.StringVar(&flags.skipSafety, "skip-safety-backup", "", "with --swap: take no backup of the live database first, for this reason")
	f.BoolVar(&flags.standbysHandled, "standbys-handled", false, "with --swap: sessions on standbys will be ended by you")
	f.BoolVar(&flags.skipDiskCheck, "skip-disk-check", false, "with --swap: don't ask whether a server on this machine has room")
	f.BoolVar(&flags.resume, "resume", false, "go on with a --swap that was killed, or clear away what it left")
	return cmd
}

func (a *app) restore(ctx context.Context, args []string, flags restoreFlags) error {
	if flags.swap {
		if err := a.prepareBackup(); err != nil {
			return err
		}
	}
	t, err := a.target()
	if err != nil {
		return err
	}
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	e, err := a.chooseBackup(ctx, c, args, flags)
	if err != nil {
		return err
	}
	key, err := a.readKey(ctx, c, e.Backup)
	if err != nil {
		return err
	}
	o := a.restoreOptions(t, c, e.Backup, key)
	listen, done := a.progress()
	defer done()
	o.Progress = listen
	if flags.into != "" {
		o.Into = flags.into
		return a.restoreInto(ctx, o)
	}
	live := flags.database
	if live == "" {
		if live = a.databaseName(t); live == "" {
			live = e.Backup.Database.Name
		}
	}
	return a.restoreSwap(ctx, o, live, flags)
}

// chooseBackup is getBackup, with latest among the other server's if one is
// named.
func (a *app) chooseBackup(ctx context.Context, c *catalog.Catalog, args []string, flags restoreFlags) (catalog.Entry, error) {
	if flags.fromServer != "" && (len(args) == 0 || args[0] == catalog.Latest) {
		f, err := a.filter()
		if err != nil {
			return catalog.Entry{}, err
		}
		f.Server = flags.fromServer
		return c.Get(ctx, catalog.Latest, f)
	}
	if len(args) == 0 {
		return catalog.Entry{}, pgmedic.Errorf(pgmedic.KindUsage, "name one of `pgmedic list`, or latest", "no backup is named")
	}
	return a.getBackup(ctx, c, args)
}

func (a *app) restoreInto(ctx context.Context, o restore.Options) error {
	done, err := restore.Into(ctx, o)
	if err != nil {
		return err
	}
	receiptErr := a.restoreReceipt(ctx, o, &pgmedic.Receipt{RecoverySeconds: done.Seconds, Steps: done.Steps, Checks: done.Checks})
	a.warnSettings(done.RefusedSettings)
	if a.global.json {
		if err := a.printJSON(done); err != nil {
			return err
		}
		return receiptErr
	}
	if a.global.quiet {
		a.printf("%s\n", done.Database)
		return receiptErr
	}
	a.printf("%s backup %s into database %s in %s\n", a.paint(a.stdoutTTY).good("restored"), done.BackupID,
		render.Clean(done.Database), secondsWords(done.Seconds))
	a.printChecks(done.Checks)
	return receiptErr
}

// wholeHash matches a hash that is too long for a line; receipts and JSON have
// all of it.
var wholeHash = regexp.MustCompile(`(sha256 [0-9a-f]{12})[0-9a-f]{52}`)

func (a *app) printChecks(checks []pgmedic.Check) {
	p := a.paint(a.stdoutTTY)
	width := 0
	for _, c := range checks {
		width = max(width, len(c.Name))
	}
	for _, c := range checks {
		a.printf("  %s %-*s  %s\n", p.outcome(c.Outcome), width, c.Name, a.fit(wholeHash.ReplaceAllString(render.Clean(c.Detail), "$1…"), width+12))
	}
}

func (a *app) warnSettings(refused []string) {
	for _, name := range refused {
		a.log.Warn("this server does not take a setting of the database", "setting", name)
	}
}

// restoreReceipt records a restore beside its backup. The restore is done by
// then: failing to record it is no more than a degraded success, and an
// interrupt that comes now changes nothing.
func (a *app) restoreReceipt(ctx context.Context, o restore.Options, r *pgmedic.Receipt) error {
	r.Format, r.Kind, r.BackupID, r.At = pgmedic.ReceiptFormat, pgmedic.ReceiptRestore, o.Backup.ID, a.now().UTC()
	r.Host, r.Programs = a.host(), pgmedic.Programs{Pgmedic: a.version}
	r.Outcome, r.Proof = pgmedic.OutcomeOK, pgmedic.ProofVerified
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := o.Catalog.AddReceipt(ctx, o.Backup, r); err != nil {
		return pgmedic.Errorf(pgmedic.KindDegraded, "the restore is done; make the store writable to have it recorded", "%w", err)
	}
	return nil
}
