package retention

import (
	"slices"
	"time"
)

// chainRoot returns the id of the full backup that a backup's chain begins with, or of what
// its chain lacks. Whole is true where all of the chain is there, and nothing bad is known
// of any of it: what relies on a bad backup is not relied on.
func chainRoot(b Backup, byID map[string]Backup) (root string, whole bool) {
	whole = b.sound()
	for range len(byID) {
		if b.Parent == "" {
			return b.ID, whole
		}
		parent, ok := byID[b.Parent]
		if !ok {
			return b.Parent, false
		}
		b, whole = parent, whole && parent.sound()
	}
	return b.ID, false // they need each other
}

// keepChains keeps what is never deleted, whatever the windows, because of the chains that
// backups are in: a full backup and the incremental ones that need it.
//
// A chain rests on its full backup, and much damage is found by a drill alone. So a chain goes
// only once a backup of a newer one is proven: while none of the newest chain is, the newest of
// the chain before stays. Of a database that is never drilled that is one chain more, and not
// all. A proof that is only claimed counts as it does in the windows, and one of a backup that
// this host refuses does not. Where neither chain has incremental backups, it is left to the
// windows.
func keepChains(backups []Backup, keep func(Backup, string)) {
	byID := make(map[string]Backup, len(backups))
	for _, b := range backups {
		byID[b.ID] = b
	}
	roots := map[string]string{}
	var whole []Backup
	for _, b := range backups {
		if root, ok := chainRoot(b, byID); ok {
			roots[b.ID], whole = root, append(whole, b)
		}
	}
	if len(whole) == 0 {
		return
	}
	proven := func(b Backup) bool { return b.Proven && b.sound() }
	// What needs a backup that is bad, or not there, takes the place of none that can be restored.
	newest := whole[0]
	if i := slices.IndexFunc(backups, Backup.sound); backups[i].ID != newest.ID {
		keep(newest, "newest whose chain is whole and was not found bad")
	}
	if i := slices.IndexFunc(whole, proven); i >= 0 && backups[slices.IndexFunc(backups, proven)].ID != whole[i].ID {
		keep(whole[i], "newest proven whose chain is whole and was not found bad")
	}
	root := roots[newest.ID]
	if slices.ContainsFunc(whole, func(b Backup) bool { return roots[b.ID] == root && proven(b) }) {
		return
	}
	i := slices.IndexFunc(whole, func(b Backup) bool { return roots[b.ID] != root })
	if i >= 0 && newest.Parent+whole[i].Parent != "" {
		keep(whole[i], "newest of the chain before, and no backup of the chain of "+root+" is proven yet")
	}
}

// keepParents keeps what kept incremental backups need, as long as them.
func keepParents(backups []Backup, kept map[string][]string, until map[string]time.Time) {
	byID := make(map[string]Backup, len(backups))
	for _, b := range backups {
		byID[b.ID] = b
	}
	// Children come before their parents, unless a clock was set back in between.
	for changed := true; changed; {
		changed = false
		for _, b := range backups {
			parent, ok := byID[b.Parent]
			if !ok || len(kept[b.ID]) == 0 {
				continue
			}
			if why := "backup " + b.ID + " needs it"; !slices.Contains(kept[parent.ID], why) {
				kept[parent.ID], changed = append(kept[parent.ID], why), true
			}
			if until[b.ID].After(until[parent.ID]) {
				until[parent.ID], changed = until[b.ID], true
			}
		}
	}
}

// childOf returns a backup that needs another one. While there is any, the other is not deleted:
// what is deleted is gone before its parent, also where a run breaks off, or a hold keeps the
// child at the last moment.
func childOf(b Backup, backups []Backup) (child Backup, ok bool) {
	i := slices.IndexFunc(backups, func(o Backup) bool { return o.Parent == b.ID && o.ID != b.ID })
	if i < 0 {
		return child, false
	}
	return backups[i], true
}
