package snapshot

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// LeftOut is what a partial backup does not hold. Its zero value leaves nothing
// out.
type LeftOut struct {
	// Tables are not in the backup at all, WithoutRows with their definition
	// only. Views, materialized views, sequences and foreign tables count as
	// tables.
	Tables, WithoutRows []Relation
	// Schemas are those that rescues made, which are in no backup. Their tables are
	// among Tables.
	Schemas []string
	// ForeignKeys refer to rows that are not there.
	ForeignKeys []pgmedic.ForeignKey
	// LargeObjects is true where there are none of them.
	LargeObjects bool
}

// Relation is a table, or what counts as one.
type Relation struct {
	OID          uint32
	Schema, Name string
}

// relation is one that patterns can choose.
type relation struct {
	OID          uint32
	SchemaOID    uint32
	Schema, Name string
	Kind         string
	Extension    bool
	// OwnedBy is the table of a serial column, or of an identity column if
	// Identity is true; zero elsewhere.
	OwnedBy  uint32
	Identity bool
}

const scopeRelations = `
SELECT c.oid AS oid, c.relnamespace AS schema_oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
	EXISTS (SELECT FROM pg_catalog.pg_depend AS x WHERE x.classid = 'pg_catalog.pg_class'::regclass
		AND x.objid = c.oid AND x.objsubid = 0 AND x.deptype = 'e') AS extension,
	coalesce(o.refobjid, 0) AS owned_by, coalesce(o.deptype = 'i', false) AS identity
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	LEFT JOIN pg_catalog.pg_depend AS o ON c.relkind = 'S' AND o.classid = 'pg_catalog.pg_class'::regclass AND o.objid = c.oid
		AND o.refclassid = 'pg_catalog.pg_class'::regclass AND o.refobjsubid > 0 AND o.deptype IN ('a', 'i')
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't'
	AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY c.oid`

// scopeNeeds pairs each relation with those that its definition needs. Zero is
// for what is in every backup: functions, types, domains and the like. Foreign
// keys are left to scopeForeignKeys; an owned sequence does not need its table,
// and a publication is dumped with those of its tables that are.
const scopeNeeds = `
WITH part (classid, objid, rel) AS (
	SELECT 'pg_catalog.pg_class'::regclass, oid, oid FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
	UNION ALL SELECT 'pg_catalog.pg_class'::regclass, indexrelid, indrelid FROM pg_catalog.pg_index
	UNION ALL SELECT 'pg_catalog.pg_class'::regclass, oid, 0 FROM pg_catalog.pg_class WHERE relkind = 'c'
	UNION ALL SELECT 'pg_catalog.pg_type'::regclass, t.oid, c.oid
		FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.typrelid AND c.relkind <> 'c'
	UNION ALL SELECT 'pg_catalog.pg_type'::regclass, t.typarray, c.oid
		FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.typrelid AND c.relkind <> 'c' AND t.typarray <> 0
	UNION ALL SELECT 'pg_catalog.pg_constraint'::regclass, oid, conrelid FROM pg_catalog.pg_constraint WHERE contype <> 'f'
	UNION ALL SELECT 'pg_catalog.pg_rewrite'::regclass, oid, ev_class FROM pg_catalog.pg_rewrite
	UNION ALL SELECT 'pg_catalog.pg_trigger'::regclass, oid, tgrelid FROM pg_catalog.pg_trigger WHERE NOT tgisinternal
	UNION ALL SELECT 'pg_catalog.pg_policy'::regclass, oid, polrelid FROM pg_catalog.pg_policy
	UNION ALL SELECT 'pg_catalog.pg_attrdef'::regclass, oid, adrelid FROM pg_catalog.pg_attrdef
	UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::regclass, oid, stxrelid FROM pg_catalog.pg_statistic_ext
)
SELECT DISTINCT coalesce(f.rel, 0) AS by, t.rel AS needed
FROM pg_catalog.pg_depend AS d
	JOIN part AS t ON t.classid = d.refclassid AND t.objid = d.refobjid AND t.rel <> 0
	LEFT JOIN part AS f ON f.classid = d.classid AND f.objid = d.objid
	LEFT JOIN pg_catalog.pg_class AS s ON s.oid = f.rel
WHERE d.deptype NOT IN ('e', 'x') AND t.rel IS DISTINCT FROM f.rel AND t.rel >= 16384
	AND (f.rel IS NOT NULL OR d.classid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_type'::regclass,
		'pg_catalog.pg_cast'::regclass, 'pg_catalog.pg_operator'::regclass))
	AND s.relkind IS DISTINCT FROM 'S'
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS x WHERE x.classid = d.classid AND x.objid = d.objid AND x.deptype = 'e')`

// scopePartitions pairs partitioned tables with their partitions.
const scopePartitions = `
SELECT i.inhparent AS by, i.inhrelid AS needed FROM pg_catalog.pg_inherits AS i
	JOIN pg_catalog.pg_class AS c ON c.oid = i.inhparent AND c.relkind = 'p'`

const scopeForeignKeys = `
SELECT k.oid AS oid, n.nspname::text AS schema, c.relname::text AS table, k.conname::text AS name,
	rn.nspname::text AS to_schema, r.relname::text AS to_table, k.conrelid AS from_oid, k.confrelid AS to_oid
FROM pg_catalog.pg_constraint AS k
	JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	JOIN pg_catalog.pg_class AS r ON r.oid = k.confrelid JOIN pg_catalog.pg_namespace AS rn ON rn.oid = r.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0
ORDER BY n.nspname, c.relname, k.conname`

type need struct{ By, Needed uint32 }

// scope works out what patterns leave out of a database.
type scope struct {
	relations  []relation
	partitions map[uint32][]uint32
	needs      map[uint32][]uint32
	in         map[uint32]bool
	noRows     map[uint32]bool
}

// resolve returns what the patterns leave out, as the session sees the database
// now.
func (p Patterns) resolve(ctx context.Context, conn *pgx.Conn) (left LeftOut, err error) {
	if !p.Empty() {
		if left, err = p.choose(ctx, conn); err != nil {
			return left, err
		}
	}
	err = left.leaveOutRescued(ctx, conn)
	return left, err
}

// choose is resolve for patterns that there are.
func (p Patterns) choose(ctx context.Context, conn *pgx.Conn) (LeftOut, error) {
	found, err := p.match(ctx, conn)
	if err != nil {
		return LeftOut{}, err
	}
	s := scope{in: map[uint32]bool{}, noRows: map[uint32]bool{}}
	if s.relations, err = postgres.Collect[relation](ctx, conn, scopeRelations); err != nil {
		return LeftOut{}, postgres.Wrap(err, "list the tables")
	}
	if s.partitions, err = pairs(ctx, conn, scopePartitions); err != nil {
		return LeftOut{}, postgres.Wrap(err, "list the partitions")
	}
	if s.needs, err = pairs(ctx, conn, scopeNeeds); err != nil {
		return LeftOut{}, postgres.Wrap(err, "look at what depends on the tables")
	}
	s.choose(p, found)
	s.bringAlong()
	keys, err := s.foreignKeys(ctx, conn)
	if err != nil {
		return LeftOut{}, err
	}
	left := LeftOut{ForeignKeys: keys, LargeObjects: len(p.Tables)+len(p.Schemas) > 0}
	for _, r := range s.relations {
		switch named := (Relation{OID: r.OID, Schema: r.Schema, Name: r.Name}); {
		case !s.in[r.OID]:
			left.Tables = append(left.Tables, named)
		case s.noRows[r.OID] && (r.Kind == "r" || r.Kind == "m"):
			left.WithoutRows = append(left.WithoutRows, named)
		}
	}
	return left, nil
}

func pairs(ctx context.Context, conn *pgx.Conn, sql string) (map[uint32][]uint32, error) {
	rows, err := postgres.Collect[need](ctx, conn, sql)
	all := map[uint32][]uint32{}
	for _, r := range rows {
		all[r.By] = append(all[r.By], r.Needed)
	}
	return all, err
}

// choose applies the patterns. A partitioned table stands for its partitions,
// too: they have its rows.
func (s *scope) choose(p Patterns, found matched) {
	everything := len(p.Tables)+len(p.Schemas) == 0
	named, out, bare := s.withPartitions(found.tables), s.withPartitions(found.exTables), s.withPartitions(found.exData)
	ofSchemas := map[uint32]bool{}
	for _, r := range s.relations {
		if found.schemas[r.SchemaOID] {
			ofSchemas[r.OID] = true
		}
	}
	ofSchemas = s.withPartitions(ofSchemas)
	for _, r := range s.relations {
		in := (named[r.OID] || (everything || ofSchemas[r.OID]) && !found.exSchemas[r.SchemaOID]) && !out[r.OID]
		// The extension makes its tables; only their rows can be left out.
		s.in[r.OID] = in || r.Extension
		s.noRows[r.OID] = bare[r.OID] || r.Extension && out[r.OID]
	}
	s.followTables(found.tables)
}

// followTables has the sequences of serial and identity columns go where their
// tables go, unless a serial one is named itself.
func (s *scope) followTables(named map[uint32]bool) {
	for _, r := range s.relations {
		if r.OwnedBy != 0 {
			s.in[r.OID] = s.in[r.OwnedBy] || named[r.OID] && !r.Identity
		}
	}
}

func (s *scope) withPartitions(tables map[uint32]bool) map[uint32]bool {
	all := maps.Clone(tables)
	for left := slices.Collect(maps.Keys(tables)); len(left) > 0; {
		t := left[len(left)-1]
		left = left[:len(left)-1]
		for _, p := range s.partitions[t] {
			if !all[p] {
				all[p] = true
				left = append(left, p)
			}
		}
	}
	return all
}

// bringAlong takes in, without rows, what the definitions that are in can't do
// without: what a view reads, a partition's parent, the table whose rows a
// function returns.
func (s *scope) bringAlong() {
	known := make(map[uint32]bool, len(s.relations))
	left := []uint32{0} // what is in every backup
	for _, r := range s.relations {
		known[r.OID] = true
		if s.in[r.OID] {
			left = append(left, r.OID)
		}
	}
	bring := func(oid uint32) {
		if known[oid] && !s.in[oid] {
			s.in[oid], s.noRows[oid] = true, true
			left = append(left, oid)
		}
	}
	owned := map[uint32][]uint32{}
	for _, r := range s.relations {
		if r.OwnedBy != 0 {
			owned[r.OwnedBy] = append(owned[r.OwnedBy], r.OID)
		}
		if r.Identity { // such a sequence can't be without its table
			owned[r.OID] = append(owned[r.OID], r.OwnedBy)
		}
	}
	for len(left) > 0 {
		oid := left[len(left)-1]
		left = left[:len(left)-1]
		for _, needed := range slices.Concat(s.needs[oid], owned[oid]) {
			bring(needed)
		}
	}
}

// rows reports whether any of a table's rows are in, and whether all are.
func (s *scope) rows(table uint32) (some, all bool) {
	all = true
	for oid := range s.withPartitions(map[uint32]bool{table: true}) {
		if len(s.partitions[oid]) > 0 {
			continue
		}
		here := s.in[oid] && !s.noRows[oid]
		some, all = some || here, all && here
	}
	return some, all
}

// foreignKeys returns those that a restore could not make: the table that they
// refer to is not there, or not with all of its rows.
func (s *scope) foreignKeys(ctx context.Context, conn *pgx.Conn) ([]pgmedic.ForeignKey, error) {
	type row struct {
		OID                                    uint32
		Schema, Table, Name, ToSchema, ToTable string
		FromOID, ToOID                         uint32
	}
	rows, err := postgres.Collect[row](ctx, conn, scopeForeignKeys)
	if err != nil {
		return nil, postgres.Wrap(err, "list the foreign keys")
	}
	var left []pgmedic.ForeignKey
	for _, k := range rows {
		if !s.in[k.FromOID] {
			continue
		}
		some, _ := s.rows(k.FromOID)
		if _, all := s.rows(k.ToOID); !s.in[k.ToOID] || some && !all {
			left = append(left, pgmedic.ForeignKey{
				OID: int64(k.OID), Schema: k.Schema, Table: k.Table, Name: k.Name, ToSchema: k.ToSchema, ToTable: k.ToTable,
			})
		}
	}
	return left, nil
}

// leaveOutRescued adds to what is left out the schemas that rescues made.
func (l *LeftOut) leaveOutRescued(ctx context.Context, conn *pgx.Conn) (err error) {
	if l.Schemas, err = postgres.RescuedSchemas(ctx, conn); err != nil || len(l.Schemas) == 0 {
		return err
	}
	found, err := postgres.Collect[Relation](ctx, conn, `
SELECT c.oid AS oid, n.nspname::text AS schema, c.relname::text AS name
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND n.nspname = ANY ($1)`, l.Schemas)
	if err != nil {
		return postgres.Wrap(err, "list the tables of rescues")
	}
	known := oidSet(l.Tables)
	l.Tables = append(l.Tables, slices.DeleteFunc(found, func(r Relation) bool { return known[r.OID] })...)
	return nil
}

// ofSchema reports whether the identity of a definition is that of one of the
// schemas that are left out, or of something in it.
func (l LeftOut) ofSchema(identity string) bool {
	return slices.ContainsFunc(l.Schemas, func(s string) bool { return strings.Contains(identity, s) })
}
