package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/monitor"
)

// storePatience bounds how long a report waits for a store.
const storePatience = 30 * time.Second

// readBackups adds to a reading what the store knows of the database's backups,
// where there is a store. One that can't be read is listed as skipped: a report
// on a server does not fail for it.
func (a *app) readBackups(ctx context.Context, r *monitor.Reading) error {
	skip := func(reason string) {
		r.Skipped = append(r.Skipped, monitor.Skipped{Section: monitor.SectionBackups, Query: "store", Reason: oneLine(reason)})
	}
	if place := a.cfg.Backup.Place(); place.Dir != "" {
		// Opening the store would make the folder.
		if _, err := os.Stat(place.Dir); errors.Is(err, fs.ErrNotExist) {
			reason := "there is no folder of backups " + place.Dir
			if !a.cfg.Origin("backup.dir").Given() && !a.cfg.Origin("backup.store").Given() {
				reason = "none is configured, and there is no folder " + place.Dir + ": name it with --store, backup.dir or backup.store"
			}
			skip(reason)
			return nil
		}
	}
	listCtx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	backups, err := a.backupsOf(listCtx, catalog.Filter{
		Server: cmp.Or(a.cfg.Server, r.Server.SystemIdentifier), Database: r.Database,
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		skip(err.Error())
		return nil
	}
	r.Backups = backups
	return nil
}

func (a *app) backupsOf(ctx context.Context, f catalog.Filter) (*monitor.Backups, error) {
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return nil, err
	}
	defer closed()
	listing, err := c.List(ctx, a.trusting(f))
	if err != nil {
		return nil, err
	}
	return backupFacts(listing), nil
}

// backupFacts are what a report tells of a listing.
func backupFacts(listing catalog.Listing) *monitor.Backups {
	facts := &monitor.Backups{Count: len(listing.Damaged)}
	for _, e := range listing.Entries { // newest first
		if e.Backup.Purpose == pgmedic.PurposeSafety {
			continue
		}
		facts.Count++
		known := e.Standing()
		proof := known.Proof
		state := &monitor.BackupState{
			ID: e.Backup.ID, SnapshotAt: e.Backup.SnapshotAt.UTC(), Proof: proof, ProofAt: known.At.UTC(), Claimed: known.Claimed,
		}
		if drill, ok := e.LastDrill(); ok {
			state.RecoverySeconds = drill.RecoverySeconds
		}
		if facts.Newest == nil {
			facts.Newest = state
		}
		if s := e.Shrunk; s != nil && facts.Shrunk == nil {
			facts.Shrunk = &monitor.ShrunkBackup{
				ID: e.Backup.ID, SnapshotAt: state.SnapshotAt, Before: s.Before,
				RowsBefore: s.RowsBefore, Rows: s.Rows, TablesBefore: s.TablesBefore, Tables: s.Tables,
			}
		}
		if facts.Proven == nil && proof == pgmedic.ProofProven {
			facts.Proven = state
		}
	}
	if len(listing.Damaged) > 0 && (facts.Newest == nil || listing.Damaged[0].ID > facts.Newest.ID) {
		id := listing.Damaged[0].ID
		// An id begins with the second in which its backup began.
		if at, err := time.Parse("20060102T150405Z", id[:min(len(id), 16)]); err == nil {
			facts.Newest = &monitor.BackupState{ID: id, SnapshotAt: at, Proof: pgmedic.ProofFailed, ProofAt: at}
		}
	}
	return facts
}
