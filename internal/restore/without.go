package restore

import (
	"context"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// compareWithout is Compare for a copy from which something was left out on
// purpose: what is left has to be there all the same.
func compareWithout(ctx context.Context, o Options) ([]pgmedic.Check, error) {
	target := o.Target.WithDatabase(o.Into)
	if o.Without == (pgtool.Without{}) {
		return Compare(ctx, o.source(), target)
	}
	conn, err := postgres.Connect(ctx, target)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	rows := pgmedic.Check{Name: "row counts", Outcome: pgmedic.OutcomeSkipped, Detail: "the copy has no rows, as was asked for"}
	if !o.Without.Rows {
		if rows, err = compareRows(ctx, conn, o.Backup); err != nil {
			return nil, err
		}
	}
	definitions, err := compareDefinitions(ctx, conn, o.source(), o.Without)
	return append([]pgmedic.Check{rows}, definitions...), err
}

// expected reports whether a difference is what was asked for. Owners and access
// lists are part of most definitions, so that without them only the presence of
// objects can be compared.
func expected(d postgres.Difference, w pgtool.Without) bool {
	return w.Owners && (d.What == "changed" || d.Kind == "default privileges") ||
		w.Rows && (d.Kind == "large objects" || d.Kind == "filled materialized view" || d.Kind == "comment" && strings.HasPrefix(d.Identity, "large object "))
}

func withoutExpected(diffs []postgres.Difference, w pgtool.Without) []postgres.Difference {
	return slices.DeleteFunc(diffs, func(d postgres.Difference) bool { return expected(d, w) })
}

// definitionWords says what the comparison of definitions found to be right.
func definitionWords(n int, w pgtool.Without) string {
	if w.Owners {
		return pgmedic.Count(n) + " objects are there; without owners their definitions can't be compared"
	}
	return pgmedic.Count(n) + " objects have the recorded definitions"
}
