package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/pitr"
	"github.com/pgmedic/pgmedic/internal/replay"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// momentFlags are those of a drill of a moment.
type momentFlags struct {
	at, within, seed string
}

// The moments of --at that are not a time.
const (
	atLatest = "latest"
	atRandom = "random"
)

func addMoment(f *pflag.FlagSet, flags *momentFlags) {
	f.StringVar(&flags.at, "at", "", "recover the whole cluster from a base backup and WAL, to a moment: random, latest, or a time such as '2026-11-29 10:41:59+00'")
	f.StringVar(&flags.within, "within", "", "with --at random: draw from this time before now, such as 7d or 12h (default: all that can be recovered)")
	f.StringVar(&flags.seed, "seed", "", "with --at random: the seed of a receipt, to draw as it did")
}

// checkMoment refuses flags that are of another kind of drill.
func checkMoment(flags *pflag.FlagSet, f momentFlags, args []string) error {
	usage := func(hint, format string, a ...any) error {
		return pgmedic.Errorf(pgmedic.KindUsage, hint, format, a...)
	}
	if !flags.Changed("at") {
		for _, name := range []string{"within", "seed"} {
			if flags.Changed(name) {
				return usage("write --at random --"+name+" …", "--%s is for drills of a random moment", name)
			}
		}
		return nil
	}
	for _, other := range []string{"sample", "on-server", "scratch"} {
		if flags.Changed(other) {
			return usage("leave out one of them", "--%s is for drills of one database, and --at for those of a whole cluster, in a server of its own", other)
		}
	}
	if len(args) > 0 {
		return usage("leave out the backup", "--at chooses the base backup itself")
	}
	if f.at != atRandom && (flags.Changed("within") || flags.Changed("seed")) {
		return usage("leave them out, or write --at random", "--within and --seed are for drills of a random moment")
	}
	if flags.Changed("within") {
		if _, err := parseWithin(f.within, time.Time{}); err != nil {
			return err
		}
	}
	if flags.Changed("seed") {
		if _, err := pitr.ParseSeed(f.seed); err != nil {
			return err
		}
	}
	if f.at == atRandom || f.at == atLatest {
		return nil
	}
	if _, err := parseMoment(f.at); err != nil {
		return usage("say random or latest, or write the time with its offset from UTC: --at '2026-11-29 10:41:59+00'", "--at %.60q is not a moment", f.at)
	}
	return nil
}

// momentCommand proves that a cluster can be recovered to a moment.
type momentCommand struct {
	drillCommand
	moment momentFlags
	// clusters are those that a random moment was drawn of; nil for another one.
	clusters []pitr.Cluster
}

func (cmd *momentCommand) run(ctx context.Context) error {
	if err := checkWALSigned(cmd.cfg); err != nil {
		return err
	}
	if cmd.cfg.Drill.ScratchURL != "" {
		cmd.log.Warn("a whole cluster is drilled in a server of its own, and not on that of drill.scratch_url")
	}
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	planner := recoveryPlanner{job: cmd.job, keys: cmd.keys}
	drawn, seed, err := cmd.draw(ctx, c, planner)
	if err != nil {
		return err
	}
	j, err := planner.plan(ctx, c, drawn.Target, nil)
	if err != nil {
		return err
	}
	b := j.entry.Backup
	rpo, err := cmd.rpo(ctx, c, j)
	if err != nil {
		return err
	}
	cmd.trail.aboutBackup(b)
	about := outcome{backup: b.ID}
	release, err := cmd.backups.holdInUse(ctx, c, j.entry, "drill")
	if err != nil {
		return err
	}
	defer release()
	held := cmd.leaseRecovery(ctx, c, j, "drill")
	defer func() { held.Release(ctx) }()
	source, merged, err := cmd.keys.chain(ctx, c, physical.Source{Store: c.Store(), Backup: b, Key: j.key})
	if err != nil {
		return err
	}
	defer func() { _ = merged.Close() }()
	o := drill.MomentOptions{
		Options: cmd.drillOptions(ctx, c, b, j.key), Plan: j.plan, WAL: j.wal, Source: source, Drawn: drawn.How, Seed: seed, RestorePoint: drawn.Target.Name, RPO: rpo,
	}
	if len(o.Assertions) > 0 {
		target, err := cmd.servers.target()
		if err != nil {
			return err
		}
		o.Database = target.Database()
	}
	if cmd.flags.noAmcheck {
		o.SkipAmcheck = "left out by --no-amcheck"
	}
	cmd.warnMomentSpace(ctx, replay.NeededBytes(source, j.plan))
	listen, done := cmd.progress()
	o.Progress = listen
	r, err := drill.RunMoment(ctx, o)
	done()
	return cmd.finish(about, b, r, err, func() { cmd.printMoment(r) })
}

// draw returns the moment that is asked for, and the seed of a random one.
func (cmd *momentCommand) draw(ctx context.Context, c *catalog.Catalog, p recoveryPlanner) (drawn pitr.Drawn, seed string, err error) {
	switch cmd.moment.at {
	case atLatest:
		return pitr.Drawn{Target: wal.Target{Kind: wal.TargetEnd}}, "", nil
	case atRandom:
	default:
		at, err := parseMoment(cmd.moment.at)
		return pitr.Drawn{Target: wal.Target{Kind: wal.TargetTime, Time: at}}, "", err
	}
	o := pitr.DrawOptions{Seed: rand.Uint64()}
	if cmd.moment.seed != "" {
		if o.Seed, err = pitr.ParseSeed(cmd.moment.seed); err != nil {
			return drawn, "", err
		}
	}
	if cmd.moment.within != "" {
		if o.Since, err = parseWithin(cmd.moment.within, cmd.now()); err != nil {
			return drawn, "", err
		}
	}
	entries, err := p.candidates(ctx, c, &wal.Target{})
	if err != nil {
		return drawn, "", err
	}
	server := entries[0].Backup.Server
	system, err := strconv.ParseUint(server.SystemIdentifier, 10, 64)
	if err != nil {
		return drawn, "", err
	}
	clusters, err := cmd.keys.readClusters(ctx, c, pitr.Options{Server: server.Name, System: system, RestorePoints: true})
	if err != nil {
		return drawn, "", err
	}
	cmd.clusters = clusters
	for _, cluster := range clusters {
		o.Windows, o.Points = append(o.Windows, cluster.Windows...), append(o.Points, cluster.RestorePoints...)
		o.Histories = append(o.Histories, cluster.Survey.Histories...)
	}
	drawn, err = pitr.Draw(o)
	return drawn, pitr.SeedText(o.Seed), err
}

// rpo returns how long ago the newest moment is to which the server can be recovered; nil
// where nothing can, on the timeline that it is on, or the time is not known.
func (cmd *momentCommand) rpo(ctx context.Context, c *catalog.Catalog, j *plannedRecovery) (*time.Duration, error) {
	clusters := cmd.clusters
	if clusters == nil {
		var err error
		if clusters, err = cmd.keys.readClusters(ctx, c, pitr.Options{Server: j.plan.Server, System: j.plan.System()}); err != nil {
			return nil, err
		}
	}
	if len(clusters) == 0 {
		return nil, nil
	}
	w, ok := clusters[0].Current()
	if !ok || w.Until.Time.IsZero() {
		return nil, nil
	}
	return new(max(0, cmd.now().Sub(w.Until.Time))), nil // the time is of the server's clock
}

// warnMomentSpace warns of a folder that may have no room for the cluster and its WAL.
func (cmd *momentCommand) warnMomentSpace(ctx context.Context, needed int64) {
	dir, free, err := cmd.scratchRoom(ctx)
	if err == nil && free < needed {
		cmd.log.Warn("the folder for the throwaway server is too small: name another with --scratch-dir",
			"folder", dir, "free_bytes", free, "needed_bytes", needed)
	}
}

// scratchRoom returns the folder for throwaway servers, and how many bytes are free there.
func (j job) scratchRoom(ctx context.Context) (dir string, free int64, err error) {
	if dir = j.cfg.Drill.ScratchDir; dir == "" {
		dir = os.TempDir()
	}
	usage, err := disk.UsageWithContext(ctx, dir)
	if err != nil {
		return dir, 0, fmt.Errorf("read how much is free in %s: %w", dir, err)
	}
	return dir, int64(min(usage.Free, math.MaxInt64)), nil
}

// printMoment prints what was recovered, and the parts of the time that it took.
func (cmd *momentCommand) printMoment(r *pgmedic.Receipt) {
	if cmd.global.quiet {
		return
	}
	p := r.PITR
	seed := ""
	if p.Seed != "" {
		seed = p.Seed + ", " + p.Drawn
	}
	chain, rpo := "", ""
	if p.RPOSeconds != nil {
		rpo = secondsWords(*p.RPOSeconds) + ", from the newest moment that can be recovered to the drill"
	}
	if len(p.Chain) > 1 {
		chain = strings.Join(p.Chain, ", ")
	}
	cmd.fields(
		"moment", words.Clean(p.Target), "drawn with seed", seed, "timeline", strconv.FormatInt(p.Timeline, 10),
		"chain", words.Clean(chain), "base backup", words.Bytes(p.BaseBytes), "WAL", words.Bytes(p.WALBytes)+", commits in it: "+words.Count(p.Commits),
		"time to recover", "fetch "+secondsWords(p.FetchSeconds)+", replay "+secondsWords(p.ReplaySeconds)+", open "+secondsWords(p.OpenSeconds),
		"RPO", rpo,
	)
}

// parseWithin reads a length of time, and returns when it began.
func parseWithin(text string, now time.Time) (time.Time, error) {
	l, err := pgmedic.ParseLength(text)
	if err != nil || l.IsZero() {
		return time.Time{}, pgmedic.Errorf(pgmedic.KindUsage, "write it as --within 7d", "--within %.40q is not a length of time", text)
	}
	return l.Before(now), nil
}
