package pgmedic

// SwapRecord says how a restore replaced a live database.
type SwapRecord struct {
	Database string `json:"database"`
	// KeptAs is the name that the replaced database has now, if there was one.
	KeptAs string `json:"kept_as,omitempty"`
	// OutageSeconds is how long the name could not be connected to.
	OutageSeconds float64 `json:"outage_seconds"`
	// SafetyBackupID is the backup taken of the replaced database, and
	// SafetyBackupSkipped the reason why there is none.
	SafetyBackupID      string `json:"safety_backup_id,omitempty"`
	SafetyBackupSkipped string `json:"safety_backup_skipped,omitempty"`
}
