package main

import (
	"context"
	"fmt"
	"time"

	"github.com/shirou/gopsutil/v4/disk"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/words"
)

func (cmd *restoreCommand) swap(ctx context.Context, o restore.Options, live string, how sealing) error {
	s, err := cmd.swapOptions(ctx, o, live, how)
	if err != nil {
		return err
	}
	if cmd.flags.dryRun {
		return cmd.foresee(ctx, s)
	}
	done, err := swap.Replace(ctx, s)
	if err != nil {
		return err
	}
	return cmd.reportSwap(ctx, o, done)
}

// swapOptions are those of the configuration and the flags.
func (cmd *restoreCommand) swapOptions(ctx context.Context, o restore.Options, live string, how sealing) (swap.Options, error) {
	replicas, err := cmd.servers.replicas()
	if err != nil {
		return swap.Options{}, err
	}
	s := swap.Options{
		Options: o, Live: live, FromServer: cmd.flags.fromServer, Replicas: replicas, StandbysHandled: cmd.flags.standbysHandled,
		SkipSafety: cmd.flags.skipSafety,
		Confirm:    func(p swap.Plan) error { return cmd.swapConfirmed(ctx, p, cmd.confirmSwap(ctx, p)) },
	}
	s.ConfirmIncomplete = func(i swap.Incomplete) error { return cmd.confirmIncomplete(ctx, i, cmd.flags.acceptDifferences) }
	if !cmd.flags.skipDiskCheck {
		s.FreeBytes = freeBytes
	}
	if cmd.flags.skipSafety == "" {
		warnUnsignedSafety(cmd.cfg, cmd.log)
		s.SafetyBackup = func(ctx context.Context) (string, error) {
			bo := cmd.backupOptions(o.Target.WithDatabase(live), cmd.stores.forSafety(o.Catalog), how)
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

// swapConfirmed records a swap that was confirmed, before anything is done.
func (cmd *restoreCommand) swapConfirmed(ctx context.Context, p swap.Plan, err error) error {
	if err != nil {
		return err
	}
	if err := cmd.trail.intend(ctx, act{reason: cmd.flags.skipSafety, params: swapParams("swap", p)}); err != nil {
		return err
	}
	cmd.beginSwap(ctx, p)
	return nil
}

// swapParams are what is recorded of a swap or a rollback.
func swapParams(mode string, p swap.Plan) map[string]string {
	params := map[string]string{"mode": mode, "database": p.Live, "incoming": p.Incoming, "data_as_of": p.Since.UTC().Format(time.RFC3339), "resumed": p.Resumed}
	if p.LiveExists {
		params["kept_as"] = p.Kept
	}
	if p.SafetySkipped != "" {
		params["safety_backup"] = "skipped"
	}
	return params
}

func freeBytes(ctx context.Context, dir string) (int64, error) {
	usage, err := disk.UsageWithContext(ctx, dir)
	if err != nil {
		return 0, fmt.Errorf("look for free space in %s: %w", dir, err)
	}
	return int64(usage.Free), nil
}

// reportSwap records a swap beside its backup and prints what was done. What
// went wrong beside it makes it a degraded success.
func (cmd *restoreCommand) reportSwap(ctx context.Context, o restore.Options, done *swap.Swapped) error {
	failpoint.Hit(ctx, "restore-before-receipt")
	cmd.swapped(done, "swapped", "backup "+done.BackupID)
	proof := proofOf(o)
	if done.Resumed != "" {
		proof = pgmedic.ProofTaken // an earlier run read the rows
	}
	cmd.trail.about(act{params: map[string]string{"safety_backup_id": done.SafetyBackup}})
	degraded := cmd.addReceipt(ctx, o, &pgmedic.Receipt{
		Proof: proof, RecoverySeconds: done.RecoverySeconds, Steps: done.Steps, Checks: done.Checks,
		Swap: &pgmedic.SwapRecord{
			Database: done.Database, KeptAs: done.Kept, OutageSeconds: done.OutageSeconds,
			SafetyBackupID: done.SafetyBackup, SafetyBackupSkipped: done.SafetySkipped,
		},
	})
	cmd.warnSettings(done.RefusedSettings)
	if err := cmd.swaps.printSwapped(done, "restored backup "+done.BackupID+" as"); err != nil {
		return err
	}
	if err := done.Degraded(); err != nil {
		return err
	}
	return degraded
}

// confirmSwap shows what will happen and asks for the database's name.
func (cmd *restoreCommand) confirmSwap(ctx context.Context, p swap.Plan) error {
	if cmd.global.yes && (cmd.global.quiet || cmd.global.json) {
		return nil
	}
	noticef(cmd.env, "database %s is to be replaced by backup %s\n", words.Clean(p.Live), p.Incoming)
	cmd.before("data as of", p.Since.UTC().Format("2006-01-02 15:04:05Z")+", "+words.Ago(cmd.now(), p.Since))
	if p.LiveExists {
		cmd.before("the old one", "is kept as "+words.Clean(p.Kept)+", to roll back to")
		cmd.before("its sessions", fmt.Sprintf("are ended: %d now", p.Sessions))
	} else {
		cmd.before("the old one", "does not exist: nothing is kept and no safety backup is taken")
	}
	cmd.swaps.printClosed(p)
	if p.Resumed != "" {
		cmd.before("the copy", "is "+words.Clean(p.Resumed)+", which a restore left that was cut short")
	}
	if p.SafetySkipped != "" {
		cmd.before("safety backup", "skipped: "+words.OneLine(p.SafetySkipped))
	}
	cmd.swaps.printOutside(p)
	cmd.printGlobals(p.Globals)
	return cmd.confirm(ctx, "Replace database "+words.Clean(p.Live)+"?", p.Live)
}

// confirmIncomplete shows what a copy lacks that is about to become live, and asks
// for the database's name. --yes was said before anyone knew, and answers nothing.
func (cmd *restoreCommand) confirmIncomplete(ctx context.Context, i swap.Incomplete, accepted bool) error {
	if accepted && (cmd.global.quiet || cmd.global.json) {
		return nil
	}
	noticef(cmd.env, "the copy of database %s is not complete; missing or different:\n", words.Clean(i.Live))
	for _, line := range i.Missing[:min(len(i.Missing), mostMissing)] {
		noticef(cmd.env, "  %s\n", words.Clean(line))
	}
	if n := len(i.Missing) - mostMissing; n > 0 {
		noticef(cmd.env, "  … and %s more\n", pgmedic.Count(int64(n)))
	}
	if accepted {
		return nil
	}
	if !cmd.stdinTTY {
		return pgmedic.Errorf(pgmedic.KindNotConfirmed, "", "not confirmed: it takes --accept-differences")
	}
	return cmd.askFor(ctx, "Replace database "+words.Clean(i.Live)+" by it all the same?", i.Live)
}

// resume mends what a killed restore --swap left.
func (cmd *restoreCommand) resume(ctx context.Context) error {
	if len(cmd.args) > 0 || cmd.flags.into != "" || cmd.flags.dryRun || len(cmd.flags.tables) > 0 || cmd.flags.inPlace || cmd.flags.missingRows || cmd.flags.globals != "" ||
		cmd.flags.schemaOnly || cmd.flags.noOwner || cmd.flags.fromServer != "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave the rest out: what was cut short says which backup it was of",
			"--resume goes with --database, --skip-safety-backup, --skip-disk-check, --standbys-handled and --accept-differences alone")
	}
	how, err := cmd.keys.sealing(ctx)
	if err != nil {
		return err
	}
	t, err := cmd.servers.target()
	if err != nil {
		return err
	}
	live := cmd.flags.database
	if live == "" {
		live = databaseName(t)
	}
	if live == "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "name it with --database, DB_NAME or in DATABASE_URL", "no database is named whose restore is to be resumed")
	}
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	o := cmd.restoreOptions(t, c, nil, nil)
	left, err := swap.FindLeft(ctx, swap.Options{Options: o, Live: live})
	if err != nil {
		return err
	}
	cmd.trail.about(act{params: map[string]string{"mode": "resume", "database": live}})
	if left.Ready != nil {
		e, err := c.Get(ctx, left.Ready.Story.Backup, catalog.Filter{})
		if err != nil {
			return fmt.Errorf("find the backup that %s was loaded from: %w", left.Ready.Name, err)
		}
		o.Backup = e.Backup
		if o.Key, err = cmd.keys.readKey(ctx, c, e.Backup); err != nil {
			return err
		}
	}
	listen, done := cmd.progress()
	defer done()
	o.Progress = listen
	s, err := cmd.swapOptions(ctx, o, live, how)
	if err != nil {
		return err
	}
	if err := cmd.trail.intend(ctx, act{}); err != nil { // also databases that a restore left are dropped
		return err
	}
	swapped, err := swap.Resume(ctx, s)
	if err != nil {
		return err
	}
	if swapped.Resumed != "" {
		return cmd.reportSwap(ctx, o, swapped)
	}
	return cmd.printTidied(swapped)
}

// printTidied says what --resume found where there was no copy to swap in.
func (cmd *restoreCommand) printTidied(s *swap.Swapped) error {
	if cmd.global.json {
		if err := cmd.printJSON(s); err != nil {
			return err
		}
		return s.Degraded()
	}
	if cmd.global.quiet {
		return s.Degraded()
	}
	for _, name := range s.Dropped {
		cmd.wrapf("dropped %s, which a restore left half loaded\n", words.Clean(name))
	}
	switch {
	case s.Incomplete:
		cmd.wrapf("the last swap of database %s was cut short after backup %s came in at %s\n", words.Clean(s.Database), s.BackupID, s.Since.UTC().Format("2006-01-02 15:04:05Z"))
		cmd.printMissing(s.Checks)
		cmd.fields("see", "docs/limits.md#pg_cron")
	case s.Before && s.BackupID != "":
		cmd.wrapf("the last swap of database %s is complete: backup %s came in at %s\n", words.Clean(s.Database), s.BackupID, s.Since.UTC().Format("2006-01-02 15:04:05Z"))
		cmd.fields("kept", words.Clean(s.Kept), "safety backup", s.SafetyBackup, "undo", "pgmedic rollback "+words.Clean(s.Database))
	case s.Before:
		cmd.wrapf("the last rollback of database %s is complete; it set %s aside\n", words.Clean(s.Database), words.Clean(s.Kept))
	default:
		cmd.wrapf("database %s is as it was; start the restore again\n", words.Clean(s.Database))
	}
	return s.Degraded()
}
