package swap

import (
	"context"
	"fmt"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore"
)

// Left is what dead restores of a database left behind.
type Left struct {
	// Ready is the newest copy that is loaded and was compared, or nil.
	Ready *databases.Kept
	// Last is what the last swap or rollback set aside, or nil.
	Last *databases.Kept
	// PassedOver says why each of the others is not taken, a line each.
	PassedOver []string
}

// FindLeft looks for what dead restores of a database left. It holds no lock: a
// restore that is at work has such a copy, too, and Resume finds out.
func FindLeft(ctx context.Context, o Options) (Left, error) {
	if o.Maintenance == "" {
		o.Maintenance = postgres.DefaultMaintenance
	}
	conn, err := postgres.Connect(ctx, o.Target.WithDatabase(o.Maintenance))
	if err != nil {
		return Left{}, err
	}
	defer postgres.Close(ctx, conn)
	stories, err := databases.ReadStories(ctx, conn)
	return findLeft(stories, o.Live), err
}

// findLeft accepts a copy whose owner is not that of the live database where there is no
// live one: the owner that the backup gives it is known once the backup is.
func findLeft(stories []databases.Kept, live string) (left Left) {
	for _, k := range stories { // newest first
		if k.Story.Of != live || k.Name == live {
			continue
		}
		ready := k.Story.Pgmedic == pgmedic.StoryReady
		if !ready && k.Story.Pgmedic != pgmedic.StoryKept {
			continue
		}
		why := k.Distrust()
		switch {
		case k.Invalid:
			why = "its DROP DATABASE was interrupted"
		case ready && k.LiveOwner == "":
			why = ""
		}
		switch {
		case why != "":
			left.PassedOver = append(left.PassedOver, fmt.Sprintf("%s: %s", k.Name, why))
		case ready && left.Ready == nil:
			left.Ready = &k
		case !ready && left.Last == nil:
			left.Last = &k
		}
	}
	return left
}

// Resume mends what a killed restore of a database left. A copy that was loaded
// and compared is compared again and swapped in, as Replace would have gone on;
// o.Backup must be the one that its story names. A half-loaded copy is dropped. A
// swap that had taken place is finished: that it was is in Swapped.Before.
// Nothing left and no swap ever is an error of KindNotFound.
func Resume(ctx context.Context, o Options) (*Swapped, error) {
	run, err := beginSwap(ctx, &o)
	if err != nil {
		return nil, err
	}
	defer run.end(ctx)
	stories, err := databases.ReadStories(ctx, run.admin)
	if err != nil {
		return nil, err
	}
	left := findLeft(stories, o.Live)
	for _, why := range left.PassedOver {
		o.Logger.Warn("a database that says a restore left it is passed over", "reason", why)
	}
	if left.Ready == nil {
		return run.tidy(ctx, &o, left)
	}
	return run.resume(ctx, &o, *left.Ready)
}

// tidy is Resume where there is no copy to swap in.
func (r *swapRun) tidy(ctx context.Context, o *Options, left Left) (*Swapped, error) {
	dropped, err := r.sweep(ctx, o, "")
	if err != nil {
		return nil, err
	}
	done := &Swapped{Database: o.Live, Dropped: dropped}
	if left.Last != nil {
		s := left.Last.Story
		done.Before, done.Incoming, done.Since, done.Kept = true, s.Backup, s.Since, left.Last.Name
		done.BackupID, done.SafetyBackup, done.SafetySkipped = s.Backup, s.SafetyBackup, s.SafetySkipped
		if c := unmadeCheck(s.Unmade); c != nil {
			done.Checks, done.Incomplete = []pgmedic.Check{*c}, true
		}
		// All else is in the swap's transaction; this comes after it.
		done.Standbys = r.endOnStandbys(ctx, o, Plan{LiveExists: true, liveOID: left.Last.OID})
		return done, nil
	}
	if len(dropped) == 0 {
		return nil, pgmedic.Errorf(pgmedic.KindNotFound, "start a restore with `pgmedic restore --swap`",
			"no restore of database %q was cut short%s", o.Live, passedOverWords(left.PassedOver))
	}
	return done, nil
}

// resume goes on with a copy that is ready. If the swap fails, the copy
// stays, to be resumed again, unless it turned out to be wrong.
func (r *swapRun) resume(ctx context.Context, o *Options, ready databases.Kept) (*Swapped, error) {
	if o.Backup == nil || o.Backup.ID != ready.Story.Backup {
		return nil, fmt.Errorf("restore: Resume needs backup %s, which %s was loaded from", ready.Story.Backup, ready.Name)
	}
	if why := ready.Distrust(o.Backup.Database.Owner); why != "" {
		return nil, pgmedic.Errorf(pgmedic.KindConflict, "rename or drop it, and start the restore again",
			"database %q says that a restore loaded it, and is not trusted: %s", ready.Name, why)
	}
	o.Into, o.Of = ready.Name, o.Live
	if err := o.Check(); err != nil {
		return nil, err
	}
	plan, err := r.plan(ctx, o, databases.DerivedName(o.Live, "__before_"+newSuffix()))
	if err != nil {
		return nil, err
	}
	plan.Resumed = ready.Name
	if o.Confirm != nil {
		if err := o.Confirm(plan); err != nil {
			return nil, err
		}
	}
	dropped, err := r.sweep(ctx, o, ready.Name)
	if err != nil {
		return nil, err
	}
	// Once more, to know which the server refuses.
	refused, err := databases.ApplySettings(ctx, r.admin, o.Into, o.Backup.Database)
	if err != nil {
		return nil, err
	}
	done, err := r.replace(ctx, o, plan, &restore.Loaded{RefusedSettings: refused, RefusedBefore: ready.Story.Refused, Withheld: ready.Story.Refused > 0})
	if err != nil {
		return nil, err
	}
	done.Dropped = dropped
	done.Checks = append([]pgmedic.Check{{
		Name: "bytes read", Outcome: pgmedic.OutcomeSkipped,
		Detail: "an earlier run, which was killed, loaded the copy and hashed what it read; this one read the definitions to compare with, and no rows",
	}}, done.Checks...)
	return done, nil
}
