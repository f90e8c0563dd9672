package judge

import "time"

// Trends is what earlier Readings of the same database say beside the newest:
// how it got here, and where it is going.
type Trends struct {
	// Since is when the oldest Reading was taken that is counted, in UTC, and
	// Readings how many were.
	Since    time.Time `json:"since"`
	Readings int       `json:"readings"`
	// Points are the server over time, oldest first, the newest Reading last.
	// At most MaxPoints, thinned evenly.
	Points []Point `json:"points"`
	// Database is the growth of the database, nil where the Readings are too few
	// or too close.
	Database *Growth `json:"database"`
	// Tables are those that grow most, at most 20, fastest first.
	Tables []Growth `json:"tables"`
	// Disk is when the disk that holds the data is full at this pace, nil where
	// its size is not known or nothing grows.
	Disk *DiskForecast `json:"disk"`
	// Statements are those that got slower, and those that are new, at most 20,
	// by the time that they cost since.
	Statements []StatementChange `json:"statements"`
}

// MaxPoints bounds Trends.Points.
const MaxPoints = 300

// Point is the server at one time. Rates are since the Reading before; they are
// nil for the first, and where counters began anew in between.
type Point struct {
	At time.Time `json:"at"`
	// The sizes and numbers are nil where the Reading has none.
	DatabaseBytes *int64 `json:"database_bytes"`
	DiskFreeBytes *int64 `json:"disk_free_bytes"`
	Connections   *int   `json:"connections"`
	Active        *int   `json:"active"`
	Waiting       *int   `json:"waiting_for_lock"`
	// LagSeconds is of the standby that is furthest behind, or of this one.
	LagSeconds *float64 `json:"lag_seconds"`

	CacheHitPercent    *float64 `json:"cache_hit_percent"`
	CommitsPerSecond   *float64 `json:"commits_per_second"`
	RollbacksPerSecond *float64 `json:"rollbacks_per_second"`
	WALBytesPerSecond  *float64 `json:"wal_bytes_per_second"`
	TempBytesPerSecond *float64 `json:"temp_bytes_per_second"`
	Deadlocks          *int64   `json:"deadlocks"`
}

// Growth is how fast something grows: a line fitted to its sizes.
type Growth struct {
	// Name is the database's or the table's, with its schema.
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	// BytesPerDay may be negative. LowPerDay and HighPerDay are the ends of the
	// 95 % interval of it.
	BytesPerDay float64 `json:"bytes_per_day"`
	LowPerDay   float64 `json:"low_bytes_per_day"`
	HighPerDay  float64 `json:"high_bytes_per_day"`
}

// DiskForecast is when a disk is full. The days are from the newest Reading.
type DiskForecast struct {
	FreeBytes int64   `json:"free_bytes"`
	Days      float64 `json:"days"`
	// SoonestDays and LatestDays are the ends of the 95 % interval; LatestDays is
	// nil where it may never be full.
	SoonestDays float64  `json:"soonest_days"`
	LatestDays  *float64 `json:"latest_days"`
}

// StatementChange is a statement that got slower, or is new.
type StatementChange struct {
	QueryID string `json:"query_id"`
	// Query is without literals.
	Query string `json:"query"`
	// Calls and MeanSeconds are of the newest span, BeforeCalls and
	// BeforeMeanSeconds of the same hours of earlier days; both are zero for a
	// statement that is new, whose calls are all that it had.
	Calls             int64   `json:"calls"`
	MeanSeconds       float64 `json:"mean_seconds"`
	BeforeCalls       int64   `json:"before_calls"`
	BeforeMeanSeconds float64 `json:"before_mean_seconds"`
}
