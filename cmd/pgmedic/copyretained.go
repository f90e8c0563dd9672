package main

import (
	"context"
	"slices"

	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/retention"
)

// retainedCopies leaves out the backups that a store of copies does not have, and whose
// retention would delete them there again.
func (cmd *copyCommand) retainedCopies(ctx context.Context, target config.Copy, entries []catalog.Entry) []catalog.Entry {
	policy := policyOf(target.Retention, 0, "")
	if policy.Off() {
		return entries
	}
	var there catalog.Listing
	if to, closed, err := cmd.stores.openPlace(ctx, target.Place(), target.Access, true); err == nil {
		defer closed()
		if there, err = to.List(ctx, catalog.Filter{}); err != nil {
			return entries // the copy itself says what is wrong
		}
	}
	has := func(e catalog.Entry) bool {
		return slices.ContainsFunc(there.Entries, func(o catalog.Entry) bool { return catalog.Key(o.Backup, "") == catalog.Key(e.Backup, "") })
	}
	all := slices.Clone(there.Entries)
	for _, e := range entries {
		if !has(e) {
			e.Mark = nil
			all = append(all, e)
		}
	}
	goes := map[string]bool{}
	for _, s := range retention.PlanStores([]retention.Store{{Name: target.Name, Listing: catalog.Listing{Entries: all}, Policy: policy}}, retention.Options{Now: cmd.now()}) {
		for _, d := range s.Decisions {
			if d.Verdict == retention.Mark {
				goes[catalog.Key(s.Entry(d.ID).Backup, "")] = true
			}
		}
	}
	kept := slices.DeleteFunc(slices.Clone(entries), func(e catalog.Entry) bool { return goes[catalog.Key(e.Backup, "")] && !has(e) })
	if n := len(entries) - len(kept); n > 0 {
		cmd.log.Info("left out what retention would delete there", "copy", target.Name, "backups", n)
	}
	return kept
}
