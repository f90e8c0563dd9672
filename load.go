package pgmedic

// Load is what a backup asked of the server.
type Load struct {
	// Connections is the most sessions that were open at once.
	Connections int `json:"connections"`
	// SnapshotSeconds is how long the snapshot was held: for as long VACUUM
	// could not remove what was deleted meanwhile, and DDL had to wait.
	SnapshotSeconds float64 `json:"snapshot_seconds"`
	// ReadBytes is what the server sent of definitions and rows.
	ReadBytes int64 `json:"read_bytes"`
	// WALBytes is what all sessions of the server wrote meanwhile, on a standby
	// what it replayed; zero where the role may not know.
	WALBytes int64 `json:"wal_bytes,omitempty"`
	// BlockedSessions counts those that were seen to wait for a lock of the
	// backup's, and LongestWaitSeconds is the longest wait that was seen.
	BlockedSessions    int     `json:"blocked_sessions,omitempty"`
	LongestWaitSeconds float64 `json:"longest_wait_seconds,omitempty"`
}
