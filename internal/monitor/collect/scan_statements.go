package collect

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// statementRow is one row of the answer.
type statementRow struct {
	reading.Statement
	Max *int
}

// scanStatements keeps every entry: which are shown depends on what else is
// known of them, see statementIDs.
func scanStatements(rows pgx.Rows, r *reading.Reading) error {
	got, err := many[statementRow](rows)
	if err != nil {
		return err
	}
	s := made(&r.Statements)
	s.Total, s.Items = len(got), make([]reading.Statement, len(got))
	for i, g := range got {
		s.Items[i] = g.Statement
		s.Calls += g.Calls
		s.ExecSeconds += g.ExecSeconds
		if g.Max != nil {
			s.Max = *g.Max
		}
	}
	if e, ok := r.Server.Extension("pg_stat_statements"); ok {
		s.Version = e.Version
	}
	return nil
}

// since computes what each statement did in an interval, from the counters at
// its beginning.
func sinceBefore(s, before *reading.Statements) {
	if before == nil {
		return
	}
	earlier := make(map[reading.StatementKey]*reading.StatementCounts, len(before.Items))
	for i := range before.Items {
		earlier[reading.KeyOf(&before.Items[i])] = &before.Items[i].StatementCounts
	}
	for i := range s.Items {
		now := &s.Items[i]
		if now.Hidden() {
			continue
		}
		recent := now.StatementCounts
		if was, ok := earlier[reading.KeyOf(now)]; ok {
			recent = recent.Less(was)
		}
		// An entry that was thrown away between began anew.
		if recent.Calls >= 0 {
			now.Recent = &recent
		}
	}
}

// keepFirst leaves the statements that are first by any measure.
func keepFirst(s *reading.Statements, n int) {
	recent := func(x *reading.Statement) float64 {
		if x.Recent == nil {
			return 0
		}
		return x.Recent.ExecSeconds
	}
	measures := []func(*reading.Statement) float64{
		func(x *reading.Statement) float64 { return x.ExecSeconds },
		func(x *reading.Statement) float64 { return x.MeanSeconds() },
		func(x *reading.Statement) float64 { return float64(x.Calls) },
		func(x *reading.Statement) float64 { return float64(x.ReadBytes) },
		func(x *reading.Statement) float64 { return float64(x.TempBytes) },
		func(x *reading.Statement) float64 { return float64(x.WALBytes) },
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
	items := []reading.Statement{}
	for i := range s.Items {
		if kept[i] {
			items = append(items, s.Items[i])
		}
	}
	slices.SortStableFunc(items, func(a, b reading.Statement) int {
		return cmp.Or(cmp.Compare(b.ExecSeconds, a.ExecSeconds), cmp.Compare(a.QueryID, b.QueryID))
	})
	s.Items = items
}

func scanStatementsInfo(rows pgx.Rows, r *reading.Reading) error {
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
func statementIDs(r *reading.Reading, o Options) []any {
	ids := []string{}
	lines := reading.DefaultThresholds()
	if r.Statements != nil {
		if r.Before != nil {
			sinceBefore(r.Statements, r.Before.Statements)
		}
		keepFirst(r.Statements, reading.StatementsShown)
		for _, s := range r.Statements.Items {
			if s.QueryID == "" {
				continue
			}
			much := r.Statements.ExecSeconds >= lines.StatementsMinTime.Seconds() && 100*s.ExecSeconds > lines.StatementSharePercent*r.Statements.ExecSeconds ||
				s.MeanSeconds() > lines.SlowStatement.Seconds() && s.Calls >= lines.SlowStatementCalls
			if !o.Numbers || much && r.May != nil && s.User == r.May.RoleName && s.Database == r.Database {
				ids = append(ids, s.QueryID)
			}
		}
	}
	slices.Sort(ids)
	return []any{slices.Compact(ids)}
}

func scanStatementTexts(rows pgx.Rows, r *reading.Reading) error {
	type row struct{ QueryID, Query string }
	got, err := many[row](rows)
	if err != nil {
		return err
	}
	texts, own := make(map[string]string, len(got)), make(map[string]bool, len(got))
	for _, g := range got {
		texts[g.QueryID] = statementText(r, g.Query)
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
