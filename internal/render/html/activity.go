package html

import (
	"fmt"
	"strconv"

	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

// connections are who is connected.
func (s *sheet) connections(x *htmlSection) {
	c := s.r.Connections
	if c == nil {
		return
	}
	facts := []htmlFact{{Name: "Taken", Value: whole(c.Used)}}
	if n := c.Usable(); n > 0 {
		facts = []htmlFact{
			{Name: "Taken", Value: fmt.Sprintf("%s of %s (%s)", whole(c.Used), whole(n), words.Percent(100*float64(c.Used)/float64(n)))},
			{Name: "max_connections", Value: fmt.Sprintf("%s, %d reserved", whole(c.MaxConnections), c.SuperuserReserved+c.Reserved)},
		}
	}
	x.facts(append(facts,
		htmlFact{Name: "Waiting for a lock", Value: whole(c.WaitingForLock)},
		htmlFact{Name: "Oldest transaction", Value: words.Seconds(c.OldestTransactionSeconds) + ", " + words.Seconds(c.AverageTransactionSeconds) + " on average"},
		htmlFact{Name: "Longest statement", Value: words.Seconds(c.OldestQuerySeconds) + ", " + words.Seconds(c.AverageQuerySeconds) + " on average"},
		htmlFact{Name: "Connections' age", Value: words.Seconds(c.AverageConnectionSeconds) + " on average, oldest " + words.Seconds(c.OldestConnectionSeconds)},
	)...)
	s.addChart(x, s.chart(chartOptions{title: "Connections", write: compact, zero: true, limit: float64(c.Usable()), limitName: "can be had:"},
		series{"connected", "line-a", func(p judge.Point) *float64 { return number(p.Connections) }},
		series{"active", "line-b", func(p judge.Point) *float64 { return number(p.Active) }},
		series{"waiting for a lock", "line-c", func(p judge.Point) *float64 { return number(p.Waiting) }}))
	t := htmlTable{Caption: "By state", Columns: columns("State", "Connections#", "Share#")}
	for _, k := range c.ByState {
		t.Rows = append(t.Rows, []cell{text(k.State), text(whole(k.Connections)), share(float64(k.Connections), float64(c.Used), "fill")})
	}
	x.table(t, render.RowsShown, 0)
	t = htmlTable{Caption: "By role and application", Columns: columns("Role", "Application", "Connections#")}
	for _, k := range c.ByUser {
		t.Rows = append(t.Rows, []cell{name(k.User), name(k.Application), text(whole(k.Connections))})
	}
	x.table(t, render.RowsShown, 0)
	t = htmlTable{Caption: "By client", Columns: columns("Address", "Connections#")}
	for _, k := range c.ByClient {
		from := name(k.Client)
		if k.Client == "" {
			from = text("Unix socket")
		}
		t.Rows = append(t.Rows, []cell{from, text(whole(k.Connections))})
	}
	x.table(t, render.RowsShown, 0)
	x.table(sessionTable("Oldest transactions", c.Longest), render.RowsShown, 0)
}

// sessionTable lists sessions, with their last statements.
func sessionTable(caption string, all []reading.Session) htmlTable {
	t := htmlTable{Caption: caption, Columns: columns("Process", "Statement", "State", "Waits for", "Transaction#", "Connected#")}
	for _, k := range all {
		pid := text(strconv.Itoa(k.PID))
		pid.Sub = sessionOwner(k)
		t.Rows = append(t.Rows, []cell{pid, name(k.Query), text(k.State), text(k.WaitEvent), text(words.Seconds(k.TransactionSeconds)), text(words.Seconds(k.ConnectionSeconds))})
	}
	return t
}

// sessionOwner says whose a session is.
func sessionOwner(k reading.Session) string {
	if k.Application == "" {
		return k.User
	}
	return k.User + " · " + k.Application
}

// locks are who waits for whom.
func (s *sheet) locks(x *htmlSection) {
	l := s.r.Locks
	if l == nil {
		return
	}
	held := 0
	for _, c := range l.Counts {
		held += c.Locks
	}
	x.facts(htmlFact{Name: "Locks", Value: whole(held)}, htmlFact{Name: "Sessions that wait", Value: whole(l.WaitingTotal)})
	t := htmlTable{Caption: "Who waits for whom", Columns: columns("Process", "Statement", "Waits#", "For", "On", "Behind")}
	for _, w := range l.Waiting {
		pid := text(strconv.Itoa(w.PID))
		pid.Sub = sessionOwner(w.Session)
		t.Rows = append(t.Rows, []cell{pid, name(w.Query), text(words.Seconds(w.WaitSeconds)), text(w.Mode), name(w.Object), text(render.PIDs(w.BlockedBy))})
	}
	x.table(t, render.RowsShown, l.WaitingTotal)
	x.table(sessionTable("Who is waited for", l.Blockers), render.RowsShown, 0)
	t = htmlTable{Caption: "Locks by type and mode", Columns: columns("Type", "Mode", "Granted", "Locks#")}
	for _, c := range l.Counts {
		granted := "yes"
		if !c.Granted {
			granted = "awaited"
		}
		t.Rows = append(t.Rows, []cell{text(c.Type), text(c.Mode), text(granted), text(whole(c.Locks))})
	}
	x.table(t, render.RowsShown, 0)
}

// cache is how often blocks were found in shared_buffers.
func (s *sheet) cache(x *htmlSection) {
	c := s.r.Cache
	if c == nil {
		return
	}
	since := "statistics were first kept"
	if c.StatsReset != nil {
		since = utc(*c.StatsReset)
	}
	if c.LifetimeHits+c.LifetimeReads == 0 {
		x.note("No block was accessed since %s.", since)
		return
	}
	var facts []htmlFact
	if value, of := s.hitRatio(); s.r.Before != nil {
		facts = append(facts, htmlFact{Name: "Found " + of, Value: value})
	}
	x.facts(append(facts,
		htmlFact{Name: "Found, lifetime", Value: hitPercent(c.LifetimeHits, c.LifetimeReads)}, htmlFact{Name: "Hits", Value: words.Count(c.LifetimeHits)},
		htmlFact{Name: "Reads", Value: words.Count(c.LifetimeReads)}, htmlFact{Name: "Counted since", Value: since},
	)...)
	x.note("What PostgreSQL reads may still come from the operating system's cache, which it can't see.")
	s.addChart(x, s.chart(chartOptions{title: "Blocks found in shared_buffers", write: words.Percent, top: 100},
		series{"found", "line-a", func(p judge.Point) *float64 { return p.CacheHitPercent }}))
	t := htmlTable{Caption: "Tables with the most reads", Columns: columns("Table", "Found#", "Reads#", "Heap#", "Indexes#", "TOAST#")}
	for _, k := range c.Tables {
		if k.Reads() > 0 {
			t.Rows = append(t.Rows, []cell{
				name(k.Schema + "." + k.Name), text(hitPercent(k.Hits(), k.Reads())), text(words.Count(k.Reads())), text(words.Count(k.HeapReads)),
				text(words.Count(k.IndexReads)), text(words.Count(k.ToastReads)),
			})
		}
	}
	x.table(t, render.RowsShown, 0)
}

// transactions are what the database's sessions did.
func (s *sheet) transactions(x *htmlSection) {
	n := s.r.Transactions
	if n == nil {
		return
	}
	rolled := ""
	if all := n.Commits + n.Rollbacks; all > 0 {
		rolled = " (" + words.Percent(100*float64(n.Rollbacks)/float64(all)) + ")"
	}
	x.facts(s.rates(n)...)
	since := ""
	if n.StatsReset != nil {
		since = utc(*n.StatsReset)
	}
	x.facts(
		htmlFact{Name: "Commits", Value: words.Count(n.Commits)}, htmlFact{Name: "Rollbacks", Value: words.Count(n.Rollbacks) + rolled},
		htmlFact{Name: "Deadlocks", Value: words.Count(n.Deadlocks)}, htmlFact{Name: "Temporary files", Value: words.Count(n.TempFiles) + ", " + words.Bytes(n.TempBytes)},
		htmlFact{Name: "Rows read", Value: words.Count(n.Returned)}, htmlFact{Name: "Rows inserted", Value: words.Count(n.Inserted)},
		htmlFact{Name: "Rows updated", Value: words.Count(n.Updated)}, htmlFact{Name: "Rows deleted", Value: words.Count(n.Deleted)},
		htmlFact{Name: "Counted since", Value: since},
	)
	x.facts(sessionFacts(n)...)
	s.addChart(x,
		s.chart(chartOptions{title: "Transactions per second", write: compact, zero: true},
			series{"commits", "line-a", func(p judge.Point) *float64 { return p.CommitsPerSecond }},
			series{"rollbacks", "line-c", func(p judge.Point) *float64 { return p.RollbacksPerSecond }}),
		s.chart(chartOptions{title: "Temporary files per second", write: writeBytes, bytes: true, zero: true},
			series{"written", "line-a", func(p judge.Point) *float64 { return p.TempBytesPerSecond }}))
}

// rates are the transactions of the interval that was watched, per second.
func (s *sheet) rates(n *reading.Transactions) []htmlFact {
	b := s.r.Before
	if b == nil || b.Transactions == nil || !b.TakenAt.Before(s.r.TakenAt) {
		return nil
	}
	span, was := s.r.TakenAt.Sub(b.TakenAt).Seconds(), b.Transactions
	rate := func(word string, now, before int64) htmlFact {
		return htmlFact{Name: word + " in the last " + words.Seconds(span), Value: fmt.Sprintf("%.1f/s", float64(now-before)/span)}
	}
	return []htmlFact{
		rate("Commits", n.Commits, was.Commits), rate("Rollbacks", n.Rollbacks, was.Rollbacks), rate("Rows read", n.Returned, was.Returned),
		rate("Rows written", n.Inserted+n.Updated+n.Deleted, was.Inserted+was.Updated+was.Deleted),
	}
}

// sessionFacts say how sessions ended, from PostgreSQL 14.
func sessionFacts(n *reading.Transactions) []htmlFact {
	if n.Sessions == nil || n.SessionSeconds == nil || *n.Sessions == 0 {
		return nil
	}
	return []htmlFact{
		{Name: "Sessions", Value: words.Count(*n.Sessions)}, {Name: "Their time on average", Value: words.Seconds(*n.SessionSeconds / float64(*n.Sessions))},
		{Name: "Abandoned by clients", Value: words.Maybe(n.SessionsAbandoned, words.Count)}, {Name: "Ended by errors", Value: words.Maybe(n.SessionsFatal, words.Count)},
		{Name: "Ended by somebody", Value: words.Maybe(n.SessionsKilled, words.Count)},
	}
}

// waits are what active sessions were seen to wait for.
func (s *sheet) waits(x *htmlSection) {
	w := s.r.Waits
	if w == nil {
		return
	}
	seen := 0
	for _, e := range w.Events {
		seen += e.Seen
	}
	x.facts(
		htmlFact{Name: "Samples", Value: whole(w.Samples)}, htmlFact{Name: "Over", Value: words.Seconds(w.Seconds)},
		htmlFact{Name: "Active sessions on average", Value: fmt.Sprintf("%.1f", w.ActiveSessions)},
	)
	t := htmlTable{Caption: "By what they wait for", Columns: columns("Wait", "Share#", "Seen#")}
	for _, e := range w.Events {
		t.Rows = append(t.Rows, []cell{text(waitName(e)), share(float64(e.Seen), float64(seen), "fill"), text(whole(e.Seen))})
	}
	x.table(t, 20, 0)
	t = htmlTable{Caption: "By statement", Columns: columns("Statement", "Wait", "Seen#")}
	for _, e := range w.Statements {
		t.Rows = append(t.Rows, []cell{name(e.Query), text(waitName(e.WaitCount)), text(whole(e.Seen))})
	}
	x.table(t, render.RowsShown, 0)
}

// waitName is a wait's type and event, or a word for none.
func waitName(w reading.WaitCount) string {
	if w.Type == "" {
		return "working, not waiting"
	}
	return w.Type + ": " + w.Event
}
