package catalog

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/shrunk"
)

// markShrunk marks the backups of whole databases that have far less than their series: a
// database's on one server, without what restores backed up before they replaced it.
func (l *Listing) markShrunk() {
	type database struct{ server, name string }
	series := map[database][]shrunk.Backup{}
	for _, e := range slices.Backward(l.Entries) { // the oldest first
		if counts(e.Backup) {
			d := database{e.Backup.Server.Name, e.Backup.Database.Name}
			series[d] = append(series[d], held(e))
		}
	}
	falls := map[database]map[string]*shrunk.Fall{}
	for d, backups := range series {
		falls[d] = shrunk.Falls(backups)
	}
	for i := range l.Entries {
		b := l.Entries[i].Backup
		l.Entries[i].Shrunk = nil
		if counts(b) {
			l.Entries[i].Shrunk = falls[database{b.Server.Name, b.Database.Name}][b.ID]
		}
	}
}

// held is what a backup holds, as it is compared with others.
func held(e Entry) shrunk.Backup {
	b := e.Backup
	held := shrunk.Backup{
		ID: b.ID, At: b.StartedAt, Rows: e.Rows, Tables: e.Tables, Announced: b.Labels[shrunk.Label] == shrunk.Expected,
		// Versions of either may write the same rows in another format.
		Written: string(b.Method) + " " + b.Programs.Pgmedic + " " + strconv.Itoa(b.Server.Major()),
	}
	for _, o := range b.Objects {
		switch o.Role {
		case pgmedic.RoleDump, pgmedic.RoleSchema, pgmedic.RoleRest, pgmedic.RolePack:
			held.Bytes += o.PlainBytes
		case pgmedic.RoleGlobals, pgmedic.RoleInventory, pgmedic.RoleSums, pgmedic.RoleRecovery, pgmedic.RoleFiles, pgmedic.RoleServerManifest,
			pgmedic.RoleSettings: // these describe it
		}
	}
	if p := b.Physical; p != nil && p.Kind == pgmedic.PhysicalIncremental {
		held.Bytes = 0 // it has what was changed, and not what the cluster has
	}
	return held
}

// ShrunkSince compares a backup with those before it in the store, of the same database.
// It is nil where it has about as much as they usually have, or where there are none. It
// reads their manifests; those that can't be used are passed over.
func (c *Catalog) ShrunkSince(ctx context.Context, b *pgmedic.Backup) (*shrunk.Fall, error) {
	if !counts(b) {
		return nil, nil
	}
	latest := Latest // may be any of them
	listing, _, _, err := c.list(ctx, Filter{Server: b.Server.Name, Database: b.Database.Name, Cluster: b.Method == pgmedic.MethodPhysical}, &latest)
	if err != nil {
		return nil, fmt.Errorf("read the backups before %s: %w", b.ID, err)
	}
	listing.markShrunk()
	for _, e := range listing.Entries {
		if e.Backup.ID == b.ID {
			return e.Shrunk, nil
		}
	}
	return nil, nil
}
