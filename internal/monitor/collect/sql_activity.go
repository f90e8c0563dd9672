package collect

// What the transactions query can know, by version.
const (
	databaseColumns12 = `null::float8 as session_seconds, null::float8 as active_seconds, null::float8 as idle_in_seconds,
       null::bigint as sessions, null::bigint as sessions_abandoned, null::bigint as sessions_fatal, null::bigint as sessions_killed`
	databaseColumns14 = `session_time / 1000 as session_seconds, active_time / 1000 as active_seconds,
       idle_in_transaction_time / 1000 as idle_in_seconds, sessions, sessions_abandoned, sessions_fatal, sessions_killed`
)

func sqlTransactions(versionColumns string) string {
	return `
select xact_commit as commits, xact_rollback as rollbacks, tup_returned as returned, tup_fetched as fetched,
       tup_inserted as inserted, tup_updated as updated, tup_deleted as deleted, deadlocks, temp_files, temp_bytes,
       blk_read_time / 1000 as read_seconds, blk_write_time / 1000 as write_seconds, checksum_failures, stats_reset,
       ` + versionColumns + `
from pg_stat_database where datname = current_database()`
}

const sqlCheckpoints12 = `
select checkpoints_timed as timed, checkpoints_req as requested, checkpoint_write_time / 1000 as write_seconds,
       checkpoint_sync_time / 1000 as sync_seconds,
       buffers_checkpoint * current_setting('block_size')::bigint as checkpoint_bytes,
       buffers_clean * current_setting('block_size')::bigint as bgwriter_bytes,
       buffers_backend * current_setting('block_size')::bigint as backend_bytes,
       maxwritten_clean as bgwriter_stops, stats_reset
from pg_stat_bgwriter`

const sqlCheckpoints17 = `
select c.num_timed as timed, c.num_requested as requested, c.write_time / 1000 as write_seconds,
       c.sync_time / 1000 as sync_seconds,
       c.buffers_written * current_setting('block_size')::bigint as checkpoint_bytes,
       b.buffers_clean * current_setting('block_size')::bigint as bgwriter_bytes,
       null::bigint as backend_bytes, b.maxwritten_clean as bgwriter_stops, c.stats_reset
from pg_stat_checkpointer c cross join pg_stat_bgwriter b`

const sqlWAL = `
select wal_records as records, wal_fpi as full_page_images, wal_bytes::bigint as bytes, wal_buffers_full as buffers_full, stats_reset
from pg_stat_wal`

// The bytes of pg_stat_io, by version.
const (
	ioBytes16 = `coalesce(reads * op_bytes, 0)::bigint as read_bytes, coalesce(writes * op_bytes, 0)::bigint as write_bytes,
       coalesce(extends * op_bytes, 0)::bigint as extended`
	ioBytes18 = `coalesce(read_bytes, 0)::bigint as read_bytes, coalesce(write_bytes, 0)::bigint as write_bytes,
       coalesce(extend_bytes, 0)::bigint as extended`
)

func sqlIO(bytes string) string {
	return `
select backend_type as backend, object, context, ` + bytes + `,
       coalesce(hits, 0) as hits, coalesce(reads, 0) as reads, coalesce(writes, 0) as writes, coalesce(evictions, 0) as evictions,
       coalesce(fsyncs, 0) as fsyncs, coalesce(read_time, 0) / 1000 as read_time, coalesce(write_time, 0) / 1000 as write_time
from pg_stat_io
where coalesce(reads, 0) + coalesce(writes, 0) + coalesce(extends, 0) + coalesce(hits, 0) > 0
order by backend_type, object, context`
}

// sqlTableCache reads the tables with the most blocks that were not found in
// shared_buffers, of the table, its indexes and its TOAST.
const sqlTableCache = `
with relation as (
  select c.oid, c.relname, n.nspname, c.reltoastrelid,
         pg_stat_get_blocks_fetched(c.oid) as heap, pg_stat_get_blocks_hit(c.oid) as heap_hits
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'm') and ` + userSchemas + `
), by_index as (
  select i.indrelid, sum(pg_stat_get_blocks_fetched(i.indexrelid))::bigint as fetched,
         sum(pg_stat_get_blocks_hit(i.indexrelid))::bigint as hits
  from pg_index i where i.indrelid in (select oid from relation) group by i.indrelid
)
select r.nspname::text as schema, r.relname::text as name, r.heap_hits, r.heap - r.heap_hits as heap_reads,
       coalesce(x.hits, 0) as index_hits, coalesce(x.fetched - x.hits, 0) as index_reads,
       coalesce(pg_stat_get_blocks_hit(nullif(r.reltoastrelid, 0)), 0) as toast_hits,
       coalesce(pg_stat_get_blocks_fetched(nullif(r.reltoastrelid, 0)) - pg_stat_get_blocks_hit(nullif(r.reltoastrelid, 0)), 0) as toast_reads
from relation r left join by_index x on x.indrelid = r.oid
where r.heap + coalesce(x.fetched, 0) > 0
order by r.heap - r.heap_hits + coalesce(x.fetched - x.hits, 0) desc, 1, 2 limit $1`

// The database that is looked at is measured already. Of one that was dropped just
// now the size is NULL, or an error, by version; whether it is there is asked as
// everybody, since of a superuser the server asks nothing.
const sqlDatabaseSizes = `
select datname::text as name, ` + sizeOfDatabase + ` as bytes
from pg_database
where datallowconn and datname <> current_database()
order by 2 desc nulls last, 1`

// sizeOfDatabase is NULL where this role may not measure a database.
const sizeOfDatabase = `case when has_database_privilege('public', oid, 'CONNECT') is null then 0
            when has_database_privilege(oid, 'CONNECT') or pg_has_role('pg_read_all_stats', 'MEMBER') then coalesce(pg_database_size(oid), 0) end`

// sqlKeptDatabases reads the databases whose comments are stories of pgmedic's. Most
// of them take no connections.
const sqlKeptDatabases = `
select datname::text as name, ` + sizeOfDatabase + ` as bytes, shobj_description(oid, 'pg_database') as comment, clock_timestamp() as now
from pg_database
where shobj_description(oid, 'pg_database') like '{"pgmedic":%' and datname <> current_database()
order by 2 desc nulls last, 1`

// sqlTablespaces reads those outside of the data folder, which may be on other disks.
const sqlTablespaces = `
select spcname::text as name, pg_tablespace_location(oid) as location from pg_tablespace
where pg_tablespace_location(oid) like '/%' order by 1`

// sqlRescuedSchemas reads the schemas that rescues of single tables made.
const sqlRescuedSchemas = `
select n.nspname::text as name, obj_description(n.oid, 'pg_namespace') as comment, clock_timestamp() as now,
       (select count(*)::int from pg_class c where c.relnamespace = n.oid and c.relkind in ('r', 'p', 'm')) as tables
from pg_namespace n where n.nspname ~ '^pgmedic_rescue_' and obj_description(n.oid, 'pg_namespace') like '{"pgmedic":%'
order by 1`

// sqlStatements reads every entry without its text, which is what makes this
// view slow. @extension@ is the extension's schema.
func sqlStatements(version string) string {
	has := func(since string) bool { return compareVersions(version, since) >= 0 }
	prefix, toplevel, plan, wal := "", "null::boolean", "0::float8", "0::bigint"
	if has("1.8") {
		prefix, plan, wal = "exec_", "s.total_plan_time / 1000", "s.wal_bytes::bigint"
	}
	if has("1.9") {
		toplevel = "s.toplevel"
	}
	io := "s.blk_read_time + s.blk_write_time"
	if has("1.11") {
		io = "s.shared_blk_read_time + s.shared_blk_write_time + s.local_blk_read_time + s.local_blk_write_time"
	}
	const bytes = " * current_setting('block_size')::bigint"
	return `
select coalesce(s.queryid::text, '') as query_id, coalesce(d.datname::text, '') as database, coalesce(u.rolname::text, '') as user,
       ` + toplevel + ` as toplevel, s.calls, s.total_` + prefix + `time / 1000 as exec_seconds, ` + plan + ` as plan_seconds, s.rows,
       s.shared_blks_hit` + bytes + ` as hit_bytes, s.shared_blks_read` + bytes + ` as read_bytes,
       (s.temp_blks_read + s.temp_blks_written)` + bytes + ` as temp_bytes, (` + io + `) / 1000 as io_seconds, ` + wal + ` as wal_bytes,
       s.min_` + prefix + `time / 1000 as min_seconds, s.max_` + prefix + `time / 1000 as max_seconds,
       s.stddev_` + prefix + `time / 1000 as stddev_seconds, current_setting('pg_stat_statements.max', true)::int as max
from @extension@.pg_stat_statements(false) s
left join pg_database d on d.oid = s.dbid left join pg_roles u on u.oid = s.userid`
}

// sqlStatementsInfo asks the function: the view of that name is closed to
// sessions that read system views only, as ours do.
const sqlStatementsInfo = `select dealloc as evicted, stats_reset from @extension@.pg_stat_statements_info()`

// sqlStatementTexts reads the texts of the statements in $1. Long ones are cut
// on the server.
const sqlStatementTexts = `
select distinct on (queryid) queryid::text as query_id, left(query, 16384) as query
from @extension@.pg_stat_statements(true) where queryid = any($1::text[]::bigint[]) order by queryid`
