package collect

// indexFlags are what must be known of the index i, with its pg_class entry c
// and its table's t, before anybody drops it.
const indexFlags = `
       i.indisunique as unique, i.indisprimary as primary, i.indisreplident as replica_identity, i.indisclustered as clustered,
       i.indexrelid in (select k.conindid from pg_constraint k) as constraint,
       exists (select from pg_constraint k
               where k.conrelid = i.indrelid and k.contype = 'f' and i.indnkeyatts >= cardinality(k.conkey)
                 and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
                 and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] <@ k.conkey) as foreign_key,
       c.relispartition as partition, i.indexprs is not null as expression,
       exists (select from pg_depend d
               where d.classid = 'pg_class'::regclass and d.objid in (i.indexrelid, i.indrelid) and d.deptype = 'e') as extension`

// indexDefinition is that of the index i, empty where its table is locked: to
// write it down opens the table, and would wait.
const indexDefinition = `case when i.indrelid in (select relation from locked) or i.indexrelid in (select relation from locked) then ''
            else pg_get_indexdef(i.indexrelid) end as definition`

// sqlIndexes reads the $1 largest indexes, the $2 largest that nothing has
// scanned and nothing rests on, and $2 invalid ones. An index is being built
// where the server says so, or where somebody other than autovacuum holds the
// lock on its table that CREATE INDEX CONCURRENTLY takes.
func sqlIndexes(lastScan string) string {
	return `
with` + locked + `, relation as (
  select i.indexrelid, i.indisvalid, c.relpages::bigint * current_setting('block_size')::bigint as bytes,
         pg_stat_get_numscans(i.indexrelid) as scans,
         pg_stat_get_numscans(i.indexrelid) = 0 and i.indisvalid and not (i.indisunique or i.indisprimary or i.indisreplident)
           as unused
  from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'i' and c.relpersistence <> 't' and ` + userSchemas + `
), ranked as (
  select *, count(*) over () as total, sum(bytes) over () as total_bytes,
         count(*) filter (where unused) over () as unused_total,
         row_number() over (order by bytes desc, indexrelid) as by_bytes,
         row_number() over (partition by unused order by bytes desc, indexrelid) as by_unused,
         row_number() over (partition by indisvalid order by bytes desc, indexrelid) as by_valid
  from relation
), busy as materialized (
  select l.relation
  from pg_locks l left join pg_stat_activity a on a.pid = l.pid
  where l.mode = 'ShareUpdateExclusiveLock' and l.granted and a.backend_type is distinct from 'autovacuum worker'
    and l.database = (select oid from pg_database where datname = current_database())
)
select r.total::int as total, r.total_bytes::bigint as total_bytes, r.unused_total::int as unused_total,
       r.by_bytes <= $1 as is_large, r.unused and r.by_unused <= $2 as is_unused, not r.indisvalid and r.by_valid <= $2 as is_invalid,
       i.indexrelid as oid, n.nspname::text as schema, c.relname::text as name, tn.nspname::text as table_schema,
       t.relname::text as table, am.amname::text as method, ` + indexDefinition + `,
       r.bytes as estimated_bytes, r.scans, ` + lastScan + ` as last_scan, i.indisvalid as valid,
       not i.indisvalid and (
         exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid)
         or exists (select from busy where busy.relation in (i.indrelid, i.indexrelid))) as building,
       case when current_setting('track_commit_timestamp') = 'on' then pg_xact_commit_timestamp(c.xmin) end as changed_at,` + indexFlags + `
from ranked r
join pg_index i on i.indexrelid = r.indexrelid
join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace join pg_am am on am.oid = c.relam
join pg_class t on t.oid = i.indrelid join pg_namespace tn on tn.oid = t.relnamespace
where r.by_bytes <= $1 or r.unused and r.by_unused <= $2 or not r.indisvalid and r.by_valid <= $2
order by r.bytes desc, schema, name`
}

// sqlInvalidPartitioned finds $1 indexes of partitioned tables that are invalid although
// none of the table's partitions lacks a valid one of its own.
const sqlInvalidPartitioned = `
select i.indexrelid as oid, n.nspname::text as schema, c.relname::text as name, tn.nspname::text as table_schema, t.relname::text as table,
       i.indisunique as unique, own.nspname::text as partition_schema, own.relname::text as partition
from pg_index i
join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
join pg_class t on t.oid = i.indrelid join pg_namespace tn on tn.oid = t.relnamespace
cross join lateral (
  select xn.nspname, x.relname
  from pg_inherits a join pg_class x on x.oid = a.inhrelid join pg_namespace xn on xn.oid = x.relnamespace
  where a.inhparent = i.indexrelid order by x.oid limit 1
) own
where c.relkind = 'I' and not i.indisvalid and c.relpersistence <> 't' and ` + userSchemas + `
  and not exists (
    select from pg_inherits p
    where p.inhparent = i.indrelid and not exists (
      select from pg_inherits a join pg_index x on x.indexrelid = a.inhrelid
      where a.inhparent = i.indexrelid and x.indrelid = p.inhrelid and x.indisvalid))
order by i.indisunique desc, 2, 3
limit $1`

// When an index was last scanned, by version.
const (
	lastScan12 = `null::timestamptz`
	lastScan16 = `pg_stat_get_lastscan(i.indexrelid)`
)

// How two unique indexes treat nulls, by version.
const (
	sameNulls12 = `true`
	sameNulls15 = `x.indnullsnotdistinct = y.indnullsnotdistinct`
)

// sqlRedundant finds indexes that another one of the same table makes
// needless: one of the same columns, operator classes, collations and order,
// expressions and predicate; or a btree whose columns are the first of another
// btree's. Nothing that something rests on is among them, and of unique ones only
// those whose rows another one keeps unique as well. Of two that are equal the
// newer goes. Expressions and predicates of tables that are locked can't be
// compared.
func sqlRedundant(sameNulls string) string {
	return `
with` + locked + `, candidate as materialized (
  select i.*, c.relname, c.relnamespace, c.relam, c.relpages, c.relispartition, c.reloptions,
         i.indexrelid in (select k.conindid from pg_constraint k) as constrains
  from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('i', 'I') and c.relpersistence <> 't' and i.indisvalid and i.indisready and i.indislive and ` + userSchemas + `
    and (i.indpred is null and i.indexprs is null
         or i.indrelid not in (select relation from locked) and i.indexrelid not in (select relation from locked))
    and i.indrelid in (select indrelid from pg_index group by indrelid having count(*) > 1)
), pair as (
  select distinct on (x.indexrelid) x.indexrelid as redundant, y.indexrelid as kept, x.indkey = y.indkey as exact, x.relpages
  from candidate x join candidate y on y.indrelid = x.indrelid and y.indexrelid <> x.indexrelid and y.relam = x.relam
  where not (x.constrains or x.indisprimary or x.indisreplident or x.indisclustered or x.relispartition)
    and (not x.indisunique or x.indkey = y.indkey and x.indnkeyatts = y.indnkeyatts and y.indisunique and y.indimmediate
         and (y.constrains or y.indisreplident or y.indisclustered or x.indexrelid > y.indexrelid) and ` + sameNulls + `)
    and (x.indpred is null) = (y.indpred is null) and (x.indexprs is null) = (y.indexprs is null)
    and case when x.indpred is null then true
             else pg_get_expr(x.indpred, x.indrelid) = pg_get_expr(y.indpred, y.indrelid) end
    and case
      when x.indkey = y.indkey and x.indnkeyatts = y.indnkeyatts then
        x.indclass = y.indclass and x.indcollation = y.indcollation and x.indoption = y.indoption
        -- Two BRIN indexes, say, that summarise ranges of other lengths.
        and (x.relam = (select oid from pg_am where amname = 'btree') or x.reloptions is not distinct from y.reloptions
             and array(select a.attoptions::text from pg_attribute a where a.attrelid = x.indexrelid order by a.attnum)
               = array(select a.attoptions::text from pg_attribute a where a.attrelid = y.indexrelid order by a.attnum))
        and case when x.indexprs is null then true
                 else pg_get_expr(x.indexprs, x.indrelid) = pg_get_expr(y.indexprs, y.indrelid) end
        and (y.indisunique or y.constrains or y.indisreplident or y.indisclustered or y.relispartition or x.indexrelid > y.indexrelid)
      when x.indnkeyatts < y.indnkeyatts and x.indnatts = x.indnkeyatts and x.indexprs is null
        and x.relam = (select oid from pg_am where amname = 'btree') then
        (x.indkey::int2[])[0:x.indnkeyatts - 1] = (y.indkey::int2[])[0:x.indnkeyatts - 1]
        and (x.indclass::oid[])[0:x.indnkeyatts - 1] = (y.indclass::oid[])[0:x.indnkeyatts - 1]
        and (x.indcollation::oid[])[0:x.indnkeyatts - 1] = (y.indcollation::oid[])[0:x.indnkeyatts - 1]
        and (x.indoption::int2[])[0:x.indnkeyatts - 1] = (y.indoption::int2[])[0:x.indnkeyatts - 1]
      else false end
  order by x.indexrelid, x.indkey = y.indkey desc, y.indisunique desc, y.indexrelid
)
select p.exact, p.redundant = i.indexrelid as is_redundant, p.redundant as pair,
       i.indexrelid as oid, n.nspname::text as schema, c.relname::text as name, tn.nspname::text as table_schema,
       t.relname::text as table, am.amname::text as method, ` + indexDefinition + `,
       greatest(c.relpages, 0)::bigint * current_setting('block_size')::bigint as estimated_bytes,
       pg_stat_get_numscans(i.indexrelid) as scans, i.indisvalid as valid, false as building, c.relkind = 'I' as partitioned,` + indexFlags + `
from (select * from pair order by relpages desc, redundant limit $1) p
join pg_index i on i.indexrelid in (p.redundant, p.kept)
join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace join pg_am am on am.oid = c.relam
join pg_class t on t.oid = i.indrelid join pg_namespace tn on tn.oid = t.relnamespace
order by p.relpages desc, p.redundant, is_redundant desc`
}

// sqlTableBloat estimates how much of the tables in $1 is empty or dead: what
// their rows would take by the widths that ANALYZE saw, in pages filled as far
// as fillfactor, against the pages that there are. A row takes a header of 23
// bytes and a bit for each column if one can be null, both rounded up to 8, its
// columns, rounded up to 8, and a line pointer of 4; a page has a header of 24.
// See "Database Page Layout" in PostgreSQL's manual. Padding between columns is
// not known, so a little less is called empty than is; nor is what columns that
// were dropped still take in the rows.
const sqlTableBloat = `
select c.oid, c.relpages::bigint as pages, c.reltuples::float8 as tuples,
       current_setting('block_size')::float8 as block_size,
       coalesce((select substring(o from '^fillfactor=(\d+)')::float8 from unnest(c.reloptions) o where o ~ '^fillfactor=\d+$'), 100)
         as fillfactor,
       w.width as row_width, w.nullable, w.columns,
       (select count(*)::int from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v') as attributes,
       (select count(*)::int from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and a.attisdropped) as dropped
from pg_class c join pg_namespace n on n.oid = c.relnamespace
cross join lateral (
  select coalesce(sum(s.avg_width * (1 - s.null_frac)), 0)::float8 as width, coalesce(bool_or(s.null_frac > 0), false) as nullable,
         count(*)::int as columns
  from pg_stats s where s.schemaname = n.nspname and s.tablename = c.relname and not s.inherited
) w
where c.oid = any($1::oid[])`

// sqlIndexBloat is the same for the btrees in $1: an entry is a header of 8
// bytes, the columns, rounded up to 8, and a line pointer of 4, and pages are
// filled to 90 %, after a header of 24 and a trailer of 16. Equal entries are
// stored once from PostgreSQL 13, so where many are equal an index may be
// smaller than this and is not called bloated.
const sqlIndexBloat = `
select i.indexrelid as oid, c.relpages::bigint as pages, c.reltuples::float8 as tuples,
       current_setting('block_size')::float8 as block_size, w.width as row_width, w.columns,
       i.indnatts::int as attributes
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am am on am.oid = c.relam and am.amname = 'btree'
join pg_class t on t.oid = i.indrelid join pg_namespace n on n.oid = t.relnamespace
cross join lateral (
  select coalesce(sum(s.avg_width * (1 - s.null_frac)), 0)::float8 as width, count(*)::int as columns
  from pg_attribute a
  join pg_stats s on s.schemaname = n.nspname and s.tablename = t.relname and s.attname = a.attname and not s.inherited
  where a.attrelid = t.oid and a.attnum = any(i.indkey::int2[])
) w
where i.indexrelid = any($1::oid[]) and i.indexprs is null and c.relpages > 0 and c.reltuples >= 0 and t.relpages > 0`

const sqlVacuums = `
select p.pid, n.nspname::text as schema, c.relname::text as table, p.phase,
       coalesce(a.backend_type = 'autovacuum worker', false) as auto, p.heap_blks_total as heap_blocks,
       p.heap_blks_scanned as scanned_blocks, p.index_vacuum_count as index_rounds,
       coalesce(extract(epoch from greatest(statement_timestamp() - a.xact_start, '0')), 0)::float8 as seconds
from pg_stat_progress_vacuum p
join pg_class c on c.oid = p.relid join pg_namespace n on n.oid = c.relnamespace
left join pg_stat_activity a on a.pid = p.pid
where p.datname = current_database()
order by seconds desc, p.pid`
