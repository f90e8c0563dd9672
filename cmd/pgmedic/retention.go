package main

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/lease"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/words"
)

// orphanAge is how long nothing must have been written to what has no manifest before
// it counts as left by a dead run, where the run lock shows that none lives; where that
// can't be asked, as of copies, it is orphanAgeUnasked. A run writes nothing while it
// sends one large object.
const (
	orphanAge        = deadAfter
	orphanAgeUnasked = 7 * 24 * time.Hour
)

// heldStore is one configured store as retention reads it.
type heldStore struct {
	config.StoreOf
	catalog *catalog.Catalog
	closed  func()
	listing catalog.Listing
	// err is why nothing is known of it.
	err error
	// stop says why nothing may be deleted there.
	stop, hint string
	// leases keep what is read of clusters, by server and system identifier.
	leases map[clusterKey][]lease.Lease
	// wal is of each cluster whose WAL is there, where that was read.
	wal []heldWAL
}

// retained are all configured stores.
type retained []*heldStore

// readStores reads what all configured stores hold. One that can't be read has its error.
// Where this host can't read whom it trusts, it can't tell which proofs count, and nothing
// may be deleted anywhere.
func (r retainer) readStores(ctx context.Context, f catalog.Filter) retained {
	var stop, hint string
	if err := r.keys.unreadTrust(); err != nil {
		stop, hint = "it is not known which backups are proven: "+words.OneLine(err.Error()), pgmedic.HintOf(err)
	}
	f = r.keys.trusting(f)
	var all retained
	var reading sync.WaitGroup
	for _, s := range r.cfg.Stores() {
		store := &heldStore{StoreOf: s, stop: stop, hint: hint}
		all = append(all, store)
		reading.Go(func() {
			if store.catalog, store.closed, store.err = r.stores.openPlace(ctx, s.Place, s.Access, true); store.err == nil {
				store.listing, store.err = store.catalog.List(ctx, f)
			}
			if store.err == nil {
				store.leases, store.err = r.leasesOf(ctx, store.catalog, store.listing.Entries, r.now())
			}
		})
	}
	reading.Wait()
	return all
}

func (r retained) close() {
	for _, s := range r {
		if s.closed != nil {
			s.closed()
		}
	}
}

// unread is the error of the stores that could not be read.
func (r retained) unread() error {
	var errs []error
	for _, s := range r {
		if s.err != nil {
			errs = append(errs, s.err)
		}
	}
	return errors.Join(errs...)
}

// policies are what the plan takes of the stores that could be read. Where one could
// not, nothing is deleted in any: its proofs and holds count everywhere.
func (r retained) policies(maxShare float64, staleAfter string) []retention.Store {
	var unread *heldStore
	for _, s := range r {
		if s.err != nil {
			unread = s
		}
	}
	var all []retention.Store
	for _, s := range r {
		if s.err != nil {
			continue
		}
		store := retention.Store{Name: s.Name, Listing: s.listing, Policy: policyOf(s.Retention, maxShare, staleAfter), Stop: s.stop, Hint: s.hint}
		if unread != nil {
			store.Stop = "store " + unread.Name + " can't be read, and what is held or proven there counts here too"
			store.Hint = "make it readable, or take it out of the configuration if it is gone for good"
		}
		all = append(all, store)
	}
	return all
}

// policyOf is a checked configuration as the plan takes it. StaleAfter overrides, where
// it is not empty.
func policyOf(r config.Retention, maxShare float64, staleAfter string) retention.Policy {
	length := func(text string) pgmedic.Length {
		l, err := pgmedic.ParseLength(text)
		if err != nil { // it was checked
			return pgmedic.Length{}
		}
		return l
	}
	if staleAfter == "" {
		staleAfter = r.StaleAfter
	}
	p := retention.Policy{
		Hourly: length(r.Hourly), Daily: length(r.Daily), Weekly: length(r.Weekly), Monthly: length(r.Monthly), Yearly: length(r.Yearly),
		Days: length(r.Days), Last: r.Last, Safety: length(r.Safety), Failed: length(r.Failed), Location: r.Zone(), Grace: r.Grace, MaxShare: maxShare,
	}
	switch r.WeekStarts {
	case "monday":
		p.WeekStarts = time.Monday
	case "saturday":
		p.WeekStarts = time.Saturday
	}
	switch staleAfter {
	case "auto":
	case "off", "0":
		p.StaleAfter = -1
	default:
		day := time.Date(2026, time.July, 1, 0, 0, 0, 0, time.UTC)
		p.StaleAfter = day.Sub(length(staleAfter).Before(day))
	}
	return p
}

// retentionScope is what a plan is made of.
type retentionScope struct {
	// only narrows it to databases; nil is all.
	only func(server, database string) bool
	// displaced reports whether a database of that name may be set aside.
	displaced  func(string) bool
	maxShare   float64
	staleAfter string
	// policy is in the place of those of the configuration. Nil: those.
	policy *retention.Policy
	// withoutPITR keeps none for what retention.pitr promises.
	withoutPITR bool
}

// plan plans for all stores.
func (r retainer) plan(stores retained, s retentionScope) []retention.Series {
	policies := stores.policies(s.maxShare, s.staleAfter)
	for i := range policies {
		if s.policy != nil {
			policies[i].Policy = *s.policy
		}
	}
	return retention.PlanStores(policies, retention.Options{
		Now: r.now(), Displaced: s.displaced, Only: s.only, Needed: r.needed(stores, s.withoutPITR),
	})
}

// planOrphans plans for what has no manifest.
func (r retainer) planOrphans(ctx context.Context, stores retained) (all []retention.Orphan) {
	stops := map[string]string{}
	for _, p := range stores.policies(0, "") {
		stops[p.Name] = p.Stop
	}
	for _, s := range stores {
		if s.err != nil {
			continue
		}
		asked := map[string]retention.Dead{}
		dead := func(o catalog.Orphan) retention.Dead {
			if !s.Primary || r.now().Sub(o.NewestAt) < orphanAge {
				return retention.Dead{After: orphanAgeUnasked}
			}
			server, database := folderNames(o.Folder)
			d, done := asked[server+"/"+database]
			if !done {
				d = r.deadness(ctx, server, database)
				asked[server+"/"+database] = d
			}
			return d
		}
		grace := retention.Policy{Grace: s.Retention.Grace}
		planned := retention.PlanOrphans(s.Name, s.listing.Orphans, grace, r.now(), dead)
		for i := range planned {
			if p := &planned[i]; stops[s.Name] != "" && p.Verdict != retention.Keep {
				p.Verdict, p.Reason = retention.Keep, "nothing is deleted now: "+stops[s.Name]
			}
		}
		all = append(all, planned...)
	}
	return all
}

// folderNames returns the names that a backup's folder is of.
func folderNames(folder string) (server, database string) {
	parts := strings.Split(folder, "/")
	if len(parts) < 2 {
		return "", ""
	}
	var err error
	if server, err = url.PathUnescape(parts[0]); err != nil {
		server = parts[0]
	}
	if database, err = url.PathUnescape(parts[1]); err != nil {
		database = parts[1]
	}
	return server, database
}

// deadness asks the configured server whether a run is at work on a database.
func (r retainer) deadness(ctx context.Context, server, database string) retention.Dead {
	unasked := retention.Dead{After: orphanAgeUnasked}
	name, err := r.servers.serverName(ctx)
	if err != nil || name != server {
		return unasked
	}
	t, err := r.servers.target()
	if err != nil {
		return unasked
	}
	lock, err := databases.AcquireRunLock(ctx, t, r.cfg.Database.MaintenanceDatabase, database)
	switch {
	case pgmedic.KindOf(err) == pgmedic.KindConflict && err != nil:
		return retention.Dead{Living: "a run is at work on database " + database}
	case err != nil:
		return unasked
	}
	lock.Release(ctx)
	return retention.Dead{After: orphanAge}
}

// checkClocks stops the plan of each store whose clock is not this host's.
func (r retainer) checkClocks(ctx context.Context, stores retained, b *prunedBackups) (stopped bool) {
	for _, s := range stores {
		if s.err != nil || !changes(s.Name, b.Series, b.Orphans) && !changesWAL(s.Name, b.WAL) {
			continue
		}
		at, err := s.catalog.Clock(ctx)
		if err != nil {
			s.err, stopped = err, true
			continue
		}
		if why := retention.ClockApart(r.now(), at); why != "" {
			s.stop, s.hint, stopped = why, "compare both with a third clock, and run NTP on both", true
		}
	}
	return stopped
}

// changes reports whether the plan writes, locks or deletes in a store.
func changes(store string, plan []retention.Series, orphans []retention.Orphan) bool {
	for _, s := range plan {
		for _, d := range s.Decisions {
			if s.Store == store && (d.Verdict == retention.Mark || d.Verdict == retention.Delete || d.Unmark || d.Lacks()) {
				return true
			}
		}
	}
	for _, o := range orphans {
		if o.Store == store && (o.Verdict == retention.Mark || o.Verdict == retention.Delete) {
			return true
		}
	}
	return false
}

// stopError is the error of the series in which nothing was deleted.
func stopError(plan []retention.Series) error {
	var errs []error
	for _, s := range plan {
		if s.Stopped != "" {
			errs = append(errs, pgmedic.Errorf(pgmedic.KindFailed, s.Hint, "nothing was deleted of %s in %s: %s", seriesName(s), s.Store, s.Stopped))
		}
	}
	return errors.Join(errs...)
}

// seriesName says in words of what the backups of a series are.
func seriesName(s retention.Series) string {
	words := s.Database + " on " + s.Server
	if s.Database == "" {
		words = "the cluster of " + s.Server
	}
	if s.Purpose == pgmedic.PurposeSafety {
		words += ", safety backups"
	}
	if s.Scope != "" {
		words += ", partial backups " + s.Scope
	}
	return words
}

// apply marks, unmarks and deletes what the plan says, and notes what was done.
func (r retainer) apply(ctx context.Context, stores retained, plan []retention.Series, orphans []retention.Orphan) error {
	var errs []error
	for i := range plan {
		s := plan[i]
		at := stores.named(s.Store)
		for j := range s.Decisions {
			if ctx.Err() != nil {
				return errors.Join(append(errs, context.Cause(ctx))...)
			}
			// The oldest first: what a kill leaves undone is what is worth more.
			d := &s.Decisions[len(s.Decisions)-1-j]
			err := r.carryOut(ctx, at, s.Entry(d.ID), d)
			if err == nil {
				err = r.stores.lockKept(ctx, at, s.Entry(d.ID), d)
			}
			errs = append(errs, err)
		}
	}
	for i := range orphans {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		o := &orphans[i]
		at := stores.named(o.Store)
		var err error
		switch o.Verdict {
		case retention.Mark:
			err = at.catalog.Mark(ctx, o.Folder, catalog.Mark{At: r.now().UTC(), Host: hostName(), Reason: o.Reason})
			o.Done = err == nil
		case retention.Delete:
			var kept string
			if kept, err = at.catalog.RemoveOrphan(ctx, o.Orphan); kept != "" {
				o.Verdict, o.Reason = retention.Keep, kept
			} else if errors.Is(err, store.ErrLocked) {
				o.Verdict, o.Reason, err = retention.Wait, o.Reason+"; locked by the store", nil
				break
			}
			o.Done = err == nil && kept == ""
		case retention.Keep, retention.Wait:
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r retained) named(name string) *heldStore {
	for _, s := range r {
		if s.Name == name {
			return s
		}
	}
	return nil // the plan is made of these stores
}

// carryOut does what was decided of one backup.
func (r retainer) carryOut(ctx context.Context, s *heldStore, e catalog.Entry, d *retention.Decision) (err error) {
	switch {
	case d.Unmark:
		err = s.catalog.Unmark(ctx, e.Backup, *e.Mark)
	case d.Verdict == retention.Mark:
		err = s.catalog.Mark(ctx, catalog.Folder(e.Backup.Server.Name, e.Backup.Database.Name, e.Backup.ID),
			catalog.Mark{At: r.now().UTC(), Host: hostName(), Reason: d.Why()})
	case d.Verdict == retention.Delete:
		var kept string
		if kept, err = r.leasedMeanwhile(ctx, s, e); kept == "" && err == nil {
			kept, err = s.catalog.Remove(ctx, e, r.now())
		}
		if kept != "" {
			d.Verdict, d.Reasons = retention.Keep, []string{kept}
			return err
		}
		if errors.Is(err, store.ErrLocked) {
			// By more than was asked for: the next run finds the mark.
			d.Verdict, d.Reasons = retention.Wait, append(d.Reasons, "locked by the store")
			return nil
		}
	default:
		return nil
	}
	d.Done = err == nil
	return err
}
