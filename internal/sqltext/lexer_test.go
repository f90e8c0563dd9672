package sqltext_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/sqltext"
)

func kinds(sql string) (texts []string, of []sqltext.TokenKind, unsure bool) {
	for sql != "" {
		token := sqltext.NextToken(sql)
		texts, of, unsure = append(texts, token.Text), append(of, token.Kind), unsure || token.Unsure
		sql = sql[len(token.Text):]
	}
	return texts, of, unsure
}

func TestNextToken(t *testing.T) {
	const space, comment, word, name, text, number, parameter, mark = sqltext.Space, sqltext.Comment, sqltext.Word, sqltext.QuotedName,
		sqltext.String, sqltext.Number, sqltext.Parameter, sqltext.Mark
	for _, tt := range []struct {
		sql    string
		texts  []string
		kinds  []sqltext.TokenKind
		unsure bool
	}{
		{`a$1."b""c"`, []string{"a$1", ".", `"b""c"`}, []sqltext.TokenKind{word, mark, name}, false},
		{"-1.5e-3+.5", []string{"-", "1.5e-3", "+", ".5"}, []sqltext.TokenKind{mark, number, mark, number}, false},
		{"$12$a$", []string{"$12", "$a$"}, []sqltext.TokenKind{parameter, text}, false},
		{"$a$ $$ ' $a$$", []string{"$a$ $$ ' $a$", "$"}, []sqltext.TokenKind{text, mark}, false},
		{"$tag", []string{"$tag"}, []sqltext.TokenKind{text}, false},
		{`E'\''`, []string{`E'\''`}, []sqltext.TokenKind{text}, false},
		{`'\\'`, []string{`'\\'`}, []sqltext.TokenKind{text}, false},
		{`'\'`, []string{`'\'`}, []sqltext.TokenKind{text}, false},
		{`'\'a'b'`, []string{`'\'`, "a", `'b'`}, []sqltext.TokenKind{text, word, text}, true},
		{`U&'a'u&"b"`, []string{"U&'a'", "u", "&", `"b"`}, []sqltext.TokenKind{text, word, mark, name}, false},
		{"ee'a''b'", []string{"ee", "'a''b'"}, []sqltext.TokenKind{word, text}, false},
		{"/*a/*b*/c*/d--e\nf", []string{"/*a/*b*/c*/", "d", "--e", "\n", "f"}, []sqltext.TokenKind{comment, word, comment, space, word}, false},
		{"\x00ß\xff", []string{"\x00", "ß\xff"}, []sqltext.TokenKind{space, word}, false},
		{"'", []string{"'"}, []sqltext.TokenKind{text}, false},
	} {
		texts, of, unsure := kinds(tt.sql)
		if !slices.Equal(texts, tt.texts) || !slices.Equal(of, tt.kinds) || unsure != tt.unsure {
			t.Errorf("%q: %q %v %v, want %q %v %v", tt.sql, texts, of, unsure, tt.texts, tt.kinds, tt.unsure)
		}
	}
}

// FuzzNextToken reads any text to its end, and nothing twice.
func FuzzNextToken(f *testing.F) {
	for _, s := range []string{"select 'a' from t", "$a$b$a$", "/*/**/", `"`, `E'\`, "1e+", "\x00\xff", "u&'", "$"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		texts, _, _ := kinds(sql)
		if strings.Join(texts, "") != sql || slices.Contains(texts, "") {
			t.Errorf("%q was read as %q", sql, texts)
		}
	})
}
