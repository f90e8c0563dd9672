package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/lease"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/words"
)

// The names of objects in a backup's folder (docs/format.md).
const (
	manifestObject = "manifest.json"
	holdPrefix     = "hold-"
)

// damaged finds the backup that is meant among those whose manifest can't be used, in the
// stores that were named or in all, and adds its id to those that fit.
func (cmd *deleteCommand) damaged(at retained, names []string, ids map[string]bool) (rows []deletedRow) {
	for _, s := range at {
		if len(names) > 0 && !slices.Contains(names, s.Name) {
			continue
		}
		for _, d := range s.listing.Damaged {
			if catalog.MatchesID(d.ID, cmd.id) {
				ids[d.ID] = true
				row := deletedRow{Store: s.Name, ID: d.ID, Proof: pgmedic.ProofFailed, Kept: []string{}, folder: d.Folder}
				if pgmedic.KindOf(d.Err) == pgmedic.KindUsage { // such as a newer format
					row.Kept = append(row.Kept, "this host can't read it: "+words.OneLine(d.Reason))
				}
				rows = append(rows, row)
			}
		}
	}
	return rows
}

// keptDamaged says what keeps a damaged backup: a hold, by its name, since its content may be
// as damaged; what reads or needs it; a lock of the store, and whatever keeps all of that.
func (cmd *deleteCommand) keptDamaged(ctx context.Context, at retained, rows []deletedRow) error {
	for i := range rows {
		r := &rows[i]
		s := at.named(r.Store)
		if s.stop != "" {
			r.Kept = append(r.Kept, s.stop)
		}
		for o, err := range s.catalog.Store().List(ctx, r.folder+"/") {
			if err != nil {
				return fmt.Errorf("look at damaged backup %s in %s: %w", r.ID, r.Store, err)
			}
			r.Bytes += o.SizeBytes
			if strings.HasPrefix(path.Base(o.Key), holdPrefix) && path.Dir(o.Key) == r.folder {
				r.Kept = append(r.Kept, "it is held")
			}
		}
		if err := cmd.usersOfDamaged(ctx, s, r); err != nil {
			return fmt.Errorf("look at damaged backup %s in %s: %w", r.ID, r.Store, err)
		}
		of := []retention.Orphan{{Store: r.Store, Orphan: catalog.Orphan{ID: r.ID, Folder: r.folder}, Verdict: retention.Delete}}
		if err := cmd.retainer.stores.planLocks(ctx, at, nil, of); err != nil {
			return fmt.Errorf("look at damaged backup %s in %s: %w", r.ID, r.Store, err)
		}
		if of[0].Verdict != retention.Delete {
			r.Kept = append(r.Kept, strings.TrimPrefix(of[0].Reason, "; "))
		}
	}
	return nil
}

// usersOfDamaged adds what reads a damaged backup, and the incremental one that needs it: it
// can be mended from another store. Of which cluster it is only its manifest says.
func (cmd *deleteCommand) usersOfDamaged(ctx context.Context, s *heldStore, r *deletedRow) error {
	server, _ := folderNames(r.folder)
	if child := s.needing(server, r.ID); child != "" {
		r.Kept = append(r.Kept, "backup "+child+" is incremental and needs it")
	}
	systems, err := archive.Systems(ctx, s.catalog.Store(), server)
	if err != nil {
		return err
	}
	for _, system := range systems {
		leases, err := lease.Read(ctx, archive.New(s.catalog.Store(), server, system), time.Time{}) // all of them
		if err != nil {
			return err
		}
		why, err := s.leasedByItsClock(ctx, leases, r.ID)
		if err != nil {
			return err
		}
		if why != "" {
			r.Kept = append(r.Kept, why)
		}
	}
	return nil
}

// stillDamaged looks once more, since the question may have waited: at whether the manifest
// still can't be used, and at what keeps the backup.
func (cmd *deleteCommand) stillDamaged(ctx context.Context, at retained, r *deletedRow) error {
	server, _ := folderNames(r.folder)
	listing, err := at.named(r.Store).catalog.List(ctx, cmd.retainer.keys.trusting(catalog.Filter{Server: server, Now: cmd.now()}))
	if err != nil {
		return fmt.Errorf("look at damaged backup %s in %s: %w", r.ID, r.Store, err)
	}
	now := []deletedRow{{Store: r.Store, ID: r.ID, folder: r.folder}}
	if err := cmd.keptDamaged(ctx, at, now); err != nil {
		return err
	}
	if !slices.ContainsFunc(listing.Damaged, func(d catalog.Damaged) bool { return d.Folder == r.folder }) {
		now[0].Kept = append(now[0].Kept, "it is not damaged any more, or has gone")
	}
	if len(now[0].Kept) > 0 {
		return pgmedic.Errorf(pgmedic.KindConflict, "look at it with `pgmedic show "+r.ID+"`", "in %s it was not deleted: %s", r.Store, strings.Join(now[0].Kept, "; "))
	}
	return nil
}

// removeDamaged marks a damaged backup and deletes it: what could be taken for its manifest
// first, as of others.
func (cmd *deleteCommand) removeDamaged(ctx context.Context, at retained, r *deletedRow, mark catalog.Mark) error {
	if err := cmd.stillDamaged(ctx, at, r); err != nil {
		return err
	}
	s := at.named(r.Store)
	err := s.catalog.Mark(ctx, r.folder, mark)
	if err == nil {
		err = s.catalog.Store().Delete(ctx, r.folder+"/"+manifestObject)
	}
	kept := ""
	if err == nil || errors.Is(err, store.ErrNotFound) {
		kept, err = s.catalog.RemoveOrphan(ctx, catalog.Orphan{Folder: r.folder})
	}
	switch {
	case errors.Is(err, store.ErrLocked):
		return pgmedic.Errorf(pgmedic.KindConflict, "wait until the lock is over, and run it again", "in %s damaged backup %s is locked by the store: %w", r.Store, r.ID, err)
	case err != nil:
		return pgmedic.Errorf(pgmedic.KindOf(err), "run it again; if it is not found then, `pgmedic prune` deletes what is left of it", "in %s: %w", r.Store, err)
	case kept != "":
		return pgmedic.Errorf(pgmedic.KindConflict, "look at it with `pgmedic show "+r.ID+"`", "in %s it was not deleted: %s", r.Store, kept)
	}
	return nil
}
