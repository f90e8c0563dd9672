package swap

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Rollback puts the newest database that a swap set aside back into its place.
// The one that is live now is displaced and kept in turn, with all writes since
// the swap, so that a rollback can be rolled back. Of the options it reads
// Target, Maintenance, Live, Replicas, StandbysHandled, Confirm, Logger and Now.
//
// Which one was kept last is what the stories count, and the server's clock, never
// this host's. One whose story somebody else could have written, or whose DROP
// DATABASE was begun, is passed over, and named in Plan.PassedOver.
func Rollback(ctx context.Context, o Options) (*Swapped, error) {
	run, err := beginSwap(ctx, &o)
	if err != nil {
		return nil, err
	}
	defer run.end(ctx)
	kept, passedOver, err := run.newestKept(ctx, o.Live)
	if err != nil {
		return nil, err
	}
	for _, why := range passedOver {
		o.Logger.Warn("a database that says it was set aside is passed over", "reason", why)
	}
	plan, err := run.plan(ctx, &o, databases.DerivedName(o.Live, "__displaced_"+newSuffix()))
	if err != nil {
		return nil, err
	}
	plan.Incoming, plan.Since, plan.PassedOver = kept.Name, kept.Story.Since, passedOver
	plan.Closed = plan.Closed || kept.Story.Closed
	owner, err := run.ownerBefore(ctx, &o, kept)
	if err != nil {
		return nil, err
	}
	if o.Confirm != nil {
		if err := o.Confirm(plan); err != nil {
			return nil, err
		}
	}
	failpoint.Hit(ctx, "rollback-confirmed")
	story, err := run.keptStory(ctx, o.Live, "rollback")
	if err != nil {
		return nil, err
	}
	began, cron := o.Now(), run.cronWorks(ctx, &o)
	outage, err := databases.Swap(ctx, databases.SwapOptions{
		Live: o.Live, LiveExists: plan.LiveExists, Incoming: kept.Name, IncomingComment: kept.Story.Comment,
		IncomingOwner: owner, Closed: kept.Story.Closed,
		Kept: plan.Kept, Target: o.Target, Maintenance: o.Maintenance, Logger: o.Logger, Now: o.Now, Story: story,
	})
	if err != nil {
		return nil, err
	}
	done := &Swapped{
		Database: o.Live, Incoming: plan.Incoming, Since: plan.Since, OutageSeconds: progress.Seconds(outage), Seconds: progress.Seconds(o.Now().Sub(began)),
		PassedOver: passedOver, Closed: run.closed(ctx, &o),
	}
	if plan.LiveExists {
		done.Kept = plan.Kept
	}
	run.awaitCron(ctx, &o, cron, done)
	done.Outside, done.Standbys = plan.Outside, run.endOnStandbys(ctx, &o, plan)
	return done, nil
}

// newestKept returns what was kept last of a database, and the reasons why others
// that say so were passed over, a line each.
func (r *swapRun) newestKept(ctx context.Context, live string) (kept databases.Kept, passedOver []string, err error) {
	stories, err := databases.ReadStories(ctx, r.admin)
	if err != nil {
		return kept, nil, err
	}
	now, err := databases.ServerTime(ctx, r.admin)
	if err != nil {
		return kept, nil, err
	}
	for _, k := range stories { // newest first
		if !slices.Contains([]string{pgmedic.StoryKept, pgmedic.StoryDropping}, k.Story.Pgmedic) || k.Story.Of != live {
			continue
		}
		if why := unfit(k); why != "" {
			passedOver = append(passedOver, fmt.Sprintf("%s: %s", k.Name, why))
			continue
		}
		return k, passedOver, refuseKept(k, now)
	}
	hint := "a swap keeps the old database until it is dropped; psql -l shows databases named " + live + "__before_…"
	if len(passedOver) > 0 {
		hint = "look into what was passed over; what is to come back can be renamed by hand: ALTER DATABASE … RENAME TO " + sqltext.QuoteIdent(live) + ";"
	}
	return kept, passedOver, pgmedic.Errorf(pgmedic.KindNotFound, hint,
		"nothing is kept of database %q to roll back to%s", live, passedOverWords(passedOver))
}

// passedOverWords ends a sentence that says nothing was found.
func passedOverWords(reasons []string) string {
	if len(reasons) == 0 {
		return ""
	}
	return "; passed over: " + words.FirstFew(reasons)
}

// unfit returns why a rollback does not take a database whose story says it was set
// aside.
func unfit(k databases.Kept) string {
	switch {
	case k.Invalid:
		return "its DROP DATABASE was interrupted, and nothing in it can be recovered; `pgmedic prune` drops it"
	case k.Story.Pgmedic == pgmedic.StoryDropping:
		return "its DROP DATABASE was begun, and what is left of it may not be whole; `pgmedic prune` drops it"
	}
	return k.Distrust()
}

// refuseKept refuses the database that was kept last where it may be another than
// was kept. An older one in its place would be no better.
func refuseKept(k databases.Kept, now time.Time) error {
	const layout = "2006-01-02 15:04:05Z"
	switch {
	case k.FromFuture(now):
		return pgmedic.Errorf(pgmedic.KindConflict,
			"check the server's clock; or rename by hand what is to come back: ALTER DATABASE "+sqltext.QuoteIdent(k.Name)+" RENAME TO "+sqltext.QuoteIdent(k.Story.Of)+";",
			"database %q says that it was set aside at %s, and the server's clock says that it is %s", k.Name,
			k.Story.Since.UTC().Format(layout), now.UTC().Format(layout))
	case k.Open:
		return pgmedic.Errorf(pgmedic.KindConflict, "if it is still what is to come back: ALTER DATABASE "+sqltext.QuoteIdent(k.Name)+" ALLOW_CONNECTIONS false",
			"database %q was set aside and has been opened to connections since", k.Name)
	}
	return nil
}

// ownerBefore returns the owner that a kept database had, where the swap gave it to
// another role, and empty where it has its own.
func (r *swapRun) ownerBefore(ctx context.Context, o *Options, k databases.Kept) (string, error) {
	if k.Story.Owner == "" {
		return "", nil
	}
	missing, err := databases.MissingRoles(ctx, r.admin, []pgmedic.Role{{Name: k.Story.Owner}})
	if err != nil || len(missing) == 0 {
		return k.Story.Owner, err
	}
	o.Logger.Warn("the role that owned the kept database is gone; its owner stays as it is", "database", k.Name, "role", k.Story.Owner, "owner", k.Owner)
	return "", nil
}
