package sqltext

import (
	"regexp"
	"strings"

	"github.com/pgmedic/pgmedic"
)

// Pattern names tables, or schemas, as psql and pg_dump take it: letters are folded
// to lower case and * and ? stand for any text and any letter, unless in "double
// quotes"; a dot separates schema and name; what else has a meaning in regular
// expressions has it here, but $.
type Pattern struct {
	text string
	// schema and name are regular expressions without anchors. An empty schema is
	// none.
	schema, name string
}

// ParseTablePattern reads a pattern of tables. What is not a pattern is an error of
// KindUsage.
func ParseTablePattern(text string) (Pattern, error) { return parsePattern(text, 2) }

// ParseSchemaPattern reads a pattern of schemas, which has no dots.
func ParseSchemaPattern(text string) (Pattern, error) { return parsePattern(text, 1) }

func parsePattern(text string, maxParts int) (Pattern, error) {
	bad := func(why, hint string) (Pattern, error) {
		return Pattern{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "pattern %q %s", text, why)
	}
	parts, closed := patternParts(text)
	last := len(parts) - 1
	switch {
	case !closed:
		return bad("has no closing quote", `quote a name as SQL does: "Name"`)
	case len(parts) > maxParts:
		return bad("has too many dots", `a dot that belongs to a name is written in quotes: "a.b"`)
	case strings.ContainsRune(text, 0), parts[last] == "", parts[0] == "":
		return bad("names nothing", "write a name, or * for all")
	}
	p := Pattern{text: text, name: parts[last]}
	if last > 0 {
		p.schema = parts[0]
	}
	return p, nil
}

// patternParts translates what stands between the dots to regular expressions, and
// reports whether the last quote is closed.
func patternParts(text string) (parts []string, closed bool) {
	var b strings.Builder
	quoted := false
	runes := []rune(text)
	for i := 0; i < len(runes); i++ {
		c := runes[i]
		next := rune(0)
		if i+1 < len(runes) {
			next = runes[i+1]
		}
		switch {
		case c == '"' && quoted && next == '"':
			b.WriteRune('"')
			i++
		case c == '"':
			quoted = !quoted
		case c == '$', quoted && strings.ContainsRune(`|*+?()[]{}.^\`, c), c == '[' && next == ']':
			// [] is the end of an array type's name and no set of letters.
			b.WriteString(`\` + string(c))
		case quoted:
			b.WriteRune(c)
		case c == '*':
			b.WriteString(".*")
		case c == '?':
			b.WriteString(".")
		case c == '.':
			parts = append(parts, b.String())
			b.Reset()
		case c >= 'A' && c <= 'Z': // as the server folds names
			b.WriteRune(c - 'A' + 'a')
		default:
			b.WriteRune(c)
		}
	}
	return append(parts, b.String()), !quoted
}

// SchemaRegex is what the schema of a table must match, for PostgreSQL's operator ~.
// It is empty where the pattern has no schema, and for a pattern of schemas.
func (p Pattern) SchemaRegex() string {
	if p.schema == "" {
		return ""
	}
	return "^(" + p.schema + ")$"
}

// NameRegex is what the name must match, likewise.
func (p Pattern) NameRegex() string { return "^(" + p.name + ")$" }

// foreignEscape matches what stands in an expression for something that PostgreSQL
// and Go read in different ways: an escape other than of a sign or for digits, white
// space and letters, and a set that means all letters that are sorted alike.
var foreignEscape = regexp.MustCompile(`(?:^|[^\\])(?:\\\\)*\\(?:[^\PLdswDSW]|\pN)|\[\[[=.]`)

// Matcher returns the pattern as a function of a table's schema and name, for where
// no server is there to be asked. It finds what a server finds; a pattern without a
// schema means the table in any. What can't be read here is an error of KindUsage.
func (p Pattern) Matcher() (func(schema, name string) bool, error) {
	schema, err := p.compile(p.schema)
	if err != nil {
		return nil, err
	}
	name, err := p.compile(p.name)
	if err != nil {
		return nil, err
	}
	return func(inSchema, named string) bool {
		return (p.schema == "" || schema.MatchString(inSchema)) && name.MatchString(named)
	}, nil
}

func (p Pattern) compile(expression string) (*regexp.Regexp, error) {
	whole, err := regexp.Compile(`(?s)\A(?:` + expression + `)\z`)
	if err != nil || foreignEscape.MatchString(expression) {
		return nil, p.NoPattern()
	}
	return whole, nil
}

// NoPattern is the error for a pattern whose regular expressions are none.
func (p Pattern) NoPattern() error {
	return pgmedic.Errorf(pgmedic.KindUsage, `a name with special characters is written in quotes: "a(b)"`, "pattern %q is not valid", p.text)
}
