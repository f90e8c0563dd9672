package pgmedic_test

import (
	"testing"
	"unicode/utf8"

	"github.com/pgmedic/pgmedic"
)

func TestEscapeBytes(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "plain": "plain", `back\slash`: `back\slash`, "Zoë �": "Zoë �",
		"t_a\xf1o": "\x00t_a\\xf1o", "\\x\xff": "\x00\\\\x\\xff", "é\xe9": "\x00é\\xe9",
	} {
		if got := pgmedic.EscapeBytes(text); got != want || pgmedic.UnescapeBytes(got) != text {
			t.Errorf("%q: %q, and back %q", text, got, pgmedic.UnescapeBytes(got))
		}
	}
	for _, odd := range []string{"\x00\\", "\x00\\x", "\x00\\x4", "\x00\\xzz", "\x00\\n"} { // nobody wrote these
		if got := pgmedic.UnescapeBytes(odd); got != odd {
			t.Errorf("%q became %q", odd, got)
		}
	}
	if got := pgmedic.PrintableBytes("a\xf1o é"); got != `a\xf1o é` {
		t.Error(got)
	}
}

// FuzzEscapeBytes: any text of PostgreSQL comes back, by way of text that JSON can
// hold.
func FuzzEscapeBytes(f *testing.F) {
	f.Add("t_a\xf1o\\")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 0 && text[0] == 0 {
			return // PostgreSQL has no such text
		}
		escaped := pgmedic.EscapeBytes(text)
		if !utf8.ValidString(escaped) || pgmedic.UnescapeBytes(escaped) != text {
			t.Errorf("%q: %q, and back %q", text, escaped, pgmedic.UnescapeBytes(escaped))
		}
	})
}
