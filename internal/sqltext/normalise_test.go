package sqltext_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// hidden is a statement in the plainest form.
func hidden(sql string) string { return sqltext.Form{}.Normalise(sql) }

func TestNormalise(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"parameters stay", "select * from t where a = $1 and b in ($2,$10)", "select * from t where a = $1 and b in ($2,$10)"},
		{"numbers", "select 1, -2.5e-10, .5, 0x1F, 1_000 from t1", "select ?, -?, ?, ?, ? from t1"},
		{"strings", "select 'a', 'it''s', E'a\\'b', B'01', X'ff', N'x', U&'\\0041' from t", "select ?, ?, ?, ?, ?, ?, ? from t"},
		{"strings that SQL joins", "select 'a'\n  'b' from t", "select ? from t"},
		{"quoted names stay", `select "A 'b" from "T""x" where "c"='d'`, `select "A 'b" from "T""x" where "c"=?`},
		{"dollar quotes", "do $$ begin perform 'x'; end $$", "do ?"},
		{"dollar quotes with a tag", "do $a$ $$ secret $$ $a$ language plpgsql", "do ? language plpgsql"},
		{"comments", "select /* jane /* doe */ 1 */ a -- secret\nfrom t", "select a from t"},
		{"white space", "select\n\t a\r\n from  t ;", "select a from t ;"},
		{"a password", "alter role app with password 'hunter2'", "alter role app with password ?"},
		{"copy", "copy (select * from t where ssn = '078') to stdout", "copy (select * from t where ssn = ?) to stdout"},
		{"set a string", "set app.patient = 'jane'", "set app.patient = ?"},
		{"set a word", "set app.patient to jane", "set app.patient to ?"},
		{"set a quoted word", `set local app.patient = "jane doe", 'x'; select a`, "set local app.patient = ?, ?; select a"},
		{"alter role set", "alter role bob in database d set app.key to secret", "alter role bob in database d set app.key to ?"},
		{"update is no setting", "update t set a = b where c = 3", "update t set a = b where c = ?"},
		{"rename is no setting", "alter table a rename to b", "alter table a rename to b"},
		{"cut within a string", "select * from t where name = 'Jane Do", "select * from t where name = ?"},
		{"cut within an escape", `select E'Jane \`, "select ?"},
		{"cut within a dollar quote", "do $body$ begin insert into t values ('Jan", "do ?"},
		{"cut within a dollar tag", "do $bod", "do ?"},
		{"cut within a comment", "select a /* Jane", "select a"},
		{"a backslash before a quote", `select 'a\' , secret, 'b' from t`, "select ?"},
		{"two backslashes before a quote", `select 'a\\', b`, "select ?, b"},
		{"names beyond ASCII", "select größe from 患者 where x=1", "select größe from 患者 where x=?"},
		{"casts", "select '2024-01-01'::date, a::text", "select ?::date, a::text"},
		{"rows after a COPY", "copy t (a) from stdin with csv; Jane Doe,O", "copy t (a) from stdin with csv;"},
		{"two statements", "set a = b; update t set c = d", "set a = ?; update t set c = d"},
		{"a name that ends in a digit", "select t1.c2 from s3.t1", "select t1.c2 from s3.t1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := hidden(tt.in)
			if got != tt.want {
				t.Errorf("%s\nbecame %s\nwant   %s", tt.in, got, tt.want)
			}
			if again := hidden(got); again != got {
				t.Errorf("normalised again it is %s", again)
			}
		})
	}
}

func TestNormaliseHidesASecretWhereverTheTextIsCut(t *testing.T) {
	const secret = "SECRET"
	for _, whole := range []string{
		"alter role a password 'x" + secret + "' valid until 'y'",
		"do $q$ begin perform '" + secret + "'; end $q$; select 1",
		"select E'\\'" + secret + "' from t -- " + secret,
		"set x = " + secret + ", " + secret + "; select 1 /* " + secret + " */",
		`copy (select '` + secret + `', U&'` + secret + `' uescape '!') to stdout`,
		`select 'a\'` + secret + `' , '` + secret + `'`,
	} {
		for cut := range len(whole) + 1 {
			if got := hidden(whole[:cut]); strings.Contains(got, "SEC") {
				t.Errorf("%s\nbecame %s", whole[:cut], got)
			}
		}
	}
}

func FuzzNormalise(f *testing.F) {
	for _, s := range []string{"select 'a' from t", "$a$b$a$", "/*/**/", `"`, "E'\\", "1e+", "\x00\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := hidden(s)
		if utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Errorf("%q became %q", s, got)
		}
		if strings.ContainsAny(got, "'") && !strings.Contains(s, `"`) {
			t.Errorf("%q still holds a string: %q", s, got)
		}
	})
}
