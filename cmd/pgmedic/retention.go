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
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/retention"
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
}

// retained are all configured stores.
type retained []*heldStore

// readStores reads what all configured stores hold. One that can't be read has its error.
func (a *app) readStores(ctx context.Context, f catalog.Filter) retained {
	f = a.trusting(f)
	var all retained
	var reading sync.WaitGroup
	for _, s := range a.cfg.Stores() {
		store := &heldStore{StoreOf: s}
		all = append(all, store)
		reading.Go(func() {
			if store.catalog, store.closed, store.err = a.openPlace(ctx, s.Place, s.S3, true); store.err == nil {
				store.listing, store.err = store.catalog.List(ctx, f)
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
		if s.err != nil && !s.absent(r) {
			errs = append(errs, s.err)
		}
	}
	return errors.Join(errs...)
}

// absent reports whether a store is the only one, and a folder that no backup has made
// yet: there is nothing to keep or to delete.
func (s *heldStore) absent(all retained) bool {
	return len(all) == 1 && pgmedic.KindOf(s.err) == pgmedic.KindNotFound
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
}

// planRetention plans for all stores.
func (a *app) planRetention(stores retained, s retentionScope) []retention.Series {
	return retention.PlanStores(stores.policies(s.maxShare, s.staleAfter), retention.Options{Now: a.now(), Displaced: s.displaced, Only: s.only})
}

// planOrphans plans for what has no manifest.
func (a *app) planOrphans(ctx context.Context, stores retained) (all []retention.Orphan) {
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
			if !s.Primary || a.now().Sub(o.NewestAt) < orphanAge {
				return retention.Dead{After: orphanAgeUnasked}
			}
			server, database := folderNames(o.Folder)
			d, done := asked[server+"/"+database]
			if !done {
				d = a.deadness(ctx, server, database)
				asked[server+"/"+database] = d
			}
			return d
		}
		grace := retention.Policy{Grace: s.Retention.Grace}
		planned := retention.PlanOrphans(s.Name, s.listing.Orphans, grace, a.now(), dead)
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
func (a *app) deadness(ctx context.Context, server, database string) retention.Dead {
	unasked := retention.Dead{After: orphanAgeUnasked}
	name, err := a.serverName(ctx)
	if err != nil || name != server {
		return unasked
	}
	t, err := a.target()
	if err != nil {
		return unasked
	}
	lock, err := databases.AcquireRunLock(ctx, t, a.cfg.Database.MaintenanceDatabase, database)
	switch {
	case pgmedic.KindOf(err) == pgmedic.KindConflict && err != nil:
		return retention.Dead{Living: "a run is at work on database " + database}
	case err != nil:
		return unasked
	}
	lock.Release(ctx)
	return retention.Dead{After: orphanAge}
}

// serverName is the name that this host's backups are filed under.
func (a *app) serverName(ctx context.Context) (string, error) {
	if a.cfg.Server != "" {
		return a.cfg.Server, nil
	}
	t, err := a.target()
	if err != nil {
		return "", err
	}
	conn, err := postgres.Connect(ctx, t.WithDatabase(a.cfg.Database.MaintenanceDatabase))
	if err != nil {
		return "", err
	}
	defer postgres.Close(ctx, conn)
	s, err := postgres.ReadServer(ctx, conn)
	if err == nil && s.SystemIdentifier == "" {
		err = pgmedic.Errorf(pgmedic.KindUsage, "name it: --server NAME", "the server does not say which it is")
	}
	return s.SystemIdentifier, err
}

// checkClocks stops the plan of each store whose clock is not this host's.
func (a *app) checkClocks(ctx context.Context, stores retained, plan []retention.Series, orphans []retention.Orphan) (stopped bool) {
	for _, s := range stores {
		if s.err != nil || !changes(s.Name, plan, orphans) {
			continue
		}
		at, err := s.catalog.Clock(ctx)
		if err != nil {
			s.err, stopped = err, true
			continue
		}
		if why := retention.ClockApart(a.now(), at); why != "" {
			s.stop, s.hint, stopped = why, "compare both with a third clock, and run NTP on both", true
		}
	}
	return stopped
}

// changes reports whether the plan writes or deletes in a store.
func changes(store string, plan []retention.Series, orphans []retention.Orphan) bool {
	for _, s := range plan {
		for _, d := range s.Decisions {
			if s.Store == store && (d.Verdict == retention.Mark || d.Verdict == retention.Delete) {
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
	if s.Purpose == pgmedic.PurposeSafety {
		words += ", safety backups"
	}
	if s.Scope != "" {
		words += ", partial backups " + s.Scope
	}
	return words
}

// applyRetention marks, unmarks and deletes what the plan says, and notes what was done.
func (a *app) applyRetention(ctx context.Context, stores retained, plan []retention.Series, orphans []retention.Orphan) error {
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
			if err := a.carryOut(ctx, at, s.Entry(d.ID), d); err != nil {
				errs = append(errs, err)
			}
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
			err = at.catalog.Mark(ctx, o.Folder, catalog.Mark{At: a.now().UTC(), Host: a.host(), Reason: o.Reason})
			o.Done = err == nil
		case retention.Delete:
			var kept string
			if kept, err = at.catalog.RemoveOrphan(ctx, o.Orphan); kept != "" {
				o.Verdict, o.Reason = retention.Keep, kept
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
func (a *app) carryOut(ctx context.Context, s *heldStore, e catalog.Entry, d *retention.Decision) (err error) {
	switch {
	case d.Unmark:
		err = s.catalog.Unmark(ctx, e.Backup, *e.Mark)
	case d.Verdict == retention.Mark:
		err = s.catalog.Mark(ctx, catalog.Folder(e.Backup.Server.Name, e.Backup.Database.Name, e.Backup.ID),
			catalog.Mark{At: a.now().UTC(), Host: a.host(), Reason: d.Why()})
	case d.Verdict == retention.Delete:
		var kept string
		if kept, err = s.catalog.Remove(ctx, e, a.now()); kept != "" {
			d.Verdict, d.Reasons = retention.Keep, []string{kept}
			return err
		}
	default:
		return nil
	}
	d.Done = err == nil
	return err
}
