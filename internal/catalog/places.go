package catalog

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Presence says how much of a backup a store holds.
type Presence string

// How much of a backup a store holds.
const (
	// PresenceComplete means that the manifest is there, which comes last.
	PresenceComplete Presence = "complete"
	// PresencePartial means that something is there and no manifest.
	PresencePartial Presence = "partial"
	// PresenceMissing means that nothing is there.
	PresenceMissing Presence = "missing"
	// PresenceUnknown means that the store could not be asked.
	PresenceUnknown Presence = "unknown"
)

// Presences says how much of each backup is in a store, by the backups' folders,
// from one listing. Manifests are not read: that a copy's bytes are right is for
// a verification to say.
type Presences map[string]Presence

// Presences lists a store for those that match the filter.
func (c *Catalog) Presences(ctx context.Context, f Filter) (Presences, error) {
	folders, err := c.folders(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list the backups in %s: %w", c.store, err)
	}
	all := make(Presences, len(folders))
	for _, d := range folders {
		all[d.path] = PresencePartial
		if d.manifest {
			all[d.path] = PresenceComplete
		}
	}
	return all, nil
}

// Of is how much of one backup is there. It is unknown to a nil Presences.
func (p Presences) Of(folder string) Presence {
	if p == nil {
		return PresenceUnknown
	}
	if have, ok := p[folder]; ok {
		return have
	}
	return PresenceMissing
}

// IDs lists the ids of the backups that match the filter, newest first. No manifest is
// read: some of them may be damaged.
func (c *Catalog) IDs(ctx context.Context, f Filter) ([]string, error) {
	folders, err := c.folders(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list the backups in %s: %w", c.store, err)
	}
	var ids []string
	for _, d := range folders {
		if d.manifest {
			ids = append(ids, d.id)
		}
	}
	slices.SortFunc(ids, func(x, y string) int { return strings.Compare(y, x) })
	return ids, nil
}
