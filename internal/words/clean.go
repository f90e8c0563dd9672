// Package words has the one vocabulary of every output: sizes, counts, times, plurals,
// and texts of others made fit to be read.
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
// characters, direction marks, invisible characters and bytes that are not UTF-8
// are written as escapes, so that a name can't move the cursor or pose as another
// one. Everything else, emoji and combining marks included, stays.
func Clean(s string) string { return Keep{}.Clean(s) }

// OneLine makes a message one line that can't drive a terminal.
func OneLine(s string) string {
	return Clean(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; "))
}

// Keep says what Clean leaves as it is beside text.
type Keep struct {
	// Lines are line ends and tabs: the text is more than one value.
	Lines bool
	// Weights are bold and faint, and the end of what is painted.
	Weights bool
	// Key, if not empty, is what Paint was given: what it marked stays.
	Key string
}

// weight matches what makes a text bold or faint: it moves no cursor, hides
// nothing, and says nothing.
var weight = regexp.MustCompile(`\A\x1b\[[012]?m`)

// Paint marks the colours of a painted text, so that they pass Unmark. Nobody who
// does not know the key can mark others. Programs that measure a text's width
// leave the marks out, as they do colours.
func Paint(key, painted string) string {
	return colour.ReplaceAllString(painted, "\x1b]"+key+";$1\a")
}

// Unmark takes the marks off a text.
func Unmark(key, text string) string {
	return regexp.MustCompile("\x1b\\]"+regexp.QuoteMeta(key)+";([0-9;]*)\a").ReplaceAllString(text, "\x1b[${1}m")
}

// colour matches what paints a text.
var colour = regexp.MustCompile(`\x1b\[([0-9;]*)m`)

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
		case r == 0x1b && k.escape(s) > 0:
			size = k.escape(s)
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

// escape is how long the escape is with which s begins, if it may stay.
func (k Keep) escape(s string) int {
	if k.Weights {
		if n := len(weight.FindString(s)); n > 0 {
			return n
		}
	}
	mark := "\x1b]" + k.Key + ";"
	if k.Key == "" || !strings.HasPrefix(s, mark) {
		return 0
	}
	end := strings.IndexByte(s, '\a')
	if strings.Trim(s[len(mark):max(end, len(mark))], "0123456789;") != "" {
		return 0
	}
	return end + 1
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
