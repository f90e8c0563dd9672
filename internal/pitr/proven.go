package pitr

import (
	"cmp"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/chain"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// Proof is a moment that a drill recovered the cluster to, and to which it can still be
// recovered in the same way: the base backups and the WAL are all there.
type Proof struct {
	// Timeline is the one whose moments these are. The drill may have ended on an earlier one
	// that it came from, before it left that.
	Timeline wal.Timeline `json:"timeline"`
	// Until is where the last record ends that the drill replayed, and a time up to which all
	// commits are before it: zero where none is known.
	Until wal.Point `json:"until"`
	// Backups are those that the drill restored: the base backup, then those that it needs if
	// it is incremental, the full one last.
	Backups   []string  `json:"backups"`
	DrilledAt time.Time `json:"drilled_at"`
}

// Proven returns the newest moment of a timeline that a drill has proven: the one furthest
// along the WAL. With the id of a base backup it is of drills that began with that one. It is
// false where nothing is proven.
func (c *Cluster) Proven(t wal.Timeline, base string) (p Proof, ok bool) {
	for _, one := range c.Proofs {
		if one.Timeline == t && (base == "" || one.Backups[0] == base) {
			p, ok = one, true
		}
	}
	return p, ok
}

// prove reads which moments drills have proven, out of the receipts of base backups that a
// recovery can begin with.
func (c *Cluster) prove(in wal.Inputs, entries []catalog.Entry) {
	all := make([]*pgmedic.Backup, len(entries))
	for i := range entries {
		all[i] = entries[i].Backup
	}
	for _, e := range entries {
		system, base, ok := BaseOf(e)
		if !ok || system != c.SystemIdentifier {
			continue
		}
		parts, err := chain.Of(e.Backup, all)
		if err != nil {
			continue // Restorable leaves it out
		}
		ids := make([]string, len(parts))
		for i, b := range parts {
			ids[i] = b.ID
		}
		for i, r := range e.Receipts {
			if r.Kind != pgmedic.ReceiptDrill || r.PITR == nil || r.Outcome != pgmedic.OutcomeOK || r.Proof != pgmedic.ProofProven || r.BackupID != base.ID || e.FromFuture(i) {
				continue
			}
			proofs := c.proofs(in, base, r)
			switch {
			case len(proofs) == 0:
			case !e.Authentic(i):
				c.ClaimedDrills++
			default:
				for _, p := range proofs {
					p.Backups = ids
					c.Proofs = append(c.Proofs, p)
				}
			}
		}
	}
	slices.SortStableFunc(c.Proofs, func(a, b Proof) int {
		return cmp.Or(cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.Until.LSN, b.Until.LSN), a.DrilledAt.Compare(b.DrilledAt))
	})
}

// proofs are what a receipt proves of each timeline on which its moment can be reached from
// its base backup: none where WAL that the drill replayed is gone.
func (c *Cluster) proofs(in wal.Inputs, base wal.Base, r pgmedic.Receipt) (proofs []Proof) {
	end, err := wal.ParseLSN(r.PITR.EndLSN)
	if err != nil || end < base.Stop || r.PITR.Timeline <= 0 || r.PITR.Timeline > int64(^wal.Timeline(0)) {
		return nil
	}
	drilled := wal.Timeline(r.PITR.Timeline)
	if at := r.PITR.LastCommitAt; at != nil {
		in.Marks = append(slices.Clone(in.Marks), wal.Mark{Timeline: drilled, LSN: end, Time: *at})
	}
	for _, w := range c.Windows {
		if end > w.Until.LSN || !slices.ContainsFunc(w.Bases, func(b wal.Base) bool { return b.ID == base.ID }) {
			continue
		}
		if p, on := in.At(w.Timeline, drilled, end); on {
			proofs = append(proofs, Proof{Timeline: w.Timeline, Until: p, DrilledAt: r.At})
		}
	}
	return proofs
}
