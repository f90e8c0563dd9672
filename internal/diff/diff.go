// Package diff says what changed between two moments of a database, each of which is a
// backup or the live database: tables, columns, numbers of rows, definitions.
package diff

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Side is one of the moments.
type Side struct {
	// Name names it in what was not compared: backup 20261122T020000Z-7f3a9c.
	Name string
	// Major is the server's major version: another one prints definitions in its own way.
	Major int
	// At is the moment.
	At time.Time
	// Live is true of a live database, of which all rows are counted. A backup has fewer of
	// an extension's own tables: those that CREATE EXTENSION does not make.
	Live bool
	// Partial is true where tables are missing because they were not asked for.
	Partial bool
	Tables  []pgmedic.Table
	// Uncounted are tables whose rows could not be counted, by their names as in Table, with
	// the reason.
	Uncounted map[string]string
	// Extensions are those that are installed, with their versions.
	Extensions []pgmedic.Extension
	// Inventory lists the objects with their definitions. Nil is not read, and Unread says
	// why; both empty where none was asked for.
	Inventory *snapshot.Inventory
	Unread    string
}

// Change is what became of a thing.
type Change string

// The changes.
const (
	Added   Change = "added"
	Removed Change = "removed"
	Changed Change = "changed"
)

// Table is a table that changed. A partitioned one counts as one table, with the rows of
// all its partitions: rows may change their partition.
type Table struct {
	// Name is qualified, and quoted as SQL where needed.
	Name   string `json:"name"`
	Change Change `json:"change"`
	// RowsBefore and Rows are nil where there is no such table, or where its rows were not
	// counted.
	RowsBefore *int64 `json:"rows_before"`
	Rows       *int64 `json:"rows"`
	// PartitionsBefore and Partitions are zero of a table that is not partitioned.
	PartitionsBefore int `json:"partitions_before,omitempty"`
	Partitions       int `json:"partitions,omitempty"`
	// Columns are those that changed, as far as the manifests list columns.
	Columns []Column `json:"columns,omitempty"`
}

// Column is a column that changed.
type Column struct {
	Name       string `json:"name"`
	Change     Change `json:"change"`
	TypeBefore string `json:"type_before,omitempty"`
	Type       string `json:"type,omitempty"`
}

// Definition is an object that was added or removed, or whose definition changed: a column,
// an index, a function, an access list that is part of one.
type Definition struct {
	Kind     string `json:"kind"`
	Identity string `json:"identity"`
	Change   Change `json:"change"`
	// Detail says more, where the manifests do: the versions of an extension.
	Detail string `json:"detail,omitempty"`
}

// Changes are what changed from one moment to the other, in the order of names.
type Changes struct {
	Tables      []Table      `json:"tables"`
	Definitions []Definition `json:"definitions"`
	// RowsBefore and Rows are those of all tables that were counted on both sides, or that
	// only one side has.
	RowsBefore int64 `json:"rows_before"`
	Rows       int64 `json:"rows"`
	// TablesBefore and TablesNow are how many tables there are, partitions by themselves.
	TablesBefore int `json:"tables_before"`
	TablesNow    int `json:"tables_now"`
	// DefinitionsCompared is true where the definitions of all objects were compared.
	DefinitionsCompared bool `json:"definitions_compared"`
	// RowsCompared is true where the rows of each table that both sides have were counted on
	// both. RowsNotCompared names the tables of which they were not, and should have been:
	// those of extensions are not among them where one side is a backup and the other live.
	RowsCompared    bool     `json:"rows_compared"`
	RowsNotCompared []string `json:"rows_not_compared"`
	// NotCompared names what was not compared, with the reasons.
	NotCompared []string `json:"not_compared"`
}

// None reports whether no change was found, in what was compared.
func (c Changes) None() bool { return len(c.Tables) == 0 && len(c.Definitions) == 0 }

// Between compares two moments.
func Between(before, now Side) Changes {
	c := &comparison{before: before, now: now, had: before.relations(), has: now.relations(), Changes: Changes{
		Tables: []Table{}, Definitions: []Definition{}, NotCompared: []string{}, RowsCompared: true, RowsNotCompared: []string{}, TablesBefore: len(before.Tables), TablesNow: len(now.Tables),
	}}
	c.tables()
	c.extensions()
	c.definitions()
	return c.Changes
}

type comparison struct {
	before, now Side
	had, has    map[string]bool // the relations of each side, as far as that is known
	Changes
}

func (c *comparison) skip(format string, args ...any) {
	c.NotCompared = append(c.NotCompared, fmt.Sprintf(format, args...))
}

// countedAs names the table that a table's rows count for, quoted where needed.
func countedAs(t pgmedic.Table) string {
	if t.RootName != "" {
		return sqltext.ReadableTable(t.RootSchema, t.RootName)
	}
	return sqltext.ReadableTable(t.Schema, t.Name)
}

// keyword is a name that the server quotes for being a keyword, and sqltext.Readable does not.
var keyword = regexp.MustCompile(`"([a-z_][a-z0-9_]*)"`)

// readable is an identity of an inventory as sqltext.Readable writes names.
func readable(identity string) string { return keyword.ReplaceAllString(identity, "$1") }

// group is a table, or a partitioned one with its partitions.
type group struct {
	partitions int
	counted    bool
	without    bool // one of its tables was backed up without its rows
	extension  bool // its rows are not compared, because an extension owns it
	table      pgmedic.Table
	total      int64
}

func (s Side) groups() map[string]*group {
	all := map[string]*group{}
	for _, t := range s.Tables {
		name := countedAs(t)
		g := all[name]
		if g == nil {
			g = &group{counted: s.Uncounted[name] == "", table: t}
			all[name] = g
		}
		if t.RootName != "" {
			g.partitions++
		}
		g.without = g.without || t.WithoutRows
		g.counted = g.counted && !t.WithoutRows
		g.total += t.Rows
	}
	return all
}

func (c *comparison) tables() {
	before, now := c.before.groups(), c.now.groups()
	c.leaveOutExtensions(before, now)
	names := maps.Clone(before)
	maps.Copy(names, now)
	var outOfScope []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		b, n := before[name], now[name]
		if b == nil && c.before.Partial || n == nil && c.now.Partial {
			outOfScope = append(outOfScope, name)
			continue
		}
		if t, changed := c.table(name, b, n); changed {
			c.Tables = append(c.Tables, t)
		}
	}
	for i, side := range []Side{c.before, c.now} {
		if side.Partial {
			c.skip("%s is partial: what it does not hold is not called added or removed", side.Name)
		}
		groups := []map[string]*group{before, now}[i]
		for _, name := range slices.Sorted(maps.Keys(groups)) {
			if reason := side.Uncounted[name]; reason != "" {
				c.skip("rows of table %s in %s: %s", name, side.Name, reason)
			} else if groups[name].without {
				c.skip("rows of table %s in %s: it was backed up without its rows", name, side.Name)
			}
		}
	}
	if len(outOfScope) > 0 {
		c.skip("tables that one side was not asked to hold: %s", few(outOfScope))
	}
}

// leaveOutExtensions takes the rows of extensions' tables as not counted where one side is a
// backup and the other is not.
func (c *comparison) leaveOutExtensions(before, now map[string]*group) {
	if c.before.Live == c.now.Live {
		return
	}
	owned := map[string]bool{}
	for _, side := range []map[string]*group{before, now} {
		for name, g := range side {
			if g.table.Extension != "" {
				g.counted, g.extension, owned[name] = false, true, true
			}
		}
	}
	if len(owned) > 0 {
		c.skip("rows of tables that extensions own: %s", few(slices.Sorted(maps.Keys(owned))))
	}
}

// table compares one table, of which one side may be nil.
func (c *comparison) table(name string, b, n *group) (t Table, changed bool) {
	t = Table{Name: name, Change: Changed}
	switch {
	case b == nil:
		t.Change = Added
		if n.partitions > 0 && c.had[name] { // it had no partitions
			t.Change = Changed
		}
	case n == nil:
		t.Change = Removed
		if b.partitions > 0 && c.has[name] {
			t.Change = Changed
		}
	}
	both := (b == nil || b.counted) && (n == nil || n.counted)
	if b != nil && n != nil && !both {
		c.RowsCompared = false
		if !b.extension && !n.extension {
			c.RowsNotCompared = append(c.RowsNotCompared, name)
		}
	}
	if b != nil {
		t.PartitionsBefore = b.partitions
		if b.counted {
			t.RowsBefore = &b.total
		}
		if both {
			c.RowsBefore += b.total
		}
	}
	if n != nil {
		t.Partitions = n.partitions
		if n.counted {
			t.Rows = &n.total
		}
		if both {
			c.Rows += n.total
		}
	}
	if b == nil || n == nil {
		return t, true
	}
	if b.table.Columns != nil && n.table.Columns != nil {
		t.Columns = columns(b.table.Columns, n.table.Columns)
	}
	return t, both && b.total != n.total || b.partitions != n.partitions || len(t.Columns) > 0
}

// relations are the names of the tables and views that the inventory has.
func (s Side) relations() map[string]bool {
	names := map[string]bool{}
	if s.Inventory != nil {
		for _, d := range s.Inventory.Definitions {
			if d.Kind == kindRelation {
				names[readable(d.Identity)] = true
			}
		}
	}
	return names
}

// columns compares those of one table. Their order is not part of it: a restore may change
// that of partitions.
func columns(before, now []pgmedic.Column) (all []Column) {
	types := map[string]string{}
	for _, c := range now {
		types[c.Name] = c.Type
	}
	for _, b := range before {
		switch typ, ok := types[b.Name]; {
		case !ok:
			all = append(all, Column{Name: b.Name, Change: Removed, TypeBefore: b.Type})
		case typ != b.Type:
			all = append(all, Column{Name: b.Name, Change: Changed, TypeBefore: b.Type, Type: typ})
		}
		delete(types, b.Name)
	}
	for _, n := range now {
		if _, left := types[n.Name]; left {
			all = append(all, Column{Name: n.Name, Change: Added, Type: n.Type})
		}
	}
	slices.SortFunc(all, func(x, y Column) int { return cmp.Compare(x.Name, y.Name) })
	return all
}

// extensions compares versions, which no inventory has.
func (c *comparison) extensions() {
	versions := map[string]string{}
	for _, e := range c.before.Extensions {
		versions[e.Name] = e.Version
	}
	for _, e := range c.now.Extensions {
		if before, ok := versions[e.Name]; ok && before != e.Version {
			c.Definitions = append(c.Definitions, Definition{
				Kind: "extension", Identity: sqltext.Readable(e.Name), Change: Changed, Detail: before + " → " + e.Version,
			})
		}
	}
}

// The kinds of an inventory that tables have.
const (
	kindRelation = "relation"
	kindColumn   = "column"
)

func (c *comparison) definitions() {
	for _, side := range []Side{c.before, c.now} {
		if side.Inventory == nil && side.Unread != "" {
			c.skip("definitions: %s", side.Unread)
		}
	}
	b, n := c.before.Inventory, c.now.Inventory
	switch {
	case b == nil || n == nil:
		return
	case c.before.Major != c.now.Major:
		c.skip("definitions: %s is of PostgreSQL %d, %s of %d, and each major version prints them in its own way",
			c.before.Name, c.before.Major, c.now.Name, c.now.Major)
		return
	case b.Format != n.Format:
		c.skip("definitions: two versions of pgmedic recorded them, each in its own way (%d and %d)", b.Format, n.Format)
		return
	}
	c.DefinitionsCompared = true
	c.inventories(b.Definitions, n.Definitions)
	if b.SecurityLabels == nil || n.SecurityLabels == nil {
		c.skip("security labels: one side is of a version of pgmedic that recorded none")
	} else {
		c.inventories(b.SecurityLabels, n.SecurityLabels)
	}
	slices.SortStableFunc(c.Definitions, func(x, y Definition) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Identity, y.Identity))
	})
}

// inventories compares two lists of definitions. What is reported already is left out:
// tables that were added or removed, columns whose types the manifests have, and the columns
// of tables and views that were added or removed.
func (c *comparison) inventories(before, now []snapshot.Definition) {
	told := map[string]bool{}
	for _, t := range c.Tables {
		if t.Change != Changed {
			told[kindRelation+" "+t.Name] = true
		}
		for _, column := range t.Columns {
			told[kindColumn+" "+t.Name+"."+sqltext.Readable(column.Name)] = true
		}
	}
	differences := snapshot.CompareInventories(before, now)
	whole := map[string]bool{} // tables and views that were added or removed
	for _, d := range differences {
		if d.Kind == kindRelation && d.What != "changed" {
			whole[d.Identity] = true
		}
	}
	for _, d := range differences {
		change := Changed
		switch d.What {
		case "missing":
			change = Removed
		case "unexpected":
			change = Added
		}
		if change == Removed && c.now.Partial || change == Added && c.before.Partial || told[d.Kind+" "+readable(d.Identity)] ||
			d.Kind == kindColumn && whole[tableOf(d.Identity)] {
			continue
		}
		c.Definitions = append(c.Definitions, Definition{Kind: d.Kind, Identity: d.Identity, Change: change})
	}
}

// tableOf returns the table of a column's identity: schema.table of schema.table.column,
// each quoted where needed.
func tableOf(column string) string {
	quoted, last := false, 0
	for i, r := range column {
		switch {
		case r == '"':
			quoted = !quoted
		case r == '.' && !quoted:
			last = i
		}
	}
	return column[:last]
}

// few names the first few of many.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
