package reading

import "time"

// Statements is what pg_stat_statements has counted, on the whole server.
type Statements struct {
	// Version is the extension's version, which decides what is known.
	Version string `json:"version"`
	// Total counts the entries, Max is how many it keeps, and Evicted how often
	// it threw the least used ones away, from version 1.9.
	Total   int    `json:"total"`
	Max     int    `json:"max"`
	Evicted *int64 `json:"evicted"`
	// StatsReset is known from version 1.9.
	StatsReset *time.Time `json:"stats_reset"`
	// Calls and ExecSeconds are the calls and the execution time of all entries.
	Calls       int64   `json:"calls"`
	ExecSeconds float64 `json:"exec_seconds"`
	// Items are the entries that are first by any of total time, mean time,
	// calls, blocks read, temporary blocks and WAL, most total time first.
	Items []Statement `json:"items"`
}

// Statement is one entry. Counters run since StatsReset.
type Statement struct {
	// QueryID identifies the statement's form, as text since it can be larger
	// than JSON's numbers keep exactly.
	QueryID  string `json:"query_id"`
	Database string `json:"database"`
	User     string `json:"user"`
	// Toplevel is false for a statement within a function, nil before
	// version 1.9.
	Toplevel *bool `json:"toplevel"`
	// Query is the text without literals, see Normalise, empty where this role
	// may not see it.
	Query string `json:"query"`

	// Own is true of a statement of these looks.
	Own bool `json:"own"`

	StatementCounts
	// MinSeconds to StddevSeconds are of single calls.
	MinSeconds    float64 `json:"min_seconds"`
	MaxSeconds    float64 `json:"max_seconds"`
	StddevSeconds float64 `json:"stddev_seconds"`
	// Recent is what happened in the interval of a look that took two, nil
	// otherwise.
	Recent *StatementCounts `json:"recent"`
	// Plan is the plan for any parameters, a line for each of its steps and
	// conditions, without literals, nil where none was asked for.
	Plan []string `json:"plan"`
}

// StatementCounts is what a statement did. Blocks are counted in bytes.
type StatementCounts struct {
	Calls       int64   `json:"calls"`
	ExecSeconds float64 `json:"exec_seconds"`
	PlanSeconds float64 `json:"plan_seconds"`
	Rows        int64   `json:"rows"`
	HitBytes    int64   `json:"hit_bytes"`
	ReadBytes   int64   `json:"read_bytes"`
	TempBytes   int64   `json:"temp_bytes"`
	// IOSeconds is zero unless track_io_timing is on.
	IOSeconds float64 `json:"io_seconds"`
	// WALBytes is known from version 1.8.
	WALBytes int64 `json:"wal_bytes"`
}

// MeanSeconds is the mean execution time of a call.
func (c *StatementCounts) MeanSeconds() float64 {
	if c.Calls == 0 {
		return 0
	}
	return c.ExecSeconds / float64(c.Calls)
}
