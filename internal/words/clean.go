// Package words makes the texts that every output shares fit to be read.
package words

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Clean makes a text from a server or a store fit for a terminal: control
// characters, direction marks, invisible characters and bytes that are no UTF-8
// are written as escapes, so that a name can't move the cursor or pose as another
// one. Everything else, emoji and combining marks included, stays.
func Clean(s string) string { return Keep{}.Clean(s) }

// Keep says what Clean leaves as it is beside text.
type Keep struct {
	// Lines are line ends and tabs: the text is more than one value.
	Lines bool
	// Colours are the terminal's own colours, bold and faint: the text is painted.
	Colours bool
}

// colour matches what paints a text. Nothing that it matches moves the cursor or
// hides what is written.
var colour = regexp.MustCompile(`\A\x1b\[(0|1|2|22|39|3[1-6]|9[1-6])?(;(1|2|3[1-6]|9[1-6]))*m`)

// Clean is the function Clean for a text that may hold more than a value.
func (k Keep) Clean(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, hostile) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !hostile(r) || k.Lines && (r == '\n' || r == '\t'):
			b.WriteString(s[:size])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == 0x1b && k.Colours && colour.MatchString(s):
			size = len(colour.FindString(s))
			b.WriteString(s[:size])
		case r < 0x80:
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

// JSON makes JSON fit for a terminal: what Clean would escape is escaped as JSON
// has it, so that every reader finds the same text in it.
func JSON(text []byte) []byte {
	s := string(text)
	if !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7e && hostile(r) }) {
		return text
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r <= 0x7e || !hostile(r):
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		}
	}
	return []byte(b.String())
}

// hostile reports whether a character must not reach a terminal as it is.
func hostile(r rune) bool {
	switch r {
	case 0x115f, 0x1160, 0x3164, 0xffa0, 0x2800: // letters and a sign that are blank
		return true
	}
	return r != ' ' && !unicode.IsPrint(r)
}
