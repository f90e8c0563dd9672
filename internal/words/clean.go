// Package words makes the texts that every output shares fit to be read.
package words

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes a text from a server or a store fit for a terminal: control characters,
// direction marks, invisible characters and bytes that are no UTF-8 are written
// as escapes, so that a name can't move the cursor or pose as another one.
// Everything else, emoji and combining marks included, stays.
func Clean(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, hostile) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !hostile(r):
			b.WriteString(s[:size])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		s = s[size:]
	}
	return b.String()
}

// hostile reports whether a character must not reach a terminal as it is.
func hostile(r rune) bool {
	switch r {
	case 0x115f, 0x1160, 0x3164, 0xffa0, 0x2800: // letters and a sign that are blank
		return true
	}
	return r != ' ' && !unicode.IsPrint(r)
}
