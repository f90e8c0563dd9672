package collect

// The search path of these statements is pg_catalog alone.

const sqlServer = `
select split_part(current_setting('server_version'), ' ', 1) as version,
       current_setting('server_version_num')::int as version_num,
       case when pg_is_in_recovery() then 'standby' else 'primary' end as role,
       pg_postmaster_start_time() as started_at,
       extract(epoch from greatest(statement_timestamp() - pg_postmaster_start_time(), '0'))::float8 as uptime_seconds,
       current_database()::text as database,
       (select d.oid from pg_database d where d.datname = current_database()) as database_oid,
       (select b.stats_reset from pg_stat_bgwriter b) as stats_reset`

// sqlPrivileges asks what would be refused, and logged as an error, were it asked.
const sqlPrivileges = `
select exists (select from pg_available_extensions x where x.name = 'pg_stat_statements') as statements_available,
       current_user::text as role_name,
       has_table_privilege('pg_authid', 'SELECT') as authid,
       has_function_privilege('pg_control_system()', 'EXECUTE') as control_system,
       has_function_privilege('pg_ls_waldir()', 'EXECUTE') as wal,
       has_function_privilege('pg_ls_archive_statusdir()', 'EXECUTE') as archive,
       (select bool_and(has_column_privilege('pg_subscription', a.attname, 'SELECT')) from pg_attribute a
        where a.attrelid = 'pg_subscription'::regclass
          and a.attname in ('oid', 'subdbid', 'subname', 'subenabled', 'subslotname')) as subscriptions,
       current_setting('pg_stat_statements.max', true) is not null as statements_loaded,
       (select has_schema_privilege(e.extnamespace, 'USAGE') from pg_extension e where e.extname = 'pg_stat_statements') as statements_schema,
       (select bool_and(has_function_privilege(p.oid, 'EXECUTE'))
        from pg_extension e join pg_proc p on p.pronamespace = e.extnamespace and p.proname in ('pg_stat_statements', 'pg_stat_statements_info')
        where e.extname = 'pg_stat_statements') as statements_call`

const sqlSystemIdentifier = `select system_identifier::text from pg_control_system()`

// reset_val is what a session gets; setting would show our own limits.
const sqlSettings = `
select name, coalesce(reset_val, '') as value, coalesce(unit, '') as unit, source, pending_restart
from pg_settings where name = any($1::text[]) order by name`

const sqlExtensions = `
select e.extname::text as name, e.extversion as version, n.nspname::text as schema
from pg_extension e join pg_namespace n on n.oid = e.extnamespace order by e.extname`

// sqlClients are the client sessions. Without pg_read_all_stats the type of
// another role's session is hidden with its state, so a session of a role whose
// type can't be seen counts as a client.
const sqlClients = `
with client as (
  select *, backend_type is null and pid <> pg_backend_pid() as hidden
  from pg_stat_activity
  where backend_type = 'client backend' or backend_type is null and usesysid is not null
)`

const sqlConnections = sqlClients + `
select count(*)::int as used,
       current_setting('max_connections')::int as max_connections,
       current_setting('superuser_reserved_connections')::int as superuser_reserved,
       coalesce(current_setting('reserved_connections', true), '0')::int as reserved,
       (count(*) filter (where hidden))::int as hidden,
       (count(*) filter (where wait_event_type = 'Lock'))::int as waiting_for_lock,
       coalesce(extract(epoch from max(greatest(statement_timestamp() - xact_start, '0'))
         filter (where pid <> pg_backend_pid())), 0)::float8 as oldest_transaction_seconds,
       coalesce(extract(epoch from avg(greatest(statement_timestamp() - xact_start, '0'))
         filter (where pid <> pg_backend_pid())), 0)::float8 as average_transaction_seconds,
       coalesce(extract(epoch from avg(greatest(statement_timestamp() - query_start, '0'))
         filter (where pid <> pg_backend_pid() and state = 'active')), 0)::float8 as average_query_seconds,
       coalesce(extract(epoch from avg(greatest(statement_timestamp() - backend_start, '0'))
         filter (where pid <> pg_backend_pid())), 0)::float8 as average_connection_seconds,
       coalesce(extract(epoch from max(greatest(statement_timestamp() - backend_start, '0'))
         filter (where pid <> pg_backend_pid())), 0)::float8 as oldest_connection_seconds,
       coalesce(extract(epoch from max(greatest(statement_timestamp() - query_start, '0'))
         filter (where pid <> pg_backend_pid() and state = 'active')), 0)::float8 as oldest_query_seconds
from client`

const sqlConnectionsByState = sqlClients + `
select case when hidden then 'hidden' else coalesce(state, 'unknown') end as state, count(*)::int as connections
from client group by 1 order by 2 desc, 1`

const sqlConnectionsByUser = sqlClients + `
select coalesce(usename::text, '') as user, coalesce(application_name, '') as application, count(*)::int as connections
from client group by 1, 2 order by 3 desc, 1, 2 limit $1`

const sqlIdleInTransaction = sqlClients + `
select pid, coalesce(usename::text, '') as user, coalesce(datname::text, '') as database,
       coalesce(application_name, '') as application, backend_start, xact_start as transaction_start,
       extract(epoch from greatest(statement_timestamp() - state_change, '0'))::float8 as idle_seconds,
       extract(epoch from greatest(statement_timestamp() - xact_start, '0'))::float8 as transaction_seconds
from client
where state in ('idle in transaction', 'idle in transaction (aborted)')
  and pid <> pg_backend_pid() and xact_start is not null and state_change is not null
order by idle_seconds desc, pid limit $1`

const sqlCache = `
select blks_hit as lifetime_hits, blks_read as lifetime_reads, stats_reset
from pg_stat_database where datname = current_database()`

const sqlDatabaseSize = `select pg_database_size(current_database()) as database_bytes`

// What the tables query can know of a table, by version.
const (
	tableColumns12 = `null::bigint as inserted_since_vacuum, null::bigint as newpage_updated_tuples,
       null::timestamptz as last_seq_scan, null::timestamptz as last_idx_scan`
	tableColumns13 = `s.n_ins_since_vacuum as inserted_since_vacuum, null::bigint as newpage_updated_tuples,
       null::timestamptz as last_seq_scan, null::timestamptz as last_idx_scan`
	tableColumns16 = `s.n_ins_since_vacuum as inserted_since_vacuum, s.n_tup_newpage_upd as newpage_updated_tuples,
       s.last_seq_scan, s.last_idx_scan`
)

// userSchemas leaves the server's own schemas and temporary tables out.
const userSchemas = `n.nspname !~ '^pg_' and n.nspname <> 'information_schema'`

// heapBytes estimates the size of the table c without opening it: what the last
// VACUUM or ANALYZE saw, and, for a table that grew since or that neither has
// seen, at least the 28 bytes that each live row takes with its line pointer.
const heapBytes = `greatest(c.relpages::bigint * current_setting('block_size')::bigint, pg_stat_get_live_tuples(c.oid) * 28, 0)`

// sqlTables reads the $1 largest tables by relpages, the $1 with the most dead
// rows, and the $1 of which sequential scans have read the most rows. It takes no lock on any of them and measures nothing.
func sqlTables(versionColumns string) string {
	return `
with relation as (
  select c.oid, n.nspname, c.relname, c.relkind, c.relispartition, c.reltuples, c.reloptions,
         ` + heapBytes + ` + coalesce(t.relpages, 0)::bigint * current_setting('block_size')::bigint as bytes,
         coalesce(pg_stat_get_dead_tuples(c.oid), 0) as dead,
         case when pg_stat_get_numscans(c.oid) > 0 then pg_stat_get_tuples_returned(c.oid) else 0 end as scanned
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  left join pg_class t on t.oid = c.reltoastrelid
  where c.relkind in ('r', 'm') and ` + userSchemas + `
), ranked as (
  select *, count(*) over () as total,
         row_number() over (order by bytes desc, oid) as by_bytes,
         row_number() over (order by dead desc, oid) as by_dead,
         row_number() over (order by scanned desc, oid) as by_scanned
  from relation
)
select r.total::int, r.oid, r.nspname::text as schema, r.relname::text as name,
       case when r.relkind = 'm' then 'materialized view' when r.relispartition then 'partition' else 'table' end as kind,
       r.bytes as estimated_bytes, r.reltuples::bigint as estimated_rows,
       coalesce(s.n_live_tup, 0) as live_tuples, coalesce(s.n_dead_tup, 0) as dead_tuples,
       coalesce(s.n_mod_since_analyze, 0) as modified_since_analyze,
       s.last_vacuum, s.last_autovacuum, s.last_analyze, s.last_autoanalyze,
       coalesce(s.seq_scan, 0) as seq_scans, coalesce(s.seq_tup_read, 0) as seq_tuples_read,
       coalesce(s.idx_scan, 0) as idx_scans,
       coalesce(s.n_tup_ins, 0) as inserted_tuples, coalesce(s.n_tup_upd, 0) as updated_tuples,
       coalesce(s.n_tup_del, 0) as deleted_tuples, coalesce(s.n_tup_hot_upd, 0) as hot_updated_tuples,
       coalesce(r.reloptions, '{}') as options,
       array(select a.attname::text from pg_attribute a
             where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
               and not exists (select from pg_index i
                               where i.indrelid = r.oid and i.indisvalid and i.indkey[0] = a.attnum and i.indpred is null)
             order by a.attnum limit 100) as unindexed,
       ` + versionColumns + `
from ranked r
-- The view counts every table unless it is asked for one at a time.
left join lateral (select * from pg_stat_user_tables x where x.relid = r.oid offset 0) s on true
where r.by_bytes <= $1 or r.by_dead <= $1 and r.dead > 0 or r.by_scanned <= $1 and r.scanned > 0
order by r.bytes desc, r.nspname, r.relname`
}

// locked are the relations of this database that somebody holds or awaits an
// exclusive lock on. What opens one of them waits, and if it awaits the lock
// behind somebody who waits, so does everything after it.
const locked = `
locked as materialized (
  select distinct relation from pg_locks
  where mode = 'AccessExclusiveLock' and relation is not null
    and database = (select oid from pg_database where datname = current_database())
)`

// sqlExactSizes measures the tables in $1, except those that somebody holds or
// awaits an exclusive lock on, the table or anything that belongs to it:
// measuring opens them, and would wait.
const sqlExactSizes = `
with` + locked + `, free as materialized (
  select c.oid, c.reltoastrelid
  from pg_class c
  where c.oid = any($1::oid[])
    and not exists (
      select from locked l where l.relation in (c.oid, c.reltoastrelid)
        or l.relation in (select indexrelid from pg_index i where i.indrelid in (c.oid, c.reltoastrelid)))
), measured as materialized (
  select oid, pg_total_relation_size(oid) as total_bytes, pg_indexes_size(oid) as index_bytes,
         case when reltoastrelid = 0 then 0 else pg_total_relation_size(reltoastrelid) end as toast_bytes
  from free
)
select oid, total_bytes, total_bytes - index_bytes - toast_bytes as table_bytes, index_bytes, toast_bytes
from measured`
