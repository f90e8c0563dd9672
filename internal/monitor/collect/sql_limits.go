package collect

const sqlDatabaseAges = `
select datname::text as name, age(datfrozenxid)::bigint as xid_age, mxid_age(datminmxid)::bigint as multi_xact_age
from pg_database order by greatest(age(datfrozenxid), mxid_age(datminmxid)) desc, 1`

// sqlTableAges are the tables that hold the database's age back, the server's
// own and other sessions' temporary ones among them.
const sqlTableAges = `
select n.nspname::text as schema, c.relname::text as name,
       greatest(age(c.relfrozenxid), coalesce(age(t.relfrozenxid), 0))::bigint as xid_age,
       greatest(mxid_age(c.relminmxid), coalesce(mxid_age(t.relminmxid), 0))::bigint as multi_xact_age,
       (c.relpages + coalesce(t.relpages, 0))::bigint * current_setting('block_size')::bigint as estimated_bytes
from pg_class c join pg_namespace n on n.oid = c.relnamespace
left join pg_class t on t.oid = c.reltoastrelid and t.relfrozenxid <> '0'
where c.relkind in ('r', 'm') and c.relfrozenxid <> '0'
order by greatest(age(c.relfrozenxid), coalesce(age(t.relfrozenxid), 0), mxid_age(c.relminmxid)) desc, 1, 2 limit $1`

// sequences are those whose value can be read. A standby has no unlogged ones,
// and one that somebody holds locked would be waited for.
const sequences = `
sequence as materialized (
  select s.*, n.nspname, c.relname, has_sequence_privilege(c.oid, 'SELECT,USAGE') as visible
  from pg_sequence s join pg_class c on c.oid = s.seqrelid join pg_namespace n on n.oid = c.relnamespace
  where c.relpersistence = 'p' or c.relpersistence = 'u' and not pg_is_in_recovery()
)`

// altered are the sequences that somebody holds or awaits such a lock on that to
// read their value would wait: ALTER SEQUENCE's, which keeps no SELECT waiting.
const altered = `
altered as materialized (
  select distinct relation from pg_locks
  where mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    and relation is not null and database = (select oid from pg_database where datname = current_database())
)`

const sqlSequenceCounts = `with` + sequences + `,` + altered + `
select count(*)::int as total, (count(*) filter (where not visible))::int as hidden,
       (count(*) filter (where visible and seqrelid in (select relation from altered)))::int as locked
from sequence`

// sqlSequences reads the sequences that are nearest to their end. The column
// is the one that owns the sequence or has it as its default; of several the
// narrowest. What a sequence can still give is bounded by itself and by that
// column's type, or the type that its domain is of.
func sqlSequences(publishedBy string) string {
	return `with` + sequences + `,` + altered + `,` + sqlPublished(publishedBy) + `,
valued as (
  select s.*, pg_sequence_last_value(s.seqrelid) as last
  from sequence s
  where s.visible and s.seqrelid not in (select relation from altered)
), bounded as (
  select v.*, a.attrelid, a.attname, a.atttypid, a.typmod, a.domain, a.most, a.least,
         case when v.seqincrement > 0 then least(v.seqmax, a.most) else greatest(v.seqmin, a.least) end as bound
  from valued v
  left join lateral (
    select a.attrelid, a.attname, a.atttypid, b.domain, b.typmod, c.most, c.least
    from (
      select d.refobjid as relid, d.refobjsubid as num
      from pg_depend d
      where d.classid = 'pg_class'::regclass and d.objid = v.seqrelid and d.refclassid = 'pg_class'::regclass
        and d.refobjsubid > 0 and d.deptype in ('a', 'i')
      union all
      select ad.adrelid, ad.adnum
      from pg_depend d join pg_attrdef ad on ad.oid = d.objid
      where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = v.seqrelid
    ) used
    join pg_attribute a on a.attrelid = used.relid and a.attnum = used.num
    cross join lateral (
      with recursive base(type, typmod, depth) as (
        select a.atttypid, a.atttypmod, 0
        union all
        select t.typbasetype, t.typtypmod, depth + 1 from base join pg_type t on t.oid = base.type and t.typtype = 'd'
      )
      select type, typmod, depth > 0 as domain from base order by depth desc limit 1
    ) b
    cross join lateral (
      -- A numeric's modifier holds its digits in all and those behind the point.
      select case when b.type = 'numeric'::regtype and b.typmod >= 4
                  then greatest(0, ((b.typmod - 4) >> 16 & 65535) - ((b.typmod - 4) & 2047)) end as digits
    ) d
    cross join lateral (
      select case when b.type = 'int2'::regtype then 32767 when b.type = 'int4'::regtype then 2147483647
                  when d.digits <= 18 then (10::numeric ^ d.digits)::bigint - 1 end as most,
             case when b.type = 'int2'::regtype then -32768 when b.type = 'int4'::regtype then -2147483648
                  when d.digits <= 18 then 1 - (10::numeric ^ d.digits)::bigint end as least
    ) c
    order by c.most, a.attrelid limit 1
  ) a on true
  where v.last is not null
)
select b.nspname::text as schema, b.relname::text as name, coalesce(tn.nspname::text, '') as table_schema,
       coalesce(t.relname::text, '') as table, coalesce(b.attname::text, '') as column,
       coalesce(format_type(b.atttypid, case when b.atttypid = 'numeric'::regtype then b.typmod end), '') as column_type,
       coalesce(b.domain, false) as domain, coalesce(b.attrelid in (select * from published), false) as published,
       case when b.seqincrement > 0 then b.most else b.least end as column_limit, format_type(b.seqtypid, null) as type,
       b.last as last_value, b.seqstart as start, b.bound as limit, b.seqincrement as increment, b.seqcycle as cycle,
       case when b.seqincrement > 0
            then 100 * (b.last::float8 - b.seqmin::float8) / greatest(b.bound::float8 - b.seqmin::float8, 1)
            else 100 * (b.seqmax::float8 - b.last::float8) / greatest(b.seqmax::float8 - b.bound::float8, 1) end as used_percent
from bounded b
left join pg_class t on t.oid = b.attrelid left join pg_namespace tn on tn.oid = t.relnamespace
order by used_percent desc, 1, 2 limit $1`
}

// sqlWorkers counts what is bounded. Autovacuum's workers can be told only by
// who sees all sessions.
const sqlWorkers = `
select 'wal senders' as kind, 'max_wal_senders' as setting, (select count(*)::int from pg_stat_replication) as used,
       current_setting('max_wal_senders')::int as max
union all
select 'replication slots', 'max_replication_slots', (select count(*)::int from pg_replication_slots),
       current_setting('max_replication_slots')::int
union all
select 'prepared transactions', 'max_prepared_transactions', (select count(*)::int from pg_prepared_xacts),
       current_setting('max_prepared_transactions')::int
union all
select 'autovacuum workers', 'autovacuum_max_workers', (count(*) filter (where backend_type = 'autovacuum worker'))::int,
       current_setting('autovacuum_max_workers')::int
from pg_stat_activity
having bool_and(backend_type is not null)`
