package catalog

import (
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
)

// Standing is how much is known of a backup.
type Standing struct {
	Proof pgmedic.Proof
	// At is since when it is known.
	At time.Time
	// Claimed is true where the receipts that say so were not authenticated, though
	// the backup is encrypted: anyone who can write to the store may have written
	// them.
	Claimed bool
}

// Proof is Standing without whether it is a claim.
func (e Entry) Proof() (pgmedic.Proof, time.Time) {
	s := e.Standing()
	return s.Proof, s.At
}

// Standing returns how much is known of the backup, and since when. A failed drill
// stands until a later drill succeeds; bytes found damaged stand until a later
// drill or whole verification succeeds. What a sample found counts where it found
// damage; however many samples there were, they make no backup verified. A backup
// that no key opens has failed whatever was proven before.
//
// Later is what both the receipts and the store say; where they disagree the
// failure stands. A receipt from the future counts for nothing good. On a host
// that has the backup's key, neither does one that is not authenticated. Failures
// count whoever wrote them.
//
// Of an unencrypted backup, on a host that refuses those, no more is known than
// that its bytes are intact; nor of one that no trusted signer signed, where those are
// refused, nor ever of one with a trusted key's signature that does not fit.
func (e Entry) Standing() Standing {
	s := e.Whoever()
	if e.capped && (s.Proof == pgmedic.ProofProven || s.Proof == pgmedic.ProofVerified) {
		s.Proof = pgmedic.ProofIntact
	}
	return s
}

// Refused reports whether this host refuses the backup: it is not encrypted, or no
// trusted signer signed it.
func (e Entry) Refused() bool { return e.capped }

// Whoever is Standing without regard to whether this host refuses the backup. It is for
// what must not be lost to a setting or to a missing file, and not for what to restore.
func (e Entry) Whoever() Standing {
	if e.Unopenable() {
		return Standing{Proof: pgmedic.ProofFailed, At: e.Backup.FinishedAt}
	}
	s := e.standing()
	s.Claimed = s.Claimed || s.Proof != pgmedic.ProofTaken && (e.claims || e.incomplete)
	return s
}

func (e Entry) standing() Standing {
	var drill, verify *pgmedic.Receipt // the newest that succeeded
	var drills, verifies []int
	for i := range e.Receipts { // oldest first
		r := &e.Receipts[i]
		switch {
		case !e.good(i):
		case r.Kind == pgmedic.ReceiptDrill:
			drill, drills = r, append(drills, i)
		case r.Kind == pgmedic.ReceiptVerify && r.Sample == nil:
			verify, verifies = r, append(verifies, i)
		}
	}
	for i := range slices.Backward(e.Receipts) {
		r := &e.Receipts[i]
		if r.Outcome != pgmedic.OutcomeFailed || r.Kind == pgmedic.ReceiptRestore {
			continue
		}
		mended := e.mended(i, drills) || r.Kind == pgmedic.ReceiptVerify && e.mended(i, verifies)
		if !mended {
			return Standing{Proof: pgmedic.ProofFailed, At: r.At, Claimed: !e.fact(i).authentic}
		}
	}
	switch {
	case drill != nil:
		return Standing{Proof: pgmedic.ProofProven, At: drill.At}
	case verify != nil:
		return Standing{Proof: verify.Proof, At: verify.At}
	}
	return Standing{Proof: pgmedic.ProofTaken, At: e.Backup.FinishedAt}
}

// fact is what is known of a receipt beside its contents; an Entry that was not
// listed knows nothing against any.
func (e Entry) fact(i int) fact {
	if i < len(e.facts) {
		return e.facts[i]
	}
	return fact{authentic: true}
}

// good reports whether a receipt counts for what it says was found good. Where all
// that is said of the backup is a claim, claims count.
func (e Entry) good(i int) bool {
	f := e.fact(i)
	return e.Receipts[i].Outcome == pgmedic.OutcomeOK && !f.ahead && (f.authentic || e.claims)
}

// mended reports whether one of the successes is later than a failure.
func (e Entry) mended(failure int, successes []int) bool {
	return slices.ContainsFunc(successes, func(success int) bool { return e.later(success, failure) })
}

// later reports whether a success is later than a failure, by what both its
// receipt and the store say. Of a failure from the future, whose clock was wrong,
// only the store's word counts.
func (e Entry) later(success, failure int) bool {
	s, f := e.fact(success), e.fact(failure)
	if !s.stored.IsZero() && !f.stored.IsZero() {
		if !s.stored.After(f.stored) {
			return false
		}
		if f.ahead {
			return true
		}
	}
	return e.Receipts[success].At.After(e.Receipts[failure].At)
}

// LastDrill returns the newest drill that proved the backup.
func (e Entry) LastDrill() (pgmedic.Receipt, bool) {
	if e.capped {
		return pgmedic.Receipt{}, false
	}
	for i, r := range slices.Backward(e.Receipts) {
		if r.Kind == pgmedic.ReceiptDrill && e.good(i) {
			return r, true
		}
	}
	return pgmedic.Receipt{}, false
}

// ProvenByValue returns when the newest drill ended that compared a copy of the
// backup value by value and found it equal. A drill that is only claimed does not
// count, and none does where something was found bad since.
func (e Entry) ProvenByValue() (at time.Time, ok bool) {
	if s := e.Standing(); s.Proof != pgmedic.ProofProven || s.Claimed {
		return time.Time{}, false
	}
	for i, r := range slices.Backward(e.Receipts) {
		if r.Kind == pgmedic.ReceiptDrill && e.good(i) && e.fact(i).authentic && r.Compared == pgmedic.ComparedValues {
			return r.At, true
		}
	}
	return time.Time{}, false
}

// Authentic reports whether the i-th receipt was checked with the backup's key, or
// is of a backup that has none.
func (e Entry) Authentic(i int) bool { return e.fact(i).authentic }

// FromFuture reports whether the i-th receipt is ahead of this host's clock.
func (e Entry) FromFuture(i int) bool { return e.fact(i).ahead }

// Reads returns the verifications that count for what they read in one store,
// oldest first.
func (e Entry) Reads(store string) []pgmedic.Receipt {
	var reads []pgmedic.Receipt
	for i, r := range e.Receipts {
		f := e.fact(i)
		if r.Kind == pgmedic.ReceiptVerify && r.Store == store && !f.ahead && (f.authentic || e.claims) {
			reads = append(reads, r)
		}
	}
	return reads
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
	for _, r := range e.Reads(store) {
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
