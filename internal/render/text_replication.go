package render

import (
	"fmt"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// maybe writes a number that may not be known.
func maybe[T any](v *T, write func(T) string) string {
	if v == nil {
		return "?"
	}
	return write(*v)
}

// replication writes what the server sends, receives and archives.
func (p *page) replication() {
	r := p.report.Reading.Replication
	if r == nil {
		return
	}
	p.title("Replication")
	facts := []string{
		string(p.report.Reading.Server.Role), fmt.Sprintf("sends to %d", len(r.Standbys)),
		plural(len(r.Slots), "slot"),
	}
	if r.WALBytes != nil {
		facts = append(facts, "WAL "+Bytes(*r.WALBytes))
	}
	if n := len(r.Subscriptions); n > 0 {
		facts = append(facts, plural(n, "subscription"))
	}
	p.items(2, plainly, facts)
	p.archiver(r)
	if x := r.Replay; x != nil {
		facts := []string{"receiver " + orDash(x.ReceiverStatus), "from " + orDash(x.SenderHost)}
		if x.ReceivedBytes != nil && x.ReplayedBytes != nil {
			facts = append(facts, Bytes(*x.ReceivedBytes-*x.ReplayedBytes)+" not replayed")
		}
		if x.LastReplayedAt != nil {
			facts = append(facts, "last transaction replayed ended "+Ago(p.report.Reading.TakenAt, *x.LastReplayedAt))
		}
		if x.Paused {
			facts = append(facts, "replay paused")
		}
		if c := r.Conflicts; c != nil {
			facts = append(facts, plural(int(c.Total()), "conflict"))
		}
		p.items(2, plainly, facts)
	}
	var rows [][]string
	for _, s := range r.Standbys {
		rows = append(rows, []string{
			s.Application, orDash(s.Client), orDash(s.State), orDash(s.SyncState), maybe(s.WriteLagBytes, Bytes),
			maybe(s.FlushLagBytes, Bytes), maybe(s.ReplayLagBytes, Bytes), lag(s.ReplayLagSeconds), maybe(s.ReplySeconds, seconds),
		})
	}
	if len(rows) > 0 {
		p.table([]string{"STANDBY", "CLIENT", "STATE", "SYNC", "WRITE", "FLUSH", "REPLAY", "BEHIND", "HEARD"}, rows, []int{4, 5, 6, 7, 8}, []int{0, 1})
	}
	rows = nil
	for _, s := range r.Slots {
		used := "idle"
		if s.Active {
			used = "in use"
		}
		rows = append(rows, []string{s.Name, s.Type, orDash(s.Database), used, maybe(s.RetainedBytes, Bytes), orDash(s.WALStatus)})
	}
	if len(rows) > 0 {
		p.table([]string{"SLOT", "TYPE", "DATABASE", "USE", "KEEPS", "STATUS"}, rows, []int{4}, []int{0, 2})
	}
}

// lag writes a lag that the server measures only while there is one.
func lag(s *float64) string {
	if s == nil {
		return "-"
	}
	return seconds(*s)
}

// archiver writes what became of finished WAL.
func (p *page) archiver(r *reading.Replication) {
	w := r.Archiver
	if mode, _ := p.report.Reading.Server.Setting("archive_mode"); w == nil || mode == "off" {
		return
	}
	now := p.report.Reading.TakenAt
	facts := []string{"archived " + pluralOf(int(w.Archived), "file", "files"), fmt.Sprintf("%s failed", Count(w.Failed))}
	if w.LastArchivedAt != nil {
		facts = append(facts, "last "+Ago(now, *w.LastArchivedAt))
	}
	if w.LastFailedAt != nil {
		facts = append(facts, "last failure "+Ago(now, *w.LastFailedAt))
	}
	if r.ReadyFiles != nil {
		facts = append(facts, Count(*r.ReadyFiles)+" waiting")
	}
	p.items(2, plainly, facts)
}

// limits writes how near the server is to what it can't do more of.
func (p *page) limits() {
	l := p.report.Reading.Limits
	if l == nil {
		return
	}
	p.title("Limits")
	const xids = 1 << 31
	var facts []string
	for _, d := range l.Databases[:min(len(l.Databases), 3)] {
		facts = append(facts, fmt.Sprintf("%s %s of transaction numbers", d.Name, percent(100*float64(max(d.XIDAge, d.MultiXactAge))/xids)))
	}
	for _, w := range l.Workers {
		if w.Max > 0 {
			facts = append(facts, fmt.Sprintf("%s %d of %d", w.Kind, w.Used, w.Max))
		}
	}
	if n := len(l.Prepared); n > 0 {
		facts = append(facts, plural(n, "prepared transaction"))
	}
	if len(facts) > 0 {
		p.items(2, plainly, facts)
	}
	if len(l.Holders) > 0 {
		h := l.Holders[0]
		p.prose(2, plainly, fmt.Sprintf("VACUUM keeps rows for %s %s, of the last %s.", h.Kind, h.Name,
			plural(int(max(h.XIDAge, h.CatalogXIDAge)), "transaction")))
	}
	var rows [][]string
	for _, s := range l.Sequences[:min(len(l.Sequences), 5)] {
		column := "-"
		if s.Column != "" {
			column = s.TableSchema + "." + s.Table + "." + s.Column
		}
		rows = append(rows, []string{s.Schema + "." + s.Name, column, orDash(s.ColumnType), Count(s.LastValue), percent(s.UsedPercent)})
	}
	if len(rows) > 0 {
		p.table([]string{"SEQUENCE", "COLUMN", "TYPE", "VALUE", "USED"}, rows, []int{3, 4}, []int{0, 1})
	}
}
