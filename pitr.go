package pgmedic

import "time"

// PITR is what a drill recovered: a base backup, and WAL up to a moment. Positions are as
// PostgreSQL prints them.
type PITR struct {
	// Target is what was asked for, in words.
	Target string `json:"target"`
	// Drawn says how a random moment was chosen, and Seed from which number: both are empty
	// where the moment was given.
	Drawn string `json:"drawn,omitempty"`
	Seed  string `json:"seed,omitempty"`
	// RestorePoint is the name of the restore point at which the recovery ended: empty where
	// the moment was another one.
	RestorePoint string `json:"restore_point,omitempty"`
	// Timeline is that on which the recovery ended.
	Timeline int64 `json:"timeline"`
	// EndLSN is where the last record ends that was to be replayed. Where it is not known what
	// the WAL up to its end holds, it is where the last one begins that was replayed, or the
	// base backup's end. ReachedLSN is where the last record begins that was replayed: empty
	// where the recovery did not get that far, or had nothing to replay.
	EndLSN     string `json:"end_lsn"`
	ReachedLSN string `json:"reached_lsn,omitempty"`
	// LastCommitLSN and LastCommitAt are of the last transaction that the copy has, by the
	// WAL since the base backup's start: absent where none ended since. Commits is how
	// many are in the WAL that was replayed.
	LastCommitLSN string     `json:"last_commit_lsn,omitempty"`
	LastCommitAt  *time.Time `json:"last_commit_at,omitempty"`
	Commits       int64      `json:"commits"`
	// Chain is the backups that were read: the base backup, then those that it needs if it is
	// incremental, the full one last. Receipts of earlier versions have none.
	Chain []string `json:"chain,omitempty"`
	// RPOSeconds is how long before the drill the newest moment was to which the server could
	// then be recovered: the commits since would have been lost with the server. It is of every
	// drill, whatever moment it recovers, and at most that, because the time is one up to which
	// WAL is known to be stored. Absent where no such time is known.
	RPOSeconds *float64 `json:"rpo_seconds,omitempty"`
	// BaseBytes are the plain bytes of the base backup, WALBytes those of the segments of
	// WAL that were fetched.
	BaseBytes int64 `json:"base_bytes"`
	WALBytes  int64 `json:"wal_bytes"`
	// FetchSeconds is the time for base backup and WAL to be on the disk, ReplaySeconds that
	// until the last record was replayed, OpenSeconds that until the server took
	// connections. Together they are the time to recover.
	FetchSeconds  float64 `json:"fetch_seconds"`
	ReplaySeconds float64 `json:"replay_seconds"`
	OpenSeconds   float64 `json:"open_seconds"`
	// PagesChecked is how many pages of relations were read from the copy's files.
	PagesChecked int64 `json:"pages_checked"`
}
