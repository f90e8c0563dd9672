package main

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/inspect"
	"github.com/pgmedic/pgmedic/internal/shrunk"
	"github.com/pgmedic/pgmedic/internal/words"
)

// filter is the part of the catalogue that latest means: the configured
// server's and database's, as far as they are configured.
func (bs backups) filter() (catalog.Filter, error) {
	t, err := bs.servers.target()
	if err != nil {
		return catalog.Filter{}, err
	}
	// Where base backups are configured the latest is the latest of those.
	cluster := bs.cfg.Backup.Method == string(pgmedic.MethodPhysical)
	return catalog.Filter{Server: bs.cfg.Server, Database: databaseName(t), Cluster: cluster, Now: bs.now()}, nil
}

// named is which backup arguments name: an id, which is looked for everywhere, or latest
// among the configured database's.
func (bs backups) named(args []string) (ref string, f catalog.Filter, err error) {
	if len(args) > 0 && args[0] != catalog.Latest {
		return args[0], catalog.Filter{}, nil
	}
	f, err = bs.filter()
	return catalog.Latest, f, err
}

// get finds the one backup that arguments name.
func (bs backups) get(ctx context.Context, c *catalog.Catalog, args []string) (catalog.Entry, error) {
	ref, f, err := bs.named(args)
	if err != nil {
		return catalog.Entry{}, err
	}
	e, err := c.Get(ctx, ref, f)
	if err == nil {
		bs.trail.aboutBackup(e.Backup)
	}
	return e, err
}

// judged is get with the receipts authenticated, where this host can.
func (bs backups) judged(ctx context.Context, c *catalog.Catalog, args []string) (catalog.Entry, error) {
	ref, f, err := bs.named(args)
	if err != nil {
		return catalog.Entry{}, err
	}
	return c.Get(ctx, ref, bs.keys.trusting(f))
}

// choose returns the backups that are named, or all; problem is what is
// wrong with others of all.
func (bs backups) choose(ctx context.Context, c *catalog.Catalog, args []string, all bool) (entries []catalog.Entry, problem, err error) {
	if all {
		listing, err := c.List(ctx, bs.keys.trusting(catalog.Filter{}))
		if err != nil {
			return nil, nil, err
		}
		for _, d := range listing.Damaged {
			problem = errors.Join(problem, d.Err)
		}
		if n := len(listing.Orphans); n > 0 {
			bs.log.Warn("folders without a manifest were not verified: runs that never finished, or are going on; pgmedic list --orphans shows them", "folders", n)
		}
		for _, e := range listing.Entries {
			bs.trail.aboutBackup(e.Backup)
		}
		return listing.Entries, problem, nil
	}
	if len(args) == 0 {
		args = []string{catalog.Latest}
	}
	for _, ref := range args {
		e, err := bs.get(ctx, c, []string{ref})
		if err != nil {
			return nil, nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil, nil
}

// shrunkSince compares a backup with those before it, and warns where it can't. Compared is
// false then.
func (bs backups) shrunkSince(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup) (fall *shrunk.Fall, compared bool) {
	ctx, cancel := context.WithTimeout(ctx, inspect.StorePatience)
	defer cancel()
	s, err := c.ShrunkSince(ctx, b)
	if err != nil {
		bs.log.Warn("the backup was not compared with those before it", "backup", b.ID, "error", words.OneLine(err.Error()))
	}
	return s, err == nil
}

// inUseFor is when a hold of a run that was killed ends by itself: no restore takes longer.
const inUseFor = 7 * 24 * time.Hour

// holdInUse holds a backup while a restore or a drill reads it, where a prune could
// delete it meanwhile: one that is marked, or any if marks are short. The caller calls
// done at the end. A restore goes on if it can't be held.
func (bs backups) holdInUse(ctx context.Context, c *catalog.Catalog, e catalog.Entry, by string) (done func(), err error) {
	if e.Mark == nil && bs.cfg.Retention.Grace >= deadAfter {
		return func() {}, nil
	}
	h := catalog.Hold{
		Name: "in-use-" + strings.ToLower(rand.Text()[:8]), By: bs.userName(), Host: hostName(), At: bs.now().UTC(),
		Reason: "a " + by + " reads it", Until: bs.now().UTC().Add(inUseFor),
	}
	err = c.AddHold(ctx, e.Backup, h)
	switch {
	case err != nil && (ctx.Err() != nil || pgmedic.KindOf(err) == pgmedic.KindNotFound):
		return nil, err
	case err != nil:
		if e.Mark != nil {
			bs.log.Warn("the backup is marked for deletion and can't be held: a prune may delete it meanwhile", "backup", e.Backup.ID, "error", words.OneLine(err.Error()))
		}
		return func() {}, nil
	}
	if e.Mark != nil {
		bs.log.Warn("the backup is marked for deletion: it is held while it is read", "backup", e.Backup.ID, "hint", "to keep it: pgmedic hold "+e.Backup.ID+" --reason …")
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), inspect.StorePatience)
		defer cancel()
		if err := c.RemoveHold(ctx, e.Backup, h.Name); err != nil {
			bs.log.Warn("the hold of a backup that was read is left; it ends by itself", "backup", e.Backup.ID, "hold", h.Name, "until", h.Until, "error", words.OneLine(err.Error()))
		}
	}, nil
}

// countsOnly says why the rows of a restored copy are only counted; empty means that
// they are compared value by value. Asked is what --compare says.
func (bs backups) countsOnly(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, asked string) (string, error) {
	switch pgmedic.Comparison(asked) {
	case pgmedic.ComparedValues:
		return "", nil
	case pgmedic.ComparedCounts:
		return "not compared, as was asked for", nil
	}
	e, err := c.Get(ctx, b.ID, bs.keys.trusting(catalog.Filter{}))
	if err != nil {
		return "", err
	}
	if at, ok := e.ProvenByValue(); ok {
		return "not compared again: the drill of " + at.UTC().Format("2006-01-02 15:04:05Z") + " proved this backup by value (--compare values compares)", nil
	}
	return "", nil
}
