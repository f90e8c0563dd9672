package sqltext

import (
	"fmt"
	"strings"
	"unicode"
)

// PrintableIdent writes a name as an SQL identifier. A name with characters that a
// terminal obeys or that can't be seen is written with Unicode escapes, so that
// the SQL can be printed as it is and still names the same object.
func PrintableIdent(name string) string { return escaped(QuoteIdent(name)) }

// PrintableLiteral writes a text as an SQL string, likewise.
func PrintableLiteral(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return QuoteLiteral(s)
	}
	return escaped("'" + strings.ReplaceAll(s, "'", "''") + "'")
}

// PrintableTable writes a schema and a name as one SQL reference.
func PrintableTable(schema, name string) string {
	return PrintableIdent(schema) + "." + PrintableIdent(name)
}

// PrintableList writes columns as an SQL list.
func PrintableList(columns []string) string { return list(columns, PrintableIdent) }

// Printable writes the quoted names of an SQL text that hold such characters
// likewise. The SQL means the same.
func Printable(sql string) string {
	var out strings.Builder
	for {
		open := strings.IndexByte(sql, '"')
		if open < 0 {
			out.WriteString(sql)
			return out.String()
		}
		size, _ := quotedSize(sql[open:], '"', false)
		out.WriteString(sql[:open])
		out.WriteString(escaped(sql[open : open+size]))
		sql = sql[open+size:]
	}
}

// escaped writes what stands between quotes, with them, with Unicode escapes if it
// needs them.
func escaped(token string) string {
	if !strings.ContainsFunc(token, unprintable) {
		return token
	}
	var b strings.Builder
	b.WriteString("U&")
	for _, r := range token {
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case !unprintable(r):
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\%04x`, r)
		default:
			fmt.Fprintf(&b, `\+%06x`, r)
		}
	}
	return b.String()
}

// unprintable reports whether a character must not reach a terminal: controls,
// direction marks, and spaces other than the space.
func unprintable(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }

// Readable writes a name as SQL for a reader, with quotes only where it needs them.
// A keyword after a dot needs none.
func Readable(name string) string {
	if plain(name) {
		return name
	}
	return PrintableIdent(name)
}

// ReadableTable writes a schema and a name for a reader.
func ReadableTable(schema, name string) string { return Readable(schema) + "." + Readable(name) }

// ReadableList writes columns for a reader.
func ReadableList(columns []string) string { return list(columns, Readable) }

// plain reports whether SQL takes a name without quotes.
func plain(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || c >= 'a' && c <= 'z'
		if !letter && (i == 0 || !isDigit(c)) {
			return false
		}
	}
	return name != ""
}

func list(columns []string, write func(string) string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = write(c)
	}
	return strings.Join(out, ", ")
}
