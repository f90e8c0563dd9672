package reading

import (
	"fmt"
	"time"

	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Session is one client session, as pg_stat_activity shows it. What this role
// may not see of another role's session is empty.
type Session struct {
	PID         int    `json:"pid"`
	User        string `json:"user"`
	Database    string `json:"database"`
	Application string `json:"application"`
	// Client is the address that it connects from, empty for a Unix socket.
	Client string `json:"client"`
	State  string `json:"state"`
	// BackendType is such as client backend or logical replication worker, and
	// Maintenance the long work of a server's keeping that it is at, see the
	// constants, or empty.
	BackendType string `json:"backend_type"`
	Maintenance string `json:"maintenance"`
	// WaitEvent is what it waits for, such as Lock:relation, or empty.
	WaitEvent string `json:"wait_event"`
	// BackendStart and TransactionStart tell this session, and this
	// transaction of it, from a later one with the same process id.
	BackendStart     *time.Time `json:"backend_start"`
	TransactionStart *time.Time `json:"transaction_start"`
	// ConnectionSeconds, TransactionSeconds, QuerySeconds and StateSeconds are
	// since it connected, its transaction began, its last statement began, and
	// its state changed.
	ConnectionSeconds  float64 `json:"connection_seconds"`
	TransactionSeconds float64 `json:"transaction_seconds"`
	QuerySeconds       float64 `json:"query_seconds"`
	StateSeconds       float64 `json:"state_seconds"`
	// QueryID is the id of its last statement, from PostgreSQL 14 and where
	// query ids are computed, or empty. It is text since it can be larger than
	// JSON's numbers keep exactly.
	QueryID string `json:"query_id"`
	// Query is its last statement without literals, see Normalise.
	Query string `json:"query"`
}

// The values of Maintenance.
const (
	MaintenanceVacuum            = "VACUUM"
	MaintenanceAnalyze           = "ANALYZE"
	MaintenanceIndex             = "an index build"
	MaintenanceIndexConcurrently = "a concurrent index build"
)

// Gentle reports whether a session is at work that keeps no reads and writes
// waiting.
func (s *Session) Gentle() bool {
	return s.Maintenance == MaintenanceVacuum || s.Maintenance == MaintenanceAnalyze || s.Maintenance == MaintenanceIndexConcurrently
}

// ClientCount is the number of client sessions from one address, empty for
// Unix sockets.
type ClientCount struct {
	Client      string `json:"client"`
	Connections int    `json:"connections"`
}

// PreparedTransaction is a transaction of a two-phase commit that no session has
// finished. It holds its locks and rows without any session.
type PreparedTransaction struct {
	GID      string    `json:"gid"`
	Owner    string    `json:"owner"`
	Database string    `json:"database"`
	Prepared time.Time `json:"prepared"`
	// AgeSeconds is since it was prepared; XIDAge counts transactions since.
	AgeSeconds float64 `json:"age_seconds"`
	XIDAge     int64   `json:"xid_age"`
}

// Locks is who waits for whom, in every database of the server.
type Locks struct {
	// Counts is bounded to the 50 most frequent.
	Counts []LockCount `json:"counts"`
	// Waiting is bounded to the 50 that wait longest; WaitingTotal counts all.
	Waiting      []LockWait `json:"waiting"`
	WaitingTotal int        `json:"waiting_total"`
	// Blockers are the sessions that somebody in Waiting waits for.
	Blockers []Session `json:"blockers"`
}

// LockCount is the number of locks of one type and mode.
type LockCount struct {
	Type    string `json:"type"`
	Mode    string `json:"mode"`
	Granted bool   `json:"granted"`
	Locks   int    `json:"locks"`
}

// LockWait is a session that waits for a heavyweight lock.
type LockWait struct {
	Session
	// LockType, Mode and Object are what it waits for; Object is a relation's
	// name where it is one of the database that was looked at, else empty.
	LockType string `json:"lock_type"`
	Mode     string `json:"mode"`
	Object   string `json:"object"`
	// WaitSeconds is since the wait began, before PostgreSQL 14 since the
	// statement began.
	WaitSeconds float64 `json:"wait_seconds"`
	// BlockedBy are the process ids that it waits for; 0 is a prepared
	// transaction.
	BlockedBy []int `json:"blocked_by"`
}

// Waits is what active sessions were seen to wait for, sampled while looking.
type Waits struct {
	// Samples is how many times all sessions were looked at, over Seconds.
	Samples int     `json:"samples"`
	Seconds float64 `json:"seconds"`
	// ActiveSessions is the mean number of active sessions in a sample.
	ActiveSessions float64     `json:"active_sessions"`
	Events         []WaitCount `json:"events"`
	// Statements is bounded to the 20 that were seen most.
	Statements []StatementWait `json:"statements"`
}

// WaitCount is how often an active session was seen in one wait. Type and Event
// are empty for a session that was working, not waiting.
type WaitCount struct {
	Type  string `json:"type"`
	Event string `json:"event"`
	Seen  int    `json:"seen"`
}

// StatementWait is how often a statement was seen in one wait.
type StatementWait struct {
	WaitCount
	QueryID string `json:"query_id"`
	Query   string `json:"query"`
}

// ProcessName names a session for a reader.
func ProcessName(pid int, user string) string {
	if user == "" {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (role %s)", pid, sqltext.Readable(user))
}
