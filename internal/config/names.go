package config

import "strings"

// nearest returns the candidate that name is most likely a misspelling of, or
// "" when none is near. Case, dashes and underscores don't count.
func nearest(name string, candidates []string) string {
	plain := func(s string) string {
		return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
	}
	limit := 2
	if len(plain(name)) <= 4 {
		limit = 1
	}
	best := ""
	for _, c := range candidates {
		if d := distance(plain(name), plain(c)); d <= limit {
			best, limit = c, d-1
		}
	}
	return best
}

// distance is the Levenshtein distance: how many letters have to be added,
// removed or replaced to make a out of b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// known returns every environment name that pgmedic has a meaning for.
func known() []string {
	var names []string
	for _, f := range fields() {
		if f.env != "" {
			names = append(names, f.env)
		}
	}
	return append(names, ignored()...)
}
