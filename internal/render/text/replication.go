package text

import (
	"fmt"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

// replication writes what the server sends, receives and archives.
func (p *page) replication() {
	r := p.report.Reading.Replication
	if r == nil {
		return
	}
	p.title("Replication")
	facts := []string{string(p.report.Reading.Server.Role), none(len(r.Standbys), "standby", "standbys"), none(len(r.Slots), "slot", "slots")}
	if r.WALBytes != nil {
		facts = append(facts, "WAL "+words.Bytes(*r.WALBytes))
	}
	if n := len(r.Subscriptions); n > 0 {
		facts = append(facts, words.Plural(n, "subscription"))
	}
	p.items(2, plainly, facts)
	p.archiver(r)
	if x := r.Replay; x != nil {
		facts := []string{"receiver " + words.OrDash(x.ReceiverStatus), "from " + words.OrDash(x.SenderHost)}
		if x.ReceivedBytes != nil && x.ReplayedBytes != nil {
			facts = append(facts, words.Bytes(*x.ReceivedBytes-*x.ReplayedBytes)+" not replayed")
		}
		if x.LastReplayedAt != nil {
			facts = append(facts, "last transaction replayed ended "+words.Ago(p.report.Reading.TakenAt, *x.LastReplayedAt))
		}
		if x.Paused {
			facts = append(facts, "replay paused")
		}
		if c := r.Conflicts; c != nil && c.Total() > 0 {
			facts = append(facts, words.Plural(int(c.Total()), "conflict"))
		}
		p.items(2, plainly, facts)
	}
	var rows [][]string
	for _, s := range r.Standbys {
		rows = append(rows, []string{
			s.Application, words.OrDash(s.Client), words.OrDash(s.State), words.OrDash(s.SyncState), words.Maybe(s.WriteLagBytes, words.Bytes),
			words.Maybe(s.FlushLagBytes, words.Bytes), words.Maybe(s.ReplayLagBytes, words.Bytes), render.Lag(s.ReplayLagSeconds), words.Maybe(s.ReplySeconds, words.Seconds),
		})
	}
	if len(rows) > 0 {
		p.table([]string{"STANDBY", "CLIENT", "STATE", "SYNC", "WRITE", "FLUSH", "REPLAY", "BEHIND", "HEARD"}, rows, []int{4, 5, 6, 7, 8}, []int{0, 1}, 8, 5, 4)
	}
	rows = nil
	for _, s := range r.Slots {
		used := "idle"
		if s.Active {
			used = "in use"
		}
		rows = append(rows, []string{s.Name, s.Type, words.OrDash(s.Database), used, words.Maybe(s.RetainedBytes, words.Bytes), words.OrDash(s.WALStatus)})
	}
	if len(rows) > 0 {
		p.table([]string{"SLOT", "TYPE", "DATABASE", "USE", "KEEPS", "STATUS"}, rows, []int{4}, []int{0, 2})
	}
}

// archiver writes what became of finished WAL.
func (p *page) archiver(r *reading.Replication) {
	w := r.Archiver
	if mode, _ := p.report.Reading.Server.Setting("archive_mode"); w == nil || mode == "off" {
		return
	}
	now := p.report.Reading.TakenAt
	facts := some([]string{"archived " + words.Plural(w.Archived, "file")}, w.Failed, words.Count(w.Failed)+" failed")
	if w.LastArchivedAt != nil {
		facts = append(facts, "last "+words.Ago(now, *w.LastArchivedAt))
	}
	if w.LastFailedAt != nil {
		facts = append(facts, "last failure "+words.Ago(now, *w.LastFailedAt))
	}
	if r.ReadyFiles != nil {
		facts = append(facts, words.Count(*r.ReadyFiles)+" waiting")
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
		facts = append(facts, fmt.Sprintf("%s %s of transaction numbers", d.Name, words.Percent(100*float64(max(d.XIDAge, d.MultiXactAge))/xids)))
	}
	for _, w := range l.Workers {
		if w.Max > 0 {
			facts = append(facts, fmt.Sprintf("%s %d of %d", w.Kind, w.Used, w.Max))
		}
	}
	if n := len(l.Prepared); n > 0 {
		facts = append(facts, words.Plural(n, "prepared transaction"))
	}
	if len(facts) > 0 {
		p.items(2, plainly, facts)
	}
	if len(l.Holders) > 0 {
		h := l.Holders[0]
		p.prose(2, plainly, fmt.Sprintf("VACUUM keeps rows for %s %s, of the last %s.", h.Kind, h.Name,
			words.Plural(int(max(h.XIDAge, h.CatalogXIDAge)), "transaction")))
	}
	var rows [][]string
	for _, s := range l.Sequences[:min(len(l.Sequences), 5)] {
		column := "-"
		if s.Column != "" {
			column = s.TableSchema + "." + s.Table + "." + s.Column
		}
		rows = append(rows, []string{s.Schema + "." + s.Name, column, words.OrDash(s.ColumnType), words.Count(s.LastValue), words.Percent(s.UsedPercent)})
	}
	if len(rows) > 0 {
		p.table([]string{"SEQUENCE", "COLUMN", "TYPE", "VALUE", "USED"}, rows, []int{3, 4}, []int{0, 1})
	}
}
