package reading

import "time"

// Replication is what the server sends and receives. Lags that the server
// doesn't know are nil and not zero: a dead link does not mean a lag of zero.
type Replication struct {
	// CurrentBytes is the server's position in its WAL, in bytes since the
	// cluster began: where a primary writes, or a standby has replayed.
	CurrentBytes *int64 `json:"current_bytes"`
	// Standbys are the processes that this server sends WAL to: physical
	// standbys, logical subscribers, and programs such as pg_receivewal.
	Standbys []Standby `json:"standbys"`
	Slots    []Slot    `json:"slots"`
	// Replay is nil on a primary.
	Replay *Replay `json:"replay"`
	// Conflicts counts what a standby cancelled in the database, nil on a
	// primary.
	Conflicts     *Conflicts     `json:"conflicts"`
	Subscriptions []Subscription `json:"subscriptions"`
	Archiver      *Archiver      `json:"archiver"`
	// ReadyFiles is how many finished WAL files await archiving, nil where it
	// could not be read.
	ReadyFiles *int64 `json:"ready_files"`
	// WALBytes is the size of pg_wal, nil where it could not be read.
	WALBytes *int64 `json:"wal_bytes"`
}

// Standby is one process that WAL is sent to.
type Standby struct {
	PID         int    `json:"pid"`
	Application string `json:"application"`
	User        string `json:"user"`
	Client      string `json:"client"`
	// State is such as streaming or catchup; SyncState is async, potential,
	// sync or quorum.
	State     string `json:"state"`
	SyncState string `json:"sync_state"`
	// Slot is the replication slot that it uses, or empty.
	Slot string `json:"slot"`
	// The bytes are how far it is behind in sending, writing, flushing and
	// replaying. The seconds are the server's own measure, which is nil when
	// the standby has caught up and nothing is written.
	SendLagBytes     *int64   `json:"send_lag_bytes"`
	WriteLagBytes    *int64   `json:"write_lag_bytes"`
	FlushLagBytes    *int64   `json:"flush_lag_bytes"`
	ReplayLagBytes   *int64   `json:"replay_lag_bytes"`
	WriteLagSeconds  *float64 `json:"write_lag_seconds"`
	FlushLagSeconds  *float64 `json:"flush_lag_seconds"`
	ReplayLagSeconds *float64 `json:"replay_lag_seconds"`
	// ReplySeconds is since it was last heard of.
	ReplySeconds *float64 `json:"reply_seconds"`
}

// Slot is a replication slot.
type Slot struct {
	Name string `json:"name"`
	// Type is physical or logical; Plugin and Database are of logical ones.
	Type      string `json:"type"`
	Plugin    string `json:"plugin"`
	Database  string `json:"database"`
	Active    bool   `json:"active"`
	Temporary bool   `json:"temporary"`
	// RetainedBytes is the WAL that is kept for it, nil where it never was
	// used.
	RetainedBytes *int64 `json:"retained_bytes"`
	// WALStatus is reserved, extended, unreserved or lost, and SafeBytes how
	// much may be written until it is lost (nil without
	// max_slot_wal_keep_size), both from PostgreSQL 13.
	WALStatus string `json:"wal_status"`
	SafeBytes *int64 `json:"safe_bytes"`
	// XminAge and CatalogXminAge count transactions that VACUUM keeps rows
	// for, nil where it keeps none.
	XminAge        *int64 `json:"xmin_age"`
	CatalogXminAge *int64 `json:"catalog_xmin_age"`
	// InactiveSince and InvalidationReason are known from PostgreSQL 17.
	InactiveSince      *time.Time `json:"inactive_since"`
	InvalidationReason string     `json:"invalidation_reason"`
}

// Replay is how a standby follows its primary.
type Replay struct {
	// ReceiverStatus is such as streaming, empty where no WAL receiver runs,
	// and hidden where this role may not see it.
	ReceiverStatus string `json:"receiver_status"`
	SenderHost     string `json:"sender_host"`
	Slot           string `json:"slot"`
	// ReceivedBytes and ReplayedBytes are positions in the WAL, in bytes since
	// the cluster began.
	ReceivedBytes *int64 `json:"received_bytes"`
	ReplayedBytes *int64 `json:"replayed_bytes"`
	// MessageSeconds is since the primary was last heard of, nil where no WAL
	// receiver runs or this role may not see it.
	MessageSeconds *float64 `json:"message_seconds"`
	// LastReplayedAt is when the last replayed transaction ended on the
	// primary, and DelaySeconds how long ago that is. On a quiet primary it
	// grows without any lag.
	LastReplayedAt *time.Time `json:"last_replayed_at"`
	DelaySeconds   *float64   `json:"delay_seconds"`
	Paused         bool       `json:"paused"`
}

// Conflicts counts queries that a standby cancelled so that it could replay,
// since StatsReset of Transactions.
type Conflicts struct {
	Tablespace int64 `json:"tablespace"`
	Lock       int64 `json:"lock"`
	Snapshot   int64 `json:"snapshot"`
	BufferPin  int64 `json:"buffer_pin"`
	Deadlock   int64 `json:"deadlock"`
}

// Total is all conflicts.
func (c *Conflicts) Total() int64 {
	return c.Tablespace + c.Lock + c.Snapshot + c.BufferPin + c.Deadlock
}

// Subscription is a logical subscription of the database that was looked at.
type Subscription struct {
	Name string `json:"name"`
	// Slot is the slot on the publisher, empty where it is detached from any.
	Slot    string `json:"slot"`
	Enabled bool   `json:"enabled"`
	// Running is true where its apply worker runs.
	Running bool `json:"running"`
	// MessageSeconds is since the publisher was last heard of.
	MessageSeconds *float64 `json:"message_seconds"`
	// ApplyErrors and SyncErrors count errors from PostgreSQL 15.
	ApplyErrors *int64 `json:"apply_errors"`
	SyncErrors  *int64 `json:"sync_errors"`
	// TablesNotReady counts tables whose first copy has not ended; NotReady names
	// the first 10 of them. SyncWorkers counts the copies that run.
	TablesNotReady int      `json:"tables_not_ready"`
	NotReady       []string `json:"not_ready"`
	SyncWorkers    int      `json:"sync_workers"`
}

// Archiver is what the WAL archiver did since StatsReset.
type Archiver struct {
	Archived       int64      `json:"archived"`
	LastArchived   string     `json:"last_archived"`
	LastArchivedAt *time.Time `json:"last_archived_at"`
	Failed         int64      `json:"failed"`
	LastFailed     string     `json:"last_failed"`
	LastFailedAt   *time.Time `json:"last_failed_at"`
	StatsReset     *time.Time `json:"stats_reset"`
}
