package retention

import (
	"slices"
	"time"
)

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
