package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore"
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

func (a *app) pruneCommand() *cobra.Command {
	var flags pruneFlags
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete backups that retention does not keep, and databases that swaps set aside",
		Long: `Prints what would go and why, and changes nothing unless --yes is given, or the
question is answered on a terminal. With -q it prints the names of what it deleted.

Backups of this server, in its store and in all copies: retention in pgmedic.yaml
says how long they are kept. A backup that is not kept is marked, and deleted by a
prune that finds the mark older than retention.grace. Never deleted are the newest,
the newest proven, the last 3, and what pgmedic hold keeps. Nothing of a database is
deleted (exit code 1) if its backups have stopped, if more than half of the days that
have a backup would lose their last one, or if a clock is wrong; and nothing at all if a
configured store can't be read. What runs without a manifest left is deleted likewise.

Databases that a swap or a rollback displaced longer than restore.keep_displaced
ago, what an interrupted DROP DATABASE left of them, and copies that killed
restores left. Ages are by the server's clock. A database that somebody is connected to
or opened, or that a replication slot, a subscription or a prepared transaction is
bound to, is never dropped, nor one whose owner could have written its story for
another's database, or that is of a database which is gone.

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
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.prune(cmd.Context(), flags)
		},
	}
	addConnection(cmd)
	addSetting(cmd, "keep-displaced", "restore.keep_displaced", "how long a database that was set aside is kept, such as 7d")
	addSetting(cmd, "stale-after", "retention.stale_after", "age of the newest backup from which nothing is deleted, such as 3d; off is no limit")
	f := cmd.Flags()
	f.BoolVar(&flags.dryRun, "dry-run", false, "show what would go, and change nothing, whatever --yes says")
	f.StringVar(&flags.only, "only", "", "prune backups alone, or databases alone: backups, databases")
	f.StringArrayVar(&flags.stores, "store", nil, "prune backups in this configured store alone, by its place or the name of a copy; may be repeated")
	f.StringVar(&flags.database, "database", "", "prune backups of this database alone")
	f.BoolVar(&flags.allServers, "all-servers", false, "prune backups of every server in the stores, not of the configured one alone")
	f.StringVar(&flags.maxShare, "max-share", "50%", "share of the days with a backup that may lose their last one at once; 100% is no limit")
	f.StringArrayVar(&flags.rescued, "rescued", nil, "drop this schema of a rescue, too: SCHEMA or DATABASE.SCHEMA; may be repeated")
	return cmd
}

// pruneResult is what prune prints as JSON.
type pruneResult struct {
	Databases []restore.Pruned       `json:"databases"`
	Rescued   []restore.PrunedSchema `json:"rescued"`
	// Unread are databases in which nobody looked for rescues.
	Unread []restore.Unread `json:"unread"`
	prunedBackups
}

func (p *pruneResult) wouldDrop() bool {
	return slices.ContainsFunc(p.Databases, func(d restore.Pruned) bool { return d.Drop && !d.Dropped }) ||
		slices.ContainsFunc(p.Rescued, func(s restore.PrunedSchema) bool { return s.Drop && !s.Dropped })
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

func (a *app) prune(ctx context.Context, flags pruneFlags) error {
	share, err := flags.check()
	if err != nil {
		return err
	}
	var done pruneResult
	p := &pruning{app: a, flags: flags, share: share, done: &done}
	defer p.close()
	// What can't be pruned does not keep the rest from being shown and pruned.
	databasesErr := p.planDatabases(ctx)
	if databasesErr != nil && (flags.only == "databases" || pgmedic.KindOf(databasesErr) != pgmedic.KindUnreachable || ctx.Err() != nil) {
		return databasesErr
	}
	backupsErr := p.planBackups(ctx)
	p.noBackups = backupsErr != nil || flags.only == "databases"
	if backupsErr != nil && ctx.Err() != nil {
		return backupsErr
	}
	err = p.carryOut(ctx)
	if printErr := p.print(err); err == nil {
		err = printErr
	}
	return errors.Join(err, databasesErr, backupsErr, stopError(done.Series))
}

// pruning is one run of prune.
type pruning struct {
	app   *app
	flags pruneFlags
	share float64
	done  *pruneResult
	// shown is true where the plan was printed for the question, confirmed where it may
	// be carried out.
	shown, confirmed bool

	options restore.PruneOptions
	stores  retained
	scope   retentionScope
	// noDatabases and noBackups are true where nothing is known of them.
	noDatabases, noBackups bool
}

func (p *pruning) close() { p.stores.close() }

// wet reports whether the plan may be carried out, once it is confirmed.
func (p *pruning) wet() bool { return !p.flags.dryRun && (p.app.global.yes || p.app.stdinTTY) }

// planDatabases plans for what swaps, restores and rescues left on the server.
func (p *pruning) planDatabases(ctx context.Context) error {
	p.noDatabases = true
	if p.flags.only == "backups" {
		return nil
	}
	a := p.app
	t, err := a.target()
	if err != nil {
		return err
	}
	p.options = restore.PruneOptions{
		Target: t, Maintenance: a.cfg.Database.MaintenanceDatabase, Keep: a.cfg.Restore.KeepDisplaced, Logger: a.log,
	}
	if p.done.Rescued, p.done.Unread, err = restore.PlanRescued(ctx, p.options, p.flags.rescued); err != nil {
		return err
	}
	if p.done.Databases, err = restore.Prune(ctx, p.options); err == nil {
		p.noDatabases = false
	}
	return err
}

// carryOut asks, and does what the plan says.
func (p *pruning) carryOut(ctx context.Context) error {
	a := p.app
	if !p.wet() || !p.done.wouldDrop() && !p.done.changes() {
		return nil
	}
	if !a.global.yes {
		p.shown = true
		a.printPlan(p.done, true)
		if err := a.confirm(ctx, "Drop, mark and delete what is marked so?", "prune"); err != nil {
			return err
		}
	}
	p.confirmed = true
	var errs []error
	if p.done.wouldDrop() {
		p.options.Confirm = func([]restore.Pruned) error { return nil }
		dropped, err := restore.Prune(ctx, p.options)
		if dropped != nil {
			p.done.Databases = dropped
		}
		if errs = append(errs, err); err == nil {
			errs = append(errs, a.dropRescued(ctx, p.options, p.done))
		}
	}
	if ctx.Err() == nil {
		errs = append(errs, a.applyRetention(ctx, p.stores, p.done.Series, p.done.Orphans))
	}
	return errors.Join(errs...)
}

// print prints what was done, or the plan where nothing was.
func (p *pruning) print(err error) error {
	a := p.app
	switch {
	case a.global.json:
		return a.printJSON(p.done.orEmpty())
	case a.global.quiet:
		a.printPruned(p.done)
	case !p.shown || err == nil:
		a.printPlan(p.done, !p.confirmed)
		a.printf("%s", p.nothingToPrune())
		if !p.wet() && !p.flags.dryRun && (p.done.wouldDrop() || p.done.changes()) {
			a.printf("nothing was changed; --yes does it\n")
		}
	}
	return nil
}

// dropRescued drops the schemas of rescues that were asked for.
func (a *app) dropRescued(ctx context.Context, o restore.PruneOptions, done *pruneResult) error {
	if !slices.ContainsFunc(done.Rescued, func(s restore.PrunedSchema) bool { return s.Drop }) {
		return nil
	}
	var errs []error
	for i := range done.Rescued {
		p := &done.Rescued[i]
		if !p.Drop || ctx.Err() != nil {
			continue
		}
		err := restore.DropRescued(ctx, o, p)
		if err == nil && !p.Dropped { // it was asked for by name
			err = pgmedic.Errorf(pgmedic.KindConflict, "", "schema %s of database %s is kept: %s", p.Schema, p.Database, p.Reason)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, context.Cause(ctx))...)
}
