package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/lease"
	"github.com/pgmedic/pgmedic/internal/owner"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/cluster"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// clusterFlags are those of a restore of a whole cluster.
type clusterFlags struct {
	dir, walDir           string
	toTime, toLSN, toName string
	toEnd, toBackup       bool
	timeline              string
	tablespaces           []string
	delta, start          bool
	startPort             int
}

// clusterFlagNames are the names of the flags, the folder's first.
func clusterFlagNames() []string {
	return slices.Concat([]string{"target-dir"}, momentFlagNames(), []string{"tablespace", "wal-dir", "delta", "start", "start-port"})
}

// targetFlagNames are the names of the flags that say where a recovery ends.
func targetFlagNames() []string {
	return []string{"to-time", "to-lsn", "to-name", "to-end", "to-backup"}
}

// momentFlagNames are the names of the flags that say to which moment a cluster is
// recovered.
func momentFlagNames() []string { return append(targetFlagNames(), "timeline") }

func addCluster(cmd *cobra.Command, flags *clusterFlags) {
	f := cmd.Flags()
	f.StringVar(&flags.dir, "target-dir", "", "restore a whole cluster into this data folder, from a physical backup and WAL")
	f.StringVar(&flags.toTime, "to-time", "", "with --target-dir, --table or --into: recover to this time, such as '2026-11-29 10:41:59+00'")
	f.StringVar(&flags.toLSN, "to-lsn", "", "with --target-dir, --table or --into: recover to this position in the WAL, such as 16/B374D848")
	f.StringVar(&flags.toName, "to-name", "", "with --target-dir, --table or --into: recover to this restore point")
	f.BoolVar(&flags.toEnd, "to-end", false, "with --target-dir, --table or --into: recover to the end of the stored WAL (the default of --target-dir)")
	f.BoolVar(&flags.toBackup, "to-backup", false, "with --target-dir, --table or --into: recover to the end of the base backup, and no further")
	f.StringVar(&flags.timeline, "timeline", catalog.Latest, "with a target of a recovery: timeline to recover along, a number or latest")
	f.StringArrayVar(&flags.tablespaces, "tablespace", nil, "with --target-dir: put the tablespace at OLD into the folder NEW: OLD=NEW; may be repeated")
	f.StringVar(&flags.walDir, "wal-dir", "", "with --target-dir: folder for the WAL, to which pg_wal is a link")
	f.BoolVar(&flags.delta, "delta", false, "with --target-dir: keep what is equal in a folder of the same cluster, and delete what is not in the backup")
	f.BoolVar(&flags.start, "start", false, "with --target-dir: recover with the installed PostgreSQL, check how far it got, and start it")
	f.IntVar(&flags.startPort, "start-port", 0, "with --start: port of the started server (default: the configured one)")
}

// clusterCommand restores a whole cluster into a data folder.
type clusterCommand struct {
	restoreCommand
	cluster clusterFlags
}

// checkCluster refuses flags that are of another kind of restore.
func checkCluster(flags *pflag.FlagSet, f clusterFlags) error {
	names := clusterFlagNames()
	if f.dir == "" {
		for _, name := range names {
			if flags.Changed(name) && (!rescuesMoment(flags) || !slices.Contains(momentFlagNames(), name)) {
				return pgmedic.Errorf(pgmedic.KindUsage, "name the data folder: --target-dir DIR; a moment also takes --table, or --into NAME for a database", "--%s is for restores of a whole cluster", name)
			}
		}
		if !rescuesMoment(flags) {
			return nil
		}
		if err := checkMomentRescue(flags); err != nil {
			return err
		}
		return checkTarget(flags)
	}
	for _, other := range []string{"into", "swap", "database", "skip-safety-backup", "standbys-handled", "skip-disk-check", "resume", "table", "in-place", "missing-rows", "accept-differences", "accept-shrunk", "schema-only", "no-owner", "globals", "compare", "file", "from-server"} {
		if flags.Changed(other) {
			return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--%s is for restores of one database, and --target-dir for those of a whole cluster", other)
		}
	}
	if flags.Changed("wal-dir") && f.walDir == "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "name the folder, or leave it out for pg_wal in the data folder", "--wal-dir is empty")
	}
	if flags.Changed("start-port") && (!f.start || f.startPort < 1 || f.startPort > 65535) {
		return pgmedic.Errorf(pgmedic.KindUsage, "write it as --start --start-port 5433", "--start-port is a port from 1 to 65535, and needs --start")
	}
	return checkTarget(flags)
}

// checkTarget refuses targets that are empty, or more than one.
func checkTarget(flags *pflag.FlagSet) error {
	targets := 0
	for _, name := range targetFlagNames() {
		if !flags.Changed(name) {
			continue
		}
		targets++
		// A script's empty variable must not become the default, which is another moment.
		if v := flags.Lookup(name).Value; v.String() == "" || v.Type() == "bool" && v.String() == "false" {
			return pgmedic.Errorf(pgmedic.KindUsage, "give it a value, or leave it out for the end of the stored WAL", "--%s is empty, or false", name)
		}
	}
	if targets > 1 {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave out all but one", "--to-time, --to-lsn, --to-name, --to-end and --to-backup exclude each other")
	}
	return nil
}

// target is what the flags ask for.
func (f clusterFlags) target(args []string) (t wal.Target, err error) {
	usage := func(hint, format string, a ...any) error {
		return pgmedic.Errorf(pgmedic.KindUsage, hint, format, a...)
	}
	if len(args) > 0 && args[0] == "" {
		return t, usage("name it, or leave it out for the newest from which the target can be reached", "the id of the backup is empty")
	}
	if len(args) > 0 && args[0] != catalog.Latest {
		t.Base = args[0]
	}
	t.Kind = wal.TargetEnd
	switch {
	case f.toTime != "":
		t.Kind = wal.TargetTime
		if t.Time, err = parseMoment(f.toTime); err != nil {
			return t, usage("write it with its offset from UTC: --to-time '2026-11-29 10:41:59+00'", "--to-time %.60q is not a time with its offset from UTC", f.toTime)
		}
	case f.toLSN != "":
		t.Kind = wal.TargetLSN
		if t.LSN, err = wal.ParseLSN(f.toLSN); err != nil {
			return t, usage("write it as --to-lsn 16/B374D848", "--to-lsn: %w", err)
		}
	case f.toName != "":
		t.Kind, t.Name = wal.TargetName, f.toName
	case f.toBackup:
		t.Kind = wal.TargetBackup
	}
	if f.timeline != catalog.Latest {
		n, err := strconv.ParseUint(f.timeline, 10, 32)
		if err != nil || n == 0 {
			return t, usage("say --timeline latest, or its number", "--timeline %.40q is not a timeline", f.timeline)
		}
		t.Timeline = wal.Timeline(n)
	}
	return t, nil
}

// clusterJob is a restore of a cluster that is planned.
type clusterJob struct {
	plannedRecovery
	options cluster.Options
	runs    *user.User
	// merged is closed when the restore is done.
	merged io.Closer
	// refused is why nothing is restored into the folder: of a --dry-run alone, which says
	// it behind the plan.
	refused error
}

func (cmd *clusterCommand) run(ctx context.Context) error {
	target, err := cmd.cluster.target(cmd.args)
	if err != nil {
		return err
	}
	if err := checkWALSigned(cmd.cfg); err != nil {
		return err
	}
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	j, err := cmd.prepare(ctx, c, target)
	if err != nil {
		return err
	}
	defer func() { _ = j.merged.Close() }() // a temporary file
	cmd.trail.aboutBackup(j.entry.Backup)
	if cmd.flags.dryRun {
		return cmd.foresee(ctx, j)
	}
	release, err := cmd.backups.holdInUse(ctx, c, j.entry, "restore")
	if err != nil {
		return err
	}
	defer release()
	held := cmd.leaseRecovery(ctx, c, &j.plannedRecovery, "restore")
	defer func() { held.Release(ctx) }()
	return cmd.restore(ctx, c, j)
}

// foresee ends a --dry-run: with the plan, and with what stands in its way.
func (cmd *clusterCommand) foresee(ctx context.Context, j *clusterJob) error {
	preview, err := cluster.Check(ctx, j.options)
	if err = cmp.Or(j.refused, err); err == nil {
		cmd.warnLibraries(ctx, j, preview.Configuration)
		return cmd.printForeseen(j, preview)
	}
	if !cmd.global.json && !cmd.global.quiet {
		preview.Dir, preview.WALDir = j.options.Dir, j.options.WALDir
		cmd.printPlan(j, preview)
	}
	return err
}

// restore restores, and starts the server if that was asked for.
func (cmd *clusterCommand) restore(ctx context.Context, c *catalog.Catalog, j *clusterJob) error {
	j.options.Confirm = func(p cluster.Preview) error {
		cmd.warnLibraries(ctx, j, p.Configuration)
		if !cmd.global.json && !cmd.global.quiet {
			cmd.printPlan(j, p)
		}
		if p.State == cluster.Existing || p.Deletions > 0 {
			if err := cmd.confirm(ctx, "Overwrite the cluster in "+words.Clean(p.Dir)+"?", "overwrite"); err != nil {
				return err
			}
		}
		return cmd.trail.intend(ctx, act{params: map[string]string{
			"target_dir": p.Dir, "target": j.plan.Target, "timeline": fmt.Sprint(j.plan.WAL.Timeline), "deletions": strconv.FormatInt(p.Deletions, 10),
		}})
	}
	listen, stop := cmd.progress()
	j.options.Progress = listen
	began := cmd.now()
	cmd.begin("")
	done, err := cluster.Restore(ctx, j.options)
	stop()
	if err != nil {
		return err
	}
	cmd.restoredBeside("backup "+j.entry.Backup.ID, "folder "+done.Dir)
	result := clusterResult{Backup: j.entry.Backup.ID, Plan: j.plan, Done: &done, Seconds: cmd.now().Sub(began).Seconds()}
	if !cmd.cluster.start { // whoever starts the server has its WAL then; from there on it is fetched under leases of its own
		lease.Leave(ctx, cmd.leaseOptions(archive.New(c.Store(), j.plan.Server, j.plan.System()), j.plan, "recovery", false))
	}
	var startErr error
	if cmd.cluster.start {
		result.Started, startErr = cmd.start(ctx, j)
	}
	if err := cmd.printDone(j, result); err != nil {
		return err
	}
	r := &pgmedic.Receipt{Proof: pgmedic.ProofVerified, RecoverySeconds: result.Seconds}
	if done.KeptBytes > 0 {
		r.Proof = pgmedic.ProofTaken // of what was there already nothing was read
	}
	receiptErr := cmd.addReceipt(ctx, restore.Options{Catalog: c, Backup: j.entry.Backup, Key: j.key}, r)
	if startErr != nil {
		return startErr
	}
	return receiptErr
}

// prepare chooses the backup and plans the recovery.
func (cmd *clusterCommand) prepare(ctx context.Context, c *catalog.Catalog, target wal.Target) (*clusterJob, error) {
	planned, err := recoveryPlanner{job: cmd.job, keys: cmd.keys}.plan(ctx, c, target, cmd.cluster.tablespaces)
	if err != nil {
		return nil, err
	}
	if err := checkEnd(planned.stored, planned.plan.WAL, target); err != nil {
		return nil, err
	}
	j := &clusterJob{plannedRecovery: *planned}
	return j, cmd.complete(ctx, c, j)
}

// checkEnd refuses a recovery to the end of the stored WAL that would end before it, where
// WAL is missing: the server would open without what is stored behind that.
func checkEnd(stored wal.Stored, planned wal.Plan, target wal.Target) error {
	if target.Kind != wal.TargetEnd {
		return nil
	}
	reach := stored.Reach(planned.Timeline, planned.Base.Start)
	for _, span := range stored.Path(planned.Timeline) {
		if span.From > reach {
			until := "--to-lsn " + planned.End.String()
			if planned.End == planned.Base.Stop {
				until = "--to-backup"
			}
			return pgmedic.Errorf(pgmedic.KindNotFound, "to recover up to there all the same, say "+until+"; see `pgmedic wal status`",
				"the end of the stored WAL can't be reached from backup %s: WAL from %v to %v is missing, and the recovery would end at %v", planned.Base.ID, reach, span.From, planned.End)
		}
	}
	return nil
}

// complete adds what the folder is written with.
func (cmd *clusterCommand) complete(ctx context.Context, c *catalog.Catalog, j *clusterJob) (err error) {
	o := &j.options
	*o = cluster.Options{
		Source: physical.Source{Store: c.Store(), Backup: j.entry.Backup, Key: j.key}, Plan: j.plan,
		Dir: cmd.absolute(cmd.cluster.dir, ""), Delta: cmd.cluster.delta, Logger: cmd.log,
	}
	if o.Dir = filepath.Clean(o.Dir); cmd.cluster.walDir != "" {
		o.WALDir = filepath.Clean(cmd.absolute(cmd.cluster.walDir, ""))
	}
	if o.Owner, j.runs, j.refused = clusterOwner(o.Dir); j.refused != nil && !cmd.flags.dryRun {
		return j.refused
	}
	if o.RestoreCommand, err = cmd.recoveryCommand(); err != nil {
		return err
	}
	o.Source, j.merged, err = cmd.keys.chain(ctx, c, o.Source)
	return err
}

// clusterOwner says who will run PostgreSQL on a folder: the user of the process, and for
// root, as which PostgreSQL does not run, the owner of the folder or of its parent.
func clusterOwner(dir string) (*owner.ID, *user.User, error) {
	if os.Geteuid() != 0 {
		return nil, nil, nil
	}
	for folder := dir; ; folder = filepath.Dir(folder) {
		info, err := os.Stat(folder)
		if err != nil && folder != "/" {
			continue
		}
		if id, known := owner.Of(info); err == nil && known && id.UID != 0 {
			who, err := user.LookupId(strconv.Itoa(id.UID))
			if err != nil {
				who = &user.User{Uid: strconv.Itoa(id.UID), Username: "uid " + strconv.Itoa(id.UID)}
			}
			return &id, who, nil
		}
		return nil, nil, pgmedic.Errorf(pgmedic.KindUsage, "make the folder for the user that will run it: install -d -m 700 -o postgres -g postgres "+dir+"; or run pgmedic as that user",
			"PostgreSQL does not run as root, and nothing says which user will run it: %s belongs to root", folder)
	}
}
