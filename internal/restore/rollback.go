package restore

import (
	"context"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// Rollback puts the newest database that a swap set aside back into its place.
// The one that is live now is displaced and kept in turn, with all writes since
// the swap, so that a rollback can be rolled back. Of the options it reads
// Target, Maintenance, Live, Replicas, StandbysHandled, Confirm, Logger and Now.
func Rollback(ctx context.Context, o SwapOptions) (*Swapped, error) {
	run, err := beginSwap(ctx, &o)
	if err != nil {
		return nil, err
	}
	defer run.end(ctx)
	kept, err := run.newestKept(ctx, o.Live)
	if err != nil {
		return nil, err
	}
	plan, err := run.plan(ctx, &o, postgres.DerivedName(o.Live, "__displaced_"+newSuffix()))
	if err != nil {
		return nil, err
	}
	plan.Incoming, plan.Since = kept.Name, kept.Story.Since
	if o.Confirm != nil {
		if err := o.Confirm(plan); err != nil {
			return nil, err
		}
	}
	failpoint.Hit(ctx, "rollback-confirmed")
	comment, err := run.comment(ctx, o.Live)
	if err != nil {
		return nil, err
	}
	began := o.Now()
	outage, err := postgres.Swap(ctx, postgres.SwapOptions{
		Live: o.Live, LiveExists: plan.LiveExists, Incoming: kept.Name, IncomingComment: kept.Story.Comment,
		Kept: plan.Kept, Target: o.Target, Maintenance: o.Maintenance, Logger: o.Logger, Now: o.Now,
		Story: postgres.Story{
			Pgmedic: postgres.StoryKept, Of: o.Live, By: "rollback", Since: o.Now().UTC(), Comment: comment,
		},
	})
	if err != nil {
		return nil, err
	}
	done := &Swapped{Database: o.Live, Incoming: plan.Incoming, Since: plan.Since, OutageSeconds: seconds(outage), Seconds: seconds(o.Now().Sub(began))}
	if plan.LiveExists {
		done.Kept = plan.Kept
	}
	done.Outside, done.Standbys = plan.Outside, run.endOnStandbys(ctx, &o, plan)
	return done, nil
}

func (r *swapRun) newestKept(ctx context.Context, live string) (postgres.Kept, error) {
	stories, err := postgres.ReadStories(ctx, r.admin)
	if err != nil {
		return postgres.Kept{}, err
	}
	for _, k := range stories { // newest first
		if k.Story.Pgmedic != postgres.StoryKept || k.Story.Of != live {
			continue
		}
		if k.Open {
			return k, pgmedic.Errorf(pgmedic.KindConflict, "if it is still what is to come back: ALTER DATABASE "+pgmedic.QuoteIdent(k.Name)+" ALLOW_CONNECTIONS false",
				"database %q was set aside and somebody has opened it to connections since", k.Name)
		}
		return k, nil
	}
	return postgres.Kept{}, pgmedic.Errorf(pgmedic.KindNotFound,
		"a swap keeps the old database until it is dropped; psql -l shows databases named "+live+"__before_…",
		"nothing is kept of database %q to roll back to", live)
}
