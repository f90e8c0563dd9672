package judge

import (
	"regexp"
	"slices"
	"strings"
)

// filters finds the columns of one table that a statement's text compares with
// values. It reads words, not SQL: a heuristic, that rather finds nothing than
// something wrong.
type filters struct {
	table string
	// alone is a statement over the table alone, up to its conditions; named a
	// place where a statement names the table, perhaps with an alias.
	alone, named *regexp.Regexp
}

var (
	// condition is a column of the only table, compared with anything.
	condition = regexp.MustCompile(`(?i)(?:^|\band\s)\s*\(?(?:\w+\.)?("(?:[^"]|"")+"|\w+)\s*(?:=|<=?|>=?|like\b|in\b|between\b)`)
	// compared is a column of an alias that is compared with a value.
	compared = regexp.MustCompile(`(?i)\b(\w+)\.("(?:[^"]|"")+"|\w+)\s*(?:(?:=|<=?|>=?|like|between)\s*(?:\$\d|\?|any\b)|in\s*\(\s*(?:\$\d|\?))`)
	// either is what makes a condition one of several: an index on it alone would
	// not help.
	either = regexp.MustCompile(`(?i)\bor\b|;`)
)

// clauses are words that can follow a table's name and are not aliases.
var clauses = []string{
	"as", "where", "on", "using", "join", "inner", "left", "right", "full", "cross", "natural", "group", "order", "limit", "set", "values",
	"union", "having", "for", "window", "offset", "fetch", "tablesample",
}

func newFilters(schema, table string) *filters {
	name := `(?:"?` + regexp.QuoteMeta(schema) + `"?\.)?"?` + regexp.QuoteMeta(table) + `"?`
	return &filters{
		table: table,
		alone: regexp.MustCompile(`(?i)^(?:select\b.*?\bfrom|delete\s+from|update)\s+(?:only\s+)?` + name +
			`(?:\s+(?:as\s+)?\w+)?\s+(?:set\b.*?\s)?where\s+(.*)$`),
		named: regexp.MustCompile(`(?i)(?:\bfrom|\bjoin|\bupdate|\busing|,)\s+(?:only\s+)?` + name + `(?:\s+(?:as\s+)?(\w+))?(?:[\s,)]|$)`),
	}
}

// columns are the columns of the table that a statement without literals
// compares with values, in their order.
func (f *filters) columns(query string) []string {
	if either.MatchString(query) {
		return nil
	}
	var found []string
	if where := f.alone.FindStringSubmatch(query); where != nil && !strings.Contains(strings.ToLower(query), " join ") {
		for _, c := range condition.FindAllStringSubmatch(where[1], -1) {
			found = append(found, unquoted(c[1]))
		}
		return found
	}
	var aliases []string
	for _, m := range f.named.FindAllStringSubmatch(query, -1) {
		alias := strings.ToLower(m[1])
		if alias == "" || slices.Contains(clauses, alias) {
			alias = strings.ToLower(f.table)
		}
		aliases = append(aliases, alias)
	}
	for _, c := range compared.FindAllStringSubmatch(query, -1) {
		if slices.Contains(aliases, strings.ToLower(c[1])) {
			found = append(found, unquoted(c[2]))
		}
	}
	return found
}

// unquoted is a name as the catalogue keeps it.
func unquoted(name string) string {
	if q, ok := strings.CutPrefix(name, `"`); ok {
		return strings.ReplaceAll(strings.TrimSuffix(q, `"`), `""`, `"`)
	}
	return strings.ToLower(name)
}
