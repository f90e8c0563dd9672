package monitor

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// statementsShown is how many statements are kept by each measure.
const statementsShown = 20

// statementRow is one row of the answer.
type statementRow struct {
	Statement
	Max *int
}

// statementKey tells entries apart: one statement has one for each role and
// database, and one at the top level beside one within functions.
type statementKey struct {
	id, database, user string
	nested             bool
}

// hidden reports whether this role may not see which statement it is: then it
// can't be told from others.
func (s *Statement) hidden() bool { return s.QueryID == "" }

func keyOf(s *Statement) statementKey {
	return statementKey{s.QueryID, s.Database, s.User, s.Toplevel != nil && !*s.Toplevel}
}

// scanStatements keeps every entry: which are shown depends on what else is
// known of them, see statementIDs.
func scanStatements(rows pgx.Rows, r *Reading) error {
	got, err := many[statementRow](rows)
	if err != nil {
		return err
	}
	s := made(&r.Statements)
	s.Total, s.Items = len(got), make([]Statement, len(got))
	for i, g := range got {
		s.Items[i] = g.Statement
		s.Calls += g.Calls
		s.ExecSeconds += g.ExecSeconds
		if g.Max != nil {
			s.Max = *g.Max
		}
	}
	if e, ok := r.Server.extension("pg_stat_statements"); ok {
		s.Version = e.Version
	}
	return nil
}

// since computes what each statement did in an interval, from the counters at
// its beginning.
func (s *Statements) since(before *Statements) {
	if before == nil {
		return
	}
	earlier := make(map[statementKey]*StatementCounts, len(before.Items))
	for i := range before.Items {
		earlier[keyOf(&before.Items[i])] = &before.Items[i].StatementCounts
	}
	for i := range s.Items {
		now := &s.Items[i]
		if now.hidden() {
			continue
		}
		recent := now.StatementCounts
		if was, ok := earlier[keyOf(now)]; ok {
			recent = recent.less(was)
		}
		// An entry that was thrown away between began anew.
		if recent.Calls >= 0 {
			now.Recent = &recent
		}
	}
}

// less is what was counted after other.
func (c StatementCounts) less(other *StatementCounts) StatementCounts {
	return StatementCounts{
		Calls: c.Calls - other.Calls, ExecSeconds: c.ExecSeconds - other.ExecSeconds, PlanSeconds: c.PlanSeconds - other.PlanSeconds,
		Rows: c.Rows - other.Rows, HitBytes: c.HitBytes - other.HitBytes, ReadBytes: c.ReadBytes - other.ReadBytes,
		TempBytes: c.TempBytes - other.TempBytes, IOSeconds: c.IOSeconds - other.IOSeconds, WALBytes: c.WALBytes - other.WALBytes,
	}
}

// keepFirst leaves the statements that are first by any measure.
func (s *Statements) keepFirst(n int) {
	recent := func(x *Statement) float64 {
		if x.Recent == nil {
			return 0
		}
		return x.Recent.ExecSeconds
	}
	measures := []func(*Statement) float64{
		func(x *Statement) float64 { return x.ExecSeconds },
		func(x *Statement) float64 { return x.MeanSeconds() },
		func(x *Statement) float64 { return float64(x.Calls) },
		func(x *Statement) float64 { return float64(x.ReadBytes) },
		func(x *Statement) float64 { return float64(x.TempBytes) },
		func(x *Statement) float64 { return float64(x.WALBytes) },
		recent,
	}
	kept := make([]bool, len(s.Items))
	order := make([]int, len(s.Items))
	for m, measure := range measures {
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(measure(&s.Items[b]), measure(&s.Items[a])) })
		most := n
		if m > 0 {
			most = n / 2
		}
		for _, i := range order[:min(most, len(order))] {
			kept[i] = kept[i] || measure(&s.Items[i]) > 0
		}
	}
	items := []Statement{}
	for i := range s.Items {
		if kept[i] {
			items = append(items, s.Items[i])
		}
	}
	slices.SortStableFunc(items, func(a, b Statement) int {
		return cmp.Or(cmp.Compare(b.ExecSeconds, a.ExecSeconds), cmp.Compare(a.QueryID, b.QueryID))
	})
	s.Items = items
}

func scanStatementsInfo(rows pgx.Rows, r *Reading) error {
	type row struct {
		Evicted    int64
		StatsReset *time.Time
	}
	got, err := one[row](rows)
	if err == nil {
		utc(got.StatsReset)
		s := made(&r.Statements)
		s.Evicted, s.StatsReset = &got.Evicted, got.StatsReset
	}
	return err
}

// statementIDs chooses the statements that are shown, and returns them. Where only
// numbers are wanted it returns those that could be our own and be found for what
// they take, for texts cost more than all the numbers.
func statementIDs(r *Reading, o CollectOptions) []any {
	ids := []string{}
	lines := DefaultThresholds()
	if r.Statements != nil {
		if r.Before != nil {
			r.Statements.since(r.Before.Statements)
		}
		r.Statements.keepFirst(statementsShown)
		for _, s := range r.Statements.Items {
			if s.QueryID == "" {
				continue
			}
			much := r.Statements.ExecSeconds >= lines.StatementsMinTime.Seconds() && 100*s.ExecSeconds > lines.StatementSharePercent*r.Statements.ExecSeconds ||
				s.MeanSeconds() > lines.SlowStatement.Seconds() && s.Calls >= lines.SlowStatementCalls
			if !o.Numbers || much && r.may != nil && s.User == r.may.RoleName && s.Database == r.Database {
				ids = append(ids, s.QueryID)
			}
		}
	}
	slices.Sort(ids)
	return []any{slices.Compact(ids)}
}

func scanStatementTexts(rows pgx.Rows, r *Reading) error {
	type row struct{ QueryID, Query string }
	got, err := many[row](rows)
	if err != nil {
		return err
	}
	texts, own := make(map[string]string, len(got)), make(map[string]bool, len(got))
	for _, g := range got {
		texts[g.QueryID] = r.text(g.Query)
		own[g.QueryID] = strings.HasPrefix(g.Query, ours)
	}
	if r.Statements == nil {
		return nil
	}
	for i := range r.Statements.Items {
		r.Statements.Items[i].Query = texts[r.Statements.Items[i].QueryID]
		r.Statements.Items[i].Own = own[r.Statements.Items[i].QueryID]
	}
	return nil
}
