package collect

import (
	"cmp"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// statementText returns a statement as the Reading may hold it.
func statementText(r *reading.Reading, statement string) string {
	if r.Literals {
		return statement
	}
	return sqltext.Form{}.Normalise(statement)
}

// complete makes a session fit for the Reading.
func completeSession(s *reading.Session, r *reading.Reading) {
	utc(s.BackendStart, s.TransactionStart)
	s.Query = statementText(r, s.Query)
}

// list puts a whole answer of rows into a place that is found when it is there.
func list[T any](place func(*reading.Reading) *[]T) func(pgx.Rows, *reading.Reading) error {
	return func(rows pgx.Rows, r *reading.Reading) error {
		got, err := many[T](rows)
		if err == nil {
			*place(r) = got
		}
		return err
	}
}

// section puts an answer of exactly one row into a place.
func section[T any](place func(*reading.Reading) **T) func(pgx.Rows, *reading.Reading) error {
	return func(rows pgx.Rows, r *reading.Reading) error {
		got, err := one[T](rows)
		if err == nil {
			*place(r) = &got
		}
		return err
	}
}

// value puts an answer of one row and one column into a place.
func value[T any](place func(*reading.Reading) **T) func(pgx.Rows, *reading.Reading) error {
	return func(rows pgx.Rows, r *reading.Reading) error {
		got, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
		if err == nil {
			*place(r) = &got
		}
		return err
	}
}

// made returns a section, made if none of its queries has answered yet.
func made[T any](section **T) *T {
	if *section == nil {
		*section = new(T)
	}
	return *section
}

// sessions puts sessions into a place.
func sessions(place func(*reading.Reading) *[]reading.Session) func(pgx.Rows, *reading.Reading) error {
	return func(rows pgx.Rows, r *reading.Reading) error {
		got, err := many[reading.Session](rows)
		if err != nil {
			return err
		}
		for i := range got {
			completeSession(&got[i], r)
		}
		*place(r) = got
		return nil
	}
}

func scanLockWaits(rows pgx.Rows, r *reading.Reading) error {
	type row struct {
		Total                    int
		ObjectSchema, ObjectName string
		reading.LockWait
	}
	got, err := many[row](rows)
	if err != nil {
		return err
	}
	l := made(&r.Locks)
	l.Waiting = make([]reading.LockWait, len(got))
	for i, g := range got {
		completeSession(&g.Session, r)
		if g.ObjectName != "" {
			g.Object = sqltext.ReadableTable(g.ObjectSchema, g.ObjectName)
		}
		slices.Sort(g.BlockedBy)
		g.BlockedBy = slices.Compact(g.BlockedBy)
		l.Waiting[i], l.WaitingTotal = g.LockWait, g.Total
	}
	return nil
}

// blockers are the sessions that somebody waits for.
func blockers(r *reading.Reading, _ Options) []any {
	pids := []int32{}
	if r.Locks != nil {
		for _, w := range r.Locks.Waiting {
			for _, pid := range w.BlockedBy {
				pids = append(pids, int32(pid))
			}
		}
	}
	if len(pids) == 0 && r.Locks != nil {
		r.Locks.Blockers = []reading.Session{} // and no session is asked
	}
	slices.Sort(pids)
	return []any{slices.Compact(pids)}
}

func scanPrepared(rows pgx.Rows, r *reading.Reading) error {
	got, err := many[reading.PreparedTransaction](rows)
	if err != nil {
		return err
	}
	for i := range got {
		utc(&got[i].Prepared)
	}
	made(&r.Limits).Prepared = got
	return nil
}

func scanHolders(rows pgx.Rows, r *reading.Reading) error {
	type row struct {
		PID  int
		User string
		reading.Holder
	}
	got, err := many[row](rows)
	if err != nil {
		return err
	}
	holders := make([]reading.Holder, len(got))
	for i, g := range got {
		holders[i] = g.Holder
		if g.Kind == "session" {
			holders[i].Name = reading.ProcessName(g.PID, g.User)
		}
	}
	made(&r.Limits).Holders = holders
	return nil
}

func scanSubscriptions(rows pgx.Rows, r *reading.Reading) error {
	type row struct {
		// NotReadyNames are pairs of a schema and a name.
		NotReadyNames []string
		reading.Subscription
	}
	got, err := many[row](rows)
	if err != nil {
		return err
	}
	all := make([]reading.Subscription, len(got))
	for i, g := range got {
		all[i] = g.Subscription
		all[i].NotReady = []string{}
		for pair := range slices.Chunk(g.NotReadyNames, 2) {
			all[i].NotReady = append(all[i].NotReady, sqltext.ReadableTable(pair[0], pair[1]))
		}
	}
	made(&r.Replication).Subscriptions = all
	return nil
}

// scanWaitSample adds one sample to the waits.
func scanWaitSample(rows pgx.Rows, r *reading.Reading) error {
	type row struct{ Type, Event, QueryID, Query string }
	got, err := many[row](rows)
	if err != nil {
		return err
	}
	w := made(&r.Waits)
	w.ActiveSessions = (w.ActiveSessions*float64(w.Samples) + float64(len(got))) / float64(w.Samples+1)
	w.Samples++
	if w.Events == nil {
		w.Events, w.Statements = []reading.WaitCount{}, []reading.StatementWait{}
	}
	for _, g := range got {
		see(w, reading.WaitCount{Type: g.Type, Event: g.Event, Seen: 1}, g.QueryID, statementText(r, g.Query))
	}
	byMost := func(a, b reading.WaitCount) int {
		return cmp.Or(cmp.Compare(b.Seen, a.Seen), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Event, b.Event))
	}
	slices.SortFunc(w.Events, byMost)
	slices.SortFunc(w.Statements, func(a, b reading.StatementWait) int {
		return cmp.Or(byMost(a.WaitCount, b.WaitCount), cmp.Compare(a.Query, b.Query))
	})
	return nil
}

// see counts one session in one wait.
func see(w *reading.Waits, wait reading.WaitCount, queryID, query string) {
	i := slices.IndexFunc(w.Events, func(e reading.WaitCount) bool { return e.Type == wait.Type && e.Event == wait.Event })
	if i < 0 {
		w.Events = append(w.Events, wait)
	} else {
		w.Events[i].Seen++
	}
	i = slices.IndexFunc(w.Statements, func(s reading.StatementWait) bool {
		return s.Type == wait.Type && s.Event == wait.Event && s.QueryID == queryID && s.Query == query
	})
	if i < 0 {
		w.Statements = append(w.Statements, reading.StatementWait{WaitCount: wait, QueryID: queryID, Query: query})
	} else {
		w.Statements[i].Seen++
	}
}
