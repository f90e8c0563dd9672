package catalog

import (
	"context"
	"fmt"
)

// Damaged is a backup whose manifest can't be used.
type Damaged struct {
	// ID is the backup's, and Folder is where it is in the store.
	ID     string `json:"id"`
	Folder string `json:"folder"`
	Err    error  `json:"-"`
	// Reason says why.
	Reason string `json:"reason"`
	// Holds keep it from being deleted, and Mark says that it will be.
	Holds []Hold `json:"holds,omitempty"`
	Mark  *Mark  `json:"mark,omitempty"`
}

// damagedOf says of a backup why it can't be used, and what holds and marks it. Where the
// manifest has gone by now, it was deleted while it was read: an error of KindNotFound.
func damagedOf(ctx context.Context, c *Catalog, d *folder, why error) (Damaged, error) {
	if d.manifest {
		if _, err := c.store.Stat(ctx, d.path+"/"+manifestName); err != nil {
			return Damaged{}, fmt.Errorf("look at damaged backup %s once more: %w", d.id, err)
		}
	}
	var e Entry
	if err := readHolds(ctx, c, d, &e); err != nil {
		return Damaged{}, err
	}
	return Damaged{ID: d.id, Folder: d.path, Err: why, Reason: why.Error(), Holds: e.Holds, Mark: e.Mark}, nil
}
