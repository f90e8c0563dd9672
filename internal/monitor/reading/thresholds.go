package reading

import "time"

// Thresholds are the lines that judge.Analyse judges by. Start from
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
	// ShrunkAge is for how long a backup that has far less than those before it is
	// a finding. Default 7 days.
	ShrunkAge time.Duration

	// LockWaitWarn and LockWaitCritical are how long somebody may wait for a
	// lock. Defaults 10 s and 60 s.
	LockWaitWarn, LockWaitCritical time.Duration
	// LongTransaction is how long a transaction may work, PreparedTransaction
	// how long one may stay prepared. Defaults 1 hour.
	LongTransaction, PreparedTransaction time.Duration
	// HeldBackTransactions is for how many transactions something may keep
	// VACUUM from removing rows. Default 1,000,000.
	HeldBackTransactions int64
	// LagWarn and LagCritical are how far a standby may be behind, and
	// LagWarnBytes and LagCriticalBytes the same in WAL. Defaults 60 s and
	// 10 minutes, 64 MiB and 1 GiB.
	LagWarn, LagCritical           time.Duration
	LagWarnBytes, LagCriticalBytes int64
	// StandbySilence is how long a standby or a primary may not be heard of.
	// Default 60 s.
	StandbySilence time.Duration
	// SlotRetainedBytes is how much WAL may be kept for a slot. Default 1 GiB.
	SlotRetainedBytes int64
	// ArchiveBacklog is how many WAL files may wait to be archived. Default 100.
	ArchiveBacklog int64
	// LimitInfoPercent, LimitWarnPercent and LimitCriticalPercent are how much
	// of what ends may be used up: transaction numbers and sequences. Defaults
	// 40, 60 and 80.
	LimitInfoPercent, LimitWarnPercent, LimitCriticalPercent float64
	// BloatPercent and BloatMinBytes are how much of a table or an index may be
	// empty; both must be exceeded. Defaults 50 and 64 MiB.
	BloatPercent  float64
	BloatMinBytes int64
	// NeverAnalyzedRows is how many rows may change before a table's first
	// ANALYZE. Default 1,000.
	NeverAnalyzedRows int64
	// NeverVacuumedRows is how many rows a table may have before its first VACUUM.
	// Default 100,000.
	NeverVacuumedRows int64
	// UnusedIndexAge is for how long an index must be known to be unused, and
	// UnusedIndexBytes how large it must be. Defaults 7 days and 1 MiB.
	UnusedIndexAge   time.Duration
	UnusedIndexBytes int64
	// SeqScans and SeqScanRows are how often a table must have been read whole,
	// and how many rows each time. Defaults 50 and 10,000.
	SeqScans, SeqScanRows int64
	// SlowStatement is how long a statement may take on average, of at least
	// SlowStatementCalls calls. Defaults 1 s and 5.
	SlowStatement      time.Duration
	SlowStatementCalls int64
	// StatementSharePercent is how much of the time of all statements one may
	// take, once they have taken StatementsMinTime. Defaults 20 and 60 s.
	StatementSharePercent float64
	StatementsMinTime     time.Duration
	// RegressionFactor is how many times slower a statement may get, and
	// RegressionCalls how many calls before and after that needs. Defaults 2
	// and 20.
	RegressionFactor float64
	RegressionCalls  int64
	// RollbackPercent is of transactions, once there are RollbackMin. Defaults
	// 5 and 1,000.
	RollbackPercent float64
	RollbackMin     int64
	// TempBytes is how much sorts and hashes may write to disk. Default 1 GiB.
	TempBytes int64
	// CheckpointsRequestedPercent is how many checkpoints may come early, of at
	// least CheckpointsMin. Defaults 50 and 10.
	CheckpointsRequestedPercent float64
	CheckpointsMin              int64
	// DiskWarnPercent and DiskCriticalPercent are of the disk that holds the
	// data. Defaults 85 and 95.
	DiskWarnPercent, DiskCriticalPercent float64
	// DiskFullWarn and DiskFullCritical are how soon that disk may be full at
	// the present pace. Defaults 14 and 3 days.
	DiskFullWarn, DiskFullCritical time.Duration
	// KeepDisplaced is how long a database that a swap set aside is kept, and
	// LeftDatabase how long a restore or a drill may have one. Defaults 7 days and
	// 1 day.
	KeepDisplaced, LeftDatabase time.Duration
	// RescuedSchema is how long the schema of a rescue may stay. Default 7 days.
	RescuedSchema time.Duration
	// LockEpisodes is how often in a day sessions may be seen to wait for the
	// same object. Default 3.
	LockEpisodes int
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
		// autovacuum_vacuum_threshold (50) is not a floor for a warning: a
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
		// Ours: whoever comes back from a week's leave still sees it.
		ShrunkAge: 7 * 24 * time.Hour,
		// Ours: ten times deadlock_timeout's order, and what a client's patience
		// ends at. PostgreSQL itself logs a wait after deadlock_timeout (1 s).
		LockWaitWarn:     10 * time.Second,
		LockWaitCritical: time.Minute,
		// Ours: no request takes an hour, and nightly work that does is known.
		LongTransaction:     time.Hour,
		PreparedTransaction: time.Hour,
		// Ours: some minutes of a busy server, some days of a quiet one.
		HeldBackTransactions: 1_000_000,
		// Ours: four segments of WAL, and a reader who notices.
		LagWarn: time.Minute, LagCritical: 10 * time.Minute,
		LagWarnBytes: 64 << 20, LagCriticalBytes: 1 << 30,
		// wal_sender_timeout and wal_receiver_timeout are 60 s by default; a
		// standby reports every 10 s (wal_receiver_status_interval).
		StandbySilence: time.Minute,
		// max_wal_size's default: what a server keeps anyway.
		SlotRetainedBytes: 1 << 30,
		// Ours: 1.6 GB of WAL in no archive.
		ArchiveBacklog: 100,
		// Ours. autovacuum_freeze_max_age is 200 million (9 %) by default, so at
		// 40 % something has kept autovacuum from its work for long.
		LimitInfoPercent: 40, LimitWarnPercent: 60, LimitCriticalPercent: 80,
		// Ours: half is what a table that is updated all over reaches in health.
		BloatPercent: 50, BloatMinBytes: 64 << 20,
		NeverAnalyzedRows: 1000,
		// Ours: from there on an index-only scan that has to look at each row
		// shows, and so does freezing them all at once.
		NeverVacuumedRows: 100_000,
		// Ours: a week, so that weekly work had its turn.
		UnusedIndexAge: 7 * 24 * time.Hour, UnusedIndexBytes: 1 << 20,
		// Ours: some dozens of reads of more rows than an index would.
		SeqScans: 50, SeqScanRows: 10_000,
		// The original specification's slow query threshold.
		SlowStatement: time.Second, SlowStatementCalls: 5,
		StatementSharePercent: 20, StatementsMinTime: time.Minute,
		RegressionFactor: 2, RegressionCalls: 20,
		// Ours, as are the floors.
		RollbackPercent: 5, RollbackMin: 1000,
		TempBytes: 1 << 30,
		// More early checkpoints than timed ones is what log_checkpoints and
		// checkpoint_warning exist for.
		CheckpointsRequestedPercent: 50, CheckpointsMin: 10,
		DiskWarnPercent: 85, DiskCriticalPercent: 95,
		// Ours: time to order a larger disk, and a long weekend.
		DiskFullWarn: 14 * 24 * time.Hour, DiskFullCritical: 3 * 24 * time.Hour,
		// restore.keep_displaced's default; longer than any restore we know of; and a
		// week to see that everything needed is back.
		KeepDisplaced: 7 * 24 * time.Hour, LeftDatabase: 24 * time.Hour, RescuedSchema: 7 * 24 * time.Hour,
		// Ours: once is an accident; at a look every five minutes three waits
		// seen are some dozens had.
		LockEpisodes: 3,
	}
}
