package html

import (
	"fmt"

	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

// replication is what the server sends, receives and archives.
func (s *sheet) replication(x *htmlSection) {
	r := s.r.Replication
	if r == nil {
		return
	}
	x.facts(
		htmlFact{Name: "This server is", Value: "a " + string(s.r.Server.Role)}, htmlFact{Name: "Sends WAL to", Value: whole(len(r.Standbys))},
		htmlFact{Name: "Slots", Value: whole(len(r.Slots))}, htmlFact{Name: "Subscriptions", Value: whole(len(r.Subscriptions))},
		htmlFact{Name: "pg_wal", Value: words.Maybe(r.WALBytes, words.Bytes)},
	)
	x.facts(s.archiverFacts(r)...)
	x.facts(s.replayFacts(r)...)
	s.addChart(x, s.chart(chartOptions{title: "Lag, in seconds", write: compact, zero: true},
		series{"behind", "line-a", func(p judge.Point) *float64 { return p.LagSeconds }}))
	t := htmlTable{
		Caption: "Standbys", Columns: columns("Standby", "State", "Sync", "Not sent#", "Not written#", "Not flushed#", "Not replayed#", "Behind#", "Heard of#"),
		Note: "A lag in seconds is the server's own measure, which is - while nothing is written. ? is not known, and no zero.",
	}
	for _, k := range r.Standbys {
		n := name(k.Application)
		n.Sub = words.OrDash(k.Client)
		t.Rows = append(t.Rows, []cell{
			n, text(k.State), text(k.SyncState), text(words.Maybe(k.SendLagBytes, words.Bytes)), text(words.Maybe(k.WriteLagBytes, words.Bytes)), text(words.Maybe(k.FlushLagBytes, words.Bytes)),
			text(words.Maybe(k.ReplayLagBytes, words.Bytes)), text(render.Lag(k.ReplayLagSeconds)), text(words.Maybe(k.ReplySeconds, heard)),
		})
	}
	x.table(t, 20, 0)
	t = htmlTable{Caption: "Slots", Columns: columns("Slot", "Type", "Use", "Keeps#", "Left#", "Status")}
	for _, k := range r.Slots {
		n, use := name(k.Name), "idle"
		if k.Database != "" {
			n.Sub = "database " + k.Database
		}
		if k.Active {
			use = "in use"
		}
		status := text(k.WALStatus)
		status.Sub = k.InvalidationReason
		t.Rows = append(t.Rows, []cell{n, text(k.Type), text(use), text(words.Maybe(k.RetainedBytes, words.Bytes)), text(words.Maybe(k.SafeBytes, words.Bytes)), status})
	}
	x.table(t, 20, 0)
	t = htmlTable{Caption: "Subscriptions", Columns: columns("Subscription", "State", "Heard of#", "Errors#", "Tables still copied#")}
	for _, k := range r.Subscriptions {
		state := "disabled"
		switch {
		case k.Enabled && k.Running:
			state = "runs"
		case k.Enabled:
			state = "enabled, and no worker runs"
		}
		t.Rows = append(t.Rows, []cell{name(k.Name), text(state), text(words.Maybe(k.MessageSeconds, heard)), text(words.Maybe(k.ApplyErrors, words.Count)), text(whole(k.TablesNotReady))})
	}
	x.table(t, 20, 0)
}

// heard writes how long ago somebody was heard of.
func heard(s float64) string { return words.Seconds(s) + " ago" }

// archiverFacts say what became of finished WAL, where it is archived.
func (s *sheet) archiverFacts(r *reading.Replication) []htmlFact {
	w := r.Archiver
	if mode, _ := s.r.Server.Setting("archive_mode"); w == nil || mode == "off" {
		return nil
	}
	facts := []htmlFact{{Name: "WAL files archived", Value: words.Count(w.Archived)}, {Name: "Failures to archive", Value: words.Count(w.Failed)}}
	if w.LastArchivedAt != nil {
		facts = append(facts, htmlFact{Name: "Last archived", Value: words.Ago(s.r.TakenAt, *w.LastArchivedAt)})
	}
	if w.LastFailedAt != nil {
		facts = append(facts, htmlFact{Name: "Last failure", Value: words.Ago(s.r.TakenAt, *w.LastFailedAt)})
	}
	return append(facts, htmlFact{Name: "Waiting for the archiver", Value: words.Maybe(r.ReadyFiles, words.Count)})
}

// replayFacts say how a standby follows.
func (s *sheet) replayFacts(r *reading.Replication) []htmlFact {
	k := r.Replay
	if k == nil {
		return nil
	}
	facts := []htmlFact{{Name: "Receiver", Value: words.OrDash(k.ReceiverStatus)}, {Name: "From", Value: cut(words.OrDash(k.SenderHost), longestCell), Code: true}}
	if k.ReceivedBytes != nil && k.ReplayedBytes != nil {
		facts = append(facts, htmlFact{Name: "Received, not replayed", Value: words.Bytes(*k.ReceivedBytes - *k.ReplayedBytes)})
	}
	facts = append(facts, htmlFact{Name: "Primary heard of", Value: words.Maybe(k.MessageSeconds, heard)})
	if k.LastReplayedAt != nil {
		facts = append(facts, htmlFact{Name: "Last transaction replayed ended", Value: words.Ago(s.r.TakenAt, *k.LastReplayedAt)})
	}
	if k.Paused {
		facts = append(facts, htmlFact{Name: "Replay", Value: "paused"})
	}
	if c := r.Conflicts; c != nil {
		facts = append(facts, htmlFact{Name: "Queries cancelled for replay", Value: words.Count(c.Total())})
	}
	return facts
}

// checkpoints are checkpoints, WAL and I/O.
func (s *sheet) checkpoints(x *htmlSection) {
	r := s.r
	if c := r.Checkpoints; c != nil {
		x.facts(
			htmlFact{Name: "Checkpoints", Value: words.Count(c.Timed) + " timed, " + words.Count(c.Requested) + " requested"},
			htmlFact{Name: "Writing them", Value: words.Seconds(c.WriteSeconds)}, htmlFact{Name: "Syncing them", Value: words.Seconds(c.SyncSeconds)},
			htmlFact{Name: "Written by checkpoints", Value: words.Bytes(c.CheckpointBytes)}, htmlFact{Name: "By the background writer", Value: words.Bytes(c.BgwriterBytes)},
			htmlFact{Name: "By sessions", Value: words.Maybe(c.BackendBytes, words.Bytes)},
		)
	}
	x.facts(s.walFacts()...)
	s.addChart(x, s.chart(chartOptions{title: "WAL per second", write: writeBytes, bytes: true, zero: true},
		series{"written", "line-a", func(p judge.Point) *float64 { return p.WALBytesPerSecond }}))
	t := htmlTable{Caption: "I/O by process", Columns: columns("Process", "Object", "Context", "Read#", "Written#", "Extended#", "Hits#", "Fsyncs#")}
	for _, k := range r.IO {
		if k.ReadBytes+k.WriteBytes+k.Extended > 0 {
			t.Rows = append(t.Rows, []cell{
				text(k.Backend), text(k.Object), text(k.Context), text(words.Bytes(k.ReadBytes)), text(words.Bytes(k.WriteBytes)), text(words.Bytes(k.Extended)),
				text(words.Count(k.Hits)), text(words.Count(k.Fsyncs)),
			})
		}
	}
	x.table(t, 20, 0)
}

// walFacts are what was written to the WAL.
func (s *sheet) walFacts() []htmlFact {
	var facts []htmlFact
	if w := s.r.WAL; w != nil {
		facts = append(facts,
			htmlFact{Name: "WAL", Value: words.Bytes(w.Bytes)}, htmlFact{Name: "Records", Value: words.Count(w.Records)},
			htmlFact{Name: "Full page images", Value: words.Count(w.FullPageImages)}, htmlFact{Name: "wal_buffers was full", Value: words.Plural(int(w.BuffersFull), "time", "times")})
		if w.StatsReset != nil {
			facts = append(facts, htmlFact{Name: "Counted since", Value: utc(*w.StatsReset)})
		}
	}
	b, r := s.r.Before, s.r.Replication
	if b == nil || b.Replication == nil || r == nil || b.Replication.CurrentBytes == nil || r.CurrentBytes == nil {
		return facts
	}
	if span := s.r.TakenAt.Sub(b.TakenAt).Seconds(); span > 0 {
		written := float64(*r.CurrentBytes-*b.Replication.CurrentBytes) / span
		facts = append(facts, htmlFact{Name: "WAL in the last " + words.Seconds(span), Value: writeBytes(written) + "/s"})
	}
	return facts
}

// xidPercent is an age's share of the transaction numbers there are.
func xidPercent(age int64) float64 { return 100 * float64(age) / (1 << 31) }

// limits are how near the server is to what it can't do more of.
func (s *sheet) limits(x *htmlSection) {
	l := s.r.Limits
	if l == nil {
		return
	}
	ageCell := func(age int64) cell {
		c := text(words.Percent(xidPercent(age)))
		c.Bar = newBar(100, []string{"fill"}, xidPercent(age))
		return c
	}
	t := htmlTable{
		Caption: "Transaction numbers used since rows were last frozen", Columns: columns("Database", "Transactions#", "Of all there are#", "Multixacts#"),
		Note: "Beyond 95 % or so the server takes no more writes until VACUUM has frozen old rows.",
	}
	for _, d := range l.Databases {
		t.Rows = append(t.Rows, []cell{name(d.Name), text(words.Count(d.XIDAge)), ageCell(max(d.XIDAge, d.MultiXactAge)), text(words.Count(d.MultiXactAge))})
	}
	x.table(t, render.RowsShown, 0)
	t = htmlTable{Caption: "Oldest tables", Columns: columns("Table", "Transactions#", "Of all there are#", "Multixacts#", "To read#")}
	for _, k := range l.Tables {
		t.Rows = append(t.Rows, []cell{name(k.Schema + "." + k.Name), text(words.Count(k.XIDAge)), ageCell(max(k.XIDAge, k.MultiXactAge)), text(words.Count(k.MultiXactAge)), text("~" + words.Bytes(k.EstimatedBytes))})
	}
	x.table(t, 5, 0)
	t = htmlTable{Caption: "What keeps VACUUM from removing rows", Columns: columns("Who", "Kind", "Transactions#", "Of the catalogue#")}
	for _, h := range l.Holders {
		t.Rows = append(t.Rows, []cell{name(h.Name), text(h.Kind), text(words.Count(h.XIDAge)), text(words.Count(h.CatalogXIDAge))})
	}
	x.table(t, 5, 0)
	t = htmlTable{Caption: "Sequences", Columns: columns("Sequence", "Used#", "Value#", "Last that fits#", "Type")}
	for _, k := range l.Sequences {
		n, used := name(k.Schema+"."+k.Name), text(words.Percent(k.UsedPercent))
		used.Bar = newBar(100, []string{"fill"}, k.UsedPercent)
		if k.Column != "" {
			n.Sub = "for " + k.TableSchema + "." + k.Table + "." + k.Column
		}
		t.Rows = append(t.Rows, []cell{n, used, text(words.Count(k.LastValue)), text(words.Count(k.Limit)), text(k.ColumnType)})
	}
	x.table(t, render.RowsShown, l.SequencesTotal)
	s.workers(x, l)
}

// workers are bounded processes and slots, and prepared transactions.
func (s *sheet) workers(x *htmlSection, l *reading.Limits) {
	t := htmlTable{Caption: "Processes and slots", Columns: columns("Kind", "Taken#", "Share#", "Bound by")}
	for _, w := range l.Workers {
		if w.Max > 0 {
			t.Rows = append(t.Rows, []cell{text(w.Kind), text(fmt.Sprintf("%d of %d", w.Used, w.Max)), share(float64(w.Used), float64(w.Max), "fill"), name(w.Setting)})
		}
	}
	x.table(t, 20, 0)
	t = htmlTable{Caption: "Prepared transactions", Columns: columns("Transaction", "Database", "Owner", "Age#", "Transactions since#")}
	for _, k := range l.Prepared {
		t.Rows = append(t.Rows, []cell{name(k.GID), name(k.Database), name(k.Owner), text(words.Seconds(k.AgeSeconds)), text(words.Count(k.XIDAge))})
	}
	x.table(t, render.RowsShown, 0)
}
