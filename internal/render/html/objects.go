package html

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

// statements are those that take the most time.
func (s *sheet) statements(x *htmlSection) {
	n := s.r.Statements
	if n == nil {
		return
	}
	since := "when statistics were first kept"
	if n.StatsReset != nil {
		since = utc(*n.StatsReset)
	}
	x.facts(
		htmlFact{Name: "Kinds of statements", Value: whole(n.Total)}, htmlFact{Name: "Execution", Value: words.Seconds(n.ExecSeconds)},
		htmlFact{Name: "Counted since", Value: since}, htmlFact{Name: "pg_stat_statements", Value: n.Version},
		htmlFact{Name: "Times that it threw entries away", Value: words.Maybe(n.Evicted, words.Count)},
	)
	t := htmlTable{
		Caption: "By share of the time", Columns: columns("Statement", "Share#", "Time#", "Calls#", "Mean#", "Most#", "Now#", "Rows#", "Read#", "Temp#", "WAL#"),
		Note: "Now is the mean within the interval that was watched, if one was. Literals are left out.",
	}
	if s.r.Literals {
		t.Note = "Now is the mean within the interval that was watched, if one was. Literals are shown, as was asked for: they can be passwords and people's data."
	}
	for _, q := range n.Items {
		statement := name(q.Query)
		if q.Query == "" {
			statement = text("not visible to this role")
		}
		statement.Sub = q.Database + " · " + q.User
		recent := "-"
		if q.Recent != nil && q.Recent.Calls > 0 {
			recent = words.FineSeconds(q.Recent.MeanSeconds())
		}
		t.Rows = append(t.Rows, []cell{
			statement, share(q.ExecSeconds, n.ExecSeconds, "fill"), text(words.Seconds(q.ExecSeconds)), text(words.Count(q.Calls)), text(words.FineSeconds(q.MeanSeconds())),
			text(words.FineSeconds(q.MaxSeconds)), text(recent), text(words.Count(q.Rows)), text(words.Bytes(q.ReadBytes)), text(words.Bytes(q.TempBytes)), text(words.Bytes(q.WALBytes)),
		})
	}
	x.table(t, 20, n.Total)
	for _, q := range n.Items {
		x.plan(q)
	}
}

// indexes are the largest, and those that do nothing.
func (s *sheet) indexes(x *htmlSection) {
	n := s.r.Indexes
	if n == nil {
		return
	}
	x.facts(
		htmlFact{Name: "Indexes", Value: whole(n.Total)}, htmlFact{Name: "Size", Value: words.Bytes(n.EstimatedBytes)},
		htmlFact{Name: "Never scanned", Value: whole(n.UnusedTotal)}, htmlFact{Name: "Redundant", Value: whole(len(n.Redundant))},
		htmlFact{Name: "Invalid", Value: whole(len(n.Invalid))}, htmlFact{Name: "Foreign keys without one", Value: whole(n.ForeignKeysWithoutIndexTotal)},
	)
	x.table(indexTable("Largest indexes", n.Largest), render.RowsShown, n.Total)
	unused := indexTable("Never scanned since statistics were reset", n.Unused)
	unused.Note = "Why one must stay is said where that is known. What can go is among the findings."
	x.table(unused, render.RowsShown, n.UnusedTotal)
	pairs := htmlTable{Caption: "Redundant indexes", Columns: columns("Index", "Does the same", "Size#", "Why")}
	for _, p := range n.Redundant {
		why := "its columns are the first of the other's"
		if p.Exact {
			why = "both have the same definition"
		}
		pairs.Rows = append(pairs.Rows, []cell{
			name(p.Redundant.Schema + "." + p.Redundant.Name), name(p.Kept.Schema + "." + p.Kept.Name), text(words.Bytes(p.Redundant.EstimatedBytes)), text(why),
		})
	}
	x.table(pairs, render.RowsShown, 0)
	x.table(indexTable("Invalid indexes", n.Invalid), render.RowsShown, 0)
	x.table(s.replicaTable(), render.RowsShown, 0)
}

// replicaTable says which standbys were asked what they use of the indexes that
// nothing scans here.
func (s *sheet) replicaTable() htmlTable {
	t := htmlTable{
		Caption: "Replicas that were asked", Columns: columns("Replica", "Its statistics began", "Of the indexes not scanned here it uses"),
		Note: "Each server counts for itself. An index is called droppable only if every replica was asked.",
	}
	names := map[uint32]string{}
	for _, i := range s.r.Indexes.Unused {
		names[i.OID] = i.Schema + "." + i.Name
	}
	for _, p := range s.r.Replicas {
		n := name(p.Name)
		n.Sub = p.Application
		var used []string
		for _, i := range p.Indexes {
			if i.Scans > 0 {
				used = append(used, fmt.Sprintf("%s (%s)", cmp.Or(names[i.OID], fmt.Sprintf("index %d", i.OID)), words.Plural(int(i.Scans), "scan")))
			}
		}
		since := p.StartedAt
		if p.StatsReset != nil && p.StatsReset.After(since) {
			since = *p.StatsReset
		}
		t.Rows = append(t.Rows, []cell{n, text(utc(since)), text(cmp.Or(strings.Join(used, ", "), "none"))})
	}
	return t
}

func indexTable(caption string, all []reading.Index) htmlTable {
	t := htmlTable{Caption: caption, Columns: columns("Index", "Size#", "Bloat#", "Scans#", "Method", "Must stay, since")}
	for _, i := range all {
		n := name(i.Schema + "." + i.Name)
		n.Sub = "on " + cut(i.TableSchema+"."+i.Table, longestCell)
		t.Rows = append(t.Rows, []cell{
			n, text(words.Bytes(i.EstimatedBytes)), bloatCell(i.BloatBytes, i.BloatMethod, i.BloatConfidence), text(words.Count(i.Scans)), text(i.Method), text(i.Needed()),
		})
	}
	return t
}

// bloatCell writes how much is empty, and how that is known.
func bloatCell(bytes *int64, method, confidence string) cell {
	if bytes == nil {
		return text("-")
	}
	c := text("~" + words.Bytes(*bytes))
	if confidence != "" {
		c.Sub = confidence + " confidence"
	}
	if method != "" && method != "estimate" {
		c = text(words.Bytes(*bytes))
		c.Sub = method
	}
	return c
}

// tables are the largest, with their dead rows and bloat.
func (s *sheet) tables(x *htmlSection) {
	n := s.r.Tables
	if n == nil {
		return
	}
	x.facts(htmlFact{Name: "Tables", Value: whole(n.Total)}, htmlFact{Name: "Without a primary key", Value: whole(n.WithoutPrimaryKeyTotal)})
	t := htmlTable{
		Caption: "Largest tables, and those with the most dead rows",
		Columns: columns("Table", "Rows#", "Dead#", "Bloat#", "Vacuumed#", "Analysed#", "HOT#", "Seq scans#", "Index scans#"),
		Note:    "What begins with ~ is an estimate. HOT is the share of updates that needed no new index entries.",
	}
	for _, k := range n.Items {
		t.Rows = append(t.Rows, s.tableCells(k))
	}
	x.table(t, render.TablesShown, n.Total)
	v := htmlTable{Caption: "VACUUM now", Columns: columns("Table", "Phase", "Read#", "For#", "Rounds over indexes#")}
	for _, k := range n.Vacuums {
		row := name(k.Schema + "." + k.Table)
		row.Sub = fmt.Sprintf("process %d", k.PID)
		if k.Auto {
			row.Sub += ", autovacuum"
		}
		v.Rows = append(v.Rows, []cell{row, text(k.Phase), share(float64(k.ScannedBlocks), float64(k.HeapBlocks), "fill"), text(words.Seconds(k.Seconds)), text(words.Count(k.IndexRounds))})
	}
	x.table(v, render.RowsShown, 0)
}

func (s *sheet) tableCells(k reading.Table) []cell {
	now := s.r.TakenAt
	n := name(k.Schema + "." + k.Name)
	if k.Kind != "table" {
		n.Sub = k.Kind
	}
	hot := "-"
	if k.UpdatedTuples > 0 {
		hot = words.Percent(100 * float64(k.HotUpdatedTuples) / float64(k.UpdatedTuples))
	}
	dead := share(float64(k.DeadTuples), float64(k.LiveTuples+k.DeadTuples), "dead")
	if k.DeadTuples > 0 {
		dead.Sub = words.Plural(k.DeadTuples, "row")
	}
	bloat := text("-")
	if k.Bloat != nil {
		bloat = bloatCell(&k.Bloat.Bytes, k.Bloat.Method, k.Bloat.Confidence)
	}
	return []cell{
		n, text(words.Count(k.LiveTuples)), dead, bloat,
		text(words.Ago(now, newest(k.LastVacuum, k.LastAutovacuum))), text(words.Ago(now, newest(k.LastAnalyze, k.LastAutoanalyze))),
		text(hot), text(words.Count(k.SeqScans)), text(words.Count(k.IdxScans)),
	}
}

// size is the databases, the largest tables by what they consist of, and where
// it goes.
func (s *sheet) size(x *htmlSection) {
	z := s.r.Size
	if z == nil && s.r.Tables == nil {
		return
	}
	var facts []htmlFact
	if z != nil {
		facts = append(facts, htmlFact{Name: "This database", Value: words.Bytes(z.DatabaseBytes)})
	}
	if h := s.r.Host; h != nil && h.DiskBytes > 0 {
		facts = append(facts, htmlFact{Name: "Disk", Value: words.Bytes(h.DiskFreeBytes) + " free of " + words.Bytes(h.DiskBytes)})
	}
	x.facts(append(facts, s.forecastFacts()...)...)
	var ahead *judge.Growth
	if s.trends != nil {
		ahead = s.trends.Database
	}
	s.addChart(x, s.chart(chartOptions{title: "Size of the database", write: writeBytes, bytes: true, ahead: ahead},
		series{"size", "line-a", func(p judge.Point) *float64 { return number(p.DatabaseBytes) }}))
	if n := s.r.Tables; n != nil {
		x.table(s.sizeTable("Largest tables: heap, indexes and TOAST", n.Items), render.RowsShown, n.Total)
	}
	if z == nil {
		return
	}
	t := htmlTable{Caption: "Databases of the server", Columns: columns("Database", "Size#")}
	for _, d := range z.Databases {
		c := text(words.Bytes(d.Bytes))
		c.Bar = newBar(float64(z.Databases[0].Bytes), []string{"fill"}, float64(d.Bytes))
		t.Rows = append(t.Rows, []cell{name(d.Name), c})
	}
	x.table(t, render.RowsShown, 0)
	k := htmlTable{Caption: "Databases that pgmedic set aside or left", Columns: columns("Database", "Size#", "What it is")}
	for _, d := range z.Kept {
		size := text("unknown")
		if d.Bytes != nil {
			size = text(words.Bytes(*d.Bytes))
		}
		k.Rows = append(k.Rows, []cell{name(d.Name), size, text(render.KeptAs(d))})
	}
	x.table(k, render.RowsShown, 0)
	c := htmlTable{Caption: "Schemas of rescues", Columns: columns("Schema", "Tables#", "Backup", "Made")}
	for _, d := range z.Rescued {
		c.Rows = append(c.Rows, []cell{name(d.Name), text(words.Count(int64(d.Tables))), name(d.Backup), text(words.Aged(d.AgeSeconds))})
	}
	x.table(c, render.RowsShown, 0)
}

// forecastFacts say how fast the database grows and when the disk is full.
func (s *sheet) forecastFacts() []htmlFact {
	if s.trends == nil {
		return nil
	}
	var facts []htmlFact
	if g := s.trends.Database; g != nil {
		facts = append(facts, htmlFact{Name: "Growth", Value: growthWords(g)})
	}
	if d := s.trends.Disk; d != nil {
		latest := "or never"
		if d.LatestDays != nil {
			latest = "at the latest " + words.Days(*d.LatestDays)
		}
		facts = append(facts, htmlFact{Name: "Disk full in", Value: fmt.Sprintf("%s at this pace (at the soonest %s, %s)", words.Days(d.Days), words.Days(d.SoonestDays), latest)})
	}
	return facts
}

// sizeTable splits tables into what they consist of.
func (s *sheet) sizeTable(caption string, items []reading.Table) htmlTable {
	t := htmlTable{
		Caption: caption, Columns: columns("Table", "Size#", "Heap#", "Indexes#", "TOAST#"),
		Legend: []htmlKey{{"heap", "heap"}, {"index", "indexes"}, {"toast", "TOAST"}},
	}
	items = slices.Clone(items)
	slices.SortStableFunc(items, func(a, b reading.Table) int { return cmp.Compare(b.Bytes(), a.Bytes()) })
	for _, k := range items {
		size := text("~" + words.Bytes(k.EstimatedBytes))
		parts := []cell{text("?"), text("?"), text("?")}
		largest := float64(items[0].Bytes())
		size.Bar = newBar(largest, []string{"unknown"}, float64(k.EstimatedBytes))
		if k.Exact {
			size = text(words.Bytes(k.TotalBytes))
			size.Bar = newBar(largest, []string{"heap", "index", "toast"}, float64(k.TableBytes), float64(k.IndexBytes), float64(k.ToastBytes))
			parts = []cell{text(words.Bytes(k.TableBytes)), text(words.Bytes(k.IndexBytes)), text(words.Bytes(k.ToastBytes))}
		}
		t.Rows = append(t.Rows, append([]cell{name(k.Schema + "." + k.Name), size}, parts...))
	}
	return t
}

// addChart adds charts that there is enough for.
func (s *sheet) addChart(x *htmlSection, charts ...*lineChart) {
	charts = slices.DeleteFunc(charts, func(c *lineChart) bool { return c == nil })
	if len(charts) > 0 {
		x.add(htmlBlock{Charts: charts})
	}
}
