package diff_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/diff"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
)

func table(name string, rows int64, columns ...string) pgmedic.Table {
	t := pgmedic.Table{Schema: "public", Name: name, Rows: rows}
	for _, c := range columns {
		name, typ, _ := strings.Cut(c, " ")
		t.Columns = append(t.Columns, pgmedic.Column{Name: name, Type: typ})
	}
	return t
}

func partition(name, root string, rows int64) pgmedic.Table {
	t := table(name, rows)
	t.RootSchema, t.RootName = "public", root
	return t
}

// inventory lists objects written as kind identity hash.
func inventory(objects ...string) *snapshot.Inventory {
	i := &snapshot.Inventory{Format: 3, Definitions: []snapshot.Definition{}, SecurityLabels: []snapshot.Definition{}}
	for _, o := range objects {
		parts := strings.Fields(o)
		i.Definitions = append(i.Definitions, snapshot.Definition{Kind: parts[0], Identity: parts[1], Hash: parts[2]})
	}
	return i
}

// lines writes changes one a line.
func lines(c diff.Changes) (all []string) {
	number := func(n *int64) string {
		if n == nil {
			return "-"
		}
		return strconv.FormatInt(*n, 10)
	}
	for _, t := range c.Tables {
		line := string(t.Change) + " table " + t.Name + " " + number(t.RowsBefore) + " " + number(t.Rows)
		if t.PartitionsBefore != t.Partitions {
			line += " partitions " + strconv.Itoa(t.PartitionsBefore) + " " + strconv.Itoa(t.Partitions)
		}
		all = append(all, line)
		for _, x := range t.Columns {
			all = append(all, strings.TrimSpace(string(x.Change)+" "+t.Name+"."+x.Name+" "+x.TypeBefore+" "+x.Type))
		}
	}
	for _, d := range c.Definitions {
		all = append(all, strings.TrimSpace(string(d.Change)+" "+d.Kind+" "+d.Identity+" "+d.Detail))
	}
	for _, n := range c.NotCompared {
		all = append(all, "not: "+n)
	}
	if len(c.RowsNotCompared) > 0 {
		all = append(all, "not: rows: "+strings.Join(c.RowsNotCompared, " "))
	} else if !c.RowsCompared {
		all = append(all, "not: rows of all tables")
	}
	if c.RowsCompared && len(c.RowsNotCompared) > 0 {
		all = append(all, "contradiction")
	}
	return all
}

func TestBetween(t *testing.T) {
	side := func(i *snapshot.Inventory, tables ...pgmedic.Table) diff.Side {
		return diff.Side{Name: "it", Major: 15, Tables: tables, Inventory: i}
	}
	with := func(s diff.Side, change func(*diff.Side)) diff.Side {
		change(&s)
		return s
	}
	for name, test := range map[string]struct {
		before, now diff.Side
		want        []string
	}{
		"nothing there": {side(nil), side(nil), nil},
		"the same":      {side(inventory("index a 1"), table("t", 3, "a int")), side(inventory("index a 1"), table("t", 3, "a int")), nil},
		"rows":          {side(nil, table("t", 3)), side(nil, table("t", 2)), []string{"changed table public.t 3 2"}},
		"came and went": {
			side(inventory("relation public.a 1", "column public.a.x 1"), table("a", 1)), side(inventory("relation public.b 1", "column public.b.x 1"), table("b", 2)),
			[]string{"removed table public.a 1 -", "added table public.b - 2"},
		},
		"a view came": {side(inventory()), side(inventory("relation public.v 1", "column public.v.x 1")), []string{"added relation public.v"}},
		"columns of manifests": {
			side(nil, table("t", 1, "a int", "b text", "c int")), side(nil, table("t", 1, "c int", "b int", "d date")),
			[]string{"changed table public.t 1 1", "removed public.t.a int", "changed public.t.b text int", "added public.t.d  date"},
		},
		"columns are told once": {
			side(inventory("column public.t.a 1", "column public.t.b 1"), table("t", 1, "a int", "b text")), side(inventory("column public.t.a 2", "column public.t.b 2"), table("t", 1, "a text", "b text")),
			[]string{"changed table public.t 1 1", "changed public.t.a int text", "changed column public.t.b"},
		},
		"columns of one side only": {side(nil, table("t", 1, "a int")), side(nil, table("t", 1)), nil},
		"partitions are one table": {
			side(nil, partition("p1", "p", 3), partition("p2", "p", 4)), side(nil, partition("p1", "p", 1), partition("p2", "p", 6), partition("p3", "p", 0)),
			[]string{"changed table public.p 7 7 partitions 2 3"},
		},
		"rows change their partition": {side(nil, partition("p1", "p", 3), partition("p2", "p", 4)), side(nil, partition("p1", "p", 1), partition("p2", "p", 6)), nil},
		"the last partition": {
			side(inventory("relation public.p 1"), partition("p1", "p", 3)), side(inventory("relation public.p 1")), []string{"changed table public.p 3 - partitions 1 0"},
		},
		"a keyword": {
			side(inventory(`relation public."order" 1`, `column public."order"."user" 1`), table("order", 1)), side(inventory()), []string{"removed table public.order 1 -"},
		},
		"odd names": {
			side(inventory(`relation public."a.b" 1`, `column public."a.b"."c.d" 1`), table("a.b", 1)), side(inventory()), []string{`removed table public."a.b" 1 -`},
		},
		"definitions": {
			side(inventory("function f 1", "index i 1", "policy p 1")), side(inventory("function f 2", "policy p 1", "trigger t 1")),
			[]string{"changed function f", "removed index i", "added trigger t"},
		},
		"no key": {
			with(side(nil, table("t", 1)), func(s *diff.Side) { s.Unread = "no key for it" }), side(inventory("index i 1"), table("t", 1)), []string{"not: definitions: no key for it"},
		},
		"another major": {
			side(inventory("index i 1")), with(side(inventory("index i 2")), func(s *diff.Side) { s.Major = 16 }),
			[]string{"not: definitions: it is of PostgreSQL 15, it of 16, and each major version prints them in its own way"},
		},
		"another format": {
			side(inventory("index i 1")), with(side(inventory("index i 2")), func(s *diff.Side) { s.Inventory.Format = 2 }),
			[]string{"not: definitions: two versions of pgmedic recorded them, each in its own way (3 and 2)"},
		},
		"no labels": {
			side(inventory("index i 1")), with(side(inventory("index i 1")), func(s *diff.Side) { s.Inventory.SecurityLabels = nil }),
			[]string{"not: security labels: one side is of a version of pgmedic that recorded none"},
		},
		"partial now": {
			side(inventory("index i 1", "index j 1"), table("t", 9), table("u", 9)), with(side(inventory("index i 2"), table("t", 8)), func(s *diff.Side) { s.Partial = true }),
			[]string{"changed table public.t 9 8", "changed index i", "not: it is partial: what it does not hold is not called added or removed", "not: tables that one side was not asked to hold: public.u"},
		},
		"without rows":      {side(nil, pgmedic.Table{Schema: "public", Name: "t", WithoutRows: true}), side(nil, table("t", 5)), []string{"not: rows of table public.t in it: it was backed up without its rows", "not: rows: public.t"}},
		"without rows, new": {side(nil), side(nil, pgmedic.Table{Schema: "public", Name: "t", WithoutRows: true}), []string{"added table public.t - -", "not: rows of table public.t in it: it was backed up without its rows"}},
		"not counted": {
			side(nil, table("t", 5)), with(side(nil, table("t", 0)), func(s *diff.Side) { s.Uncounted = map[string]string{"public.t": "a standby"} }),
			[]string{"not: rows of table public.t in it: a standby", "not: rows: public.t"},
		},
		"an extension's table, live": {
			side(nil, pgmedic.Table{Schema: "public", Name: "srs", Extension: "postgis", Rows: 0}),
			with(side(nil, pgmedic.Table{Schema: "public", Name: "srs", Extension: "postgis", Rows: 8500}), func(s *diff.Side) { s.Live = true }),
			[]string{"not: rows of tables that extensions own: public.srs", "not: rows of all tables"},
		},
		"an extension's table": {
			side(nil, pgmedic.Table{Schema: "public", Name: "srs", Extension: "postgis", Rows: 0}), side(nil, pgmedic.Table{Schema: "public", Name: "srs", Extension: "postgis", Rows: 1}),
			[]string{"changed table public.srs 0 1"},
		},
		"extensions": {
			with(side(nil), func(s *diff.Side) {
				s.Extensions = []pgmedic.Extension{{Name: "postgis", Version: "3.3"}, {Name: "x", Version: "1"}}
			}),
			with(side(nil), func(s *diff.Side) {
				s.Extensions = []pgmedic.Extension{{Name: "postgis", Version: "3.4"}, {Name: "x", Version: "1"}}
			}),
			[]string{"changed extension postgis 3.3 → 3.4"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := diff.Between(test.before, test.now)
			if d := cmp.Diff(test.want, lines(got)); d != "" {
				t.Error(d)
			}
			if got.DefinitionsCompared != (test.before.Inventory != nil && test.now.Inventory != nil && !slices.ContainsFunc(got.NotCompared, func(s string) bool { return strings.HasPrefix(s, "definitions") })) {
				t.Errorf("definitions compared: %t", got.DefinitionsCompared)
			}
		})
	}
}

// TestBetweenProperties: a side has no changes from itself, and from right to left each change
// is the opposite of that from left to right.
func TestBetweenProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	some := func() diff.Side {
		s := diff.Side{Name: "it", Major: 15, Inventory: inventory()}
		for i := range 8 {
			name := "t" + strconv.Itoa(i)
			switch random.IntN(4) {
			case 0:
				continue
			case 1:
				s.Tables = append(s.Tables, partition(name, "p", int64(random.IntN(3))))
			default:
				s.Tables = append(s.Tables, table(name, int64(random.IntN(3)), "a "+[]string{"int", "text"}[random.IntN(2)]))
			}
			s.Inventory.Definitions = append(s.Inventory.Definitions, snapshot.Definition{Kind: "index", Identity: name, Hash: strconv.Itoa(random.IntN(2))})
		}
		return s
	}
	opposite := map[diff.Change]diff.Change{diff.Added: diff.Removed, diff.Removed: diff.Added, diff.Changed: diff.Changed}
	for range 500 {
		a, b := some(), some()
		if c := diff.Between(a, a); !c.None() || len(c.NotCompared) > 0 || c.RowsBefore != c.Rows {
			t.Fatalf("from itself: %v", lines(c))
		}
		there, back := diff.Between(a, b), diff.Between(b, a)
		if len(there.Tables) != len(back.Tables) || len(there.Definitions) != len(back.Definitions) || there.RowsBefore != back.Rows || there.TablesBefore != back.TablesNow {
			t.Fatalf("%v\n%v", lines(there), lines(back))
		}
		for i, x := range there.Tables {
			y := back.Tables[i]
			if x.Name != y.Name || x.Change != opposite[y.Change] || !cmp.Equal(x.RowsBefore, y.Rows) || !cmp.Equal(x.Rows, y.RowsBefore) || x.Partitions != y.PartitionsBefore || len(x.Columns) != len(y.Columns) {
				t.Fatalf("%+v and back %+v", x, y)
			}
		}
		for i, x := range there.Definitions {
			if y := back.Definitions[i]; x.Identity != y.Identity || x.Change != opposite[y.Change] {
				t.Fatalf("%+v and back %+v", x, y)
			}
		}
	}
}
