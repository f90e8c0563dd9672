package pgmedic

import "time"

// ReceiptFormat is the format number of a Receipt, with the same rules as
// ManifestFormat.
const ReceiptFormat = 1

// ReceiptKind says what was done to a backup.
type ReceiptKind string

// The kinds of receipts.
const (
	// ReceiptVerify reports that stored bytes were read back.
	ReceiptVerify ReceiptKind = "verify"
	// ReceiptDrill reports a restore into a scratch.
	ReceiptDrill ReceiptKind = "drill"
	// ReceiptRestore reports a restore that somebody asked for.
	ReceiptRestore ReceiptKind = "restore"
)

// Outcome is the result of one check, or of all of a receipt's checks.
type Outcome string

// The outcomes of checks.
const (
	OutcomeOK      Outcome = "ok"
	OutcomeWarn    Outcome = "warn"
	OutcomeFailed  Outcome = "failed"
	OutcomeSkipped Outcome = "skipped"
)

// Proof says how much is known of a backup, from least to most. It is derived
// from receipts and never stored.
type Proof string

// The degrees of proof.
const (
	// ProofTaken means that the manifest exists and nothing was read back.
	ProofTaken Proof = "taken"
	// ProofIntact means that the stored bytes have the recorded hashes.
	ProofIntact Proof = "intact"
	// ProofVerified means that every byte decrypts, decompresses and counts.
	ProofVerified Proof = "verified"
	// ProofProven means that a drill restored it and all checks passed.
	ProofProven Proof = "proven"
	// ProofFailed means that the newest attempt at proof found it bad.
	ProofFailed Proof = "failed"
)

// Check is one thing that was checked.
type Check struct {
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	// Detail says what was found, or why the check was skipped. It names
	// objects and counts, never rows.
	Detail string `json:"detail,omitempty"`
	// Items names each thing that is missing or differs, with the reason, where
	// Detail has the first few. It is absent where there are no such things.
	Items []string `json:"items,omitempty"`
	// Hint says what to do about a failure or a warning.
	Hint string `json:"hint,omitempty"`
}

// Comparison says how the content of a restored copy was compared.
type Comparison string

// The ways to compare.
const (
	// ComparedCounts means that the rows of each table were counted.
	ComparedCounts Comparison = "counts"
	// ComparedValues means that every value was compared of every table that the
	// backup has a sum of, with sequences and large objects.
	ComparedValues Comparison = "values"
)

// Receipt is the record of a verify, a drill or a restore. It is stored beside
// the backup, is never rewritten, and carries no weight in a restore.
type Receipt struct {
	Format   int         `json:"format"`
	Kind     ReceiptKind `json:"kind"`
	BackupID string      `json:"backup_id"`
	At       time.Time   `json:"at"`
	Host     string      `json:"host"`
	// Store names the place whose bytes were read; a copy keeps the receipts of
	// the place that it was copied from.
	Store    string   `json:"store,omitempty"`
	Programs Programs `json:"programs"`
	// Sample says how much was read where that is not all.
	Sample *Sample `json:"sample,omitempty"`
	// Outcome is failed if any check failed, else ok.
	Outcome Outcome `json:"outcome"`
	// Proof is the degree that this run reached.
	Proof  Proof   `json:"proof"`
	Checks []Check `json:"checks"`
	Steps  []Step  `json:"steps"`
	// RecoverySeconds is the time from the first byte read to a database that
	// is loaded, indexed and analyzed; zero for a verify. Checks that come
	// after are not part of it.
	RecoverySeconds float64 `json:"recovery_seconds,omitempty"`
	// Compared says how the copy's content was compared; empty where nothing was, or
	// in receipts of versions that only counted.
	Compared Comparison `json:"compared,omitempty"`
	// Counted is how much a drill checked; nil where it did not get that far.
	Counted *Counted `json:"counted,omitempty"`
	Scratch *Scratch `json:"scratch,omitempty"`
	// PITR is there for a drill that recovered a cluster to a moment.
	PITR *PITR `json:"pitr,omitempty"`
	// Swap is there where the restore replaced a live database.
	Swap *SwapRecord `json:"swap,omitempty"`
	// Audit is the head of the host's audit log before the receipt was written; nil
	// where there was none.
	Audit *AuditAnchor `json:"audit,omitempty"`
}

// Failed reports whether any check failed, and names the first that did.
func (r *Receipt) Failed() (Check, bool) {
	for _, c := range r.Checks {
		if c.Outcome == OutcomeFailed {
			return c, true
		}
	}
	return Check{}, false
}
