package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
)

type pruneFlags struct {
	rescued []string
	dryRun  bool
	// only is backups, databases or empty; stores and database narrow what is pruned.
	only, database string
	stores         []string
	allServers     bool
	maxShare       string
}

// pruneCommand deletes what retention does not keep, and what swaps set aside.
type pruneCommand struct {
	job
	servers  servers
	retainer retainer

	flags pruneFlags
	share float64
	// server is the one whose backups are pruned; empty is all of them.
	server string
	done   *pruneResult
	// shown is true where the plan was printed for the question, confirmed where it may
	// be carried out.
	shown, confirmed bool

	options swap.PruneOptions
	stores  retained
	scope   retentionScope
	// locksErr is of locks that could not be read.
	locksErr error
	// noDatabases and noBackups are true where nothing is known of them.
	noDatabases, noBackups bool
}

func pruneCLI(e *env) *cobra.Command {
	var flags pruneFlags
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete backups that retention does not keep, and databases that swaps set aside",
		Long: `Prints what would go and why, and changes nothing unless --yes is given, or the
question is answered on a terminal. With -q it prints the names of what it deleted.

Backups of this server, in its store and in all copies: retention in pgmedic.yaml
says how long they are kept. A backup that is not kept is marked, and deleted by a
prune that finds the mark older than retention.grace. Never deleted are the newest, the
newest proven, the last 3, what pgmedic hold keeps, and a chain before the next is proven.
Nothing of a database is deleted (exit code 1) if its backups have stopped, if more than
half of the days that have a backup would lose their last one, or if a clock is wrong; and
nothing at all if a configured store can't be read. What dead runs left goes, too.

WAL that no base backup needs, and no moment since retention.pitr, is marked and deleted
likewise, after the base backups that needed it. What a restore of a cluster or a drill of
a moment is reading, on any host, stays until that has ended.

Databases that a swap or a rollback displaced longer than restore.keep_displaced
ago, what an interrupted DROP DATABASE left of them, and copies that killed
restores left. Ages are by the server's clock. A database that somebody is connected to
or opened, or that a replication slot, a subscription or a prepared transaction is
bound to, is never dropped. Neither is one whose live database is gone, or whose owner
could have forged the record of which database it replaced.

Schemas that restore --table made are listed, in every database that the role may
connect to. One is dropped only if you name it with --rescued, if it holds nothing
but tables, and if nothing outside of it depends on them; else it is kept, and the
exit code is 14.`,
		Example: `  pgmedic prune
  pgmedic prune --yes
  pgmedic prune --only backups --database clinic
  pgmedic prune --rescued pgmedic_rescue_20261123t023506z_bb38d4`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			prune := func(ctx context.Context, j job) error {
				command := &pruneCommand{job: j, servers: servers{j}, retainer: newRetainer(j), flags: flags}
				return command.run(ctx)
			}
			if e.global.yes && !flags.dryRun { // else it is for a person, who sees it
				return e.notified(cmd, "prune", prune)
			}
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			return prune(cmd.Context(), j)
		},
	}
	addConnection(cmd)
	addSetting(cmd, "keep-displaced", "restore.keep_displaced", "how long a database that was set aside is kept, such as 7d")
	addSetting(cmd, "stale-after", "retention.stale_after", "age of the newest backup from which nothing is deleted, such as 3d; off means no limit")
	f := cmd.Flags()
	f.BoolVar(&flags.dryRun, "dry-run", false, "show what would go, and change nothing, whatever --yes says")
	f.StringVar(&flags.only, "only", "", "prune backups alone, or databases alone: backups, databases")
	f.StringArrayVar(&flags.stores, "store", nil, "prune backups in this configured store alone, by its place or the name of a copy; may be repeated")
	f.StringVar(&flags.database, "database", "", "prune backups of this database alone")
	f.BoolVar(&flags.allServers, "all-servers", false, "prune backups of every server in the stores, not of the configured one alone")
	f.StringVar(&flags.maxShare, "max-share", "50%", "share of the days with a backup that may lose their last one at once; 100% means no limit")
	f.StringArrayVar(&flags.rescued, "rescued", nil, "drop this schema of a rescue, too: SCHEMA or DATABASE.SCHEMA; may be repeated")
	return cmd
}

// pruneResult is what prune prints as JSON.
type pruneResult struct {
	Databases []swap.Pruned         `json:"databases"`
	Rescued   []rescue.PrunedSchema `json:"rescued"`
	// Unread are databases that were not searched for rescues.
	Unread []rescue.Unread `json:"unread"`
	prunedBackups
}

func (p *pruneResult) wouldDrop() bool {
	return slices.ContainsFunc(p.Databases, func(d swap.Pruned) bool { return d.Drop && !d.Dropped }) ||
		slices.ContainsFunc(p.Rescued, func(s rescue.PrunedSchema) bool { return s.Drop && !s.Dropped })
}

// check refuses flags that don't go together.
func (f pruneFlags) check() (share float64, err error) {
	switch {
	case f.only != "" && f.only != "backups" && f.only != "databases":
		return 0, pgmedic.Errorf(pgmedic.KindUsage, "say backups or databases, or leave it out for both", "--only is backups or databases, not %q", f.only)
	case f.only == "databases" && (len(f.stores) > 0 || f.database != "" || f.allServers):
		return 0, pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--store, --database and --all-servers are about backups, and --only databases leaves those out")
	case f.only == "backups" && len(f.rescued) > 0:
		return 0, pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--rescued is about schemas in databases, and --only backups leaves those out")
	}
	percent, err := strconv.ParseFloat(strings.TrimSuffix(f.maxShare, "%"), 64)
	if err != nil || !(percent > 0 && percent <= 100) {
		return 0, pgmedic.Errorf(pgmedic.KindUsage, "write it as --max-share 75%", "--max-share is not a percentage above 0 and up to 100")
	}
	return percent / 100, nil
}

func (p *pruneCommand) run(ctx context.Context) error {
	var err error
	if p.share, err = p.flags.check(); err != nil {
		return err
	}
	p.done = &pruneResult{}
	defer p.close()
	// What can't be pruned does not keep the rest from being shown and pruned.
	databasesErr := p.planDatabases(ctx)
	if databasesErr != nil && (p.flags.only == "databases" || pgmedic.KindOf(databasesErr) != pgmedic.KindUnreachable || ctx.Err() != nil) {
		return databasesErr
	}
	backupsErr := p.planBackups(ctx)
	p.noBackups = backupsErr != nil || p.flags.only == "databases"
	if backupsErr != nil && ctx.Err() != nil {
		return backupsErr
	}
	err = p.carryOut(ctx)
	if printErr := p.print(err); err == nil {
		err = printErr
	}
	return errors.Join(err, databasesErr, backupsErr, p.locksErr, stopError(p.done.Series), stopWALError(p.done.WAL))
}

func (p *pruneCommand) close() { p.stores.close() }

// wet reports whether the plan may be carried out, once it is confirmed.
func (p *pruneCommand) wet() bool { return !p.flags.dryRun && (p.global.yes || p.stdinTTY) }

// planDatabases plans for what swaps, restores and rescues left on the server.
func (p *pruneCommand) planDatabases(ctx context.Context) error {
	p.noDatabases = true
	if p.flags.only == "backups" {
		return nil
	}
	t, err := p.servers.target()
	if err != nil {
		return err
	}
	p.options = swap.PruneOptions{
		Target: t, Maintenance: p.cfg.Database.MaintenanceDatabase, Keep: p.cfg.Restore.KeepDisplaced, Logger: p.log,
	}
	if p.done.Rescued, p.done.Unread, err = rescue.PlanPrune(ctx, p.options.Target, p.options.Maintenance, p.flags.rescued); err != nil {
		return err
	}
	if p.done.Databases, err = swap.Prune(ctx, p.options); err == nil {
		p.noDatabases = false
	}
	return err
}

// carryOut asks, and does what the plan says.
func (p *pruneCommand) carryOut(ctx context.Context) error {
	if !p.wet() {
		p.trail.forget()
	}
	if !p.wet() || !p.done.wouldDrop() && !p.done.changes() {
		p.trail.nothingToDo()
		return nil
	}
	if !p.global.yes {
		p.shown = true
		p.printPlan(p.done, true)
		if err := p.confirm(ctx, "Drop, mark and delete what is marked so?", "prune"); err != nil {
			return err
		}
	}
	if err := p.trail.intend(ctx, p.intended()); err != nil {
		return err
	}
	p.confirmed = true
	defer func() {
		p.trail.about(p.outcome())
		p.outcomes.noteDeleted(p.notifier, p.server, p.deleted())
	}()
	var errs []error
	if p.done.wouldDrop() {
		p.options.Confirm = func([]swap.Pruned) error { return nil }
		dropped, err := swap.Prune(ctx, p.options)
		if dropped != nil {
			p.done.Databases = dropped
		}
		if errs = append(errs, err); err == nil {
			errs = append(errs, p.dropRescued(ctx, p.options, p.done))
		}
	}
	if ctx.Err() == nil {
		errs = append(errs, p.retainer.apply(ctx, p.stores, p.done.Series, p.done.Orphans))
		if ctx.Err() == nil { // WAL after the backups that needed it
			errs = append(errs, p.retainer.applyWAL(ctx, p.stores, p.done.WAL))
		}
		p.done.sum(true)
	}
	return errors.Join(errs...)
}

// intended are what is recorded of the whole plan before it is carried out.
func (p *pruneCommand) intended() act {
	a := p.done.intended()
	a.lists["drop"] = p.dropNames(func(drop, _ bool) bool { return drop })
	return a
}

// outcome is what is recorded of the whole plan afterwards.
func (p *pruneCommand) outcome() act {
	a := p.done.outcome()
	a.lists["dropped"] = p.dropNames(func(_, dropped bool) bool { return dropped })
	return a
}

// dropNames are the databases and schemas that are to be dropped, or were.
func (p *pruneCommand) dropNames(matches func(drop, dropped bool) bool) (names []string) {
	for _, d := range p.done.Databases {
		if matches(d.Drop, d.Dropped) {
			names = append(names, d.Database)
		}
	}
	for _, s := range p.done.Rescued {
		if matches(s.Drop, s.Dropped) {
			names = append(names, s.Database+"."+s.Schema)
		}
	}
	return names
}

// print prints what was done, or the plan where nothing was.
func (p *pruneCommand) print(err error) error {
	switch {
	case p.global.json:
		return p.printJSON(p.done.orEmpty())
	case p.global.quiet:
		p.printPruned(p.done)
	case !p.shown || err == nil:
		p.printPlan(p.done, !p.confirmed)
		p.printf("%s", p.nothingToPrune())
		if !p.wet() && !p.flags.dryRun && (p.done.wouldDrop() || p.done.changes()) {
			p.printf("nothing was changed; --yes does it\n")
		}
	}
	return nil
}

// dropRescued drops the schemas of rescues that were asked for.
func (p *pruneCommand) dropRescued(ctx context.Context, o swap.PruneOptions, done *pruneResult) error {
	if !slices.ContainsFunc(done.Rescued, func(s rescue.PrunedSchema) bool { return s.Drop }) {
		return nil
	}
	var errs []error
	for i := range done.Rescued {
		s := &done.Rescued[i]
		if !s.Drop || ctx.Err() != nil {
			continue
		}
		err := rescue.Drop(ctx, o.Target, s)
		if err == nil && !s.Dropped { // it was asked for by name
			err = pgmedic.Errorf(pgmedic.KindConflict, "", "schema %s of database %s is kept: %s", s.Schema, s.Database, s.Reason)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, context.Cause(ctx))...)
}
