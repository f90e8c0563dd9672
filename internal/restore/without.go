package restore

import (
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
)

// expected reports whether a difference is what was asked for. Owners and access
// lists are part of most definitions, so that without them only the presence of
// objects can be compared.
func expected(d snapshot.Difference, w dumpsql.Without) bool {
	return w.Owners && (d.What == "changed" || d.Kind == "default privileges") ||
		w.Rows && (d.Kind == "large objects" || d.Kind == "filled materialized view" || d.Kind == "comment" && strings.HasPrefix(d.Identity, "large object "))
}

func withoutExpected(diffs []snapshot.Difference, w dumpsql.Without) []snapshot.Difference {
	return slices.DeleteFunc(diffs, func(d snapshot.Difference) bool { return expected(d, w) })
}

// definitionWords says what the comparison of definitions found to be right.
func definitionWords(n int, w dumpsql.Without) string {
	if w.Owners {
		return pgmedic.Count(n) + " objects are there; without owners their definitions can't be compared"
	}
	return pgmedic.Count(n) + " objects have the recorded definitions"
}
