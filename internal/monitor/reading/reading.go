// Package reading holds what a server said of itself. A Reading is plain data and goes
// to JSON and back, so that a report can be made again from a file. Thresholds are what it
// is judged by.
package reading

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pgmedic/pgmedic"
)

// ReadingFormat is the format number that this version writes into a Reading.
// Fields may be added without raising it; their meaning may not change.
const ReadingFormat = 1

// The sections of a Reading, as they appear in findings, in Skipped and in
// the report.
const (
	SectionOverview     = "overview"
	SectionConnections  = "connections"
	SectionLocks        = "locks"
	SectionReplication  = "replication"
	SectionLimits       = "limits"
	SectionTables       = "tables"
	SectionIndexes      = "indexes"
	SectionStatements   = "statements"
	SectionCache        = "cache"
	SectionSize         = "size"
	SectionTransactions = "transactions"
	SectionCheckpoints  = "checkpoints"
	SectionWaits        = "waits"
	SectionServices     = "services"
	SectionSettings     = "settings"
	SectionBackups      = "backups"
	SectionTrends       = "trends"
)

// Reading is what one look at one database found. A section, or a list in it,
// that could not be read is nil (null in JSON) and Skipped says why; an empty
// list was read and holds nothing.
type Reading struct {
	// Format is the reading's format number, see ReadingFormat.
	Format int `json:"format"`
	// TakenAt is when the look began, by the clock of the machine that
	// looked, in UTC.
	TakenAt  time.Time `json:"taken_at"`
	Database string    `json:"database"`
	// DatabaseOID tells the database from another that had its name, before a
	// restore or after DROP DATABASE. Zero is not known.
	DatabaseOID uint32 `json:"database_oid"`
	Server      Server `json:"server"`

	// Host is nil where the server's machine is not known.
	Host *Host `json:"host"`

	Connections  *Connections  `json:"connections"`
	Locks        *Locks        `json:"locks"`
	Replication  *Replication  `json:"replication"`
	Limits       *Limits       `json:"limits"`
	Tables       *Tables       `json:"tables"`
	Indexes      *Indexes      `json:"indexes"`
	Statements   *Statements   `json:"statements"`
	Cache        *Cache        `json:"cache"`
	Size         *Size         `json:"size"`
	Transactions *Transactions `json:"transactions"`
	Checkpoints  *Checkpoints  `json:"checkpoints"`
	WAL          *WAL          `json:"wal"`
	IO           []IO          `json:"io"`
	Waits        *Waits        `json:"waits"`
	Security     *Security     `json:"security"`
	// Replicas are the standbys that were asked which indexes their own sessions
	// use, nil where none was.
	Replicas []Replica `json:"replicas"`
	// UnaskedReplicas names the configured standbys that could not be asked: any
	// of them may use any index.
	UnaskedReplicas []string `json:"unasked_replicas"`
	// Backups is nil where no store was read.
	Backups *Backups `json:"backup_status"`
	// Recovery is nil where no WAL of the server is stored and none is to be, or no store
	// was read.
	Recovery *Recovery `json:"recovery_status"`

	// Services are the connection pools of services, nil where none was named.
	Services []Service `json:"services"`

	// Sections are those that were asked for, nil where all were. What their
	// judgements needed of others is there, too.
	Sections []string `json:"sections"`
	// Literals is true where statements were asked for with their literals,
	// which can be passwords and people's data.
	Literals bool `json:"literals"`
	// Before is nil unless the collection took an interval: then it holds the
	// counters as they were when the interval began, and nothing else.
	Before *Reading `json:"before,omitempty"`
	// Databases are readings of the server's other databases, where all were
	// asked for: what is of one database (tables, indexes, limits, cache, size,
	// transactions), and nothing of the server.
	Databases []*Reading `json:"databases,omitempty"`

	// Truncated names the lists that were full, see the List constants: there may be more
	// than they hold.
	Truncated []string `json:"truncated,omitempty"`
	// Skipped lists what could not be checked. It is never nil.
	Skipped []Skipped `json:"skipped"`
	Cost    Cost      `json:"cost"`

	// May is what the role may do, which decides what is asked; nil where that
	// could not be read, and then everything is.
	May *Privileges `json:"-"`
}

// Privileges are what a role may do of what not every role may. A question that
// would be refused is not asked: the server logs each refusal as an error.
type Privileges struct {
	// RoleName is the role.
	RoleName string
	// Authid, Subscriptions, ControlSystem, WAL and Archive are of relations and
	// functions of the server.
	Authid, Subscriptions, ControlSystem, WAL, Archive bool
	// StatementsLoaded is true where the server has loaded pg_stat_statements.
	// StatementsSchema and StatementsCall are of its schema and its functions, nil
	// where it is not installed.
	StatementsLoaded                 bool
	StatementsSchema, StatementsCall *bool
}

// Role says whether a server takes writes.
type Role string

// The roles of servers.
const (
	RolePrimary Role = "primary"
	RoleStandby Role = "standby"
)

// Server is the server that a Reading is of.
type Server struct {
	// Version is the version as the server prints it, such as "15.18".
	Version string `json:"version"`
	// VersionNum is server_version_num, such as 150018.
	VersionNum int  `json:"version_num"`
	Role       Role `json:"role"`
	// SystemIdentifier is the number that initdb gave the cluster; a standby
	// shares it with its primary. Empty where it could not be read.
	SystemIdentifier string    `json:"system_identifier"`
	StartedAt        time.Time `json:"started_at"`
	UptimeSeconds    float64   `json:"uptime_seconds"`
	// StatsReset is when the server's statistics began: they begin again after a
	// crash, and each machine has its own, whoever has the name or the address
	// after a failover. It is pg_stat_bgwriter's, the only one that is never
	// without; nil is not known.
	StatsReset *time.Time `json:"stats_reset"`
	// Settings are those that matter to a judgement, sorted by name.
	Settings []Setting `json:"settings"`
	// Extensions are those installed in the database, sorted by name.
	Extensions []Extension `json:"extensions"`
	// StatementsAvailable is true where the server's machine has the extension
	// pg_stat_statements, installed or not.
	StatementsAvailable bool `json:"statements_available"`
}

// Setting is one server setting as a new session of this role gets it.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Unit is what Value counts, such as 8kB or ms, or empty.
	Unit string `json:"unit"`
	// Source is where the value comes from, such as default.
	Source string `json:"source"`
	// PendingRestart is true where the file says something else since.
	PendingRestart bool `json:"pending_restart"`
}

// Extension is an installed extension.
type Extension struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Schema  string `json:"schema"`
}

// Skipped is one query that was not run or did not answer.
type Skipped struct {
	Section string `json:"section"`
	Query   string `json:"query"`
	// Reason is one plain clause: a missing privilege, a version, a timeout, a
	// lock. It holds an SQLSTATE and names of objects, never a row.
	Reason string `json:"reason"`
}

// Cost is what the look itself took.
type Cost struct {
	// Queries counts the statements that asked for something, Statements all
	// that were sent: also those that open, bound and close the transaction, and
	// a savepoint around each query.
	Queries    int `json:"queries"`
	Statements int `json:"statements"`
	// Connections counts those that were used, one after the other.
	Connections int `json:"connections"`
	// Seconds is from the first statement to the last answer, without the time
	// that an interval was only waited for.
	Seconds float64 `json:"seconds"`
}

// Connections is who is connected to the whole server.
type Connections struct {
	// Used counts client sessions, this one included.
	Used int `json:"used"`
	// MaxConnections, SuperuserReserved and Reserved are max_connections,
	// superuser_reserved_connections and, from PostgreSQL 16,
	// reserved_connections.
	MaxConnections    int `json:"max_connections"`
	SuperuserReserved int `json:"superuser_reserved_connections"`
	Reserved          int `json:"reserved_connections"`
	// Hidden counts sessions whose state this role may not see.
	Hidden int `json:"hidden"`
	// WaitingForLock counts sessions that wait for a heavyweight lock.
	WaitingForLock int `json:"waiting_for_lock"`
	// OldestTransactionSeconds is the age of the oldest open transaction of
	// another session, zero without one.
	OldestTransactionSeconds float64 `json:"oldest_transaction_seconds"`

	// AverageConnectionSeconds and OldestConnectionSeconds are the ages of
	// other sessions; OldestQuerySeconds is of those that are active.
	AverageConnectionSeconds float64 `json:"average_connection_seconds"`
	OldestConnectionSeconds  float64 `json:"oldest_connection_seconds"`
	OldestQuerySeconds       float64 `json:"oldest_query_seconds"`
	// AverageTransactionSeconds is the age of other sessions' open transactions,
	// AverageQuerySeconds of the statements of those that are active.
	AverageTransactionSeconds float64 `json:"average_transaction_seconds"`
	AverageQuerySeconds       float64 `json:"average_query_seconds"`

	ByState []StateCount `json:"by_state"`
	// ByUser is bounded to the 20 pairs with the most connections.
	ByUser []UserCount `json:"by_user"`
	// ByClient is bounded to the 20 addresses with the most connections.
	ByClient []ClientCount `json:"by_client"`
	// IdleInTransaction is bounded to the 20 that idle longest.
	IdleInTransaction []IdleSession `json:"idle_in_transaction"`
	// Longest is bounded to the 20 other sessions whose transactions, active or
	// idle, are the oldest.
	Longest []Session `json:"longest"`
}

// Usable is the number of connections that ordinary roles can have.
func (c *Connections) Usable() int {
	return c.MaxConnections - c.SuperuserReserved - c.Reserved
}

// StateCount is the number of client sessions in one state. The state is
// "hidden" where this role may not see it.
type StateCount struct {
	State       string `json:"state"`
	Connections int    `json:"connections"`
}

// UserCount is the number of client sessions of one role and application.
type UserCount struct {
	User        string `json:"user"`
	Application string `json:"application"`
	Connections int    `json:"connections"`
}

// IdleSession is a session that holds a transaction open and does nothing.
type IdleSession struct {
	PID         int    `json:"pid"`
	User        string `json:"user"`
	Database    string `json:"database"`
	Application string `json:"application"`
	// BackendStart and TransactionStart tell this session, and this
	// transaction of it, from a later one with the same process id.
	BackendStart     time.Time `json:"backend_start"`
	TransactionStart time.Time `json:"transaction_start"`
	// IdleSeconds is since its last statement ended; TransactionSeconds is
	// since its transaction began.
	IdleSeconds        float64 `json:"idle_seconds"`
	TransactionSeconds float64 `json:"transaction_seconds"`
}

// Cache is how often the database found a block in shared_buffers, counted
// since StatsReset: lifetime numbers, which say little about today.
type Cache struct {
	LifetimeHits  int64 `json:"lifetime_hits"`
	LifetimeReads int64 `json:"lifetime_reads"`
	// StatsReset is when counting began, nil where it never was reset.
	StatsReset *time.Time `json:"stats_reset"`
	// Tables is bounded to the 20 with the most reads.
	Tables []TableCache `json:"tables"`
}

// Size is the size of the database.
type Size struct {
	DatabaseBytes int64 `json:"database_bytes"`
	// Databases are all of the server that this role may measure, largest
	// first.
	Databases []DatabaseSize `json:"databases"`
	// Kept are databases that pgmedic set aside or left, largest first; nil where
	// they could not be read, and in Readings of versions that did not look.
	Kept []KeptDatabase `json:"kept"`
	// Rescued are schemas of this database that rescues of single tables made,
	// oldest first; nil like Kept.
	Rescued []RescuedSchema `json:"rescued"`
}

// Decode reads one Reading from JSON, by itself or in a report, and refuses a
// format that it doesn't know.
func Decode(r io.Reader) (*Reading, error) {
	var file struct {
		Reading
		Within *Reading `json:"reading"`
	}
	if err := json.NewDecoder(r).Decode(&file); err != nil {
		// The words of a wrong type are about Go's types, and do not help the reader.
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			err = fmt.Errorf("a JSON %s where something else belongs, at byte %d", wrong.Value, wrong.Offset)
		}
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "give a file that pgmedic report --json wrote", "read a reading: %w", err)
	}
	got := file.Reading
	if file.Within != nil {
		got = *file.Within
	}
	if got.Format < 1 || got.Format > ReadingFormat {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "a newer pgmedic can read it",
			"read a reading: its format is %d and this version knows up to %d", got.Format, ReadingFormat)
	}
	return &got, nil
}

// Setting returns the value of a setting, and whether it was read.
func (s *Server) Setting(name string) (string, bool) {
	for _, x := range s.Settings {
		if x.Name == name {
			return x.Value, true
		}
	}
	return "", false
}

// Extension returns an installed extension.
func (s *Server) Extension(name string) (Extension, bool) {
	for _, e := range s.Extensions {
		if e.Name == name {
			return e, true
		}
	}
	return Extension{}, false
}
