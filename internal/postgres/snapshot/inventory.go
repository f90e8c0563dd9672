package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// InventoryFormat is the number of the way in which definitions are read and
// hashed. Any change to it that can change a hash raises the number: inventories
// of different formats can't be compared.
const InventoryFormat = 3

// Inventory is the list of a database's objects as it is stored.
type Inventory struct {
	// Format is the way in which definitions are read and hashed.
	Format int `json:"format"`
	// Definitions are sorted by kind and identity.
	Definitions []Definition `json:"definitions"`
	// SecurityLabels are beside them, so that a version which knows of none compares
	// the rest; nil where the backup is of such a version.
	SecurityLabels []Definition `json:"security_labels"`
}

// Definition is one object of a database with a hash of its definition, by
// which a restored copy is told from its source without keeping the text.
type Definition struct {
	// Kind is what the object is: a table, a column, an index.
	Kind string `json:"kind"`
	// Identity is the object's qualified name, quoted as SQL where needed.
	Identity string `json:"identity"`
	// Hash is half of a SHA-256 in hex over the normalised definition.
	Hash string `json:"hash"`
}

// ReadInventory lists every object of conn's database that a dump carries,
// except those that an extension owns and system objects, sorted by kind and
// identity. Owners, access lists and comments are part of it; rows, sequence
// values and what differs from server to server (OIDs, extension versions,
// statistics) are not.
//
// It is read from the catalogue and not from pg_dump's text, so that a copy
// can be compared with its source by another version of pgmedic or pg_dump.
func ReadInventory(ctx context.Context, conn *pgx.Conn, versionNum int) ([]Definition, error) {
	return ReadInventoryWithout(ctx, conn, versionNum, LeftOut{})
}

// ReadInventoryWithout is ReadInventory of what a partial backup holds.
func ReadInventoryWithout(ctx context.Context, conn *pgx.Conn, versionNum int, without LeftOut) ([]Definition, error) {
	// Printing a view locks what it reads. That must not wait for ever behind
	// an ALTER TABLE which itself waits for our own snapshot to end.
	// A bound that the session has already is kept.
	var unbounded bool
	if err := conn.QueryRow(ctx, "SELECT current_setting('lock_timeout') = '0'").Scan(&unbounded); err != nil {
		return nil, postgres.Wrap(err, "list the database's objects")
	}
	if unbounded {
		if err := SetLockTimeout(ctx, conn, DefaultLockTimeout); err != nil {
			return nil, err
		}
		defer func() { _ = postgres.ExecSimple(ctx, conn, "SET lock_timeout = 0") }()
	}
	var all []Definition
	for _, q := range inventoryQueries() {
		if versionNum < q.min {
			continue
		}
		found, err := readDefinitions(ctx, conn, q, without)
		if err != nil {
			return nil, postgres.Wrap(err, "list the database's objects: "+q.kind)
		}
		all = append(all, found...)
	}
	sort.Slice(all, func(i, j int) bool {
		a, b := all[i], all[j]
		if a.Kind != b.Kind {
			return a.Kind < b.Kind
		}
		if a.Identity != b.Identity {
			return a.Identity < b.Identity
		}
		return a.Hash < b.Hash
	})
	return all, nil
}

// readDefinitions reads those of one kind.
func readDefinitions(ctx context.Context, conn *pgx.Conn, q inventoryQuery, without LeftOut) (found []Definition, err error) {
	err = postgres.ElseInBytes(ctx, conn, func() (err error) {
		found, err = queryDefinitions(ctx, conn, q, without)
		return err
	})
	return found, err
}

func queryDefinitions(ctx context.Context, conn *pgx.Conn, q inventoryQuery, without LeftOut) (found []Definition, err error) {
	rows, err := conn.Query(ctx, q.sql, without.arguments(q.sql)...)
	if err != nil {
		return nil, err
	}
	var identity, definition *string
	_, err = pgx.ForEachRow(rows, []any{&identity, &definition}, func() error {
		if identity == nil || definition == nil {
			return nil // dropped since the query began
		}
		if without.ofSchema(*identity) {
			return nil
		}
		if without.LargeObjects {
			switch {
			case q.kind == "large objects" && *identity != "count":
				return nil
			case q.kind == "large objects":
				*definition = "0"
			case q.kind == "comment" && strings.HasPrefix(*identity, "large object "):
				return nil
			}
		}
		d := Definition{Kind: q.kind, Identity: pgmedic.PrintableBytes(*identity), Hash: hashDefinition(*definition)}
		if d.Identity != *identity { // two names may print alike
			d.Hash = hashDefinition(*definition + "\x01" + *identity)
		}
		found = append(found, d)
		return nil
	})
	return found, err
}

// Difference is one object that two inventories do not agree on.
type Difference struct {
	Kind, Identity string
	// What is "missing", "unexpected" or "changed", seen from the copy.
	What string
}

// String names the difference in words: index public.patients_name_idx missing.
func (d Difference) String() string { return d.Kind + " " + d.Identity + " " + d.What }

// CompareInventories returns how a copy differs from its source. Both must be
// sorted as ReadInventory sorts them.
func CompareInventories(source, copied []Definition) []Difference {
	type key struct{ kind, identity string }
	group := func(defs []Definition) map[key]string {
		m := make(map[key]string, len(defs))
		for _, d := range defs {
			m[key{d.Kind, d.Identity}] += d.Hash // equal identities are legal for some kinds
		}
		return m
	}
	want, have := group(source), group(copied)
	var diffs []Difference
	for k, hash := range want {
		switch got, ok := have[k]; {
		case !ok:
			diffs = append(diffs, Difference{k.kind, k.identity, "missing"})
		case got != hash:
			diffs = append(diffs, Difference{k.kind, k.identity, "changed"})
		}
	}
	for k := range have {
		// CREATE DATABASE makes both, and no dump drops them.
		if _, ok := want[k]; !ok && k != (key{"schema", "public"}) && k != (key{"extension", "plpgsql"}) {
			diffs = append(diffs, Difference{k.kind, k.identity, "unexpected"})
		}
	}
	sort.Slice(diffs, func(i, j int) bool { return diffs[i].String() < diffs[j].String() })
	return diffs
}

// undumpedComment finds, for a comment d, an object that pg_dump does not write
// itself, and whose comment it leaves out: a check that is inherited, a foreign key or
// a trigger that a partition has from its parent, an index that is not valid. It writes
// the comments of inherited not-null constraints (PostgreSQL 18).
const undumpedComment = `
	SELECT FROM pg_catalog.pg_constraint AS k WHERE d.classoid = 'pg_catalog.pg_constraint'::regclass AND k.oid = d.objoid
		AND (k.contype = 'c' AND NOT k.conislocal OR k.contype = 'f' AND k.conparentid <> 0)
	UNION ALL SELECT FROM pg_catalog.pg_index AS x JOIN pg_catalog.pg_class AS c ON c.oid = x.indexrelid
	WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND x.indexrelid = d.objoid AND NOT x.indisvalid AND c.relkind = 'i'
	UNION ALL SELECT FROM pg_catalog.pg_depend AS p JOIN pg_catalog.pg_trigger AS own ON own.oid = p.objid
		JOIN pg_catalog.pg_trigger AS above ON above.oid = p.refobjid AND above.tgenabled = own.tgenabled
	WHERE d.classoid = 'pg_catalog.pg_trigger'::regclass AND p.classid = 'pg_catalog.pg_trigger'::regclass AND p.objid = d.objoid
		AND p.refclassid = 'pg_catalog.pg_trigger'::regclass`

// verbatim, in a query, begins the part of a definition that a dump carries
// byte by byte and that must not be normalised, such as a function's body.
const verbatim = ` || chr(1) || `

func hashDefinition(definition string) string {
	normal, exact, _ := strings.Cut(definition, "\x01")
	sum := sha256.Sum256([]byte(NormalizeDefinition(normal) + "\x01" + exact))
	return hex.EncodeToString(sum[:16])
}

// noise matches what NormalizeDefinition takes out: casts to a named type with
// an optional modifier and array brackets, as the server prints them, and white
// space and parentheses. What is quoted is matched first, to be kept.
var noise = regexp.MustCompile(
	`(::("(?:[^"]|"")*"\.|[a-zA-Z_][a-zA-Z0-9_]*\.)?("(?:[^"]|"")*"|[a-zA-Z_][a-zA-Z0-9_]*( varying| precision| with(out)? time zone)?)(\([0-9, ]+\))?(\[\])*)` +
		`|'(?:[^']|'')*'|"(?:[^"]|"")*"|[ \t\n\r()]+`)

// NormalizeDefinition takes from a definition what a dump and restore may
// rightly change without changing its meaning: the server prints
// ('a'::character varying)::text once as an element's cast and once as the
// array's (known of varchar IN lists in checks and index predicates), and with
// it the parentheses. White space goes too. String constants and quoted names
// stay as they are.
func NormalizeDefinition(definition string) string {
	return noise.ReplaceAllStringFunc(definition, func(match string) string {
		if match[0] == '\'' || match[0] == '"' {
			return match
		}
		return ""
	})
}

// ofLeftOut finds out whether a comment d is on something of a table that is
// left out, or on such a foreign key.
const ofLeftOut = `
	SELECT FROM pg_catalog.pg_class AS o WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND o.oid = d.objoid AND o.oid = ANY ($1)
	UNION ALL SELECT FROM pg_catalog.pg_index AS o
		WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND o.indexrelid = d.objoid AND o.indrelid = ANY ($1)
	UNION ALL SELECT FROM pg_catalog.pg_constraint AS o
		WHERE d.classoid = 'pg_catalog.pg_constraint'::regclass AND o.oid = d.objoid AND (o.conrelid = ANY ($1) OR o.oid = ANY ($2))
	UNION ALL SELECT FROM pg_catalog.pg_trigger AS o
		WHERE d.classoid = 'pg_catalog.pg_trigger'::regclass AND o.oid = d.objoid AND o.tgrelid = ANY ($1)
	UNION ALL SELECT FROM pg_catalog.pg_rewrite AS o
		WHERE d.classoid = 'pg_catalog.pg_rewrite'::regclass AND o.oid = d.objoid AND o.ev_class = ANY ($1)
	UNION ALL SELECT FROM pg_catalog.pg_policy AS o
		WHERE d.classoid = 'pg_catalog.pg_policy'::regclass AND o.oid = d.objoid AND o.polrelid = ANY ($1)
	UNION ALL SELECT FROM pg_catalog.pg_statistic_ext AS o
		WHERE d.classoid = 'pg_catalog.pg_statistic_ext'::regclass AND o.oid = d.objoid AND o.stxrelid = ANY ($1)`

type inventoryQuery struct {
	kind string
	// min is the lowest server_version_num that the query works on.
	min int
	// sql returns identity and definition, both text and not null.
	sql string
}

// userObject is the condition for an object that a dump carries: made by a
// user and not by an extension. The public schema is older than users.
func userObject(catalog, alias string) string {
	condition := fmt.Sprintf(`%[2]s.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS ext
	WHERE ext.classid = 'pg_catalog.%[1]s'::regclass AND ext.objid = %[2]s.oid AND ext.deptype = 'e')`,
		catalog, alias)
	if catalog == "pg_class" {
		condition += " AND " + alias + ".oid <> ALL ($1)"
	}
	return condition
}

// tables are the OIDs of those that are left out; never nil, which is not an
// empty array to the server.
func (l LeftOut) tables() []uint32 {
	oids := make([]uint32, 0, len(l.Tables))
	for _, r := range l.Tables {
		oids = append(oids, r.OID)
	}
	return oids
}

// arguments are those of an inventory's query: $1 is the tables that a partial
// backup leaves out, $2 its foreign keys.
func (l LeftOut) arguments(sql string) []any {
	tables, keys := l.tables(), make([]uint32, 0, len(l.ForeignKeys))
	for _, k := range l.ForeignKeys {
		keys = append(keys, uint32(k.OID))
	}
	switch {
	case strings.Contains(sql, "$2"):
		return []any{tables, keys}
	case strings.Contains(sql, "$1"):
		return []any{tables}
	}
	return nil
}

// access prints an access list in a stable order, the default one spelled out:
// a dump turns a list that equals the default into none.
func access(column, kind, owner string) string {
	return fmt.Sprintf(`coalesce((SELECT string_agg(item::text, ',' ORDER BY item::text COLLATE "C")
	FROM unnest(coalesce(%s, pg_catalog.acldefault('%s', %s))) AS item), '')`, column, kind, owner)
}

// identify prints what pg_identify_object has for identity, which is slow where
// there are many; relations are nearly all there is, and have n for their schema.
func identify(catalog, alias string) string {
	if catalog == "pg_class" {
		return fmt.Sprintf(`quote_ident(n.nspname) || '.' || quote_ident(%s.relname)`, alias)
	}
	return fmt.Sprintf(`(pg_catalog.pg_identify_object('pg_catalog.%s'::regclass, %s.oid, 0)).identity`, catalog, alias)
}

const notTemporary = `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`

func inventoryQueries() []inventoryQuery {
	queries := []inventoryQuery{
		{"schema", 0, `SELECT quote_ident(n.nspname), concat_ws(' ', pg_get_userbyid(n.nspowner), ` +
			access("n.nspacl", "n", "n.nspowner") + `)
			FROM pg_catalog.pg_namespace AS n
			WHERE n.nspname = 'public' OR ` + notTemporary + ` AND ` + userObject("pg_namespace", "n")},
		{"relation", 0, `SELECT ` + identify("pg_class", "c") + `, concat_ws(' ', c.relkind, c.relpersistence,
			pg_get_userbyid(c.relowner), c.relrowsecurity, c.relforcerowsecurity, c.relreplident,
			(SELECT string_agg(o, ',' ORDER BY o) FROM unnest(c.reloptions) AS o),
			CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END, pg_get_expr(c.relpartbound, c.oid),
			(SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno)
				FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid),
			(SELECT am.amname FROM pg_catalog.pg_am AS am WHERE am.oid = c.relam),
			CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
			(SELECT concat_ws(' ', quote_ident(s.srvname), f.ftoptions::text) FROM pg_catalog.pg_foreign_table AS f
				JOIN pg_catalog.pg_foreign_server AS s ON s.oid = f.ftserver WHERE f.ftrelid = c.oid),
			` + access("c.relacl", "r", "c.relowner") + `)
			FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
			WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND ` + notTemporary + ` AND ` + userObject("pg_class", "c")},
		{"column", 0, `SELECT ` + identify("pg_class", "c") + ` || '.' || quote_ident(a.attname),
			concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
			pg_get_expr(d.adbin, d.adrelid), a.attstorage, coalesce(a.attstattarget::int, -1),
			(SELECT string_agg(o, ',' ORDER BY o) FROM unnest(a.attoptions) AS o WHERE o LIKE 'n\_distinct%'),
			a.attfdwoptions::text, (SELECT collname FROM pg_catalog.pg_collation AS co WHERE co.oid = a.attcollation),
			(SELECT string_agg(item::text, ',' ORDER BY item::text COLLATE "C") FROM unnest(a.attacl) AS item))
			FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
				JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
				LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
			WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
				AND ` + notTemporary + ` AND ` + userObject("pg_class", "c")},
		{"filled materialized view", 0, `SELECT ` + identify("pg_class", "c") + `, ''
			FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
			WHERE c.relkind = 'm' AND c.relispopulated AND ` + notTemporary + ` AND ` + userObject("pg_class", "c")},
		{"sequence", 0, `SELECT ` + identify("pg_class", "c") + `, concat_ws(' ', pg_get_userbyid(c.relowner),
			format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle,
			` + access("c.relacl", "s", "c.relowner") + `)
			FROM pg_catalog.pg_sequence AS s JOIN pg_catalog.pg_class AS c ON c.oid = s.seqrelid
				JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
			WHERE ` + notTemporary + ` AND ` + userObject("pg_class", "c")},
		// What a foreign key of or to a partitioned table makes for each partition
		// is named by the server, in the order in which partitions came; a copy
		// names anew.
		{"constraint", 0, `SELECT ` + identify("pg_constraint", "k") + `,
			concat_ws(' ', pg_get_constraintdef(k.oid), k.convalidated)
			FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_namespace AS n ON n.oid = k.connamespace
			WHERE k.contype IN ('c', 'f', 'p', 'u', 'x')
				AND k.conrelid <> ALL ($1) AND k.oid <> ALL ($2)
				AND (k.contype <> 'f' OR k.conparentid = 0) -- what follows from another one has a name by chance
				AND ` + notTemporary + ` AND ` + userObject("pg_constraint", "k") + `
				AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS ext WHERE ext.deptype = 'e' AND
					(ext.classid = 'pg_catalog.pg_class'::regclass AND ext.objid = k.conrelid
					OR ext.classid = 'pg_catalog.pg_type'::regclass AND ext.objid = k.contypid))`},
		// Until 17 these are part of the column, or type, alone. pg_dump makes some
		// inherited ones a table's own, and so merged ones are compared without names.
		{"constraint", 180000, `SELECT ` + identify("pg_constraint", "k") + `, pg_get_constraintdef(k.oid)
			FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_namespace AS n ON n.oid = k.connamespace
			WHERE k.contype = 'n' AND k.conislocal AND k.coninhcount = 0 AND k.conrelid <> ALL ($1)
				AND ` + notTemporary + ` AND ` + userObject("pg_constraint", "k") + `
				AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS ext WHERE ext.deptype = 'e' AND
					(ext.classid = 'pg_catalog.pg_class'::regclass AND ext.objid = k.conrelid
					OR ext.classid = 'pg_catalog.pg_type'::regclass AND ext.objid = k.contypid))`},
		{"constraint", 180000, `SELECT 'NOT NULL of ' || ` + identify("pg_class", "c") + ` || '.' || quote_ident(a.attname),
			concat_ws(' ', k.convalidated, k.connoinherit)
			FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
				JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
				JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
			WHERE k.contype = 'n' AND k.conrelid <> ALL ($1) AND ` + notTemporary + ` AND ` + userObject("pg_class", "c")},
		// pg_dump leaves out what a failed CREATE INDEX CONCURRENTLY left behind.
		{"index", 0, `SELECT ` + identify("pg_class", "c") + `, concat_ws(' ', pg_get_indexdef(c.oid),
			i.indisclustered, i.indisreplident)
			FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
				JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
				JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
			WHERE (i.indisvalid OR c.relkind = 'I') AND ` + notTemporary + ` AND ` + userObject("pg_class", "t")},
		{"trigger", 0, `SELECT ` + identify("pg_trigger", "t") + `, concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
			FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
				JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
			WHERE NOT t.tgisinternal AND ` + notTemporary + ` AND ` + userObject("pg_class", "c")},
		{"rule", 0, `SELECT ` + identify("pg_rewrite", "r") + `, concat_ws(' ', pg_get_ruledef(r.oid), r.ev_enabled)
			FROM pg_catalog.pg_rewrite AS r JOIN pg_catalog.pg_class AS c ON c.oid = r.ev_class
				JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
			WHERE r.rulename <> '_RETURN' AND ` + notTemporary + ` AND ` + userObject("pg_class", "c")},
		{"policy", 0, `SELECT ` + identify("pg_policy", "p") + `, concat_ws(' ', p.polcmd, p.polpermissive,
			(SELECT string_agg(name, ',' ORDER BY name COLLATE "C") FROM (
				SELECT CASE r WHEN 0 THEN 'public' ELSE pg_get_userbyid(r)::text END FROM unnest(p.polroles) AS r) AS u (name)),
			pg_get_expr(p.polqual, p.polrelid), '/', pg_get_expr(p.polwithcheck, p.polrelid))
			FROM pg_catalog.pg_policy AS p JOIN pg_catalog.pg_class AS c ON c.oid = p.polrelid
			WHERE ` + userObject("pg_class", "c")},
		{"function", 0, `SELECT ` + identify("pg_proc", "p") + `, concat_ws(' ', pg_get_userbyid(p.proowner),
			CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) ELSE concat_ws(' ', format_type(p.prorettype, NULL), p.prokind, p.proparallel,
				(SELECT concat_ws(' ', g.aggkind, g.aggnumdirectargs, g.aggtransfn, g.aggfinalfn, g.aggcombinefn,
					g.aggserialfn, g.aggdeserialfn, g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn,
					g.aggfinalextra, g.aggfinalmodify, format_type(g.aggtranstype, NULL), g.aggsortop::regoperator,
					g.agginitval, g.aggminitval)
					FROM pg_catalog.pg_aggregate AS g WHERE g.aggfnoid = p.oid)) END,
			` + access("p.proacl", "f", "p.proowner") + `)` + verbatim + `p.prosrc
			FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
			WHERE ` + notTemporary + ` AND ` + userObject("pg_proc", "p") + `
				AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS i WHERE i.classid = 'pg_catalog.pg_proc'::regclass
					AND i.objid = p.oid AND i.deptype = 'i')`},
		{"type", 0, `SELECT ` + identify("pg_type", "t") + `, concat_ws(' ', t.typtype, pg_get_userbyid(t.typowner),
			(SELECT string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder)
				FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = t.oid),
			CASE WHEN t.typtype = 'd' THEN concat_ws(' ', format_type(t.typbasetype, t.typtypmod), t.typnotnull,
				coalesce(pg_get_expr(t.typdefaultbin, 'pg_catalog.pg_type'::regclass), t.typdefault)) END,
			(SELECT format_type(r.rngsubtype, NULL) FROM pg_catalog.pg_range AS r WHERE r.rngtypid = t.oid),
			` + access("t.typacl", "T", "t.typowner") + `)
			FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
			WHERE t.typtype IN ('b', 'd', 'e', 'r')
				AND NOT EXISTS (SELECT FROM pg_catalog.pg_type AS el WHERE el.typarray = t.oid) AND ` + notTemporary + `
				AND ` + userObject("pg_type", "t")},
		{"statistics", 0, `SELECT ` + identify("pg_statistic_ext", "s") + `,
			concat_ws(' ', pg_get_userbyid(s.stxowner), pg_get_statisticsobjdef(s.oid))
			FROM pg_catalog.pg_statistic_ext AS s WHERE s.stxrelid <> ALL ($1) AND ` + userObject("pg_statistic_ext", "s")},
		{"extension", 0, `SELECT quote_ident(e.extname), quote_ident(n.nspname)
			FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace`},
		{"event trigger", 0, `SELECT quote_ident(t.evtname), concat_ws(' ', t.evtevent, pg_get_userbyid(t.evtowner),
			t.evtfoid::regproc, t.evtenabled, t.evttags::text)
			FROM pg_catalog.pg_event_trigger AS t WHERE ` + userObject("pg_event_trigger", "t")},
		{"publication", 0, `SELECT quote_ident(p.pubname), concat_ws(' ', pg_get_userbyid(p.pubowner), p.puballtables,
			p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
			(SELECT string_agg(r.prrelid::regclass::text, ',' ORDER BY r.prrelid::regclass::text)
				FROM pg_catalog.pg_publication_rel AS r WHERE r.prpubid = p.oid AND r.prrelid <> ALL ($1)))
			FROM pg_catalog.pg_publication AS p`},
		{"publication", 130000, `SELECT quote_ident(p.pubname) || ' via root', p.pubviaroot::text
			FROM pg_catalog.pg_publication AS p`},
		{"publication", 150000, `SELECT quote_ident(p.pubname) || ' table ' || r.prrelid::regclass::text,
			concat_ws(' ', pg_get_expr(r.prqual, r.prrelid), '/', (SELECT string_agg(quote_ident(a.attname), ',' ORDER BY a.attname)
				FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)))
			FROM pg_catalog.pg_publication_rel AS r JOIN pg_catalog.pg_publication AS p ON p.oid = r.prpubid
			WHERE r.prrelid <> ALL ($1)`},
		{"publication", 150000, `SELECT quote_ident(p.pubname) || ' schema ' || s.pnnspid::regnamespace::text, ''
			FROM pg_catalog.pg_publication_namespace AS s JOIN pg_catalog.pg_publication AS p ON p.oid = s.pnpubid`},
		{"publication", 180000, `SELECT quote_ident(p.pubname) || ' generated columns', p.pubgencols::text
			FROM pg_catalog.pg_publication AS p`},
		{"user mapping", 0, `SELECT quote_ident(m.usename) || ' on server ' || quote_ident(m.srvname), ''
			FROM pg_catalog.pg_user_mappings AS m`},
		{"default privileges", 0, `SELECT concat_ws(' ', quote_ident(pg_get_userbyid(d.defaclrole)), n.nspname, d.defaclobjtype),
			(SELECT string_agg(item::text, ',' ORDER BY item::text COLLATE "C") FROM unnest(d.defaclacl) AS item)
			FROM pg_catalog.pg_default_acl AS d LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = d.defaclnamespace
			WHERE d.defaclacl <> '{}'`},
		{"privileges", 0, foreignPrivileges},
		{"large objects", 0, `SELECT 'count', count(*)::text FROM pg_catalog.pg_largeobject_metadata`},
		// There may be millions: a sum of what each has, in whichever order they come.
		{"large objects", 0, `SELECT 'owners and privileges', sum(('x' || substr(md5(concat_ws(' ', m.oid, pg_get_userbyid(m.lomowner),
				` + access("m.lomacl", "L", "m.lomowner") + `)), 1, 16))::bit(64)::bigint::numeric)::text
			FROM pg_catalog.pg_largeobject_metadata AS m HAVING count(*) > 0`},
		// The public schema is older than users; its own comment is initdb's.
		{"comment", 0, `SELECT i.type || ' ' || i.identity, ''` + verbatim + `d.description
			FROM pg_catalog.pg_description AS d,
				pg_catalog.pg_identify_object(d.classoid, d.objoid, d.objsubid) AS i
			WHERE (d.objoid >= 16384 OR d.classoid = 'pg_catalog.pg_namespace'::regclass AND d.objoid = 2200)
				AND NOT (i.type = 'schema' AND i.identity = 'public' AND d.description IN ('', 'standard public schema'))
				AND i.identity IS NOT NULL AND coalesce(i.schema, '') !~ '^pg_'
				AND NOT EXISTS (` + ofLeftOut + `)
				AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS ext WHERE ext.classid = d.classoid
					AND ext.objid = d.objoid AND ext.deptype = 'e')
				AND NOT EXISTS (` + undumpedComment + `)`},
	}
	// Of the rarer kinds the presence is compared; pg_dump writes what is in them.
	for _, c := range []struct{ kind, catalog string }{
		{"operator", "pg_operator"}, {"operator class", "pg_opclass"}, {"operator family", "pg_opfamily"},
		{"cast", "pg_cast"}, {"collation", "pg_collation"}, {"conversion", "pg_conversion"},
		{"language", "pg_language"}, {"transform", "pg_transform"}, {"access method", "pg_am"},
		{"text search configuration", "pg_ts_config"}, {"text search dictionary", "pg_ts_dict"},
		{"text search parser", "pg_ts_parser"}, {"text search template", "pg_ts_template"},
		{"foreign-data wrapper", "pg_foreign_data_wrapper"}, {"foreign server", "pg_foreign_server"},
	} {
		where := userObject(c.catalog, "o")
		if c.catalog == "pg_operator" { // one that another names and that was never defined is in no dump
			where += " AND o.oprcode <> 0"
		}
		queries = append(queries, inventoryQuery{c.kind, 0, `SELECT ` + identify(c.catalog, "o") + `, ''
			FROM pg_catalog.` + c.catalog + ` AS o WHERE ` + where})
	}
	return queries
}
