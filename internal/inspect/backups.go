package inspect

import (
	"cmp"
	"context"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

// StorePatience bounds how long a report waits for a store.
const StorePatience = 30 * time.Second

// Backups says where the backups of a database are.
type Backups struct {
	// Missing is why there is no store to be read, or empty.
	Missing string
	// Server is the one whose backups are meant, as its configuration names it. Empty
	// means the server that is read.
	Server string
	// List lists what a filter matches.
	List func(context.Context, catalog.Filter) (catalog.Listing, error)
	// Recovery reads what is stored of the server's WAL, by the name and the system
	// identifier of the server: nil where that is nothing, and nothing is to be. Nil reads
	// none.
	Recovery func(ctx context.Context, server, system string) (*reading.Recovery, error)
}

// read adds to a reading what the store knows of the database's backups. A store that
// can't be read is listed as skipped: a report on a server does not fail for it.
func (b Backups) read(ctx context.Context, r *reading.Reading) error {
	skip := func(reason string) {
		r.Skipped = append(r.Skipped, reading.Skipped{Section: reading.SectionBackups, Query: "store", Reason: words.OneLine(reason)})
	}
	if b.Missing != "" {
		skip(b.Missing)
		return nil
	}
	listCtx, cancel := context.WithTimeout(ctx, StorePatience)
	defer cancel()
	listing, err := b.List(listCtx, catalog.Filter{Server: cmp.Or(b.Server, r.Server.SystemIdentifier), Database: r.Database})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		skip(err.Error())
		return nil
	}
	r.Backups = backupFacts(listing)
	if b.Recovery == nil {
		return nil
	}
	recovery, err := b.Recovery(listCtx, cmp.Or(b.Server, r.Server.SystemIdentifier), r.Server.SystemIdentifier)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		r.Skipped = append(r.Skipped, reading.Skipped{Section: reading.SectionBackups, Query: "stored WAL", Reason: words.OneLine(err.Error())})
		return nil
	}
	r.Recovery = recovery
	return nil
}

// backupFacts are what a report tells of a listing.
func backupFacts(listing catalog.Listing) *reading.Backups {
	facts := &reading.Backups{Count: len(listing.Damaged)}
	for _, e := range listing.Entries { // newest first
		if e.Backup.Purpose == pgmedic.PurposeSafety {
			continue
		}
		facts.Count++
		known := e.Standing()
		proof := known.Proof
		state := &reading.BackupState{
			ID: e.Backup.ID, SnapshotAt: e.Backup.SnapshotAt.UTC(), Proof: proof, ProofAt: known.At.UTC(), Claimed: known.Claimed,
		}
		if drill, ok := e.LastDrill(); ok {
			state.RecoverySeconds = drill.RecoverySeconds
		}
		if facts.Newest == nil {
			facts.Newest = state
		}
		if s := e.Shrunk; s != nil && facts.Shrunk == nil {
			facts.Shrunk = &reading.ShrunkBackup{
				ID: e.Backup.ID, SnapshotAt: state.SnapshotAt, Before: s.Before,
				RowsBefore: s.RowsBefore, Rows: s.Rows, TablesBefore: s.TablesBefore, Tables: s.Tables,
				BytesBefore: s.BytesBefore, Bytes: s.Bytes,
			}
		}
		if facts.Proven == nil && proof == pgmedic.ProofProven {
			facts.Proven = state
		}
	}
	if len(listing.Damaged) > 0 && (facts.Newest == nil || listing.Damaged[0].MayBeNewer(facts.Newest.ID)) {
		id := listing.Damaged[0].ID
		// An id begins with the second in which its backup began.
		if at, err := time.Parse("20060102T150405Z", id[:min(len(id), 16)]); err == nil {
			facts.Newest = &reading.BackupState{ID: id, SnapshotAt: at, Proof: pgmedic.ProofFailed, ProofAt: at}
		}
	}
	return facts
}
