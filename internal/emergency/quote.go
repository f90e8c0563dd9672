package emergency

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Quote quotes a word for bash. What a terminal would not show, such as a line end within
// a name, is written as an escape in $'…', so that a printed command can be copied.
func Quote(word string) string {
	switch {
	case word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:@=%") == "":
		return word
	case words.Clean(word) == word:
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for _, r := range strings.ToValidUTF8(word, "\x00") {
		switch {
		case r == '\'' || r == '\\':
			b.WriteString(`\` + string(r))
		case words.Clean(string(r)) == string(r):
			b.WriteRune(r)
		default:
			for _, c := range []byte(string(r)) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		}
	}
	return b.String() + "'"
}

// quoteAll quotes words and joins them with spaces.
func quoteAll(all []string) string {
	quoted := make([]string, len(all))
	for i, word := range all {
		quoted[i] = Quote(word)
	}
	return strings.Join(quoted, " ")
}

// simpleValue matches a parameter of libpq whose value needs no quotes. A quote within a
// value is escaped, so that no match begins or ends within one.
var simpleValue = regexp.MustCompile(`\b([a-z_]+)='([A-Za-z0-9_./:@-]+)'`)

// conninfo is how libpq's programs reach a database.
func (f Facts) conninfo(database string) string {
	all := strings.TrimSpace(f.Conninfo + " dbname='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(database) + "'")
	return simpleValue.ReplaceAllString(all, "$1=$2")
}

// TableName returns a pattern of tables as the name of one table in SQL. It is false where
// the pattern can match several, or is not a pattern.
func TableName(pattern string) (string, bool) {
	parts, ok := tableParts(pattern)
	return strings.Join(parts, "."), ok
}

// tableParts are the schema, if there is one, and the name of a table, quoted.
func tableParts(pattern string) ([]string, bool) {
	if _, err := sqltext.ParseTablePattern(pattern); err != nil || words.Clean(pattern) != pattern {
		return nil, false
	}
	var parts []string
	var part strings.Builder
	quoted := false
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		switch {
		case c == '"' && quoted && i+1 < len(pattern) && pattern[i+1] == '"':
			part.WriteByte(c)
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
			part.WriteByte(c)
		case c == '.':
			parts = append(parts, part.String())
			part.Reset()
		case c >= utf8.RuneSelf || strings.IndexByte(`*?+|()[]{}^$\`, c) >= 0:
			return nil, false // how PostgreSQL folds other letters depends on its locale
		default:
			part.WriteByte(c | lower(c))
		}
	}
	parts = append(parts, part.String())
	for i, name := range parts {
		parts[i] = sqltext.QuoteIdent(name)
	}
	return parts, true
}

// lower is the bit that makes an ASCII capital a small letter.
func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return 'a' - 'A'
	}
	return 0
}
