package reading

import "time"

// Transactions is what the database's sessions did since StatsReset.
type Transactions struct {
	Commits   int64 `json:"commits"`
	Rollbacks int64 `json:"rollbacks"`
	// Returned counts rows that scans read, Fetched those that went on.
	Returned  int64 `json:"returned"`
	Fetched   int64 `json:"fetched"`
	Inserted  int64 `json:"inserted"`
	Updated   int64 `json:"updated"`
	Deleted   int64 `json:"deleted"`
	Deadlocks int64 `json:"deadlocks"`
	TempFiles int64 `json:"temp_files"`
	TempBytes int64 `json:"temp_bytes"`
	// ReadSeconds and WriteSeconds are zero unless track_io_timing is on.
	ReadSeconds  float64 `json:"read_seconds"`
	WriteSeconds float64 `json:"write_seconds"`
	// ChecksumFailures is nil where checksums are off.
	ChecksumFailures *int64 `json:"checksum_failures"`
	// SessionSeconds to SessionsKilled are known from PostgreSQL 14.
	SessionSeconds    *float64   `json:"session_seconds"`
	ActiveSeconds     *float64   `json:"active_seconds"`
	IdleInSeconds     *float64   `json:"idle_in_transaction_seconds"`
	Sessions          *int64     `json:"sessions"`
	SessionsAbandoned *int64     `json:"sessions_abandoned"`
	SessionsFatal     *int64     `json:"sessions_fatal"`
	SessionsKilled    *int64     `json:"sessions_killed"`
	StatsReset        *time.Time `json:"stats_reset"`
}

// Checkpoints is what the checkpointer and the background writer did since
// StatsReset.
type Checkpoints struct {
	Timed     int64 `json:"timed"`
	Requested int64 `json:"requested"`
	// WriteSeconds and SyncSeconds are of all checkpoints together.
	WriteSeconds float64 `json:"write_seconds"`
	SyncSeconds  float64 `json:"sync_seconds"`
	// The bytes are what checkpoints and the background writer wrote, and,
	// before PostgreSQL 17, what sessions had to write themselves.
	CheckpointBytes int64  `json:"checkpoint_bytes"`
	BgwriterBytes   int64  `json:"bgwriter_bytes"`
	BackendBytes    *int64 `json:"backend_bytes"`
	// BgwriterStops counts how often the background writer stopped at its limit.
	BgwriterStops int64      `json:"bgwriter_stops"`
	StatsReset    *time.Time `json:"stats_reset"`
}

// WAL is what was written to the write-ahead log since StatsReset, from
// PostgreSQL 14.
type WAL struct {
	Records        int64 `json:"records"`
	FullPageImages int64 `json:"full_page_images"`
	Bytes          int64 `json:"bytes"`
	// BuffersFull counts how often wal_buffers was full.
	BuffersFull int64      `json:"buffers_full"`
	StatsReset  *time.Time `json:"stats_reset"`
}

// IO is one row of pg_stat_io, from PostgreSQL 16: what one kind of process
// reads and writes of one kind of object in one context. Rows that are all zero
// are left out.
type IO struct {
	Backend    string  `json:"backend"`
	Object     string  `json:"object"`
	Context    string  `json:"context"`
	ReadBytes  int64   `json:"read_bytes"`
	WriteBytes int64   `json:"write_bytes"`
	Extended   int64   `json:"extended_bytes"`
	Hits       int64   `json:"hits"`
	Reads      int64   `json:"reads"`
	Writes     int64   `json:"writes"`
	Evictions  int64   `json:"evictions"`
	Fsyncs     int64   `json:"fsyncs"`
	ReadTime   float64 `json:"read_seconds"`
	WriteTime  float64 `json:"write_seconds"`
}

// TableCache is how often a table's blocks were found in shared_buffers, since
// the database's statistics were reset.
type TableCache struct {
	Schema     string `json:"schema"`
	Name       string `json:"name"`
	HeapHits   int64  `json:"heap_hits"`
	HeapReads  int64  `json:"heap_reads"`
	IndexHits  int64  `json:"index_hits"`
	IndexReads int64  `json:"index_reads"`
	ToastHits  int64  `json:"toast_hits"`
	ToastReads int64  `json:"toast_reads"`
}

// Reads is how many of the table's blocks were not found.
func (t *TableCache) Reads() int64 { return t.HeapReads + t.IndexReads + t.ToastReads }

// Hits is how many of the table's blocks were found.
func (t *TableCache) Hits() int64 { return t.HeapHits + t.IndexHits + t.ToastHits }

// DatabaseSize is the size of one database of the server.
type DatabaseSize struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// KeptDatabase is a database that a swap set aside, or that a restore or a drill
// works on or left. What it is stands in its comment.
type KeptDatabase struct {
	Name string `json:"name"`
	// Of is the database that it was, or is to become.
	Of string `json:"of"`
	// State is kept, loading, ready or dropping, as in pgmedic prune --json.
	State string `json:"state"`
	// Since is when the state began, AgeSeconds how long ago that is; both by the
	// server's clock.
	Since      time.Time `json:"since"`
	AgeSeconds float64   `json:"age_seconds"`
	// Bytes is nil where this role may not measure it.
	Bytes *int64 `json:"bytes"`
}

// RescuedSchema is a schema with tables that were rescued from a backup.
type RescuedSchema struct {
	Name string `json:"name"`
	// Backup is the id of that backup.
	Backup string `json:"backup"`
	// Since is when the schema was made, AgeSeconds how long ago that is; both by the
	// server's clock.
	Since      time.Time `json:"since"`
	AgeSeconds float64   `json:"age_seconds"`
	Tables     int       `json:"tables"`
}

// Security is how sessions and roles are guarded.
type Security struct {
	// Superusers counts client sessions of superusers, by role and application,
	// this look and backups left out.
	Superusers []UserCount `json:"superusers"`
	// Unencrypted counts client sessions over a network without TLS, nil where
	// it could not be read.
	Unencrypted *int `json:"unencrypted"`
	// MD5Roles counts roles that may log in and whose password is kept as MD5,
	// nil where it could not be read.
	MD5Roles *int `json:"md5_roles"`
}

// Host is the machine that the server runs on, read there or stated by whoever
// runs pgmedic; it is never guessed.
type Host struct {
	MemoryBytes int64 `json:"memory_bytes"`
	CPUs        int   `json:"cpus"`
	// DiskBytes and DiskFreeBytes are of the file system that holds the data,
	// zero if unknown.
	DiskBytes     int64 `json:"disk_bytes"`
	DiskFreeBytes int64 `json:"disk_free_bytes"`
	// Source is local or stated.
	Source string `json:"source"`
}
