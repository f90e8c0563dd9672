package pgmedic

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// EscapeBytes returns text as it can be stored in JSON. PostgreSQL's text is not
// always UTF-8: a database encoded in SQL_ASCII takes any bytes for a name. Text
// that is UTF-8 stays as it is. Any other begins with a zero character, which no
// text of PostgreSQL holds, and has \xHH for each byte that is not part of a
// character, and \\ for a backslash. UnescapeBytes is the way back.
func EscapeBytes(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return "\x00" + PrintableBytes(strings.ReplaceAll(text, `\`, `\\`))
}

// PrintableBytes returns text with \xHH for each byte that is not part of a
// character. It is for reading: a text may hold such an escape itself.
func PrintableBytes(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&b, `\x%02x`, text[0])
		} else {
			b.WriteString(text[:size])
		}
		text = text[size:]
	}
	return b.String()
}

// UnescapeBytes returns the text that EscapeBytes wrote. Text that it could not
// have written stays as it is.
func UnescapeBytes(escaped string) string {
	rest, ok := strings.CutPrefix(escaped, "\x00")
	if !ok {
		return escaped
	}
	var b strings.Builder
	for {
		plain, after, found := strings.Cut(rest, `\`)
		b.WriteString(plain)
		if !found {
			return b.String()
		}
		var c byte
		switch {
		case strings.HasPrefix(after, `\`):
			b.WriteByte('\\')
			rest = after[1:]
		case len(after) >= 3 && after[0] == 'x' && hexDigit(after[1], &c) && hexDigit(after[2], &c):
			b.WriteByte(c)
			rest = after[3:]
		default:
			return escaped
		}
	}
}

// hexDigit adds a hex digit to the end of a number.
func hexDigit(d byte, to *byte) bool {
	i := strings.IndexByte("0123456789abcdef", d)
	if i >= 0 {
		*to = *to<<4 | byte(i)
	}
	return i >= 0
}
