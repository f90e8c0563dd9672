package dumpsql_test

import (
	"context"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

type rowCase struct {
	sql      string
	want     map[string]int64
	complete bool
}

// rowCases are texts as pg_dump writes them, and some that it could.
func rowCases() map[string]rowCase {
	q := sqltext.QuoteQualified
	return map[string]rowCase{
		"nothing":        {"", nil, true},
		"one table":      {"COPY public.t (a, b) FROM stdin;\n1\t2\n3\t\\N\n\\.\n", map[string]int64{q("public", "t"): 2}, true},
		"empty table":    {"COPY public.t (a) FROM stdin;\n\\.\n\n\n", map[string]int64{q("public", "t"): 0}, true},
		"no columns":     {"COPY public.t  FROM stdin;\n\n\n\n\\.\n", map[string]int64{q("public", "t"): 3}, true},
		"dots, quotes":   {"COPY \"a.b\".\"c\"\"d.e\" (\"x;y\") FROM stdin;\n1\n\\.\n", map[string]int64{q("a.b", `c"d.e`): 1}, true},
		"newline, space": {"COPY public.\"a\nb c\" (x) FROM stdin;\n1\n\\.\n", map[string]int64{q("public", "a\nb c"): 1}, true},
		"keywords":       {"COPY public.\"select FROM stdin\" (\"COPY\") FROM stdin;\n1\n\\.\n", map[string]int64{q("public", "select FROM stdin"): 1}, true},
		"semicolon":      {"COPY public.\";\n\\.\" (x) FROM stdin;\n1\n\\.\n", map[string]int64{q("public", ";\n\\."): 1}, true},
		"rows like an end": {
			"COPY public.t (a) FROM stdin;\n\\.x\n\\\\.\n.\n\\N\nCOPY public.u (a) FROM stdin;\n\\.\n",
			map[string]int64{q("public", "t"): 5}, true,
		},
		"two tables": {
			"COPY a.t (a) FROM stdin;\n1\n\\.\n\n--\n-- Data for Name: u\n--\n\nCOPY a.u (a) FROM stdin;\n1\n2\n\\.\n",
			map[string]int64{q("a", "t"): 1, q("a", "u"): 2}, true,
		},
		"in a function's body": {
			"CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $_$\nCOPY public.t (a) FROM stdin;\n1\n\\.\n$ $_ $$ $x$ ' \" -- /* $_$;\n" +
				"COPY public.t (a) FROM stdin;\n1\n2\n\\.\n",
			map[string]int64{q("public", "t"): 2}, true,
		},
		"in a body between $$": {
			"CREATE FUNCTION f() RETURNS void AS $$COPY t FROM stdin;\n$ $a$$$;\nCOPY public.t (a) FROM stdin;\n1\n\\.\n",
			map[string]int64{q("public", "t"): 1}, true,
		},
		"in a string": {
			"COMMENT ON TABLE t IS 'it''s;\nCOPY public.t (a) FROM stdin;\n';\nCOPY public.t (a) FROM stdin;\n1\n\\.\n",
			map[string]int64{q("public", "t"): 1}, true,
		},
		"backslash in a string": {
			"COMMENT ON TABLE t IS 'c:\\';\nCOPY public.t (a) FROM stdin;\n1\n\\.\n", map[string]int64{q("public", "t"): 1}, true,
		},
		"backslash in an E string": {
			"COMMENT ON TABLE t IS E'it''s \\';\nCOPY public.u (a) FROM stdin;\n';\nCOPY public.t (a) FROM stdin;\n1\n\\.\n",
			map[string]int64{q("public", "t"): 1}, true,
		},
		"a type's name before a string": {
			"SELECT date'\\';\nCOPY public.t (a) FROM stdin;\n1\n\\.\n", map[string]int64{q("public", "t"): 1}, true,
		},
		"in a line comment": {
			"-- COPY public.t (a) FROM stdin;\nCOPY public.t (a) FROM stdin;\n1\n\\.\n", map[string]int64{q("public", "t"): 1}, true,
		},
		"comment within a statement": {
			"SELECT 1 -- one\nCOPY public.t (a) FROM stdin;\nSELECT 1;\n", nil, true,
		},
		"in nested comments": {
			"/* /* */ COPY public.t (a) FROM stdin; */ COPY public.u (a) FROM stdin;\n1\n\\.\n",
			map[string]int64{q("public", "u"): 1}, true,
		},
		"SQL-standard body": {
			"CREATE FUNCTION f(integer) RETURNS integer LANGUAGE sql\n    BEGIN ATOMIC\n SELECT ($1 + 1);\n SELECT $1;\nEND;\n" +
				"COPY public.t (a) FROM stdin;\n1\n\\.\n",
			map[string]int64{q("public", "t"): 1}, true,
		},
		"parameters": {
			"SELECT $1,$2;\nCOPY public.t (a) FROM stdin;\n1\n\\.\nSELECT $1'$2';\nCOPY public.u (a) FROM stdin;\n1\n\\.\n",
			map[string]int64{q("public", "t"): 1, q("public", "u"): 1}, true,
		},
		"dollars in a name": {
			"SELECT a$$ FROM b$c$;\nCOPY public.t (a) FROM stdin;\n1\n\\.\n", map[string]int64{q("public", "t"): 1}, true,
		},
		"psql commands": {
			"\\restrict aB'c\"d$$\nSET x = 1;\n\nCOPY public.t (a) FROM stdin;\n1\n\\.\n\\unrestrict aB'c\n\n", map[string]int64{q("public", "t"): 1}, true,
		},
		"copied elsewhere":    {"COPY public.t (a) TO stdout;\nCOPY public.t (a) FROM '/x FROM stdin';\n", nil, true},
		"ends among rows":     {"COPY public.t (a) FROM stdin;\n1\n2", map[string]int64{q("public", "t"): 1}, false},
		"ends before its end": {"COPY public.t (a) FROM stdin;\n1\n", map[string]int64{q("public", "t"): 1}, false},
		"ends in an end":      {"COPY public.t (a) FROM stdin;\n1\n\\.", map[string]int64{q("public", "t"): 1}, false},
		"ends before rows":    {"COPY public.t (a) FROM stdin;", nil, false},
		"ends in a statement": {"CREATE TABLE public.t (a", nil, false},
		"ends in a copy":      {"COPY public", nil, false},
		"ends in a string":    {"COMMENT ON TABLE t IS 'x", nil, false},
		"ends in a body":      {"CREATE FUNCTION f() AS $_$ begin", nil, false},
		"ends in a comment":   {"SELECT 1;\n-- PostgreSQL data", nil, false},
		"ends in a command":   {"SELECT 1;\n\\unrestr", nil, false},
	}
}

// count feeds a text in parts that end at the given places.
func count(sql string, ends ...int) (*dumpsql.RowCounter, []string) {
	c, tables := &dumpsql.RowCounter{}, []string(nil)
	c.OnTable = func(table string) { tables = append(tables, table) }
	begin := 0
	for _, end := range append(ends, len(sql)) {
		_, _ = c.Write([]byte(sql[begin:end]))
		begin = end
	}
	return c, tables
}

func TestRowCounter(t *testing.T) {
	for name, test := range rowCases() {
		t.Run(name, func(t *testing.T) {
			c, tables := count(test.sql)
			if !maps.Equal(c.Counts(), test.want) {
				t.Errorf("counted %v, want %v", c.Counts(), test.want)
			}
			if c.Complete() != test.complete {
				t.Errorf("Complete is %t", c.Complete())
			}
			if len(tables) != len(test.want) {
				t.Errorf("told of %q", tables)
			}
			for i := range len(test.sql) + 1 {
				sameCount(t, test.sql, i)
			}
			every := make([]int, len(test.sql))
			for i := range every {
				every[i] = i
			}
			sameCount(t, test.sql, every...)
		})
	}
}

// TestRowCounterTruncated cuts a dump at every byte: only between statements
// can that go unnoticed.
func TestRowCounterTruncated(t *testing.T) {
	const sql = "SET a = 'b';\nCOPY public.t (a) FROM stdin;\n1\n\\.x\n\\.\nCREATE FUNCTION f() AS $_$;$_$;\n"
	for i := range len(sql) {
		c, _ := count(sql[:i])
		done := strings.TrimRight(sql[:i], "\n")
		between := done == "" || strings.HasSuffix(done, ";") && !strings.HasSuffix(done, "stdin;") && !strings.HasSuffix(done, "$_$;") ||
			strings.HasSuffix(sql[:i], "\n\\.\n") || strings.HasSuffix(done, ";$_$;")
		if c.Complete() != between {
			t.Errorf("Complete is %t after %q", c.Complete(), sql[:i])
		}
	}
}

func sameCount(t *testing.T, sql string, ends ...int) {
	t.Helper()
	whole, _ := count(sql)
	parts, _ := count(sql, ends...)
	if !maps.Equal(whole.Counts(), parts.Counts()) || whole.Complete() != parts.Complete() {
		t.Errorf("cut at %v: %v %t, whole: %v %t", ends, parts.Counts(), parts.Complete(), whole.Counts(), whole.Complete())
	}
}

func FuzzRowCounter(f *testing.F) {
	for _, test := range rowCases() {
		f.Add(test.sql, uint(len(test.sql)/2), uint(len(test.sql)/3))
	}
	f.Fuzz(func(t *testing.T, sql string, a, b uint) {
		i, j := int(a%uint(len(sql)+1)), int(b%uint(len(sql)+1))
		sameCount(t, sql, min(i, j), max(i, j))
		// What comes before must not change what a table after it counts,
		// once it is complete.
		if c, _ := count(sql); c.Complete() {
			const more = "COPY \"new one\".t (a) FROM stdin;\n1\n2\n\\.\n"
			d, _ := count(sql + more)
			want := c.Counts()[`"new one"."t"`] + 2
			if d.Counts()[`"new one"."t"`] != want {
				t.Errorf("a table after it has %d rows, want %d", d.Counts()[`"new one"."t"`], want)
			}
		}
	})
}

// nasty makes tables whose names and rows imitate a dump's own text.
const nasty = `
CREATE SCHEMA "a.b ""c""";
CREATE TABLE "a.b ""c"""."d.e" (x int);
INSERT INTO "a.b ""c"""."d.e" SELECT generate_series(1, 3);
CREATE TABLE "COPY public.t (a) FROM stdin;
1
\." (a text, "b;c" text);
INSERT INTO "COPY public.t (a) FROM stdin;
1
\." VALUES (E'\\.', E'a\nb'), (E'\\.\n', NULL), ('COPY public.t (a) FROM stdin;', '');
CREATE TABLE "select" ("from" text);
INSERT INTO "select" VALUES ('1'), ('2');
CREATE TABLE zero ();
INSERT INTO zero DEFAULT VALUES;
INSERT INTO zero DEFAULT VALUES;
CREATE TABLE empty (a int);
CREATE TABLE "größe $1$ ""x" ("$$" text DEFAULT '$$;', c text CHECK (c <> E'\\'';'));
INSERT INTO "größe $1$ ""x" SELECT g::text, 'x' FROM generate_series(1, 10000) AS g;
CREATE TABLE root (k int, v text) PARTITION BY LIST (k);
CREATE TABLE leaf1 PARTITION OF root FOR VALUES IN (1);
CREATE TABLE leaf2 PARTITION OF root DEFAULT;
INSERT INTO root SELECT g % 3, 'x' FROM generate_series(1, 30) AS g;
SET check_function_bodies = off;
CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $f$
COPY public.zero FROM stdin;
1
\.
$f$;
CREATE FUNCTION g(int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT $1; SELECT $1 + 1; END;
CREATE RULE r AS ON UPDATE TO empty DO INSTEAD (DELETE FROM empty; SELECT 'COPY public.zero FROM stdin;');
COMMENT ON TABLE empty IS E'it''s \\'' ;\nCOPY public.zero FROM stdin;\n';
CREATE VIEW v AS SELECT E'\\' AS "a'b" FROM empty;
`

// TestRowCounterRealDump compares what is counted in a real dump with what the
// server counts.
func TestRowCounterRealDump(t *testing.T) {
	target, conn := database(t)
	exec(t, conn, nasty)
	p, err := pgtool.Start(t.Context(), pgtool.Command{Tool: tool(t, "pg_dump"), Target: target})
	if err != nil {
		t.Fatal(err)
	}
	dump, err := io.ReadAll(p)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := count(string(dump), len(dump)/7, len(dump)/2)
	if !c.Complete() {
		t.Error("the dump is not complete")
	}
	rows, err := conn.Query(t.Context(), `SELECT relname, quote_ident(nspname) || '.' || quote_ident(relname), nspname
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE relkind = 'r' AND c.oid >= 16384 AND nspname !~ '^pg_'`)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for rows.Next() {
		var name, sql, schema string
		if err := rows.Scan(&name, &sql, &schema); err != nil {
			t.Fatal(err)
		}
		names[sqltext.QuoteQualified(schema, name)] = sql
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{}
	for name, sql := range names {
		var n int64
		if err := conn.QueryRow(context.WithoutCancel(t.Context()), "SELECT count(*) FROM "+sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		want[name] = n
	}
	if len(want) != 8 || !maps.Equal(c.Counts(), want) {
		t.Errorf("counted %v, the server counts %v", c.Counts(), want)
	}
}
