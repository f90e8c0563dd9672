package catalog

import (
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
)

// Proof returns how much is known of the backup, and since when. A failed drill
// stands until a later drill succeeds; bytes found damaged after a drill stand
// until then too. What a sample found counts where it found damage; however many
// samples there were, they make no backup verified. A backup that nobody can open
// has failed whatever was proven before.
func (e Entry) Proof() (pgmedic.Proof, time.Time) {
	if e.Unopenable() {
		return pgmedic.ProofFailed, e.Backup.FinishedAt
	}
	var drill, verify *pgmedic.Receipt
	for i := range e.Receipts { // oldest first
		switch r := &e.Receipts[i]; r.Kind {
		case pgmedic.ReceiptDrill:
			drill = r
		case pgmedic.ReceiptVerify:
			if r.Sample == nil || r.Outcome == pgmedic.OutcomeFailed {
				verify = r
			}
		case pgmedic.ReceiptRestore:
		}
	}
	failed := func(r *pgmedic.Receipt) bool { return r != nil && r.Outcome == pgmedic.OutcomeFailed }
	switch {
	case failed(drill):
		return pgmedic.ProofFailed, drill.At
	case failed(verify) && (drill == nil || verify.At.After(drill.At)):
		return pgmedic.ProofFailed, verify.At
	case drill != nil:
		return pgmedic.ProofProven, drill.At
	case verify != nil && !failed(verify):
		return verify.Proof, verify.At
	}
	return pgmedic.ProofTaken, e.Backup.FinishedAt
}

// LastDrill returns the newest drill that proved the backup.
func (e Entry) LastDrill() (pgmedic.Receipt, bool) {
	for _, r := range slices.Backward(e.Receipts) {
		if r.Kind == pgmedic.ReceiptDrill && r.Outcome != pgmedic.OutcomeFailed {
			return r, true
		}
	}
	return pgmedic.Receipt{}, false
}

// Coverage is how much of a backup was read by verifications and their samples
// in one store.
type Coverage struct {
	// Samples counts the samples among the receipts.
	Samples int `json:"samples"`
	// Objects were read at least once, of OfObjects; OldestAt is when the one was
	// whose last time is the longest ago.
	Objects   int       `json:"objects"`
	OfObjects int       `json:"of_objects"`
	OldestAt  time.Time `json:"oldest_at,omitzero"`
}

// Sampled returns how much was read of the backup in the store of that name.
func (e Entry) Sampled(store string) Coverage {
	c := Coverage{OfObjects: len(e.Backup.Objects)}
	last := map[string]time.Time{}
	for _, r := range e.Receipts { // oldest first
		if r.Kind != pgmedic.ReceiptVerify || r.Store != store {
			continue
		}
		if r.Sample != nil {
			c.Samples++
		}
		for _, check := range r.Checks {
			last[check.Name] = r.At
		}
	}
	for _, o := range e.Backup.Objects {
		at, read := last[o.Name]
		if !read {
			continue
		}
		c.Objects++
		if c.OldestAt.IsZero() || at.Before(c.OldestAt) {
			c.OldestAt = at
		}
	}
	return c
}
