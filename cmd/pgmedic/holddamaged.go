package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/immutable"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/words"
)

// markObject is the name of the mark in a backup's folder (docs/format.md).
const markObject = "doomed.json"

// damagedIn is a backup in one store in which its manifest can't be used.
type damagedIn struct {
	store *heldStore
	catalog.Damaged
}

// findDamaged finds the damaged backup that an id means in a store that refused to read it.
// It is nil where that is not why.
func findDamaged(ctx context.Context, s *heldStore, ref string, f catalog.Filter, refusal error) (*damagedIn, error) {
	if pgmedic.KindOf(refusal) != pgmedic.KindIntegrity || ref == catalog.Latest {
		return nil, nil //nolint:nilnil // it is not damaged
	}
	listing, err := s.catalog.List(ctx, f)
	if err != nil {
		return nil, err
	}
	var found *damagedIn
	for _, d := range listing.Damaged {
		if catalog.MatchesID(d.ID, ref) {
			if found != nil {
				return nil, nil //nolint:nilnil // it means several
			}
			found = &damagedIn{s, d}
		}
	}
	return found, nil
}

// refuseHold is why a damaged backup is not held.
func (d damagedIn) refuseHold() error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "pgmedic prune deletes no damaged backup, held or not; if another store has it whole, `pgmedic delete "+d.ID+" --store` and `pgmedic copy` put it there again",
		"in %s it was not held: %w", d.store.Name, d.Err)
}

// unlockDamaged is unlockHeld for a damaged backup.
func (st stores) unlockDamaged(ctx context.Context, d damagedIn, released string) error {
	if !endsLegalHold(d.Holds, released) || !st.unlocks(ctx, d.store, d.ID) {
		return nil
	}
	return immutable.HoldFolder(ctx, d.store.catalog, d.Folder, false)
}

// release releases a hold of a damaged backup, if it is there, and takes the mark off. What
// the note of the hold holds does not matter: its name is that of the object.
func (d damagedIn) release(ctx context.Context, name string) (heldRow, error) {
	row := heldRow{ID: d.ID, Store: d.store.Name, Holds: []catalog.Hold{}, Damaged: true}
	remove := func(object string) error {
		err := d.store.catalog.Store().Delete(ctx, d.Folder+"/"+object)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("release damaged backup %s: %w", d.ID, err)
		}
		return nil
	}
	for _, h := range d.Holds {
		if h.Name != name {
			row.Holds = append(row.Holds, h)
			continue
		}
		if err := remove(holdPrefix + name + ".json"); err != nil {
			return row, err
		}
	}
	if d.Mark != nil {
		if err := remove(markObject); err != nil {
			return row, err
		}
		row.Unmarked = true
	}
	return row, nil
}

// heldBy names the holds of a damaged backup, which are there also where what they say
// can't be read; empty where there are none.
func heldBy(holds []catalog.Hold) string {
	var names []string
	for _, h := range holds {
		names = append(names, fmt.Sprintf("%q", h.Name))
	}
	if len(names) == 0 {
		return ""
	}
	return "held: " + words.Clean(strings.Join(names, ", "))
}
