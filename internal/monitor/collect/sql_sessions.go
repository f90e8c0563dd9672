package collect

// sessionColumns are the columns of a Session, of pg_stat_activity as a.
func sessionColumns(queryID string) string {
	return `a.pid, coalesce(a.usename::text, '') as user, coalesce(a.datname::text, '') as database,
       coalesce(a.application_name, '') as application, coalesce(host(a.client_addr), '') as client,
       coalesce(a.state, '') as state, coalesce(a.backend_type, '') as backend_type, ` + maintenance + ` as maintenance,
       coalesce(a.wait_event_type || ':' || a.wait_event, '') as wait_event,
       a.backend_start, a.xact_start as transaction_start,
       ` + since("a.backend_start") + ` as connection_seconds, ` + since("a.xact_start") + ` as transaction_seconds,
       ` + since("a.query_start") + ` as query_seconds, ` + since("a.state_change") + ` as state_seconds,
       ` + queryID + ` as query_id, left(coalesce(a.query, ''), 8192) as query`
}

// maintenance is the work at a server's keeping that the session a is at. A role
// that may not see what an index build does may see the statement no more; then
// the build is taken for the kind that leaves something behind.
const maintenance = `case
         when a.backend_type <> 'client backend' then ''
         when exists (select from pg_stat_progress_vacuum p where p.pid = a.pid) then 'VACUUM'
         when exists (select from pg_stat_progress_create_index p where p.pid = a.pid and p.command not like '% CONCURRENTLY') then 'an index build'
         when exists (select from pg_stat_progress_create_index p where p.pid = a.pid) then 'a concurrent index build'
         when a.state = 'active' and a.query ~* '^\s*analy[sz]e\y' then 'ANALYZE'
         when a.state = 'active' and a.query ~* '^\s*vacuum\y' and a.query !~* '\yfull\y' then 'VACUUM'
         when a.state = 'active' and a.query ~* '^\s*(create|reindex)\y.*\yindex\s+concurrently\y' then 'a concurrent index build'
         else '' end`

// The query id of pg_stat_activity, by version.
const (
	queryID12 = `''`
	queryID14 = `coalesce(a.query_id::text, '')`
)

// since is how many seconds ago a moment was, zero where there is none.
func since(moment string) string {
	return `coalesce(extract(epoch from greatest(statement_timestamp() - ` + moment + `, '0')), 0)::float8`
}

const sqlConnectionsByClient = sqlClients + `
select coalesce(host(client_addr), '') as client, count(*)::int as connections
from client where not hidden group by 1 order by 2 desc, 1 limit $1`

func sqlLongest(queryID string) string {
	return `
select ` + sessionColumns(queryID) + `
from pg_stat_activity a
where a.xact_start is not null and a.pid <> pg_backend_pid() and a.backend_type = 'client backend'
order by a.xact_start, a.pid limit $1`
}

const sqlLockCounts = `
select locktype as type, mode, granted, count(*)::int as locks
from pg_locks where pid is distinct from pg_backend_pid()
group by 1, 2, 3 order by 4 desc, 1, 2, 3 limit $1`

// sqlLockWaits asks who blocks only for sessions that wait: the function takes
// every partition of the lock table for itself. A wait for a row is a wait for
// a transaction; the row's table is in the tuple lock that goes with it.
func sqlLockWaits(waitStart, queryID string) string {
	return `
with waiting as materialized (
  select l.pid, l.locktype, l.mode, ` + waitStart + ` as since, count(*) over () as total,
         coalesce(l.relation, (select t.relation from pg_locks t
                               where t.pid = l.pid and t.locktype = 'tuple' and t.database = l_db.oid limit 1)) as relation,
         coalesce(l.database, l_db.oid) = l_db.oid or l.database = 0 as here
  from pg_locks l
  cross join (select oid from pg_database where datname = current_database()) l_db
  join pg_stat_activity a on a.pid = l.pid
  where not l.granted
  order by since, l.pid limit $1
)
select w.total::int as total, w.locktype as lock_type, w.mode,
       coalesce(n.nspname::text, '') as object_schema, coalesce(c.relname::text, '') as object_name,
       ` + since("w.since") + ` as wait_seconds, pg_blocking_pids(w.pid)::int8[] as blocked_by,
       ` + sessionColumns(queryID) + `
from waiting w
join pg_stat_activity a on a.pid = w.pid
left join pg_class c on w.here and c.oid = w.relation
left join pg_namespace n on n.oid = c.relnamespace
order by w.since, w.pid`
}

func sqlBlockers(queryID string) string {
	return `select ` + sessionColumns(queryID) + ` from pg_stat_activity a where a.pid = any($1::int4[]) order by a.pid`
}

const sqlPrepared = `
select gid, owner::text, database::text, prepared, ` + `coalesce(extract(epoch from greatest(statement_timestamp() - prepared, '0')), 0)::float8 as age_seconds,
       age(transaction)::bigint as xid_age
from pg_prepared_xacts order by prepared, gid limit $1`

// sqlHolders are what keeps VACUUM from removing dead rows. A walsender with a
// slot is the slot's.
const sqlHolders = `
select * from (
  select 'session' as kind, pid, coalesce(usename::text, '') as user, '' as name, coalesce(datname::text, '') as database,
         greatest(age(backend_xmin), age(backend_xid))::bigint as xid_age, 0::bigint as catalog_xid_age
  from pg_stat_activity
  where pid <> pg_backend_pid() and backend_type not in ('walsender', 'autovacuum worker')
    and (backend_xmin is not null or backend_xid is not null)
  union all
  select 'prepared transaction', 0, owner::text, gid, database::text, age(transaction)::bigint, 0
  from pg_prepared_xacts
  union all
  select 'replication slot', 0, '', slot_name::text, coalesce(database::text, ''), coalesce(age(xmin), 0)::bigint,
         coalesce(age(catalog_xmin), 0)::bigint
  from pg_replication_slots where xmin is not null or catalog_xmin is not null
  union all
  select 'standby', pid, coalesce(usename::text, ''), coalesce(application_name, ''), '', age(backend_xmin)::bigint, 0
  from pg_stat_replication r
  where backend_xmin is not null and not exists (select from pg_replication_slots s where s.active_pid = r.pid)
) holders
order by greatest(xid_age, catalog_xid_age) desc, kind, name, pid limit $1`

func sqlWaitSample(queryID string) string {
	return `
select coalesce(a.wait_event_type, '') as type, coalesce(a.wait_event, '') as event, ` + queryID + ` as query_id,
       left(coalesce(a.query, ''), 8192) as query
from pg_stat_activity a
where a.state = 'active' and a.pid <> pg_backend_pid() and a.backend_type = 'client backend'
order by a.pid limit 1000`
}

// sqlSecurity counts sessions of superusers, without this one, other looks and
// backups.
const sqlSuperusers = `
select a.usename::text as user, coalesce(a.application_name, '') as application, count(*)::int as connections
from pg_stat_activity a join pg_roles r on r.oid = a.usesysid
where r.rolsuper and a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
  and a.application_name !~ '^(pgmedic|pg_dump|psql|pgAdmin)'
group by 1, 2 order by 3 desc, 1, 2 limit $1`

const sqlUnencrypted = `
select count(*)::int
from pg_stat_activity a left join pg_stat_ssl s on s.pid = a.pid
where a.backend_type = 'client backend' and a.client_addr is not null
  and not a.client_addr <<= '127.0.0.0/8' and a.client_addr <> '::1' and not coalesce(s.ssl, false)`

const sqlMD5Roles = `select count(*)::int from pg_authid where rolcanlogin and rolpassword like 'md5%'`
