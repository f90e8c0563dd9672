package render

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// most is how many lines a table of a section has.
const most = 10

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
	facts := []string{plural(held, "lock"), plural(l.WaitingTotal, "session") + " waiting"}
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
	for _, w := range l.Waiting[:min(len(l.Waiting), most)] {
		rows = append(rows, []string{
			strconv.Itoa(w.PID), w.User, seconds(w.WaitSeconds), w.Mode, orDash(w.Object), pids(w.BlockedBy), w.Query,
		})
	}
	p.table([]string{"PID", "ROLE", "WAITS", "FOR", "ON", "BEHIND", "STATEMENT"}, rows, nil, []int{6, 4, 3})
	rows = nil
	for _, b := range l.Blockers[:min(len(l.Blockers), most)] {
		rows = append(rows, []string{strconv.Itoa(b.PID), b.User, orDash(b.Application), b.State, seconds(b.TransactionSeconds), b.Query})
	}
	p.table([]string{"BLOCKS", "ROLE", "APPLICATION", "STATE", "TRANSACTION", "STATEMENT"}, rows, nil, []int{5, 2, 1})
}

// pids joins process ids.
func pids(all []int) string {
	words := make([]string, len(all))
	for i, pid := range all {
		words[i] = strconv.Itoa(pid)
	}
	return strings.Join(words, ",")
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
		plural(s.Total, "kind") + " of statements", seconds(s.ExecSeconds) + " of execution " + since, "pg_stat_statements " + s.Version,
	})
	var rows [][]string
	for _, x := range s.Items[:min(len(s.Items), most)] {
		share := "-"
		if s.ExecSeconds > 0 {
			share = percent(100 * x.ExecSeconds / s.ExecSeconds)
		}
		recent := "-"
		if x.Recent != nil && x.Recent.Calls > 0 {
			recent = seconds(x.Recent.MeanSeconds())
		}
		rows = append(rows, []string{
			share, seconds(x.ExecSeconds), Count(x.Calls), seconds(x.MeanSeconds()), recent, Bytes(x.ReadBytes), Bytes(x.TempBytes), x.Query,
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
		p.prose(4+min(len(l)-len(step), p.width/2), p.paint.faint, step)
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
		rolled = percent(100 * float64(t.Rollbacks) / float64(all))
	}
	p.items(2, plainly, []string{
		Count(t.Commits) + " commits", Count(t.Rollbacks) + " rollbacks (" + rolled + ")", plural(int(t.Deadlocks), "deadlock"),
		"temporary files " + Bytes(t.TempBytes), what,
	})
	p.items(2, plainly, []string{
		"rows read " + Count(t.Returned), "inserted " + Count(t.Inserted), "updated " + Count(t.Updated), "deleted " + Count(t.Deleted),
	})
	if t.Sessions != nil && t.SessionSeconds != nil && *t.Sessions > 0 {
		facts := []string{plural(int(*t.Sessions), "session"), "of " + seconds(*t.SessionSeconds/float64(*t.Sessions)) + " on average"}
		if t.SessionsAbandoned != nil && t.SessionsFatal != nil && t.SessionsKilled != nil {
			facts = append(facts, Count(*t.SessionsAbandoned)+" abandoned", Count(*t.SessionsFatal)+" fatal", Count(*t.SessionsKilled)+" killed")
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
	p.items(2, p.paint.bold, []string{
		"in the last " + seconds(span), rate("commits", t.Commits, b.Commits), rate("rollbacks", t.Rollbacks, b.Rollbacks),
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
		p.items(2, plainly, []string{
			fmt.Sprintf("checkpoints %s timed, %s requested", Count(c.Timed), Count(c.Requested)),
			"writing " + seconds(c.WriteSeconds), "syncing " + seconds(c.SyncSeconds), "wrote " + Bytes(c.CheckpointBytes),
		})
	}
	if w := r.WAL; w != nil {
		p.items(2, plainly, []string{
			"WAL " + Bytes(w.Bytes), plural(int(w.Records), "record"), plural(int(w.FullPageImages), "full page image"),
			"buffers full " + pluralOf(int(w.BuffersFull), "time", "times"),
		})
	}
	if b := r.Before; b != nil && b.Replication != nil && r.Replication != nil && b.Replication.CurrentBytes != nil && r.Replication.CurrentBytes != nil {
		if span := r.TakenAt.Sub(b.TakenAt).Seconds(); span > 0 {
			written := float64(*r.Replication.CurrentBytes - *b.Replication.CurrentBytes)
			p.items(2, p.paint.bold, []string{"in the last " + seconds(span), Bytes(int64(written/span)) + " of WAL/s"})
		}
	}
	var rows [][]string
	for _, x := range r.IO {
		if x.ReadBytes+x.WriteBytes+x.Extended > 0 {
			rows = append(rows, []string{x.Backend, x.Object, x.Context, Bytes(x.ReadBytes), Bytes(x.WriteBytes), Bytes(x.Extended), Count(x.Hits)})
		}
	}
	if len(rows) > 0 {
		p.table([]string{"PROCESS", "OBJECT", "CONTEXT", "READ", "WRITTEN", "EXTENDED", "HITS"}, rows[:min(len(rows), most)], []int{3, 4, 5, 6}, []int{0})
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
		pluralOf(w.Samples, "sample", "samples") + " over " + Duration(time.Duration(w.Seconds*float64(time.Second))),
		fmt.Sprintf("%.1f active sessions on average", w.ActiveSessions),
	})
	var rows [][]string
	for _, s := range w.Statements[:min(len(w.Statements), most)] {
		event := "working"
		if s.Type != "" {
			event = s.Type + ":" + s.Event
		}
		rows = append(rows, []string{event, Count(int64(s.Seen)), s.Query})
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
	facts := []string{"this database " + Bytes(s.DatabaseBytes)}
	for _, d := range s.Databases[:min(len(s.Databases), most)] {
		facts = append(facts, d.Name+" "+Bytes(d.Bytes))
	}
	if h := p.report.Reading.Host; h != nil && h.DiskBytes > 0 {
		facts = append(facts, "disk "+Bytes(h.DiskFreeBytes)+" free of "+Bytes(h.DiskBytes))
	}
	p.items(2, plainly, facts)
	for _, k := range s.Kept[:min(len(s.Kept), most)] {
		p.prose(2, plainly, keptWords(k))
	}
	if more := len(s.Kept) - most; more > 0 {
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
		size = Bytes(*k.Bytes)
	}
	return fmt.Sprintf("%s %s: %s", k.Name, size, keptAs(k))
}

// keptAs says it without the name and the size.
func keptAs(k reading.KeptDatabase) string {
	words := "a restore or a drill of " + k.Of + " made it"
	switch k.State {
	case "kept":
		words = "set aside when " + k.Of + " was replaced"
	case "dropping":
		words = "its DROP DATABASE was begun"
	}
	return words + ", " + agedWords(k.AgeSeconds)
}

func rescuedWords(r reading.RescuedSchema) string {
	return fmt.Sprintf("schema %s: %s rescued from backup %s, %s", r.Name, plural(r.Tables, "table"), r.Backup, agedWords(r.AgeSeconds))
}

// agedWords say how long ago something was, by a clock that is not this one's.
func agedWords(seconds float64) string {
	now := time.Unix(0, 0)
	return Ago(now, now.Add(-time.Duration(seconds*float64(time.Second))))
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
			row[1] = Bytes(r.Size.DatabaseBytes)
		}
		if r.Tables != nil {
			row[2] = Count(int64(r.Tables.Total))
		}
		if r.Indexes != nil {
			row[3] = Count(int64(r.Indexes.Total))
		}
		rows = append(rows, row)
	}
	p.table([]string{"DATABASE", "SIZE", "TABLES", "INDEXES"}, rows, []int{1, 2, 3}, []int{0})
	for _, r := range p.report.Reading.Databases {
		for _, s := range r.Skipped {
			p.prose(2, plainly, fmt.Sprintf("Not looked at in %s: %s (%s): %s", r.Database, s.Query, s.Section, s.Reason))
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
