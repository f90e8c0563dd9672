package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/chain"
)

// withParents adds to the backups that are copied those that incremental ones need and that the
// other store lacks, each before its children: none is listed there that can't be restored.
func withParents(ctx context.Context, from, to *catalog.Catalog, entries []catalog.Entry) (all []catalog.Entry, err error) {
	listings := map[string][2][]catalog.Entry{} // by server: from, to
	planned := map[string]bool{}
	for _, e := range entries {
		p := e.Backup.Physical
		if p == nil || p.Kind != pgmedic.PhysicalIncremental {
			continue
		}
		server := e.Backup.Server.Name
		stores, read := listings[server]
		if !read {
			for i, c := range []*catalog.Catalog{from, to} {
				listing, err := c.List(ctx, catalog.Filter{Server: server, Cluster: true})
				if err != nil {
					return nil, fmt.Errorf("list what backup %s needs: %w", e.Backup.ID, err)
				}
				stores[i] = listing.Entries
			}
			listings[server] = stores
		}
		needed, err := chain.Of(e.Backup, backupsOf(stores[0]))
		if err != nil {
			return nil, err
		}
		for _, b := range needed[1:] {
			is := func(o catalog.Entry) bool { return o.Backup.ID == b.ID }
			wanted := slices.ContainsFunc(entries, is)
			if !wanted && !planned[b.ID] && !slices.ContainsFunc(stores[1], is) {
				planned[b.ID] = true
				all = append(all, catalog.Entry{Backup: b})
			}
		}
	}
	all = append(all, entries...)
	// Parents before their children, the rest as it was.
	slices.SortStableFunc(all, func(a, b catalog.Entry) int { return depthOf(a) - depthOf(b) })
	return all, nil
}

func depthOf(e catalog.Entry) int {
	if e.Backup.Physical == nil {
		return 0
	}
	return e.Backup.Physical.Depth
}

// parentFailed refuses to copy what needs a backup that was not copied.
func parentFailed(e catalog.Entry, failed map[string]bool) error {
	if p := e.Backup.Physical; p != nil && p.Parent != "" && failed[p.Parent] {
		return pgmedic.Errorf(pgmedic.KindFailed, "see why the other one was not copied", "backup %s is not copied, because backup %s, which it needs, was not", e.Backup.ID, p.Parent)
	}
	return nil
}
