package words_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/pgmedic/pgmedic/internal/words"
)

func TestClean(t *testing.T) {
	both := words.Keep{Lines: true, Weights: true, Key: "secret"}
	for _, tt := range []struct{ in, value, text string }{
		{"Zoë 診療 🏥 e\u0301", "Zoë 診療 🏥 e\u0301", "Zoë 診療 🏥 e\u0301"},
		{"a\nb\tc\r", `a\nb\tc\x0d`, "a\nb\tc\\x0d"},
		{"\x1b[1mbold\x1b[m", `\x1b[1mbold\x1b[m`, "\x1b[1mbold\x1b[m"},
		{"\x1b[31mred", `\x1b[31mred`, `\x1b[31mred`},
		{words.Paint("secret", "\x1b[1;31mred\x1b[m"), `\x1b]secret;1;31\x07red\x1b]secret;\x07`, "\x1b]secret;1;31\ared\x1b]secret;\a"},
		{words.Paint("guess", "\x1b[31mred"), `\x1b]guess;31\x07red`, `\x1b]guess;31\x07red`},
		{"\x1b]secret;31", `\x1b]secret;31`, `\x1b]secret;31`},
		{"\x1b]secret;title\a", `\x1b]secret;title\x07`, `\x1b]secret;title\x07`},
		{"\x1b[8mhidden", `\x1b[8mhidden`, `\x1b[8mhidden`},
		{"\x1b[2J\x1b[1A\x1b]0;title\a", `\x1b[2J\x1b[1A\x1b]0;title\x07`, `\x1b[2J\x1b[1A\x1b]0;title\x07`},
		{"\u009b31m\u202e\u2066\u200b\u2028\ufeff\u00ad\u061c", `\u009b31m\u202e\u2066\u200b\u2028\ufeff\u00ad\u061c`, `\u009b31m\u202e\u2066\u200b\u2028\ufeff\u00ad\u061c`},
		{"\U000e0041\u3164\u0378", `\U000e0041\u3164\u0378`, `\U000e0041\u3164\u0378`},
		{"\xff\xc2", `\xff\xc2`, `\xff\xc2`},
	} {
		if got := words.Clean(tt.in); got != tt.value {
			t.Errorf("%q as a value: %q, want %q", tt.in, got, tt.value)
		}
		if got := both.Clean(tt.in); got != tt.text {
			t.Errorf("%q as a painted text: %q, want %q", tt.in, got, tt.text)
		}
	}
}

var colours = regexp.MustCompile("\x1b\\[[012]?m|\x1b\\]secret;[0-9;]*\a")

func FuzzClean(f *testing.F) {
	for _, s := range []string{"a\x1b]0;x\a\xff\u2028", "\x1b[1m\x1b[\n", "\u0085\U000e0001", "\x1b]secret;1\a\x1b]secret;\x1b[1m\a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, k := range []words.Keep{{}, {Lines: true}, {Weights: true}, {Lines: true, Weights: true, Key: "secret"}} {
			got := k.Clean(s)
			if again := k.Clean(got); again != got || !utf8.ValidString(got) {
				t.Errorf("%+v: %q, and again %q", k, got, again)
			}
			if k.Weights {
				got = colours.ReplaceAllString(got, "")
			}
			if k.Lines {
				got = strings.NewReplacer("\n", "", "\t", "").Replace(got)
			}
			if i := strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("%+v: %q is left in %q", k, got[i:], s)
			}
		}
		whole, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var before, after string
		safe := words.JSON(whole)
		if json.Unmarshal(whole, &before) != nil || json.Unmarshal(safe, &after) != nil || before != after {
			t.Errorf("%s became %s", whole, safe)
		}
		if strings.ContainsFunc(string(safe), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is left in JSON", safe)
		}
	})
}
