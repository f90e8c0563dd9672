package collect

// sqlTree is every table under the top of its partition tree; a table that is
// no partition is its own top. It walks pg_inherits itself: pg_partition_tree
// would lock every partition until the transaction ends.
const sqlTree = `
tree(root, relid) as (
  select c.oid, c.oid
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p') and not c.relispartition and ` + userSchemas + `
    -- What an extension made is the extension's to change.
    and not exists (select from pg_depend d
                    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
  union all
  select t.root, i.inhrelid
  from tree t
  join pg_inherits i on i.inhparent = t.relid
  join pg_class c on c.oid = i.inhrelid and c.relispartition
)`

// sqlForeignKeys finds tables (leaves, for partitioned ones) that lack an index
// for a foreign key. An index supports a key if it is valid, a btree (or a hash
// of the only column), and its leading columns are the key's in any order, in
// the columns' own collations. Where only partial indexes are left, their
// predicates are returned, to be judged by impliedByKey. Keys that a partition
// inherited (conparentid) are seen at the table that declares them.
func sqlForeignKeys(condition string) string {
	return `
with recursive` + locked + `,` + sqlTree + `,
-- Most keys are of one column of one table, without a collation, that an index
-- begins with. They are left out at once: what follows costs something for each.
begun as (
  select i.indrelid, i.indkey[0] as attnum
  from pg_index i
  where i.indisvalid and i.indisready and i.indislive and i.indpred is null and i.indcollation[0] = 0
    and i.indrelid not in (select partrelid from pg_partitioned_table)
    and i.indclass[0] in (select o.oid from pg_opclass o join pg_am am on am.oid = o.opcmethod and am.amname = 'btree')
),
fk as (
  select c.oid, c.conname, c.conrelid, c.confrelid, t.root,
         (select array_agg(a.attname::text order by k.ord)
          from unnest(c.conkey) with ordinality as k(attnum, ord)
          join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.attnum) as columns
  from pg_constraint c join tree t on t.relid = c.conrelid
  where c.contype = 'f' and c.conparentid = 0 ` + condition + `
    and not exists (select from begun where cardinality(c.conkey) = 1 and begun.indrelid = c.conrelid and begun.attnum = c.conkey[1])
),
-- The key's columns are carried along, and leaves counted in passing: joins of
-- these lists, whose lengths the planner can't know, grow with their square.
below as (
  select fk.*, fk.conrelid as relid from fk
  union all
  select b.oid, b.conname, b.conrelid, b.confrelid, b.root, b.columns, i.inhrelid
  from below b
  join pg_inherits i on i.inhparent = b.relid
  join pg_class c on c.oid = i.inhrelid and c.relispartition
),
leaf as (
  -- The columns' numbers differ between partitions, their names don't.
  select b.*, c.relname as leaf_name, c.relnamespace as leaf_namespace, c.reltuples,
         ` + heapBytes + ` as bytes, count(*) over (partition by b.oid) as leaves,
         array(select a.attnum from pg_attribute a
               where a.attrelid = b.relid and a.attname = any(b.columns) and not a.attisdropped) as attnums
  from below b
  join pg_class c on c.oid = b.relid and c.relkind = 'r'
)
select rn.nspname::text as schema, r.relname::text as table, r.relkind = 'p' as partitioned,
       l.conrelid = l.root as on_parent,
       case when r.relkind = 'p' then l.leaves::int else 0 end as partitions, l.conname::text as name, l.columns,
       array(select quote_ident(x) from unnest(l.columns) x) as quoted_columns,
       fn.nspname::text as referenced_schema, f.relname::text as referenced_table,
       ln.nspname::text as leaf_schema, l.leaf_name::text as leaf_name,
       l.bytes as estimated_bytes,
       greatest(l.reltuples::bigint, pg_stat_get_live_tuples(l.relid), 0) as estimated_rows,
       coalesce(has.predicates, '{}') as predicates
from leaf l
join pg_class r on r.oid = l.root join pg_namespace rn on rn.oid = r.relnamespace
join pg_class f on f.oid = l.confrelid join pg_namespace fn on fn.oid = f.relnamespace
join pg_namespace ln on ln.oid = l.leaf_namespace
cross join lateral (
  select coalesce(bool_or(i.indpred is null), false) as whole,
         -- To write a predicate down opens the table.
         array_agg(case when i.indrelid in (select relation from locked) then '' else pg_get_expr(i.indpred, i.indrelid) end)
           filter (where i.indpred is not null) as predicates
  from pg_index i
  join pg_class ic on ic.oid = i.indexrelid
  join pg_am am on am.oid = ic.relam
  where i.indrelid = l.relid and i.indisvalid and i.indisready and i.indislive
    and i.indnkeyatts >= cardinality(l.attnums)
    and (am.amname = 'btree' or am.amname = 'hash' and cardinality(l.attnums) = 1)
    and (i.indkey::int2[])[0:cardinality(l.attnums) - 1] @> l.attnums
    and (i.indkey::int2[])[0:cardinality(l.attnums) - 1] <@ l.attnums
    and not exists (
      select from generate_series(0, cardinality(l.attnums) - 1) g
      join pg_attribute a on a.attrelid = l.relid and a.attnum = i.indkey[g]
      where i.indcollation[g] <> a.attcollation)
) has
where not has.whole
order by estimated_bytes desc, schema, "table", name, leaf_schema, leaf_name`
}

// What publishes a table, by version: its name, and from PostgreSQL 15 its schema.
// The view pg_publication_tables would open every table.
const (
	published12 = `select prrelid from pg_publication_rel`
	published15 = published12 + ` union select c.oid from pg_publication_namespace p join pg_class c on c.relnamespace = p.pnnspid`
)

// sqlPublished are the tables that subscribers may get the rows of, beside those
// that a publication of all tables has.
func sqlPublished(version string) string {
	return `
published as materialized (` + version + ` union select c.oid from pg_class c
  where c.relkind in ('r', 'p') and exists (select from pg_publication where puballtables))`
}

// sqlWithoutPrimaryKey finds tables without a primary key, and partitioned
// tables of which a leaf has none. A unique index over NOT NULL columns is
// named where there is one, first such that ADD PRIMARY KEY USING INDEX takes.
func sqlWithoutPrimaryKey(publishedBy string) string {
	return `
with recursive` + locked + `,` + sqlPublished(publishedBy) + `,` + sqlTree + `,
-- Code of a table's own that may count its columns.
coded as materialized (
  select g.tgrelid as relid from pg_trigger g where not g.tgisinternal
  union
  select t.typrelid from pg_proc f cross join unnest(f.proargtypes::oid[] || f.prorettype) a(type) join pg_type t on t.oid = a.type
  where t.typrelid <> 0
),
-- One line for each tree, without a join of lists whose lengths the planner
-- can't know: that would grow with their square.
whole as (
  select t.root, count(*) filter (where c.relkind = 'r') as leaves,
         count(*) filter (where c.relkind = 'r' and not exists (
           select from pg_index i where i.indrelid = c.oid and i.indisprimary)) as keyless,
         sum(` + heapBytes + `) filter (where c.relkind = 'r') as bytes,
         sum(greatest(c.reltuples::bigint, pg_stat_get_live_tuples(c.oid), 0)) filter (where c.relkind = 'r') as tuples
  from tree t join pg_class c on c.oid = t.relid
  group by t.root
)
select n.nspname::text as schema, c.relname::text as name,
       coalesce(w.bytes, 0)::bigint as estimated_bytes, coalesce(w.tuples, 0)::bigint as estimated_rows,
       -- To write the key down opens the table.
       coalesce(case when c.relkind <> 'p' then null
                     when c.oid not in (select relation from locked) then pg_get_partkeydef(c.oid)
                     else (select case p.partstrat when 'r' then 'RANGE' when 'l' then 'LIST' else 'HASH' end || ' (of a table that is locked)'
                           from pg_partitioned_table p where p.partrelid = c.oid) end, '') as partition_key,
       case when c.relkind = 'p' then coalesce(w.leaves, 0)::int else 0 end as partitions,
       case when c.relkind = 'p' then coalesce(w.keyless, 0)::int else 0 end as partitions_without,
       coalesce(u.name, '') as unique_index, coalesce(u.usable, false) as unique_index_usable,
       c.oid in (select * from published) as published, c.oid in (select relid from coded) as in_code,
       coalesce((select x from unnest(array['id', 'row_id', 'surrogate_id', 'pgmedic_id']) with ordinality as k(x, ord)
                 -- A table of a type takes no column, nor one with children such a one.
                 where c.reloftype = 0 and c.oid not in (select inhparent from pg_inherits)
                   and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = x)
                 order by ord limit 1), '') as free_column
from whole w
join pg_class c on c.oid = w.root join pg_namespace n on n.oid = c.relnamespace
left join lateral (
  select ic.relname::text as name,
         c.relkind = 'r' and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
         and not exists (
           select from generate_series(0, i.indnkeyatts - 1) g
           join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[g]
           join pg_opclass o on o.oid = i.indclass[g]
           where i.indoption[g] <> 0 or i.indcollation[g] <> a.attcollation or not o.opcdefault) as usable
  from pg_index i
  join pg_class ic on ic.oid = i.indexrelid
  join pg_am am on am.oid = ic.relam and am.amname = 'btree'
  where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
    and i.indpred is null and i.indexprs is null
    and not exists (
      select from generate_series(0, i.indnkeyatts - 1) g
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[g]
      where not a.attnotnull)
  order by usable desc, ic.relname limit 1
) u on true
where not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)
  and (c.relkind = 'r' or w.leaves = 0 or w.keyless > 0)
order by estimated_bytes desc, schema, name`
}
