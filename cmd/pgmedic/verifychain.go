package main

import (
	"context"
	"fmt"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/chain"
)

// chainsVerified says of incremental backups whether what they need is in the store: without it
// bytes that are intact restore nothing. It lists each server's backups once.
type chainsVerified struct {
	c    *catalog.Catalog
	keys keyring
	all  map[string][]*pgmedic.Backup
}

// check returns an error where something is missing. What is there is verified by itself.
func (v *chainsVerified) check(ctx context.Context, b *pgmedic.Backup) error {
	if b.Physical == nil || b.Physical.Kind != pgmedic.PhysicalIncremental {
		return nil
	}
	all, listed := v.all[b.Server.Name]
	if !listed {
		listing, err := v.c.List(ctx, v.keys.trusting(catalog.Filter{Server: b.Server.Name, Cluster: true}))
		if err != nil {
			return fmt.Errorf("look for what backup %s needs: %w", b.ID, err)
		}
		all = backupsOf(listing.Entries)
		v.all[b.Server.Name] = all
	}
	_, err := chain.Of(b, all)
	return err
}
