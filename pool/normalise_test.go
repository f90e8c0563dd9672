package pool

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNormalise(t *testing.T) {
	for sql, want := range map[string]string{
		"":                "",
		"  SELECT\n\t1 ;": "SELECT ?",
		"SELECT * FROM patients WHERE ssn = '123-45-6789' AND n = $1":              "SELECT * FROM patients WHERE ssn = ? AND n = $1",
		"SELECT 'it''s', E'a\\'b', B'101', x'ff', N'x', U&'d\\0061t', e'x'":        "SELECT ?",
		"SELECT 'a' AS a, 'b' AS b":                                                "SELECT ? AS a, ? AS b",
		"INSERT INTO t VALUES (1, 'a', $1), (2, 'b', $2)":                          "INSERT INTO t VALUES (?, $1), (?, $2)",
		"SELECT 1.5e-10 + .5 + 0x1F + 1_000":                                       "SELECT ? + ? + ? + ?",
		"SELECT $$a 'secret'$$, $tag$ $$ $tag$ FROM t":                             "SELECT ? FROM t",
		`SELECT "Weird ""Name""", t1, é2 FROM "a'b"`:                               `SELECT "Weird ""Name""", t1, é2 FROM "a'b"`,
		"SELECT 1 -- Jane's\n+ 2 /* a 'secret' /* in */ here */ + 3":               "SELECT ? + ? + ?",
		"SELECT a$b, $1::text[] FROM t WHERE x IN (1,2,3) AND y IN ('a', 'b','c')": "SELECT a$b, $1::text[] FROM t WHERE x IN (?) AND y IN (?)",
		"SELECT 'a'\n  'b', 'c'":                                                   "SELECT ?",
		"SET app.patient = jane; UPDATE t SET a = b WHERE c = 1":                   "SET app.patient = ?; UPDATE t SET a = b WHERE c = ?",
		`set local app.patient to "jane doe", 'x'`:                                 "set local app.patient to ?",
		"ALTER ROLE bob IN DATABASE d SET app.key TO secret":                       "ALTER ROLE bob IN DATABASE d SET app.key TO ?",
		"ALTER ROLE bob PASSWORD 'secret' VALID UNTIL 'x'":                         "ALTER ROLE bob PASSWORD ? VALID UNTIL ?",
		"ALTER TABLE a RENAME TO b":                                                "ALTER TABLE a RENAME TO b",
		"do $bod":                                                                  "do ?",
		"SELECT größe FROM 患者 WHERE €e'a'":                                         "SELECT größe FROM 患者 WHERE €e?",
		"SELECT type'literal', interval '1 day', date'2026-01-01'":                 "SELECT type?, interval ?, date?",
		"SELECT 'no end":                 "SELECT ?",
		"SELECT $x$no end":               "SELECT ?",
		"SELECT 1 /* no end 'x'":         "SELECT ?",
		`SELECT 'C:\', 'secret'`:         "SELECT ?…",
		`SELECT 'plain \n backslash', x`: "SELECT ?, x",
		"SELECT a->>'key' FROM t WHERE b @> '{\"ssn\": 1}'::jsonb": "SELECT a->>? FROM t WHERE b @> ?::jsonb",
	} {
		if got := normalise(sql); got != want {
			t.Errorf("%s\n got  %s\n want %s", sql, got, want)
		}
	}
	long := normalise("SELECT " + strings.Repeat("column, ", 10000))
	if len(long) > maxLoggedSQL+len("…") {
		t.Errorf("%d bytes", len(long))
	}
}

// FuzzNormalise: whatever stands around it, a string literal is not kept, nor
// does anything make it fail.
func FuzzNormalise(f *testing.F) {
	for _, seed := range []string{"", "SELECT ", "E", `'\`, "$$", "/*", "--", `"`, "$a$", "U&", "1", "a,1,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, before string) {
		out := normalise(before)
		if !utf8.ValidString(out) || len(out) > maxLoggedSQL+len("…") {
			t.Errorf("%q became %q", before, out)
		}
		// A text that ends where a literal may stand.
		if strings.ContainsAny(before, `'"$\/-*`) || strings.ContainsAny(before[max(0, len(before)-2):], "eEbBxXnN&_") {
			return
		}
		if out := normalise(before + " 'sEcReT', $$sEcReT$$, E'\\'sEcReT'"); strings.Contains(out, "sEcReT") {
			t.Errorf("%q: %q", before, out)
		}
	})
}
