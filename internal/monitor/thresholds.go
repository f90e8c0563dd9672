package monitor

import "time"

// Thresholds are the lines that Analyse judges by. Start from
// DefaultThresholds; a zero is a line at zero, not a default.
type Thresholds struct {
	// ConnectionsWarnPercent and ConnectionsCriticalPercent are of the
	// connections that ordinary roles can have. Defaults 80 and 90.
	ConnectionsWarnPercent, ConnectionsCriticalPercent float64
	// IdleInTransaction is how long a session may idle in a transaction.
	// Default 5 minutes.
	IdleInTransaction time.Duration
	// DeadTuplesPercent is of all row versions in a table. Default 10.
	DeadTuplesPercent float64
	// DeadTuplesMin is how many dead rows a table may have whatever their
	// share. Default 1,000.
	DeadTuplesMin int64
	// SmallTableRows is below how many rows a missing index is only noted.
	// Default 1,000.
	SmallTableRows int64
	// CacheWarnPercent and CacheCriticalPercent are the shares of block
	// accesses found in shared_buffers below which it is too few. Defaults 99
	// and 95.
	CacheWarnPercent, CacheCriticalPercent float64
	// CacheMinAccesses is how many block accesses a judgement needs. Default
	// 100,000.
	CacheMinAccesses int64
	// BackupAge is how old the newest backup may be, ProvenAge how old the
	// newest one that a drill proved. Defaults 26 hours and 8 days.
	BackupAge, ProvenAge time.Duration
}

// DefaultThresholds returns the documented defaults.
func DefaultThresholds() Thresholds {
	return Thresholds{
		// Ours, as is common: what is left is what a deployment needs while old
		// and new instances overlap. A refused connection is an outage.
		ConnectionsWarnPercent:     80,
		ConnectionsCriticalPercent: 90,
		// Ours: far beyond any request, and short of the hour or more after
		// which bloat from a held-back VACUUM shows. PostgreSQL's own
		// idle_in_transaction_session_timeout is off by default.
		IdleInTransaction: 5 * time.Minute,
		// Half of autovacuum_vacuum_scale_factor's default (0.2), so that a
		// table on its way to the trigger is seen. PostgreSQL's
		// autovacuum_vacuum_threshold (50) is no floor for a warning: a
		// thousand dead rows are a few pages.
		DeadTuplesPercent: 10,
		DeadTuplesMin:     1000,
		// Ours: a table of some dozen pages is read whole in no time.
		SmallTableRows: 1000,
		// 99 % is the hosters' rule of thumb for transactional loads:
		// https://docs.digitalocean.com/glossary/cache-hit-ratio/ and
		// https://www.crunchydata.com/developers/playground/high-level-performance-analytics.
		// 95 % is ours: five times as many misses. So is the floor: 100,000
		// blocks are 800 MB of accesses, and fewer say nothing.
		CacheWarnPercent:     99,
		CacheCriticalPercent: 95,
		CacheMinAccesses:     100000,
		// Ours: a backup each night, and a drill each week, with time to run.
		BackupAge: 26 * time.Hour,
		ProvenAge: 8 * 24 * time.Hour,
	}
}
