package main

import (
	"context"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/words"
)

// storedBackups is what the configured stores have, read once for all that is reported.
type storedBackups struct {
	// entries are by database.
	entries map[string][]catalog.Entry
	// unread are the errors of stores that could not be read, in their order.
	unread []error
}

// listed reads what the stores have of one database, or of all where it is empty, unless
// that was done. How long it waits for a store that hangs is up to ctx.
func (n *notifier) listed(ctx context.Context, database string) *storedBackups {
	if n.listing != nil {
		return n.listing
	}
	n.listing = &storedBackups{entries: map[string][]catalog.Entry{}}
	all := n.stores.openAll(ctx)
	defer all.close()
	for _, s := range all {
		err := s.err
		if err == nil {
			var got catalog.Listing
			got, err = s.catalog.List(ctx, n.keys.trusting(catalog.Filter{Server: n.cfg.Server, Database: database, Now: n.now()}))
			for _, e := range got.Entries {
				name := e.Backup.Database.Name
				n.listing.entries[name] = append(n.listing.entries[name], e)
			}
		}
		if err != nil {
			n.listing.unread = append(n.listing.unread, err)
			n.log.Warn("a store could not be read for what is reported", "store", s.Name, "error", words.OneLine(err.Error()))
		}
	}
	return n.listing
}

// recovery says what a database can still be recovered to, from any of the configured
// stores that can be read.
func (n *notifier) recovery(ctx context.Context, database string) *notify.Recovery {
	wanted := database
	if slices.ContainsFunc(n.outcomes.all, func(o outcome) bool { return o.err != nil && o.database != database }) {
		wanted = "" // several are asked about
	}
	got := n.listed(ctx, wanted)
	best := recoverable(got.entries[database])
	if !best.Recoverable && len(got.unread) > 0 {
		return &notify.Recovery{Unknown: words.OneLine(got.unread[0].Error())}
	}
	return best
}

// recoverable chooses the newest proven backup of a whole database, else the newest one
// that nothing is known against.
func recoverable(entries []catalog.Entry) *notify.Recovery {
	var proven, newest *catalog.Entry
	newer := func(e, than *catalog.Entry) bool {
		return than == nil || e.Backup.SnapshotAt.After(than.Backup.SnapshotAt)
	}
	for i := range entries {
		e := &entries[i]
		standing := e.Standing()
		if e.Scope != "" || e.Backup.Partial() || standing.Proof == pgmedic.ProofFailed || e.Refused() {
			continue
		}
		if newer(e, newest) {
			newest = e
		}
		if standing.Proof == pgmedic.ProofProven && newer(e, proven) {
			proven = e
		}
	}
	best := proven
	if best == nil {
		best = newest
	}
	if best == nil {
		return &notify.Recovery{}
	}
	standing := best.Standing()
	r := &notify.Recovery{Recoverable: true, To: best.Backup.SnapshotAt, Backup: best.Backup.ID, Proof: standing.Proof, Claimed: standing.Claimed}
	if receipt, ok := best.LastDrill(); ok && standing.Proof == pgmedic.ProofProven {
		r.Seconds = receipt.RecoverySeconds
	}
	if newest != nil && newest.Backup.SnapshotAt.After(best.Backup.SnapshotAt) {
		r.NewerTo = newest.Backup.SnapshotAt
	}
	return r
}
