package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/chain"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// recoveryPlanner plans recoveries of whole clusters from base backups and WAL.
type recoveryPlanner struct {
	job
	keys keyring
	// server is the one whose backups are considered; empty means the configured one.
	server string
}

// plannedRecovery is how a moment is reached: the base backup, what opens it, and the WAL.
type plannedRecovery struct {
	entry catalog.Entry
	key   *seal.Key
	plan  *recovery.Plan
	wal   *archive.Fetcher
	// stored is the WAL that there is.
	stored wal.Stored
}

// plan chooses the backup and plans the recovery. Moves are those of
// recovery.Relocate.
func (p recoveryPlanner) plan(ctx context.Context, c *catalog.Catalog, target wal.Target, moves []string) (*plannedRecovery, error) {
	entries, err := p.candidates(ctx, c, &target)
	if err != nil {
		return nil, err
	}
	server := entries[0].Backup.Server
	system, err := strconv.ParseUint(server.SystemIdentifier, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("read the system identifier of backup %s: %w", entries[0].Backup.ID, err)
	}
	a := archive.New(c.Store(), server.Name, system)
	fetcher, err := a.NewFetcher(ctx, func(_ context.Context, epoch string, wraps []archive.StoredWrap) (*seal.Key, error) {
		return p.keys.openWAL(epoch, wraps)
	})
	if err != nil {
		return nil, err
	}
	survey, err := a.Survey(ctx)
	if err != nil {
		return nil, err
	}
	bases := make([]wal.Base, 0, len(entries))
	for _, e := range entries {
		b, err := baseOf(e.Backup)
		if err != nil {
			return nil, err
		}
		bases = append(bases, b)
	}
	planned, err := fetcher.Plan(ctx, survey, bases, target)
	if err != nil {
		return nil, oddly(err, survey.Odd)
	}
	i := slices.IndexFunc(entries, func(e catalog.Entry) bool { return e.Backup.ID == planned.Base.ID })
	if i < 0 {
		return nil, fmt.Errorf("plan the recovery: backup %q is not in the catalogue", planned.Base.ID)
	}
	j := &plannedRecovery{entry: entries[i], wal: fetcher, stored: survey.Stored}
	if j.entry.Backup, err = c.Whole(ctx, entries[i]); err != nil {
		return nil, err
	}
	if j.key, err = p.keys.readKey(ctx, c, j.entry.Backup); err != nil {
		return nil, err
	}
	if !j.entry.Backup.Clean() {
		p.log.Warn("the backup has pages that were damaged on the server already", "backup", j.entry.Backup.ID, "pages", j.entry.Backup.Physical.BadPages)
	}
	if j.plan, err = p.planOf(j.entry.Backup, planned, target, survey, moves); err != nil {
		return nil, err
	}
	return j, nil
}

// maxDamaged is how many damaged backups are named.
const maxDamaged = 5

// oddly adds to the hint of an error what is not as it should be in the WAL.
func oddly(err error, odd []string) error {
	if len(odd) == 0 || pgmedic.KindOf(err) != pgmedic.KindNotFound {
		return err
	}
	if hint := pgmedic.HintOf(err); hint != "" {
		odd = append([]string{hint}, odd...)
	}
	return pgmedic.Errorf(pgmedic.KindNotFound, strings.Join(odd, "; "), "%w", err)
}

// candidates are the physical backups of one cluster that a recovery can begin with.
func (p recoveryPlanner) candidates(ctx context.Context, c *catalog.Catalog, target *wal.Target) ([]catalog.Entry, error) {
	if target.Base != "" {
		e, err := c.Get(ctx, target.Base, p.keys.trusting(catalog.Filter{}))
		if err != nil {
			return nil, err
		}
		if e.Backup.Physical == nil {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "`pgmedic list` shows which backups are physical; restore this one with --into, --swap or --table", "backup %s is of a database, not of a cluster", e.Backup.ID)
		}
		target.Base = e.Backup.ID
		return []catalog.Entry{e}, nil
	}
	listing, err := c.List(ctx, p.keys.trusting(catalog.Filter{Server: cmp.Or(p.server, p.cfg.Server), Cluster: true}))
	if err != nil {
		return nil, err
	}
	for _, d := range listing.Damaged[:min(len(listing.Damaged), maxDamaged)] {
		p.log.Warn("a damaged backup is not used", "backup", d.ID, "reason", d.Reason)
	}
	if more := len(listing.Damaged) - maxDamaged; more > 0 {
		p.log.Warn("more damaged backups are not used", "count", more)
	}
	entries := slices.DeleteFunc(listing.Entries, func(e catalog.Entry) bool { return e.Backup.Physical == nil })
	if len(entries) == 0 {
		hint := "`pgmedic backup --method physical` takes one"
		if len(listing.Damaged) > 0 {
			return nil, listing.Damaged[0].Err
		}
		return nil, pgmedic.Errorf(pgmedic.KindNotFound, hint, "there is no physical backup in %s", location(c))
	}
	// The newest, and those of the same cluster.
	slices.SortFunc(entries, func(a, b catalog.Entry) int { return b.Backup.StartedAt.Compare(a.Backup.StartedAt) })
	newest := entries[0].Backup.Server
	for _, e := range entries {
		if e.Backup.Server.Name != newest.Name {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "name the server: --server NAME", "there are physical backups of several servers, such as %s and %s", newest.Name, e.Backup.Server.Name)
		}
	}
	entries = slices.DeleteFunc(entries, func(e catalog.Entry) bool { return e.Backup.Server.SystemIdentifier != newest.SystemIdentifier })
	// One whose chain is broken is left to who names it, and sees what is missing.
	whole := wholeChains(entries)
	if len(whole) == 0 {
		_, err := chain.Of(entries[0].Backup, backupsOf(entries))
		return nil, err
	}
	return whole, nil
}

// baseOf is a physical backup as plans know it.
func baseOf(b *pgmedic.Backup) (base wal.Base, err error) {
	p := b.Physical
	base = wal.Base{ID: b.ID, Timeline: wal.Timeline(p.StopTimeline)}
	if base.Start, err = wal.ParseLSN(p.StartLSN); err == nil {
		base.Stop, err = wal.ParseLSN(p.StopLSN)
	}
	if err != nil {
		return base, fmt.Errorf("read where backup %s begins and ends: %w", b.ID, err)
	}
	return base, nil
}

// planOf is what is written into the data folder.
func (p recoveryPlanner) planOf(b *pgmedic.Backup, planned wal.Plan, target wal.Target, survey *archive.Survey, moves []string) (*recovery.Plan, error) {
	plan := &recovery.Plan{
		Format: recovery.PlanFormat,
		Backup: b.ID, Server: b.Server.Name, SystemIdentifier: b.Server.SystemIdentifier, Major: b.Server.VersionNum / 10000,
		SegmentBytes: b.Physical.WALSegmentBytes, MadeAt: p.now().UTC(), Target: target.String(), WAL: planned,
		Through: max(planned.End, planned.Base.Stop),
	}
	for _, h := range survey.Histories {
		if h.Timeline == planned.Timeline {
			plan.Switches = h.Switches
		}
	}
	var err error
	plan.Tablespaces, err = recovery.Relocate(b.Physical.Tablespaces, planned.Tablespaces, moves)
	return plan, err
}

// timeLayouts are the ways to write a time for --to-time.
func timeLayouts() []string {
	return []string{
		"2006-01-02 15:04:05.999999Z07:00", "2006-01-02 15:04:05.999999Z07", "2006-01-02T15:04:05.999999Z07:00", "2006-01-02T15:04:05.999999Z07",
		"2006-01-02 15:04:05.999999 Z07:00", "2006-01-02 15:04:05.999999 MST",
	}
}

// parseMoment reads a time that has its offset from UTC.
func parseMoment(text string) (t time.Time, err error) {
	for _, layout := range timeLayouts() {
		if t, err = time.Parse(layout, text); err != nil {
			continue
		}
		if zone, offset := t.Zone(); offset == 0 && zone != "UTC" && zone != "" && strings.HasSuffix(layout, "MST") {
			err = fmt.Errorf("%q is not a time zone that is known here", zone)
			continue
		}
		return t, nil
	}
	return t, err
}
