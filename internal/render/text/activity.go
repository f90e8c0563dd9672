package text

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

// locks writes who waits for whom.
func (p *page) locks() {
	l := p.report.Reading.Locks
	if l == nil {
		return
	}
	p.title("Locks")
	held := 0
	for _, c := range l.Counts {
		held += c.Locks
	}
	facts := some(nil, int64(held), words.Plural(held, "lock"))
	if l.WaitingTotal == 0 {
		facts = append(facts, "no session waits for a lock")
	} else {
		facts = append(facts, words.Plural(l.WaitingTotal, "session")+" waiting")
	}
	for _, c := range l.Counts[:min(len(l.Counts), 6)] {
		word := ""
		if !c.Granted {
			word = " awaited"
		}
		facts = append(facts, fmt.Sprintf("%s %s%s %d", c.Type, c.Mode, word, c.Locks))
	}
	p.items(2, plainly, facts)
	if len(l.Waiting) == 0 {
		return
	}
	var rows [][]string
	for _, w := range l.Waiting[:min(len(l.Waiting), render.RowsShown)] {
		rows = append(rows, []string{
			strconv.Itoa(w.PID), w.User, words.Seconds(w.WaitSeconds), w.Mode, words.OrDash(w.Object), render.PIDs(w.BlockedBy), w.Query,
		})
	}
	p.table([]string{"PID", "ROLE", "WAITS", "FOR", "ON", "BEHIND", "STATEMENT"}, rows, nil, []int{6, 4, 3})
	rows = nil
	for _, b := range l.Blockers[:min(len(l.Blockers), render.RowsShown)] {
		rows = append(rows, []string{strconv.Itoa(b.PID), b.User, words.OrDash(b.Application), b.State, words.Seconds(b.TransactionSeconds), b.Query})
	}
	p.table([]string{"BLOCKS", "ROLE", "APPLICATION", "STATE", "TRANSACTION", "STATEMENT"}, rows, nil, []int{5, 2, 1})
}

// statements writes those that take the most time.
func (p *page) statements() {
	s := p.report.Reading.Statements
	if s == nil {
		return
	}
	p.title("Statements")
	since := "since statistics were first kept"
	if s.StatsReset != nil {
		since = "since " + s.StatsReset.UTC().Format("2006-01-02 15:04 UTC")
	}
	p.items(2, plainly, []string{
		words.Plural(s.Total, "kind") + " of statements", words.Seconds(s.ExecSeconds) + " of execution " + since, "pg_stat_statements " + s.Version,
	})
	var rows [][]string
	for _, x := range s.Items[:min(len(s.Items), render.RowsShown)] {
		share := "-"
		if s.ExecSeconds > 0 {
			share = words.Percent(100 * x.ExecSeconds / s.ExecSeconds)
		}
		recent := "-"
		if x.Recent != nil && x.Recent.Calls > 0 {
			recent = words.Seconds(x.Recent.MeanSeconds())
		}
		rows = append(rows, []string{
			share, words.Seconds(x.ExecSeconds), words.Count(x.Calls), words.Seconds(x.MeanSeconds()), recent, words.Bytes(x.ReadBytes), words.Bytes(x.TempBytes), x.Query,
		})
	}
	if len(rows) > 0 {
		p.table([]string{"SHARE", "TIME", "CALLS", "MEAN", "NOW", "READ", "TEMP", "STATEMENT"}, rows, []int{0, 1, 2, 3, 4, 5, 6}, []int{7})
	}
	for _, x := range s.Items {
		p.plan(x)
	}
}

// plan writes the plan of a statement, where one was asked for.
func (p *page) plan(s reading.Statement) {
	if len(s.Plan) == 0 {
		return
	}
	p.line("")
	p.prose(2, plainly, "Plan of "+s.Query)
	for _, l := range s.Plan {
		step := strings.TrimLeft(l, " ")
		p.prose(4+min(len(l)-len(step), p.width/2), p.paint.Faint, step)
	}
}

// transactions writes what the database's sessions did, per second where an
// interval was watched.
func (p *page) transactions() {
	t := p.report.Reading.Transactions
	if t == nil {
		return
	}
	p.title("Transactions")
	what := "since statistics were first kept"
	if t.StatsReset != nil {
		what = "since " + t.StatsReset.UTC().Format("2006-01-02 15:04 UTC")
	}
	all := t.Commits + t.Rollbacks
	rolled := "-"
	if all > 0 {
		rolled = words.Percent(100 * float64(t.Rollbacks) / float64(all))
	}
	facts := some([]string{words.Plural(t.Commits, "commit")}, t.Rollbacks, words.Plural(t.Rollbacks, "rollback")+" ("+rolled+")")
	facts = some(facts, t.Deadlocks, words.Plural(t.Deadlocks, "deadlock"))
	facts = some(facts, t.TempBytes, "temporary files "+words.Bytes(t.TempBytes))
	p.items(2, plainly, append(facts, what))
	facts = some([]string{"rows read " + words.Count(t.Returned)}, t.Inserted, "inserted "+words.Count(t.Inserted))
	facts = some(facts, t.Updated, "updated "+words.Count(t.Updated))
	p.items(2, plainly, some(facts, t.Deleted, "deleted "+words.Count(t.Deleted)))
	if t.Sessions != nil && t.SessionSeconds != nil && *t.Sessions > 0 {
		facts := []string{words.Plural(int(*t.Sessions), "session"), "of " + words.Seconds(*t.SessionSeconds/float64(*t.Sessions)) + " on average"}
		if t.SessionsAbandoned != nil && t.SessionsFatal != nil && t.SessionsKilled != nil {
			facts = some(facts, *t.SessionsAbandoned, words.Count(*t.SessionsAbandoned)+" abandoned")
			facts = some(facts, *t.SessionsFatal, words.Count(*t.SessionsFatal)+" fatal")
			facts = some(facts, *t.SessionsKilled, words.Count(*t.SessionsKilled)+" killed")
		}
		p.items(2, plainly, facts)
	}
	before := p.report.Reading.Before
	if before == nil || before.Transactions == nil {
		return
	}
	span := p.report.Reading.TakenAt.Sub(before.TakenAt).Seconds()
	if span <= 0 {
		return
	}
	b := before.Transactions
	rate := func(word string, now, was int64) string {
		return fmt.Sprintf("%.1f %s/s", float64(now-was)/span, word)
	}
	p.items(2, p.paint.Bold, []string{
		"in the last " + words.Seconds(span), rate("commits", t.Commits, b.Commits), rate("rollbacks", t.Rollbacks, b.Rollbacks),
		rate("rows read", t.Returned, b.Returned), rate("rows written", t.Inserted+t.Updated+t.Deleted, b.Inserted+b.Updated+b.Deleted),
	})
}

// checkpoints writes checkpoints, WAL and I/O.
func (p *page) checkpoints() {
	r := p.report.Reading
	if r.Checkpoints == nil && r.WAL == nil && len(r.IO) == 0 {
		return
	}
	p.title("Checkpoints, WAL and I/O")
	if c := r.Checkpoints; c != nil {
		var facts []string
		switch {
		case c.Timed+c.Requested == 0:
			facts = []string{"no checkpoints"}
		case c.Requested == 0:
			facts = []string{fmt.Sprintf("checkpoints %s timed", words.Count(c.Timed))}
		case c.Timed == 0:
			facts = []string{fmt.Sprintf("checkpoints %s requested", words.Count(c.Requested))}
		default:
			facts = []string{fmt.Sprintf("checkpoints %s timed, %s requested", words.Count(c.Timed), words.Count(c.Requested))}
		}
		if c.Timed+c.Requested > 0 || c.CheckpointBytes > 0 {
			facts = append(facts, "writing "+words.Seconds(c.WriteSeconds), "syncing "+words.Seconds(c.SyncSeconds), "wrote "+words.Bytes(c.CheckpointBytes))
		}
		p.items(2, plainly, facts)
	}
	if w := r.WAL; w != nil {
		facts := some([]string{"WAL " + words.Bytes(w.Bytes), words.Plural(w.Records, "record")}, w.FullPageImages, words.Plural(w.FullPageImages, "full page image"))
		p.items(2, plainly, some(facts, w.BuffersFull, "buffers full "+words.Times(w.BuffersFull)))
	}
	if b := r.Before; b != nil && b.Replication != nil && r.Replication != nil && b.Replication.CurrentBytes != nil && r.Replication.CurrentBytes != nil {
		if span := r.TakenAt.Sub(b.TakenAt).Seconds(); span > 0 {
			written := float64(*r.Replication.CurrentBytes - *b.Replication.CurrentBytes)
			p.items(2, p.paint.Bold, []string{"in the last " + words.Seconds(span), words.Bytes(int64(written/span)) + " of WAL/s"})
		}
	}
	var rows [][]string
	for _, x := range r.IO {
		if x.ReadBytes+x.WriteBytes+x.Extended > 0 {
			rows = append(rows, []string{x.Backend, x.Object, x.Context, words.Bytes(x.ReadBytes), words.Bytes(x.WriteBytes), words.Bytes(x.Extended), words.Count(x.Hits)})
		}
	}
	if len(rows) > 0 {
		p.table([]string{"PROCESS", "OBJECT", "CONTEXT", "READ", "WRITTEN", "EXTENDED", "HITS"}, rows[:min(len(rows), render.RowsShown)], []int{3, 4, 5, 6}, []int{0}, 6, 5)
	}
}

// waits writes what active sessions were seen to wait for.
func (p *page) waits() {
	w := p.report.Reading.Waits
	if w == nil || len(w.Events) == 0 {
		return
	}
	p.title("Waits")
	p.items(2, plainly, []string{
		words.Plural(w.Samples, "sample", "samples") + " over " + words.Duration(time.Duration(w.Seconds*float64(time.Second))),
		fmt.Sprintf("%.1f active sessions on average", w.ActiveSessions),
	})
	var rows [][]string
	for _, s := range w.Statements[:min(len(w.Statements), render.RowsShown)] {
		event := "working"
		if s.Type != "" {
			event = s.Type + ":" + s.Event
		}
		rows = append(rows, []string{event, words.Count(int64(s.Seen)), s.Query})
	}
	p.table([]string{"WAIT", "SEEN", "STATEMENT"}, rows, []int{1}, []int{2})
}

// size writes the databases.
func (p *page) size() {
	s := p.report.Reading.Size
	if s == nil {
		return
	}
	p.title("Size")
	facts := []string{"this database " + words.Bytes(s.DatabaseBytes)}
	for _, d := range s.Databases[:min(len(s.Databases), render.RowsShown)] {
		facts = append(facts, d.Name+" "+words.Bytes(d.Bytes))
	}
	if h := p.report.Reading.Host; h != nil && h.DiskBytes > 0 {
		facts = append(facts, "disk "+words.Bytes(h.DiskFreeBytes)+" free of "+words.Bytes(h.DiskBytes))
	}
	p.items(2, plainly, facts)
	for _, k := range s.Kept[:min(len(s.Kept), render.RowsShown)] {
		p.prose(2, plainly, keptWords(k))
	}
	if more := len(s.Kept) - render.RowsShown; more > 0 {
		p.prose(2, plainly, fmt.Sprintf("and %d more that pgmedic prune lists", more))
	}
	for _, r := range s.Rescued {
		p.prose(2, plainly, rescuedWords(r))
	}
}

// keptWords say what a database is that pgmedic set aside or left.
func keptWords(k reading.KeptDatabase) string {
	size := "size unknown"
	if k.Bytes != nil {
		size = words.Bytes(*k.Bytes)
	}
	return fmt.Sprintf("%s %s: %s", k.Name, size, render.KeptAs(k))
}

func rescuedWords(r reading.RescuedSchema) string {
	return fmt.Sprintf("schema %s: %s rescued from backup %s, %s", r.Name, words.Plural(r.Tables, "table"), r.Backup, words.Aged(r.AgeSeconds))
}

// otherDatabases writes what was looked at in the server's other databases.
func (p *page) otherDatabases() {
	if len(p.report.Reading.Databases) == 0 {
		return
	}
	p.title("Other databases")
	var rows [][]string
	for _, r := range p.report.Reading.Databases {
		row := []string{r.Database, "?", "?", "?"}
		if r.Size != nil {
			row[1] = words.Bytes(r.Size.DatabaseBytes)
		}
		if r.Tables != nil {
			row[2] = words.Count(int64(r.Tables.Total))
		}
		if r.Indexes != nil {
			row[3] = words.Count(int64(r.Indexes.Total))
		}
		rows = append(rows, row)
	}
	p.table([]string{"DATABASE", "SIZE", "TABLES", "INDEXES"}, rows, []int{1, 2, 3}, []int{0})
	for _, r := range p.report.Reading.Databases {
		for _, s := range r.Skipped {
			p.prose(2, plainly, fmt.Sprintf("Not checked in %s: %s (%s): %s", r.Database, s.Query, s.Section, s.Reason))
		}
	}
}

// muted writes what the configuration silences, and why.
func (p *page) muted() {
	if len(p.report.Muted) == 0 {
		return
	}
	p.title("Muted")
	for _, m := range p.report.Muted {
		p.prose(2, plainly, fmt.Sprintf("%s, %s: until %s, %s", m.ID, m.Object, m.Until.Add(-time.Second).UTC().Format(time.DateOnly), m.Reason))
	}
}
