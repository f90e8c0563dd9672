// Package swap replaces a live database by a copy of a backup, by renaming both, and
// puts the old one back the same way; it goes on with a swap that was killed, and drops
// what swaps set aside once its time is over.
package swap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/restore"
)

// Options say how a backup replaces a live database. Into and Of are Replace's own to
// choose.
type Options struct {
	restore.Options
	// Live is the name of the database to replace.
	Live string
	// FromServer allows a backup of another server: it must be the name that
	// the backup is filed under.
	FromServer string
	// Replicas are standbys of the server, whose sessions are ended after the
	// swap.
	Replicas []postgres.Target
	// StandbysHandled is the caller's word that sessions on standbys that Replicas does
	// not list will be ended; without it a server with such standbys is refused.
	StandbysHandled bool
	// FreeBytes returns the free space of a folder on this machine, by which a
	// local server is asked for room. Nil skips the check.
	FreeBytes func(ctx context.Context, dir string) (int64, error)
	// Confirm is shown what will happen before anything is done; an error
	// stops the run. Nil confirms everything.
	Confirm func(Plan) error
	// ConfirmIncomplete is shown a copy that is not all that was backed up, before
	// it takes the live database's place; an error of KindNotConfirmed stops the run
	// and leaves the copy, for Resume. Nil confirms none.
	ConfirmIncomplete func(Incomplete) error
	// SafetyBackup takes a backup of the live database right before the swap
	// and returns its id. Nil takes none, for the reason in SkipSafety. It
	// runs under Replace's run lock.
	SafetyBackup func(ctx context.Context) (id string, err error)
	SkipSafety   string
}

// Plan is what a swap or a rollback is about to do.
type Plan struct {
	Live string `json:"database"`
	// LiveExists is false where there is no such database to set aside.
	LiveExists bool `json:"database_exists"`
	// Incoming is the backup, or the kept database, that takes its place.
	Incoming string `json:"incoming"`
	// Kept is the name under which the live database will be kept.
	Kept string `json:"kept_as"`
	// Since is the moment whose data comes back.
	Since    time.Time `json:"since"`
	Sessions int       `json:"sessions"`
	// SafetyBackup is whether the live database is backed up first, and
	// SafetySkipped why it is not.
	SafetyBackup  bool   `json:"safety_backup"`
	SafetySkipped string `json:"safety_backup_skipped,omitempty"`
	// Standbys are those that stream from the server now.
	Standbys []string `json:"standbys,omitempty"`
	// Outside is what the live database has that is not in its rows.
	Outside []databases.Outside `json:"outside,omitempty"`
	// Globals is what becomes of the backup's roles and tablespaces, where that is
	// asked for.
	Globals *restore.Globals `json:"globals,omitempty"`
	// Closed is true where the database will take no connections, as it did not
	// before.
	Closed bool `json:"closed,omitempty"`
	// PassedOver are databases that say they were set aside and are not taken, each
	// with the reason.
	PassedOver []string `json:"passed_over,omitempty"`
	// Resumed is the loaded copy that a dead restore left, where there is one
	// to go on with.
	Resumed string `json:"resumed,omitempty"`

	liveOID uint32
}

// Swapped is what a swap or a rollback did.
type Swapped struct {
	Database string `json:"database"`
	// Incoming is the backup, or the kept database, that is live now, with the
	// moment whose data it holds.
	Incoming string    `json:"incoming"`
	Since    time.Time `json:"since"`
	// Kept is the database that was live, under its new name; empty if there
	// was none.
	Kept          string `json:"kept_as,omitempty"`
	BackupID      string `json:"backup_id,omitempty"`
	SafetyBackup  string `json:"safety_backup_id,omitempty"`
	SafetySkipped string `json:"safety_backup_skipped,omitempty"`
	// Closed is true where the database takes no connections, as before.
	Closed bool `json:"closed,omitempty"`
	// PassedOver is the plan's.
	PassedOver []string `json:"passed_over,omitempty"`
	// OutageSeconds is how long the name could not be connected to.
	OutageSeconds float64 `json:"outage_seconds"`
	Seconds       float64 `json:"seconds"`
	// RecoverySeconds is the part of them until the copy was loaded, indexed and
	// analyzed; zero where this run loaded none.
	RecoverySeconds float64         `json:"recovery_seconds,omitempty"`
	Steps           []pgmedic.Step  `json:"steps,omitempty"`
	Checks          []pgmedic.Check `json:"checks,omitempty"`
	RefusedSettings []string        `json:"refused_settings,omitempty"`
	// Incomplete and Refused are as in Restored.
	Incomplete bool              `json:"incomplete,omitempty"`
	Refused    []restore.Refusal `json:"refused,omitempty"`
	// MadeAfter is what the server took only once the database had its name, with the
	// reason for which it was refused before.
	MadeAfter []restore.Refusal `json:"made_after_swap,omitempty"`
	// ByHand are the statements for extensions that it did not take then either.
	ByHand []string `json:"by_hand,omitempty"`
	// CronStopped is true where pg_cron's scheduler ran before and does not run any more.
	CronStopped bool `json:"pg_cron_stopped,omitempty"`
	// Globals is what was made of the backup's roles and tablespaces, if asked for.
	Globals  *restore.Globals    `json:"globals,omitempty"`
	Outside  []databases.Outside `json:"outside,omitempty"`
	Standbys []EndedOn           `json:"standbys,omitempty"`
	// Resumed is the copy that a dead restore had left, where this run went on
	// with it, and Dropped are the leftovers that it dropped.
	Resumed string   `json:"resumed,omitempty"`
	Dropped []string `json:"dropped,omitempty"`
	// Before is true where a resumed restore turned out to have swapped before
	// it died: nothing was left to do.
	Before bool `json:"swapped_before,omitempty"`
}

// Replace restores a backup beside the live database, compares it with what
// the backup recorded, backs the live database up, and swaps the two by name.
// Up to the swap the live database is only read; an error before it leaves no
// trace, an error in it leaves the old database live.
func Replace(ctx context.Context, o Options) (*Swapped, error) {
	hexes := newSuffix()
	o.Into, o.Of = databases.DerivedName(o.Live, "__restore_"+hexes), o.Live
	if err := o.Check(); err != nil {
		return nil, err
	}
	if err := o.refusePart(); err != nil {
		return nil, err
	}
	run, err := beginSwap(ctx, &o)
	if err != nil {
		return nil, err
	}
	defer run.end(ctx)
	if err := o.RefuseOther(run.server, o.Live, o.FromServer); err != nil {
		return nil, err
	}
	if err := run.refuseFullDisk(ctx, &o); err != nil {
		return nil, err
	}
	plan, err := run.plan(ctx, &o, databases.DerivedName(o.Live, "__before_"+hexes))
	if err != nil {
		return nil, err
	}
	if o.Globals != restore.GlobalsNone {
		if plan.Globals, err = o.PlannedGlobals(ctx, run.admin); err != nil {
			return nil, err
		}
	}
	if o.Confirm != nil {
		if err := o.Confirm(plan); err != nil {
			return nil, err
		}
	}
	o.ConfirmGlobals = nil // the plan has named them
	dropped, err := run.sweep(ctx, &o, "")
	if err != nil {
		return nil, err
	}
	loaded, err := restore.Load(ctx, o.Options)
	if err != nil {
		return nil, err
	}
	done, err := run.replace(ctx, &o, plan, loaded)
	var left *leftError
	if errors.Is(err, databases.ErrOutcomeUnknown) || errors.As(err, &left) {
		return nil, err // what looks like the copy may be the live database's; or it is to stay
	}
	if err != nil {
		return nil, errors.Join(err, restore.DropCopy(ctx, o.Options))
	}
	done.Dropped = dropped
	return done, nil
}

// swapRun is what Replace and Rollback hold while they work.
type swapRun struct {
	admin  *pgx.Conn
	lock   *databases.RunLock
	server pgmedic.Server
}

func beginSwap(ctx context.Context, o *Options) (*swapRun, error) {
	o.Maintenance = cmp.Or(o.Maintenance, postgres.DefaultMaintenance)
	if err := o.refuseName(); err != nil {
		return nil, err
	}
	lock, err := databases.AcquireRunLock(ctx, o.Target, o.Maintenance, o.Live)
	if err != nil {
		return nil, err
	}
	admin, err := postgres.ConnectAdmin(ctx, o.Target, o.Maintenance)
	if err != nil {
		lock.Release(ctx)
		return nil, err
	}
	run := &swapRun{admin: admin, lock: lock}
	if run.server, err = postgres.ReadServer(ctx, admin); err == nil {
		err = databases.RefuseStandby(run.server)
	}
	if err != nil {
		run.end(ctx)
		return nil, err
	}
	return run, nil
}

// refuseName refuses databases that can't be renamed, or that others are made by.
func (o *Options) refuseName() error {
	switch o.Live {
	case o.Maintenance:
		return pgmedic.Errorf(pgmedic.KindUsage, "set database.maintenance_database to another one",
			"database %q is the one to connect through and can't be swapped", o.Live)
	case "template0", "template1":
		return pgmedic.Errorf(pgmedic.KindUsage, "name the database that clients use", "database %q is the server's own and can't be swapped", o.Live)
	}
	return nil
}

func (r *swapRun) end(ctx context.Context) {
	postgres.Close(ctx, r.admin)
	r.lock.Release(ctx)
}

// refusePart keeps what is less than a whole database, with its rows and rights,
// from taking a live one's place.
func (o *Options) refusePart() error {
	if o.Backup.Partial() {
		return pgmedic.Errorf(pgmedic.KindUsage, "restore it beside the live database with --into NAME, and take from there what is needed",
			"backup %s holds a part of the database only: in its place the rest would be missing", o.Backup.ID)
	}
	if o.Without != (dumpsql.Without{}) {
		return pgmedic.Errorf(pgmedic.KindUsage, "restore it beside the live database with --into NAME",
			"a copy without rows, or without owners and rights, can't take a live database's place")
	}
	return nil
}

// refuseObstacles refuses what makes a swap unsafe.
func (r *swapRun) refuseObstacles(ctx context.Context, o *Options) error {
	obstacles, err := databases.Obstacles(ctx, r.admin, o.Live)
	if err != nil || len(obstacles) == 0 {
		return err
	}
	return obstacles[0]
}

// leftovers are what earlier restores of the same database left when they were
// killed, except for the copy to go on with. One that is still of use is an
// error.
func (r *swapRun) leftovers(ctx context.Context, o *Options, except string) ([]string, error) {
	stories, err := databases.ReadStories(ctx, r.admin)
	if err != nil {
		return nil, err
	}
	owners, err := r.copyOwners(ctx, o)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, k := range stories {
		left := k.Story.Pgmedic == pgmedic.StoryLoading || k.Story.Pgmedic == pgmedic.StoryReady
		if !left || k.Story.Of != o.Live || k.Name == o.Live || k.Name == except {
			continue
		}
		if why := k.Distrust(owners...); why != "" {
			o.Logger.Warn("a database says that a restore left it, and is left alone", "database", k.Name, "reason", why)
			continue
		}
		if err := k.RefuseInUse(); err != nil {
			return nil, err
		}
		names = append(names, k.Name)
	}
	// And of one that was killed between making its database and writing down what
	// it is.
	prefix := strings.TrimSuffix(databases.DerivedName(o.Live, "__restore_00000000"), "00000000")
	nameless, err := databases.Nameless(ctx, r.admin, prefix, owners)
	for _, name := range nameless {
		if suffix := strings.TrimPrefix(name, prefix); len(suffix) == 8 && strings.Trim(suffix, "0123456789abcdef") == "" {
			names = append(names, name)
		}
	}
	return names, err
}

// copyOwners are the roles whose copies of the live database are a restore's: the
// one that owns it, and the one to which the backup gives it.
func (r *swapRun) copyOwners(ctx context.Context, o *Options) ([]string, error) {
	owner, err := databases.Owner(ctx, r.admin, o.Live)
	owners := []string{owner}
	if o.Backup != nil {
		owners = append(owners, o.Backup.Database.Owner)
	}
	return owners, err
}

// sweep drops the leftovers. We hold the run lock, so no other run works on one.
func (r *swapRun) sweep(ctx context.Context, o *Options, except string) (dropped []string, err error) {
	names, err := r.leftovers(ctx, o, except)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		o.Logger.Info("dropping what a restore left behind", "database", name)
		if err := databases.DropWhole(ctx, r.admin, o.Target.WithDatabase(name), r.server.VersionNum); err != nil {
			return dropped, err
		}
		dropped = append(dropped, name)
	}
	return dropped, nil
}

// replace is what comes after the load: compare, back up, swap.
func (r *swapRun) replace(ctx context.Context, o *Options, plan Plan, loaded *restore.Loaded) (*Swapped, error) {
	began := o.Now()
	steps := progress.Steps{Report: o.Progress, Now: o.Now, Done: loaded.Steps}
	done := &Swapped{
		Database: o.Live, Incoming: plan.Incoming, Since: plan.Since, BackupID: o.Backup.ID,
		RecoverySeconds: loaded.Seconds, RefusedSettings: loaded.RefusedSettings, Refused: loaded.Refused, Globals: loaded.Globals, SafetySkipped: plan.SafetySkipped, Outside: plan.Outside, Resumed: plan.Resumed,
	}
	err := steps.Do("compare", func() (err error) {
		done.Checks, err = restore.CompareLoaded(ctx, o.Options, loaded)
		return err
	})
	if err != nil {
		return nil, err
	}
	bound, err := findNameBound(ctx, o, loaded)
	if err != nil {
		return nil, err
	}
	done.Incomplete = len(restore.Missing(done.Checks)) > 0
	failpoint.Hit(ctx, "restore-compared")
	// From here on a restore that is killed can be resumed.
	now, err := databases.ServerTime(ctx, r.admin)
	if err != nil {
		return nil, err
	}
	state := pgmedic.StoryReady
	if o.Dump != nil { // Resume finds backups in a catalogue: a copy of a dump is swept
		state = pgmedic.StoryLoading
	}
	err = databases.SetLastingStory(ctx, r.admin, o.Into, pgmedic.Story{
		Pgmedic: state, Of: o.Live, By: "restore", Backup: o.Backup.ID, Since: now,
		Refused: max(len(loaded.Refused), loaded.RefusedBefore),
	})
	if err != nil {
		return nil, err
	}
	failpoint.Hit(ctx, "restore-ready")
	if missing := bound.unexpected(done.Checks, done.Refused); len(missing) > 0 {
		if err := r.acceptIncomplete(ctx, o, loaded, missing); err != nil {
			return nil, err
		}
	} else if loaded.Withheld {
		if err := databases.ApplyAccess(ctx, r.admin, o.Into, o.Backup.Database); err != nil {
			return nil, err
		}
	}
	if plan.SafetyBackup {
		err := steps.Do("safety backup", func() error { return r.safetyBackup(ctx, o, done) })
		if err != nil {
			return nil, fmt.Errorf("back up the live database before the swap: %w", err)
		}
		failpoint.Hit(ctx, "restore-backed-up")
	}
	if plan.LiveExists {
		if err := r.refuseObstacles(ctx, o); err != nil {
			return nil, err
		}
		done.Kept = plan.Kept
	}
	cron := r.cronWorks(ctx, o)
	err = steps.Do("swap", func() error { return r.swap(ctx, o, plan, bound.extensions, done) })
	if err != nil {
		return nil, err
	}
	if len(bound.extensions) > 0 {
		_ = steps.Do("after the swap", func() error { r.makeBound(ctx, o, loaded, bound, done); return nil })
	}
	r.awaitCron(ctx, o, cron, done)
	done.Standbys = r.endOnStandbys(ctx, o, plan)
	done.Steps = steps.Done
	done.Seconds = progress.Seconds(o.Now().Sub(began)) + loaded.Seconds
	return done, nil
}

// safetyBackup takes the safety backup. A live database whose own files are
// damaged has to be replaced all the more, even without one.
func (r *swapRun) safetyBackup(ctx context.Context, o *Options, done *Swapped) (err error) {
	done.SafetyBackup, err = o.SafetyBackup(ctx)
	if err == nil || !damaged(err) {
		return err
	}
	done.SafetySkipped = "the live database is damaged and can't be backed up: " + err.Error()
	o.Logger.Warn("there is no safety backup: the live database is damaged and can't be backed up", "error", err)
	return nil
}

// damaged reports whether a server said that its own files are missing or wrong.
func damaged(err error) bool {
	var tool *pgtool.Error
	if errors.As(err, &tool) && tool.Damaged {
		return true
	}
	code := postgres.Code(err)
	return code == "XX001" || code == "XX002" || code == "58P01" || code == "58030"
}

func (r *swapRun) swap(ctx context.Context, o *Options, plan Plan, unmade []string, done *Swapped) error {
	story, err := r.keptStory(ctx, o.Live, "restore")
	if err != nil {
		return err
	}
	story.Unmade = unmade
	story.Backup, story.SafetyBackup, story.SafetySkipped = o.Backup.ID, done.SafetyBackup, done.SafetySkipped
	outage, err := databases.Swap(ctx, databases.SwapOptions{
		Live: o.Live, LiveExists: plan.LiveExists, Incoming: o.Into, IncomingComment: pgmedic.OwnComment(o.Backup.Database.Comment),
		Kept: plan.Kept, Target: o.Target, Maintenance: o.Maintenance, Logger: o.Logger, Now: o.Now, Story: story,
	})
	if err != nil {
		return err
	}
	done.OutageSeconds, done.Closed = progress.Seconds(outage), r.closed(ctx, o)
	return nil
}

// keptStory is the story of the live database that is about to be kept. Nothing in
// it is by the clock of this host.
func (r *swapRun) keptStory(ctx context.Context, live, by string) (s pgmedic.Story, err error) {
	s = pgmedic.Story{Pgmedic: pgmedic.StoryKept, Of: live, By: by}
	if s.Comment, err = r.comment(ctx, live); err != nil {
		return s, err
	}
	stories, err := databases.ReadStories(ctx, r.admin)
	if err != nil {
		return s, err
	}
	s.Number = databases.NextNumber(stories, live)
	s.Since, err = databases.ServerTime(ctx, r.admin)
	return s, err
}

// closed reports whether the database that is live now takes no connections. The swap
// is done by then: a failure to read it is only logged.
func (r *swapRun) closed(ctx context.Context, o *Options) (closed bool) {
	err := r.admin.QueryRow(ctx, "SELECT NOT datallowconn FROM pg_catalog.pg_database WHERE datname = $1", o.Live).Scan(&closed)
	if err != nil {
		o.Logger.Warn("cannot tell whether the live database takes connections", "error", postgres.Wrap(err, "read the live database's properties"))
	}
	return closed
}

// comment returns a database's own comment, or empty if there is no such
// database.
func (r *swapRun) comment(ctx context.Context, database string) (string, error) {
	var comment string
	err := r.admin.QueryRow(ctx, `
SELECT coalesce(max(pg_catalog.shobj_description(oid, 'pg_database')), '')
FROM pg_catalog.pg_database WHERE datname = $1`, database).Scan(&comment)
	return comment, postgres.Wrap(err, "read the database's comment")
}
