package monitor

import (
	"github.com/jackc/pgx/v5"
)

// The server_version_num at which queries fork.
const (
	pg13 = 130000
	pg16 = 160000
	pg18 = 180000
)

// idleSessionsShown and userCountsShown bound the lists of Connections.
const (
	idleSessionsShown = 20
	userCountsShown   = 20
)

// queryTable is every query that Collect asks, in order. Everything that
// depends on a version, an extension or a privilege is said here and nowhere
// else.
func queryTable() []query {
	return []query{
		{
			name: "system identifier", section: SectionOverview, sql: sqlSystemIdentifier,
			privilege: "EXECUTE on pg_control_system()",
			scan:      scanSystemIdentifier,
		},
		{name: "settings", section: SectionOverview, sql: sqlSettings, args: settingNames, scan: scanSettings},
		{name: "extensions", section: SectionOverview, sql: sqlExtensions, scan: scanExtensions},

		{name: "connections", section: SectionConnections, sql: sqlConnections, scan: scanConnections},
		{name: "connections by state", section: SectionConnections, sql: sqlConnectionsByState, scan: scanConnectionsByState},
		{
			name: "connections by user", section: SectionConnections, sql: sqlConnectionsByUser,
			args: limit(userCountsShown), scan: scanConnectionsByUser,
		},
		{
			name: "idle in transaction", section: SectionConnections, sql: sqlIdleInTransaction,
			args: limit(idleSessionsShown), scan: scanIdleInTransaction,
		},

		{name: "cache", section: SectionCache, sql: sqlCache, scan: scanCache},
		{
			name: "database size", section: SectionSize, sql: sqlDatabaseSize,
			privilege: "CONNECT on the database, or pg_monitor", scan: scanDatabaseSize,
		},

		{name: "tables", section: SectionTables, before: pg13, sql: sqlTables(tableColumns12), args: topTables, scan: scanTables},
		{name: "tables", section: SectionTables, since: pg13, before: pg16, sql: sqlTables(tableColumns13), args: topTables, scan: scanTables},
		{name: "tables", section: SectionTables, since: pg16, sql: sqlTables(tableColumns16), args: topTables, scan: scanTables},
		{name: "exact table sizes", section: SectionTables, sql: sqlExactSizes, args: tableOIDs, scan: scanExactSizes},
		{name: "tables without primary key", section: SectionTables, sql: sqlWithoutPrimaryKey, scan: scanWithoutPrimaryKey},

		{name: "foreign keys without index", section: SectionIndexes, before: pg18, sql: sqlForeignKeys(""), scan: scanForeignKeys},
		{
			name: "foreign keys without index", section: SectionIndexes, since: pg18,
			// A key that isn't enforced is never looked up, and one WITHOUT
			// OVERLAPS wants a GiST index, which is another question.
			sql: sqlForeignKeys("and c.conenforced and not c.conperiod"), scan: scanForeignKeys,
		},
	}
}

// limit is an argument list of one number.
func limit(n int) func(*Reading, CollectOptions) []any {
	return func(*Reading, CollectOptions) []any { return []any{n} }
}

// topTables is how many tables to read, by size and by dead rows.
func topTables(_ *Reading, opts CollectOptions) []any { return []any{opts.TopTables} }

// tableOIDs are the tables that the tables query chose.
func tableOIDs(r *Reading, _ CollectOptions) []any {
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
func settingNames(*Reading, CollectOptions) []any {
	return []any{[]string{
		"archive_mode", "autovacuum", "autovacuum_max_workers", "autovacuum_naptime",
		"autovacuum_vacuum_max_threshold", "autovacuum_vacuum_scale_factor", "autovacuum_vacuum_threshold",
		"block_size", "checkpoint_completion_target", "checkpoint_timeout", "data_checksums",
		"effective_cache_size", "fsync", "full_page_writes", "hot_standby_feedback",
		"idle_in_transaction_session_timeout", "log_min_duration_statement", "maintenance_work_mem",
		"max_connections", "max_wal_size", "password_encryption", "random_page_cost",
		"reserved_connections", "shared_buffers", "shared_preload_libraries", "ssl",
		"statement_timeout", "superuser_reserved_connections", "synchronous_commit", "track_counts",
		"track_io_timing", "wal_level", "work_mem",
	}}
}

// assert that a pgx connection can be looked at.
var _ Conn = (*pgx.Conn)(nil)
