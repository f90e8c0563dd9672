package main

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/inspect"
	"github.com/pgmedic/pgmedic/internal/words"
)

// inUseFor is when a hold of a run that was killed ends by itself: no restore takes longer.
const inUseFor = 7 * 24 * time.Hour

// holdInUse holds a backup while a restore or a drill reads it, where a prune could
// delete it meanwhile: one that is marked, or any if marks are short. The caller calls
// done at the end. That it can't be held is nobody's reason to go without a restore.
func (a *app) holdInUse(ctx context.Context, c *catalog.Catalog, e catalog.Entry, by string) (done func(), err error) {
	if e.Mark == nil && a.cfg.Retention.Grace >= deadAfter {
		return func() {}, nil
	}
	h := catalog.Hold{
		Name: "in-use-" + strings.ToLower(rand.Text()[:8]), By: a.userName(), Host: a.host(), At: a.now().UTC(),
		Reason: "a " + by + " reads it", Until: a.now().UTC().Add(inUseFor),
	}
	err = c.AddHold(ctx, e.Backup, h)
	switch {
	case err != nil && (ctx.Err() != nil || pgmedic.KindOf(err) == pgmedic.KindNotFound):
		return nil, err
	case err != nil:
		if e.Mark != nil {
			a.log.Warn("the backup is marked for deletion and can't be held: a prune may delete it meanwhile", "backup", e.Backup.ID, "error", words.OneLine(err.Error()))
		}
		return func() {}, nil
	}
	if e.Mark != nil {
		a.log.Warn("the backup is marked for deletion: it is held while it is read", "backup", e.Backup.ID, "hint", "to keep it: pgmedic hold "+e.Backup.ID+" --reason …")
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), inspect.StorePatience)
		defer cancel()
		if err := c.RemoveHold(ctx, e.Backup, h.Name); err != nil {
			a.log.Warn("the hold of a backup that was read is left; it ends by itself", "backup", e.Backup.ID, "hold", h.Name, "until", h.Until, "error", words.OneLine(err.Error()))
		}
	}, nil
}
