package reading

import (
	"time"

	"github.com/pgmedic/pgmedic"
)

// Backups is what a catalogue knows of the database's backups. Collect leaves it
// nil: whoever has a catalogue fills it in.
type Backups struct {
	// Count is how many there are, without those that a restore took of what it
	// replaced.
	Count int `json:"count"`
	// Newest is the newest of them, Proven the newest that a drill proved, each
	// nil where there is none.
	Newest *BackupState `json:"newest"`
	Proven *BackupState `json:"proven"`
	// Shrunk is the newest of those that have far less than those before them.
	Shrunk *ShrunkBackup `json:"shrunk"`
}

// ShrunkBackup is a backup of a whole database that has half the rows, a third of the
// tables, or half the contents fewer than those before it.
type ShrunkBackup struct {
	ID         string    `json:"id"`
	SnapshotAt time.Time `json:"snapshot_at"`
	// Before is the id of the newest one that has so much more.
	Before       string `json:"before"`
	RowsBefore   int64  `json:"rows_before"`
	Rows         int64  `json:"rows"`
	TablesBefore int    `json:"tables_before"`
	Tables       int    `json:"tables"`
	// BytesBefore and Bytes are those of the contents before compression, both zero where
	// they can't be compared.
	BytesBefore int64 `json:"bytes_before"`
	Bytes       int64 `json:"bytes"`
}

// NewestShrunk reports whether the newest backup is one of those.
func (b *Backups) NewestShrunk() bool {
	return b.Newest != nil && b.Shrunk != nil && b.Newest.ID == b.Shrunk.ID
}

// BackupState is one backup and what is known of it.
type BackupState struct {
	ID string `json:"id"`
	// SnapshotAt is the moment that it holds.
	SnapshotAt time.Time     `json:"snapshot_at"`
	Proof      pgmedic.Proof `json:"proof"`
	ProofAt    time.Time     `json:"proof_at"`
	// Claimed is true where the host that wrote the report can't tell who wrote the
	// receipts that say so.
	Claimed bool `json:"claimed,omitempty"`
	// RecoverySeconds is the time to recover that a drill measured, or zero.
	RecoverySeconds float64 `json:"recovery_seconds"`
}
