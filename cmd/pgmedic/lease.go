package main

import (
	"context"
	"path/filepath"
	"strconv"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/lease"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// clusterKey tells clusters apart.
type clusterKey struct{ server, system string }

func clusterOf(e catalog.Entry) clusterKey {
	return clusterKey{e.Backup.Server.Name, e.Backup.Server.SystemIdentifier}
}

// leasesOf reads the leases of the clusters that have base backups in a listing: those that
// count at a time, and of the zero one all.
func (r retainer) leasesOf(ctx context.Context, c *catalog.Catalog, entries []catalog.Entry, now time.Time) (map[clusterKey][]lease.Lease, error) {
	all := map[clusterKey][]lease.Lease{}
	for _, e := range entries {
		of := clusterOf(e)
		system, err := strconv.ParseUint(of.system, 10, 64)
		if _, read := all[of]; read || e.Backup.Physical == nil || err != nil {
			continue
		}
		if all[of], err = lease.Read(ctx, archive.New(c.Store(), of.server, system), now); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// leased says why a base backup in a store is kept: something reads it.
func (s *heldStore) leased(e catalog.Entry) string {
	if s == nil || e.Backup.Physical == nil {
		return ""
	}
	for _, l := range s.leases[clusterOf(e)] {
		if l.OfBackup(e.Backup.ID) {
			return l.Why()
		}
	}
	return ""
}

// leasedMeanwhile says why a base backup is kept that is about to be deleted: a lease may have
// been taken since the plan was made, while a question waited. It counts by the store's
// clock, with which a deletion by hand does not compare this host's.
func (r retainer) leasedMeanwhile(ctx context.Context, s *heldStore, e catalog.Entry) (why string, err error) {
	all, err := r.leasesOf(ctx, s.catalog, []catalog.Entry{e}, time.Time{})
	if err != nil {
		return "", err
	}
	return s.leasedByItsClock(ctx, all[clusterOf(e)], e.Backup.ID)
}

// leasedByItsClock says which of some leases keeps a base backup, by the store's clock.
func (s *heldStore) leasedByItsClock(ctx context.Context, all []lease.Lease, id string) (why string, err error) {
	var now time.Time
	for _, l := range all {
		if !l.OfBackup(id) {
			continue
		}
		if now.IsZero() {
			if now, err = s.catalog.Clock(ctx); err != nil {
				return "", err
			}
		}
		if l.Holds(now) {
			return l.Why(), nil
		}
	}
	return "", nil
}

// needed returns which backups the plan keeps whatever the windows are, with the reason:
// those that something reads, and, unless that is left out, those that retention.pitr needs.
func (r retainer) needed(stores retained, withoutPITR bool) func(string, catalog.Entry) string {
	pitr := func(string, catalog.Entry) string { return "" }
	if !withoutPITR {
		pitr = r.neededForPITR(stores)
	}
	return func(store string, e catalog.Entry) string {
		if why := stores.named(store).leased(e); why != "" {
			return why
		}
		return pitr(store, e)
	}
}

// leaseOptions are of a lease of the WAL of a recovery, and of its base backup where that is
// read too.
func (j job) leaseOptions(a *archive.Archive, p *recovery.Plan, purpose string, base bool) lease.Options {
	l := lease.Lease{By: j.userName(), Host: hostName(), Purpose: purpose, Backups: []string{}, Spans: append([]wal.Span{
		{Timeline: p.WAL.Base.Timeline, From: p.WAL.Base.Start, To: p.WAL.Base.Stop},
	}, p.WAL.Ranges...)}
	if base {
		l.Backups = []string{p.Backup}
	}
	return lease.Options{Archive: a, Lease: l, Logger: j.log, Now: j.now}
}

// leaseRecovery takes a lease of what a planned recovery reads. What an incremental backup
// needs stays with it.
func (j job) leaseRecovery(ctx context.Context, c *catalog.Catalog, planned *plannedRecovery, purpose string) *lease.Holder {
	return lease.Take(ctx, j.leaseOptions(archive.New(c.Store(), planned.plan.Server, planned.plan.System()), planned.plan, purpose, true))
}

// leaseChain takes a lease of the base backups that an incremental one will need, until what it
// returns is called.
func (j job) leaseChain(ctx context.Context, c *catalog.Catalog, needed []*pgmedic.Backup) (release func()) {
	l := lease.Lease{By: j.userName(), Host: hostName(), Purpose: "backup", Spans: []wal.Span{}}
	for _, b := range needed {
		l.Backups = append(l.Backups, b.ID)
	}
	system, err := strconv.ParseUint(needed[0].Server.SystemIdentifier, 10, 64)
	if err != nil { // which no backup has that was taken of a server
		j.log.Warn("no lease is taken of the backups that this one needs: a prune on another host may delete them", "error", err)
		return func() {}
	}
	held := lease.Take(ctx, lease.Options{Archive: archive.New(c.Store(), needed[0].Server.Name, system), Lease: l, Logger: j.log, Now: j.now})
	return func() { held.Release(ctx) }
}

// renewLease renews the lease of a recovery whose WAL PostgreSQL asks for, piece by piece.
// What it says is for the log: a recovery does not end for it.
func (cmd *walFetchCommand) renewLease(ctx context.Context, a *archive.Archive, p *recovery.Plan) {
	file := filepath.Join(filepath.Dir(cmd.plan), recovery.LeaseFileName)
	if err := lease.Renew(ctx, cmd.leaseOptions(a, p, "recovery", false), file); err != nil {
		cmd.log.Warn("the recovery has no lease of its WAL: a prune on another host may delete it", "error", words.OneLine(err.Error()))
	}
}
