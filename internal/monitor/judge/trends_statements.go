package judge

import (
	"cmp"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// newAfter is for how long a statement must not have been seen before it is
// called new, so that what runs once a day is not new each day.
const newAfter = 23 * time.Hour

// newShare is the share in percent of the time of all statements below which a
// new one is not told.
const newShare = 1

// slowerLeast is the mean time in seconds below which no statement is called
// slower: a few milliseconds are noise.
const slowerLeast = 0.005

// counted is how often a statement ran and how long that took.
type counted struct {
	calls   int64
	seconds float64
}

func (c counted) mean() float64 {
	if c.calls == 0 {
		return 0
	}
	return c.seconds / float64(c.calls)
}

// spanned is what statements did in the newest span, and in the same hours of
// earlier days.
type spanned struct {
	begin, end time.Time
	now        map[reading.StatementKey]counted
	total      float64 // seconds of all statements
	before     map[reading.StatementKey]counted
	days       int // how many earlier days are in before
}

// spanOfStatements compares the statements of Readings, which come oldest first;
// nil where there is no newest span.
func spanOfStatements(all []*reading.Reading) *spanned {
	last := all[len(all)-1]
	detailed := map[int64]*reading.Reading{}
	var moments []time.Time
	for _, r := range all[:len(all)-1] {
		if r.Statements != nil && r.Statements.Items != nil {
			detailed[r.TakenAt.UnixNano()] = r
			moments = append(moments, r.TakenAt)
		}
	}
	if last.Statements == nil || len(moments) == 0 {
		return nil
	}
	begin := newestBefore(last.TakenAt, moments, spanLeast)
	if begin.IsZero() {
		return nil
	}
	from := detailed[begin.UnixNano()]
	if !continued(from.Statements, last.Statements) {
		return nil
	}
	s := &spanned{
		begin: begin, end: last.TakenAt, now: map[reading.StatementKey]counted{}, before: map[reading.StatementKey]counted{},
		total: last.Statements.ExecSeconds - from.Statements.ExecSeconds,
	}
	addBetween(s.now, from.Statements, last.Statements)
	for day := 1; day <= daysBefore; day++ {
		x, y, ok := sameHours(begin, last.TakenAt, day, moments)
		if !ok {
			continue
		}
		from, to := detailed[x.UnixNano()].Statements, detailed[y.UnixNano()].Statements
		if continued(from, to) {
			s.days++
			addBetween(s.before, from, to)
		}
	}
	return s
}

// continued reports whether the counters ran on. Before version 1.9 of the
// extension a reset is not told and shows as less time than before.
func continued(from, to *reading.Statements) bool {
	return sameMoment(from.StatsReset, to.StatsReset) && to.ExecSeconds >= from.ExecSeconds
}

// addBetween adds what each statement did between two moments. One that either
// lacks is left out: it may have run before without being kept.
func addBetween(sums map[reading.StatementKey]counted, from, to *reading.Statements) {
	was := make(map[reading.StatementKey]*reading.Statement, len(from.Items))
	for i := range from.Items {
		was[reading.KeyOf(&from.Items[i])] = &from.Items[i]
	}
	for i := range to.Items {
		x := &to.Items[i]
		y, ok := was[reading.KeyOf(x)]
		if !ok || x.Hidden() || x.Calls <= y.Calls || x.ExecSeconds < y.ExecSeconds {
			continue
		}
		sum := sums[reading.KeyOf(x)]
		sums[reading.KeyOf(x)] = counted{sum.calls + x.Calls - y.Calls, sum.seconds + x.ExecSeconds - y.ExecSeconds}
	}
}

// statementChange is a change with what Analyse asks of it.
type statementChange struct {
	StatementChange
	statement *reading.Statement
	seconds   float64 // in the newest span; of one that is new, since it is
	share     float64 // of the time of all statements meanwhile, in percent
	isNew     bool
}

// statementChanges returns the statements that got slower or are new, by the
// time that they took.
func statementChanges(all []*reading.Reading, limits reading.Thresholds) []StatementChange {
	changes := []StatementChange{}
	s := spanOfStatements(all)
	if s == nil {
		return changes
	}
	for _, c := range s.changes(all, limits) {
		changes = append(changes, c.StatementChange)
	}
	return changes[:min(len(changes), trendItems)]
}

// changes finds the statements that changed.
func (s *spanned) changes(all []*reading.Reading, limits reading.Thresholds) []statementChange {
	last := all[len(all)-1].Statements
	var found []statementChange
	for i := range last.Items {
		x := &last.Items[i]
		c := statementChange{statement: x}
		now, before, total := s.now[reading.KeyOf(x)], s.before[reading.KeyOf(x)], s.total
		if since, ok := isNew(x, all); ok {
			c.isNew = true
			now, before, total = counted{x.Calls, x.ExecSeconds}, counted{}, since
		}
		c.seconds, c.share = now.seconds, 100*now.seconds/max(total, 1e-9)
		slower := now.calls >= limits.RegressionCalls && before.calls >= limits.RegressionCalls &&
			now.mean() >= slowerLeast && now.mean() >= limits.RegressionFactor*before.mean()
		if !slower && (!c.isNew || c.share < newShare) {
			continue
		}
		c.StatementChange = StatementChange{
			QueryID: x.QueryID, Query: x.Query, Calls: now.calls, MeanSeconds: now.mean(),
			BeforeCalls: before.calls, BeforeMeanSeconds: before.mean(),
		}
		found = append(found, c)
	}
	slices.SortStableFunc(found, func(x, y statementChange) int { return cmp.Compare(y.seconds, x.seconds) })
	return found
}

// isNew reports whether a statement began to run in the last day, and how much
// time all statements took since: no Reading of a day ago or before has it, and
// it is not among what those leave out. That is the least by every measure, so
// that what has taken twice as long as the least that is kept took most of it
// since.
//
// Nobody can say so of what a role may not see, nor where the one that looked
// before did not see all.
func isNew(x *reading.Statement, all []*reading.Reading) (total float64, yes bool) {
	if x.Hidden() {
		return 0, false
	}
	now := all[len(all)-1]
	for _, r := range slices.Backward(all[:len(all)-1]) {
		if r.Statements == nil || r.Statements.Items == nil || now.TakenAt.Sub(r.TakenAt) < newAfter {
			continue
		}
		if !continued(r.Statements, now.Statements) {
			break
		}
		items := r.Statements.Items
		if slices.ContainsFunc(items, func(y reading.Statement) bool { return reading.KeyOf(&y) == reading.KeyOf(x) || y.Hidden() }) ||
			r.Statements.Total > len(items) && x.ExecSeconds < 2*leastKept(items) {
			return 0, false
		}
		if !yes {
			total, yes = now.Statements.ExecSeconds-r.Statements.ExecSeconds, true
		}
	}
	return total, yes
}

// leastKept is the least execution time that a Reading keeps a statement for.
func leastKept(items []reading.Statement) float64 {
	times := make([]float64, len(items))
	for i := range items {
		times[i] = items[i].ExecSeconds
	}
	slices.SortFunc(times, func(x, y float64) int { return cmp.Compare(y, x) })
	if len(times) < reading.StatementsShown {
		return 0
	}
	return times[reading.StatementsShown-1]
}
