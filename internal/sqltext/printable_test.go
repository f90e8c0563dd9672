package sqltext_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// TestPrintable keeps SQL as it is but for names that could drive a terminal.
func TestPrintable(t *testing.T) {
	for sql, want := range map[string]string{
		`SELECT b."a", 'x';`:            `SELECT b."a", 'x';`,
		`"a""b".` + "\n" + `"c"`:        `"a""b".` + "\n" + `"c"`,
		"\"new\nline\".\"b\"":           `U&"new\000aline"."b"`,
		"\"\x1b[2J\\\"\"x\"":            `U&"\001b[2J\\""x"`,
		"\"\u202e\U000e0001\" AS \"ü\"": `U&"\202e\+0e0001" AS "ü"`,
		`x."plain\"`:                    `x."plain\"`,
	} {
		if got := sqltext.Printable(sql); got != want {
			t.Errorf("%q: got %s, want %s", sql, got, want)
		}
	}
}

func TestPrintableNames(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{sqltext.PrintableIdent(`a"b\c`), `"a""b\c"`},
		{sqltext.PrintableIdent("a\"\a\\"), `U&"a""\0007\\"`},
		{sqltext.PrintableLiteral(`it's`), `'it''s'`},
		{sqltext.PrintableLiteral(`a\b`), ` E'a\\b'`},
		{sqltext.PrintableLiteral("it's\x1b\\"), `U&'it''s\001b\\'`},
		{sqltext.ReadableTable("app", "Visits"), `app."Visits"`},
		{sqltext.ReadableList([]string{"a_1", "1a", "é", ""}), `a_1, "1a", "é", ""`},
		{sqltext.PrintableList([]string{"a", "b"}), `"a", "b"`},
		{sqltext.QuoteQualified("a", "b.c"), `"a"."b.c"`},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}
