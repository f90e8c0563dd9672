package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

func (a *app) restoreSwap(ctx context.Context, o restore.Options, live string, flags restoreFlags) error {
	s, err := a.swapOptions(ctx, o, live, flags)
	if err != nil {
		return err
	}
	if flags.dryRun {
		return a.foresee(ctx, s)
	}
	done, err := restore.Replace(ctx, s)
	if err != nil {
		return err
	}
	return a.reportSwap(ctx, o, done)
}

// swapOptions are those of the configuration and the flags.
func (a *app) swapOptions(ctx context.Context, o restore.Options, live string, flags restoreFlags) (restore.SwapOptions, error) {
	replicas, err := a.replicas()
	if err != nil {
		return restore.SwapOptions{}, err
	}
	s := restore.SwapOptions{
		Options: o, Live: live, FromServer: flags.fromServer, Replicas: replicas, StandbysHandled: flags.standbysHandled,
		SkipSafety: flags.skipSafety,
		Confirm:    func(p restore.Plan) error { return a.confirmSwap(ctx, p) },
	}
	s.ConfirmIncomplete = func(i restore.Incomplete) error { return a.confirmIncomplete(ctx, i, flags.acceptDifferences) }
	if !flags.skipDiskCheck {
		s.FreeBytes = freeBytes
	}
	if flags.skipSafety == "" {
		s.SafetyBackup = func(ctx context.Context) (string, error) {
			bo := a.backupOptions(o.Target.WithDatabase(live), o.Catalog)
			bo.Locked, bo.Purpose = true, pgmedic.PurposeSafety
			b, err := backup.Take(ctx, bo)
			if err != nil {
				return "", err
			}
			return b.ID, nil
		}
	}
	return s, nil
}

func freeBytes(ctx context.Context, dir string) (int64, error) {
	usage, err := disk.UsageWithContext(ctx, dir)
	if err != nil {
		return 0, fmt.Errorf("look for free space in %s: %w", dir, err)
	}
	return int64(usage.Free), nil
}

// replicas are the standbys whose sessions a swap ends.
func (a *app) replicas() ([]postgres.Target, error) {
	var targets []postgres.Target
	for _, u := range a.cfg.ReadReplicas() {
		if strings.ContainsAny(u.Reveal(), " \t\n") && strings.Contains(u.Reveal(), "://") {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "separate URLs by commas or spaces, and percent-encode a space in one as %20",
				"%s: a part of it is not a URL", a.cfg.Origin("database.read_replica_url"))
		}
		t, err := postgres.ParseTarget(u.Reveal())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.cfg.Origin("database.read_replica_url"), err)
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// reportSwap records a swap beside its backup and prints what was done. What
// went wrong beside it makes it a degraded success.
func (a *app) reportSwap(ctx context.Context, o restore.Options, done *restore.Swapped) error {
	failpoint.Hit(ctx, "restore-before-receipt")
	proof := proofOf(o)
	if done.Resumed != "" {
		proof = pgmedic.ProofTaken // an earlier run read the rows
	}
	degraded := a.restoreReceipt(ctx, o, &pgmedic.Receipt{
		Proof: proof, RecoverySeconds: done.RecoverySeconds, Steps: done.Steps, Checks: done.Checks,
		Swap: &pgmedic.SwapRecord{
			Database: done.Database, KeptAs: done.Kept, OutageSeconds: done.OutageSeconds,
			SafetyBackupID: done.SafetyBackup, SafetyBackupSkipped: done.SafetySkipped,
		},
	})
	a.warnSettings(done.RefusedSettings)
	if err := a.printSwapped(done, "restored backup "+done.BackupID+" as"); err != nil {
		return err
	}
	if err := done.Degraded(); err != nil {
		return err
	}
	return degraded
}

// confirmSwap shows what will happen and asks for the database's name.
func (a *app) confirmSwap(ctx context.Context, p restore.Plan) error {
	if a.global.yes && (a.global.quiet || a.global.json) {
		return nil
	}
	fmt.Fprintf(a.stderr, "database %s is to be replaced by backup %s\n", words.Clean(p.Live), p.Incoming)
	a.before("data as of", p.Since.UTC().Format("2006-01-02 15:04:05Z")+", "+words.Ago(a.now(), p.Since))
	if p.LiveExists {
		a.before("the old one", "is kept as "+words.Clean(p.Kept)+", to roll back to")
		a.before("its sessions", fmt.Sprintf("are ended: %d now", p.Sessions))
	} else {
		a.before("the old one", "does not exist: nothing is kept and no safety backup is taken")
	}
	a.printClosed(p)
	if p.Resumed != "" {
		a.before("the copy", "is "+words.Clean(p.Resumed)+", which a restore left that was cut short")
	}
	if p.SafetySkipped != "" {
		a.before("safety backup", "skipped: "+words.OneLine(p.SafetySkipped))
	}
	a.printOutside(p)
	a.printGlobals(p.Globals)
	return a.confirm(ctx, "Replace database "+words.Clean(p.Live)+"?", p.Live)
}

// confirmIncomplete shows what a copy lacks that is about to become live, and asks
// for the database's name. --yes was said before anyone knew, and answers nothing.
func (a *app) confirmIncomplete(ctx context.Context, i restore.Incomplete, accepted bool) error {
	if accepted && (a.global.quiet || a.global.json) {
		return nil
	}
	fmt.Fprintf(a.stderr, "the copy of database %s is not complete; missing or different:\n", words.Clean(i.Live))
	for _, line := range i.Missing[:min(len(i.Missing), mostMissing)] {
		fmt.Fprintf(a.stderr, "  %s\n", words.Clean(line))
	}
	if n := len(i.Missing) - mostMissing; n > 0 {
		fmt.Fprintf(a.stderr, "  … and %s more\n", pgmedic.Count(int64(n)))
	}
	if accepted {
		return nil
	}
	if !a.stdinTTY {
		return pgmedic.Errorf(pgmedic.KindNotConfirmed, "", "not confirmed: it takes --accept-differences")
	}
	return a.askFor(ctx, "Replace database "+words.Clean(i.Live)+" by it all the same?", i.Live)
}

// printClosed says so where nobody will be able to connect.
func (a *app) printClosed(p restore.Plan) {
	if p.Closed {
		a.before("connections", "the database takes none, as before: ALTER DATABASE … ALLOW_CONNECTIONS true opens it")
	}
}

// printOutside names what the swap does not carry over, and what acts by itself.
func (a *app) printOutside(p restore.Plan) {
	for _, name := range p.Standbys {
		a.before("standby", words.Clean(name)+": its sessions are ended, too, or by you")
	}
	for _, o := range p.Outside {
		a.before(o.Kind, words.Clean(o.Name)+": "+o.Note)
	}
}

// printSwapped prints what a swap or a rollback did.
func (a *app) printSwapped(done *restore.Swapped, what string) error {
	if a.global.json {
		return a.printJSON(done)
	}
	if a.global.quiet {
		if done.Kept != "" {
			a.printf("%s\n", done.Kept)
		}
		return nil
	}
	p := a.paint(a.stdoutTTY)
	swapped := p.good("swapped")
	if done.Incomplete {
		swapped = p.bad("swapped, but not completely restored")
	}
	a.printf("%s: %s %s in %s\n", swapped, what, words.Clean(done.Database), secondsWords(done.Seconds))
	a.printChecks(done.Checks)
	a.printMissing(done.Checks)
	a.printMadeAfter(done)
	undo := ""
	if done.Kept != "" {
		undo = "pgmedic rollback " + words.Clean(done.Database)
	}
	safety := done.SafetyBackup
	if safety == "" && done.SafetySkipped != "" {
		safety = "skipped: " + words.OneLine(done.SafetySkipped)
	}
	a.fields("globals", globalsWords(done.Globals), "clients waited", secondsWords(done.OutageSeconds), "kept", words.Clean(done.Kept), "safety backup", safety, "undo", undo)
	if done.Closed {
		a.fields("connections", "it takes none, as before: ALTER DATABASE "+words.Clean(sqltext.QuoteIdent(done.Database))+" ALLOW_CONNECTIONS true;")
	}
	for _, e := range done.Standbys {
		if e.Problem == "" {
			a.fields("standby", fmt.Sprintf("%s: sessions ended: %d", words.Clean(e.Standby), e.Ended))
		}
	}
	return nil
}

// printMadeAfter lists what the server took only once the database had its name, and
// how what it did not take is made by hand.
func (a *app) printMadeAfter(done *restore.Swapped) {
	var objects []string
	for _, m := range done.MadeAfter {
		objects = append(objects, words.Clean(m.Object))
	}
	a.fields("made after the swap", strings.Join(objects, ", "), "to do by hand", words.Clean(strings.Join(done.ByHand, " ")))
}

// resume mends what a killed restore --swap left.
func (a *app) resume(ctx context.Context, args []string, flags restoreFlags) error {
	if len(args) > 0 || flags.into != "" || flags.dryRun || len(flags.tables) > 0 || flags.globals != "" ||
		flags.schemaOnly || flags.noOwner || flags.fromServer != "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave the rest out: what was cut short says which backup it was of",
			"--resume goes with --database, --skip-safety-backup, --skip-disk-check, --standbys-handled and --accept-differences alone")
	}
	if err := a.prepareBackup(); err != nil {
		return err
	}
	t, err := a.target()
	if err != nil {
		return err
	}
	live := flags.database
	if live == "" {
		live = a.databaseName(t)
	}
	if live == "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "name it with --database, DB_NAME or in DATABASE_URL", "no database is named whose restore is to be resumed")
	}
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	o := a.restoreOptions(t, c, nil, nil)
	left, err := restore.FindLeft(ctx, restore.SwapOptions{Options: o, Live: live})
	if err != nil {
		return err
	}
	if left.Ready != nil {
		e, err := c.Get(ctx, left.Ready.Story.Backup, catalog.Filter{})
		if err != nil {
			return fmt.Errorf("find the backup that %s was loaded from: %w", left.Ready.Name, err)
		}
		o.Backup = e.Backup
		if o.Key, err = a.readKey(ctx, c, e.Backup); err != nil {
			return err
		}
	}
	listen, done := a.progress()
	defer done()
	o.Progress = listen
	s, err := a.swapOptions(ctx, o, live, flags)
	if err != nil {
		return err
	}
	swapped, err := restore.Resume(ctx, s)
	if err != nil {
		return err
	}
	if swapped.Resumed != "" {
		return a.reportSwap(ctx, o, swapped)
	}
	return a.printTidied(swapped)
}

// printTidied says what --resume found where there was no copy to swap in.
func (a *app) printTidied(s *restore.Swapped) error {
	if a.global.json {
		if err := a.printJSON(s); err != nil {
			return err
		}
		return s.Degraded()
	}
	if a.global.quiet {
		return s.Degraded()
	}
	for _, name := range s.Dropped {
		a.printf("dropped %s, which a restore left half loaded\n", words.Clean(name))
	}
	switch {
	case s.Incomplete:
		a.printf("the last swap of database %s was cut short after backup %s came in at %s\n", words.Clean(s.Database), s.BackupID, s.Since.UTC().Format("2006-01-02 15:04:05Z"))
		a.printMissing(s.Checks)
		a.fields("see", "docs/limits.md#pg_cron")
	case s.Before && s.BackupID != "":
		a.printf("the last swap of database %s is complete: backup %s came in at %s\n", words.Clean(s.Database), s.BackupID, s.Since.UTC().Format("2006-01-02 15:04:05Z"))
		a.fields("kept", words.Clean(s.Kept), "safety backup", s.SafetyBackup, "undo", "pgmedic rollback "+words.Clean(s.Database))
	case s.Before:
		a.printf("the last rollback of database %s is complete; it set %s aside\n", words.Clean(s.Database), words.Clean(s.Kept))
	default:
		a.printf("database %s is as it was; start the restore again\n", words.Clean(s.Database))
	}
	return s.Degraded()
}

func (a *app) rollbackCommand() *cobra.Command {
	var standbysHandled bool
	cmd := &cobra.Command{
		Use:   "rollback DATABASE",
		Short: "Undo a swap: put the database back that it replaced",
		Long: `Swaps the newest kept database back into its place, the same way as it went. What
was written since the swap stays in the displaced database, which is kept in turn
under the name that is printed; a second rollback brings it back.`,
		Example: `  pgmedic rollback clinic
  pgmedic rollback clinic --yes`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return pgmedic.Errorf(pgmedic.KindUsage, "name it: pgmedic rollback DATABASE; pgmedic prune lists what swaps kept", "which database is to be rolled back?")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.rollback(cmd.Context(), args[0], standbysHandled)
		},
	}
	addConnection(cmd)
	cmd.Flags().BoolVar(&standbysHandled, "standbys-handled", false, "you will end the sessions on standbys yourself")
	return cmd
}

func (a *app) rollback(ctx context.Context, database string, standbysHandled bool) error {
	t, err := a.target()
	if err != nil {
		return err
	}
	replicas, err := a.replicas()
	if err != nil {
		return err
	}
	done, err := restore.Rollback(ctx, restore.SwapOptions{
		Options: restore.Options{Target: t, Maintenance: a.cfg.Database.MaintenanceDatabase, Logger: a.log, Now: a.now},
		Live:    database, StandbysHandled: standbysHandled, Replicas: replicas,
		Confirm: func(p restore.Plan) error { return a.confirmRollback(ctx, p) },
	})
	if err != nil {
		return err
	}
	if err := a.printSwapped(done, "rolled back"); err != nil {
		return err
	}
	if !a.global.quiet && !a.global.json && done.Kept != "" {
		a.printf("  writes since the swap stay in %s\n", words.Clean(done.Kept))
	}
	return done.Degraded()
}

func (a *app) confirmRollback(ctx context.Context, p restore.Plan) error {
	if a.global.yes && (a.global.quiet || a.global.json) {
		return nil
	}
	fmt.Fprintf(a.stderr, "database %s is to be replaced by %s\n", words.Clean(p.Live), words.Clean(p.Incoming))
	a.before("data as of", p.Since.UTC().Format("2006-01-02 15:04:05Z")+", "+words.Ago(a.now(), p.Since))
	if p.LiveExists {
		a.before("later writes", "stay in "+words.Clean(p.Kept))
		a.before("its sessions", fmt.Sprintf("are ended: %d now", p.Sessions))
	}
	a.printClosed(p)
	a.printOutside(p)
	return a.confirm(ctx, "Roll database "+words.Clean(p.Live)+" back?", p.Live)
}
