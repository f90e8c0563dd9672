package monitor

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/pgmedic/pgmedic"
)

// quoted writes a name as an SQL identifier. A name with characters that a
// terminal obeys or that can't be seen is written with Unicode escapes, so that
// the SQL can be printed as it is and still names the same object.
func quoted(name string) string {
	if !strings.ContainsFunc(name, unprintable) {
		return pgmedic.QuoteIdent(name)
	}
	return escaped(name, '"')
}

// literal writes a text as an SQL string, likewise.
func literal(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return pgmedic.QuoteLiteral(s)
	}
	return escaped(s, '\'')
}

// escaped writes an SQL token between quotes with Unicode escapes.
func escaped(s string, quote rune) string {
	var b strings.Builder
	b.WriteString("U&" + string(quote))
	for _, r := range s {
		switch {
		case unprintable(r):
			fmt.Fprintf(&b, `\+%06X`, r)
		case r == '\\' || r == quote:
			b.WriteRune(r)
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteRune(quote)
	return b.String()
}

// unprintable reports whether a character must not reach a terminal: controls,
// direction marks, and spaces other than the space.
func unprintable(r rune) bool {
	return r != ' ' && !unicode.IsPrint(r)
}

// quotedTable writes a schema and a name as one SQL reference.
func quotedTable(schema, name string) string { return quoted(schema) + "." + quoted(name) }

// plain reports whether SQL takes a name without quotes. A keyword after a dot
// needs none either.
func plain(name string) bool {
	for i, r := range name {
		letter := r == '_' || r >= 'a' && r <= 'z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}

// readable writes a name as SQL, with quotes only where it needs them.
func readable(name string) string {
	if plain(name) {
		return name
	}
	return quoted(name)
}

// qualified writes a schema and a name for a reader.
func qualified(schema, name string) string { return readable(schema) + "." + readable(name) }

// listed quotes columns for an SQL list.
func listed(columns []string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = quoted(c)
	}
	return strings.Join(out, ", ")
}

// readableList writes columns for a reader.
func readableList(columns []string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = readable(c)
	}
	return strings.Join(out, ", ")
}
