package collect

import (
	"slices"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"

	"github.com/jackc/pgx/v5"
)

// The server_version_num at which queries fork.
const (
	pg13 = 130000
	pg14 = 140000
	pg15 = 150000
	pg16 = 160000
	pg17 = 170000
	pg18 = 180000
	pg19 = 190000
)

// The bounds of the lists of a Reading.
const (
	idleSessionsShown = 20
	userCountsShown   = 20
	locksShown        = 50
	agesShown         = 20
	sequencesShown    = 50
	largestShown      = 20
	indexesShown      = 50
	waitsShown        = 20
)

// waitSample is the name of the query that watching an interval repeats.
const waitSample = "wait events"

// queryTable is every query that Collect asks, in order. Everything that
// depends on a version, an extension or a privilege is said here and nowhere
// else.
func queryTable() []query {
	return slices.Concat(overviewQueries(), sessionQueries(), replicationQueries(), limitQueries(), tableQueries(),
		indexQueries(), statementQueries(), activityQueries(), deepQueries(), replicaQueries())
}

func overviewQueries() []query {
	return []query{
		{name: "what this role may do", section: reading.SectionOverview, sql: sqlPrivileges, counts: true, each: true, scan: scanPrivileges},
		{
			name: "system identifier", section: reading.SectionOverview, sql: sqlSystemIdentifier, counts: true, each: true,
			privilege: "EXECUTE on pg_control_system()", may: func(p reading.Privileges) bool { return p.ControlSystem },
			scan: scanSystemIdentifier,
		},
		{name: "settings", section: reading.SectionOverview, sql: sqlSettings, each: true, args: settingNames, scan: scanSettings},
		{name: "extensions", section: reading.SectionOverview, sql: sqlExtensions, counts: true, each: true, scan: scanExtensions},
	}
}

func sessionQueries() []query {
	return []query{
		{name: "connections", section: reading.SectionConnections, judges: []string{reading.SectionTables}, sql: sqlConnections, scan: scanConnections},
		{name: "connections by state", section: reading.SectionConnections, sql: sqlConnectionsByState, scan: scanConnectionsByState},
		{
			name: "connections by user", section: reading.SectionConnections, sql: sqlConnectionsByUser,
			args: limit(userCountsShown), scan: scanConnectionsByUser,
		},
		{
			name: "connections by client", section: reading.SectionConnections, words: true, sql: sqlConnectionsByClient, args: limit(userCountsShown),
			scan: list(func(r *reading.Reading) *[]reading.ClientCount { return &connections(r).ByClient }),
		},
		{
			name: "idle in transaction", section: reading.SectionConnections, sql: sqlIdleInTransaction,
			args: limit(idleSessionsShown), scan: scanIdleInTransaction,
		},
		{
			name: "longest transactions", section: reading.SectionConnections, before: pg14, sql: sqlLongest(queryID12),
			args: limit(idleSessionsShown), scan: sessions(func(r *reading.Reading) *[]reading.Session { return &connections(r).Longest }),
		},
		{
			name: "longest transactions", section: reading.SectionConnections, since: pg14, sql: sqlLongest(queryID14),
			args: limit(idleSessionsShown), scan: sessions(func(r *reading.Reading) *[]reading.Session { return &connections(r).Longest }),
		},
		{name: waitSample, section: reading.SectionWaits, before: pg14, sql: sqlWaitSample(queryID12), scan: scanWaitSample},
		{name: waitSample, section: reading.SectionWaits, since: pg14, sql: sqlWaitSample(queryID14), scan: scanWaitSample},

		{
			name: "locks", section: reading.SectionLocks, sql: sqlLockCounts, args: limit(locksShown),
			scan: list(func(r *reading.Reading) *[]reading.LockCount { return &made(&r.Locks).Counts }),
		},
		{
			name: "lock waits", section: reading.SectionLocks, before: pg14, sql: sqlLockWaits("a.query_start", queryID12),
			args: limit(locksShown), scan: scanLockWaits,
		},
		{
			name: "lock waits", section: reading.SectionLocks, since: pg14, sql: sqlLockWaits("coalesce(l.waitstart, a.query_start)", queryID14),
			args: limit(locksShown), scan: scanLockWaits,
		},
		{
			name: "blocking sessions", section: reading.SectionLocks, before: pg14, sql: sqlBlockers(queryID12), args: blockers, listed: true,
			scan: sessions(func(r *reading.Reading) *[]reading.Session { return &made(&r.Locks).Blockers }),
		},
		{
			name: "blocking sessions", section: reading.SectionLocks, since: pg14, sql: sqlBlockers(queryID14), args: blockers, listed: true,
			scan: sessions(func(r *reading.Reading) *[]reading.Session { return &made(&r.Locks).Blockers }),
		},

		{name: "superusers' sessions", section: reading.SectionSettings, sql: sqlSuperusers, args: limit(userCountsShown), scan: scanSuperusers},
		{
			name: "unencrypted sessions", section: reading.SectionSettings, sql: sqlUnencrypted, privilege: "pg_monitor",
			scan: value(func(r *reading.Reading) **int { return &made(&r.Security).Unencrypted }),
		},
		{
			name: "how passwords are kept", section: reading.SectionSettings, sql: sqlMD5Roles, privilege: "SELECT on pg_authid (a superuser has it)", may: func(p reading.Privileges) bool { return p.Authid },
			scan: value(func(r *reading.Reading) **int { return &made(&r.Security).MD5Roles }),
		},
	}
}

func replicationQueries() []query {
	return []query{
		{name: "WAL position", section: reading.SectionReplication, sql: sqlWALPosition, counts: true, scan: scanWALPosition},
		{
			name: "standbys", section: reading.SectionReplication, judges: []string{reading.SectionIndexes, reading.SectionLimits}, sql: sqlStandbys,
			scan: list(func(r *reading.Reading) *[]reading.Standby { return &made(&r.Replication).Standbys }),
		},
		{name: "replication slots", section: reading.SectionReplication, judges: []string{reading.SectionIndexes, reading.SectionLimits}, before: pg13, sql: sqlSlots(slotColumns12), scan: scanSlots},
		{name: "replication slots", section: reading.SectionReplication, judges: []string{reading.SectionIndexes, reading.SectionLimits}, since: pg13, before: pg17, sql: sqlSlots(slotColumns13), scan: scanSlots},
		{name: "replication slots", section: reading.SectionReplication, judges: []string{reading.SectionIndexes, reading.SectionLimits}, since: pg17, sql: sqlSlots(slotColumns17), scan: scanSlots},
		{name: "replay", section: reading.SectionReplication, only: reading.RoleStandby, sql: sqlReplay, scan: scanReplay},
		{
			name: "conflicts with replay", section: reading.SectionReplication, only: reading.RoleStandby, sql: sqlConflicts, counts: true,
			scan: section(func(r *reading.Reading) **reading.Conflicts { return &made(&r.Replication).Conflicts }),
		},
		{
			name: "subscriptions", section: reading.SectionReplication, only: reading.RolePrimary, before: pg15, each: true,
			sql: sqlSubscriptions(subscriptionColumns12), privilege: "SELECT on pg_subscription", may: func(p reading.Privileges) bool { return p.Subscriptions },
			scan: scanSubscriptions,
		},
		{
			name: "subscriptions", section: reading.SectionReplication, only: reading.RolePrimary, since: pg15, before: pg19, each: true,
			sql: sqlSubscriptions(subscriptionColumns15), privilege: "SELECT on pg_subscription", may: func(p reading.Privileges) bool { return p.Subscriptions },
			scan: scanSubscriptions,
		},
		{
			name: "subscriptions", section: reading.SectionReplication, only: reading.RolePrimary, since: pg19, each: true,
			sql: sqlSubscriptions(subscriptionColumns19), privilege: "SELECT on pg_subscription", may: func(p reading.Privileges) bool { return p.Subscriptions },
			scan: scanSubscriptions,
		},
		{name: "archiver", section: reading.SectionReplication, sql: sqlArchiver, counts: true, scan: scanArchiver},
		{
			name: "WAL awaiting archiving", section: reading.SectionReplication, sql: sqlReadyFiles, privilege: "pg_monitor", may: func(p reading.Privileges) bool { return p.Archive },
			scan: value(func(r *reading.Reading) **int64 { return &made(&r.Replication).ReadyFiles }),
		},
		{
			name: "size of WAL", section: reading.SectionReplication, sql: sqlWALBytes, privilege: "pg_monitor", may: func(p reading.Privileges) bool { return p.WAL },
			scan: value(func(r *reading.Reading) **int64 { return &made(&r.Replication).WALBytes }),
		},
	}
}

func limitQueries() []query {
	return []query{
		{
			name: "ages of databases", section: reading.SectionLimits, sql: sqlDatabaseAges,
			scan: list(func(r *reading.Reading) *[]reading.DatabaseAge { return &made(&r.Limits).Databases }),
		},
		{
			name: "ages of tables", section: reading.SectionLimits, sql: sqlTableAges, each: true, args: limit(agesShown),
			scan: list(func(r *reading.Reading) *[]reading.TableAge { return &made(&r.Limits).Tables }),
		},
		{name: "sequences in all", section: reading.SectionLimits, sql: sqlSequenceCounts, each: true, scan: scanSequenceCounts},
		{
			name: "sequences", section: reading.SectionLimits, before: pg15, sql: sqlSequences(published12), each: true, args: limit(sequencesShown),
			scan: list(func(r *reading.Reading) *[]reading.Sequence { return &made(&r.Limits).Sequences }),
		},
		{
			name: "sequences", section: reading.SectionLimits, since: pg15, sql: sqlSequences(published15), each: true, args: limit(sequencesShown),
			scan: list(func(r *reading.Reading) *[]reading.Sequence { return &made(&r.Limits).Sequences }),
		},
		{name: "prepared transactions", section: reading.SectionLimits, sql: sqlPrepared, args: limit(agesShown), scan: scanPrepared},
		{name: "what holds VACUUM back", section: reading.SectionLimits, sql: sqlHolders, args: limit(agesShown), scan: scanHolders},
		{
			name: "workers", section: reading.SectionLimits, sql: sqlWorkers,
			scan: list(func(r *reading.Reading) *[]reading.Workers { return &made(&r.Limits).Workers }),
		},
	}
}

func tableQueries() []query {
	return []query{
		{name: "tables", section: reading.SectionTables, judges: []string{reading.SectionIndexes}, before: pg13, each: true, sql: sqlTables(tableColumns12), args: topTables, scan: scanTables},
		{name: "tables", section: reading.SectionTables, judges: []string{reading.SectionIndexes}, since: pg13, before: pg16, each: true, sql: sqlTables(tableColumns13), args: topTables, scan: scanTables},
		{name: "tables", section: reading.SectionTables, judges: []string{reading.SectionIndexes}, since: pg16, each: true, sql: sqlTables(tableColumns16), args: topTables, scan: scanTables},
		{name: "exact table sizes", section: reading.SectionTables, judges: []string{reading.SectionIndexes}, each: true, sql: sqlExactSizes, args: tableOIDs, listed: true, scan: scanExactSizes},
		{name: "bloat of tables", section: reading.SectionTables, each: true, sql: sqlTableBloat, args: tableOIDs, listed: true, scan: scanTableBloat},
		{name: "tables without primary key", section: reading.SectionTables, before: pg15, each: true, sql: sqlWithoutPrimaryKey(published12), scan: scanWithoutPrimaryKey},
		{name: "tables without primary key", section: reading.SectionTables, since: pg15, each: true, sql: sqlWithoutPrimaryKey(published15), scan: scanWithoutPrimaryKey},
		{
			name: "vacuums in progress", section: reading.SectionTables, each: true, sql: sqlVacuums,
			scan: list(func(r *reading.Reading) *[]reading.Vacuuming { return &tables(r).Vacuums }),
		},
	}
}

func indexQueries() []query {
	return []query{
		{name: "foreign keys without index", section: reading.SectionIndexes, before: pg18, each: true, sql: sqlForeignKeys(""), scan: scanForeignKeys},
		{
			name: "foreign keys without index", section: reading.SectionIndexes, since: pg18, each: true,
			// A key that isn't enforced is never looked up, and one WITHOUT
			// OVERLAPS wants a GiST index, which is another question.
			sql: sqlForeignKeys("and c.conenforced and not c.conperiod"), scan: scanForeignKeys,
		},
		{name: "indexes", section: reading.SectionIndexes, before: pg16, each: true, sql: sqlIndexes(lastScan12), args: topIndexes, scan: scanIndexes},
		{name: "indexes", section: reading.SectionIndexes, since: pg16, each: true, sql: sqlIndexes(lastScan16), args: topIndexes, scan: scanIndexes},
		{name: "redundant indexes", section: reading.SectionIndexes, before: pg15, each: true, sql: sqlRedundant(sameNulls12), args: limit(indexesShown), scan: scanRedundant},
		{name: "redundant indexes", section: reading.SectionIndexes, since: pg15, each: true, sql: sqlRedundant(sameNulls15), args: limit(indexesShown), scan: scanRedundant},
		{
			name: "invalid indexes of partitioned tables", section: reading.SectionIndexes, each: true, sql: sqlInvalidPartitioned, args: limit(indexesShown),
			scan: scanInvalidPartitioned,
		},
		{name: "bloat of indexes", section: reading.SectionIndexes, each: true, sql: sqlIndexBloat, args: indexOIDs, listed: true, scan: scanIndexBloat},
	}
}

func statementQueries() []query {
	const extension = "pg_stat_statements"
	return []query{
		{
			name: "statements", section: reading.SectionStatements, judges: []string{reading.SectionIndexes}, extension: extension, extensionSince: "1.4", counts: true,
			build: sqlStatements, scan: scanStatements,
		},
		{
			name: "statements' statistics", section: reading.SectionStatements, extension: extension, extensionSince: "1.9",
			sql: sqlStatementsInfo, scan: scanStatementsInfo,
		},
		{
			name: "texts of statements", section: reading.SectionStatements, judges: []string{reading.SectionIndexes}, extension: extension, extensionSince: "1.4",
			sql: sqlStatementTexts, args: statementIDs, listed: true, scan: scanStatementTexts,
		},
	}
}

func activityQueries() []query {
	return []query{
		{name: "cache", section: reading.SectionCache, sql: sqlCache, counts: true, each: true, scan: scanCache},
		{
			name: "cache by table", section: reading.SectionCache, sql: sqlTableCache, each: true, args: limit(agesShown),
			scan: list(func(r *reading.Reading) *[]reading.TableCache { return &made(&r.Cache).Tables }),
		},
		{
			name: "database size", section: reading.SectionSize, judges: []string{reading.SectionSettings}, sql: sqlDatabaseSize, each: true,
			privilege: "CONNECT on the database, or pg_monitor", scan: scanDatabaseSize,
		},
		{
			name: "sizes of other databases", section: reading.SectionSize, words: true, sql: sqlDatabaseSizes,
			scan: scanDatabaseSizes,
		},
		{name: "databases that pgmedic set aside", section: reading.SectionSize, sql: sqlKeptDatabases, scan: scanKeptDatabases},
		{name: "tablespaces", section: reading.SectionSize, sql: sqlTablespaces, scan: scanTablespaces},
		{name: "schemas that rescues made", section: reading.SectionSize, sql: sqlRescuedSchemas, each: true, scan: scanRescuedSchemas},
		{
			name: "transactions", section: reading.SectionTransactions, judges: []string{reading.SectionIndexes}, before: pg14, counts: true, each: true,
			sql: sqlTransactions(databaseColumns12), scan: scanTransactions,
		},
		{
			name: "transactions", section: reading.SectionTransactions, judges: []string{reading.SectionIndexes}, since: pg14, counts: true, each: true,
			sql: sqlTransactions(databaseColumns14), scan: scanTransactions,
		},
		{name: "checkpoints", section: reading.SectionCheckpoints, before: pg17, counts: true, sql: sqlCheckpoints12, scan: scanCheckpoints},
		{name: "checkpoints", section: reading.SectionCheckpoints, since: pg17, counts: true, sql: sqlCheckpoints17, scan: scanCheckpoints},
		{name: "WAL", section: reading.SectionCheckpoints, since: pg14, counts: true, sql: sqlWAL, scan: scanWAL},
		{
			name: "I/O", section: reading.SectionCheckpoints, since: pg16, before: pg18, counts: true, sql: sqlIO(ioBytes16),
			scan: list(func(r *reading.Reading) *[]reading.IO { return &r.IO }),
		},
		{
			name: "I/O", section: reading.SectionCheckpoints, since: pg18, counts: true, sql: sqlIO(ioBytes18),
			scan: list(func(r *reading.Reading) *[]reading.IO { return &r.IO }),
		},
	}
}

// limit is an argument list of one number.
func limit(n int) func(*reading.Reading, Options) []any {
	return func(*reading.Reading, Options) []any { return []any{n} }
}

// topTables is how many tables to read, by size and by dead rows.
func topTables(_ *reading.Reading, opts Options) []any { return []any{opts.TopTables} }

// topIndexes is how many indexes to read, by size, and of those that are
// unused or invalid.
func topIndexes(*reading.Reading, Options) []any { return []any{largestShown, indexesShown} }

// tableOIDs are the tables that the tables query chose.
func tableOIDs(r *reading.Reading, _ Options) []any {
	oids := []uint32{}
	if r.Tables != nil {
		for _, t := range r.Tables.Items {
			oids = append(oids, t.OID)
		}
	}
	return []any{oids}
}

// settingNames are the settings that a judgement or a reader needs. A name
// that a version doesn't have is absent from the answer.
func settingNames(*reading.Reading, Options) []any {
	return []any{[]string{
		"archive_mode", "autovacuum", "autovacuum_freeze_max_age", "autovacuum_max_workers", "autovacuum_naptime",
		"autovacuum_vacuum_max_threshold", "autovacuum_vacuum_scale_factor", "autovacuum_vacuum_threshold",
		"block_size", "checkpoint_completion_target", "checkpoint_timeout", "compute_query_id", "data_checksums", "data_directory",
		"effective_cache_size", "fsync", "full_page_writes", "hot_standby_feedback",
		"idle_in_transaction_session_timeout", "log_checkpoints", "log_lock_waits", "log_min_duration_statement",
		"maintenance_work_mem", "max_connections", "max_prepared_transactions", "max_replication_slots",
		"max_slot_wal_keep_size", "max_wal_senders", "max_wal_size", "password_encryption", "pg_stat_statements.track",
		"random_page_cost",
		"reserved_connections", "shared_buffers", "shared_preload_libraries", "ssl",
		"statement_timeout", "superuser_reserved_connections", "synchronous_commit", "synchronous_standby_names",
		"track_commit_timestamp", "track_counts", "track_io_timing", "wal_buffers", "wal_level", "work_mem",
	}}
}

// assert that a pgx connection can be looked at.
var _ Conn = (*pgx.Conn)(nil)
