package render

import (
	"fmt"
	"strconv"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// server writes the overview.
func (p *page) server() {
	r := p.report.Reading
	if !r.Wants(reading.SectionOverview) {
		return
	}
	p.title("Server")
	facts := []string{
		"PostgreSQL " + r.Server.Version, string(r.Server.Role), "up " + seconds(r.Server.UptimeSeconds),
	}
	if r.Size != nil {
		facts = append(facts, "database "+Bytes(r.Size.DatabaseBytes))
	}
	p.items(2, plainly, facts)
	var settings []string
	for _, name := range []string{
		"shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem", "max_wal_size",
		"random_page_cost", "autovacuum", "fsync", "full_page_writes", "data_checksums", "wal_level", "archive_mode",
	} {
		for _, s := range r.Server.Settings {
			if s.Name == name {
				settings = append(settings, s.Name+" "+settingValue(s))
			}
		}
	}
	for _, s := range r.Server.Settings {
		if s.PendingRestart {
			settings = append(settings, s.Name+" changes at the next restart")
		}
	}
	if len(settings) > 0 {
		p.items(2, p.paint.faint, settings)
	}
	var extensions []string
	for _, e := range r.Server.Extensions {
		extensions = append(extensions, e.Name+" "+e.Version)
	}
	if len(extensions) > 0 {
		extensions[0] = "extensions: " + extensions[0]
		p.items(2, p.paint.faint, extensions)
	}
}

// settingValue writes a setting with the unit that a reader wants.
func settingValue(s reading.Setting) string {
	n, err := strconv.ParseInt(s.Value, 10, 64)
	if err != nil || n < 0 {
		return s.Value
	}
	switch s.Unit {
	case "B":
		return Bytes(n)
	case "kB":
		return Bytes(n << 10)
	case "8kB":
		return Bytes(n << 13)
	case "MB":
		return Bytes(n << 20)
	case "ms":
		return Duration(time.Duration(n) * time.Millisecond)
	case "s":
		return Duration(time.Duration(n) * time.Second)
	case "min":
		return Duration(time.Duration(n) * time.Minute)
	case "":
		return s.Value
	default:
		return s.Value + " " + s.Unit
	}
}

// connections writes who is connected.
func (p *page) connections() {
	c := p.report.Reading.Connections
	if c == nil {
		return
	}
	p.title("Connections")
	if usable := c.Usable(); usable > 0 {
		facts := []string{
			fmt.Sprintf("%s of %s taken (%s)", Count(int64(c.Used)), Count(int64(usable)),
				percent(100*float64(c.Used)/float64(usable))),
			fmt.Sprintf("max_connections %d, %d reserved", c.MaxConnections, c.SuperuserReserved+c.Reserved),
			"oldest transaction " + seconds(c.OldestTransactionSeconds),
		}
		if c.WaitingForLock > 0 {
			facts = append(facts, fmt.Sprintf("%d waiting for a lock", c.WaitingForLock))
		}
		p.items(2, plainly, facts)
	}
	var states []string
	for _, s := range c.ByState {
		states = append(states, s.State+" "+Count(int64(s.Connections)))
	}
	if len(states) > 0 {
		p.items(2, plainly, states)
	}
	p.items(2, p.paint.faint, []string{
		"connections " + seconds(c.AverageConnectionSeconds) + " old on average, oldest " + seconds(c.OldestConnectionSeconds),
		"transactions " + seconds(c.AverageTransactionSeconds) + " on average",
		"longest statement " + seconds(c.OldestQuerySeconds) + ", " + seconds(c.AverageQuerySeconds) + " on average",
	})
	if len(c.ByUser) == 0 {
		return
	}
	var rows [][]string
	for _, u := range c.ByUser {
		rows = append(rows, []string{u.User, orDash(u.Application), Count(int64(u.Connections))})
	}
	p.table([]string{"ROLE", "APPLICATION", "CONNECTIONS"}, rows, []int{2}, []int{0, 1})
	rows = nil
	for _, s := range c.Longest[:min(len(c.Longest), 5)] {
		rows = append(rows, []string{strconv.Itoa(s.PID), s.User, s.State, orDash(s.WaitEvent), seconds(s.TransactionSeconds), s.Query})
	}
	if len(rows) > 0 {
		p.table([]string{"PID", "ROLE", "STATE", "WAITS FOR", "TRANSACTION", "STATEMENT"}, rows, nil, []int{5, 3})
	}
}

// table writes a table within the page, after an empty line.
func (p *page) table(headers []string, rows [][]string, right, shrink []int) {
	p.line("")
	p.WriteString(Table(headers, rows, TableOptions{
		Width: p.width, Indent: 2, Right: right, Shrink: shrink, Color: p.paint.on,
	}))
}

// orDash fills an empty cell.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// cache writes the lifetime hit ratio, labelled as what it is.
func (p *page) cache() {
	c := p.report.Reading.Cache
	if c == nil {
		return
	}
	p.title("Cache")
	total := c.LifetimeHits + c.LifetimeReads
	since := "since statistics were first kept"
	if c.StatsReset != nil {
		since = "since " + c.StatsReset.UTC().Format("2006-01-02 15:04 UTC")
	}
	if total == 0 {
		p.prose(2, plainly, "No block was accessed "+since+".")
		return
	}
	p.items(2, plainly, []string{
		percent(100*float64(c.LifetimeHits)/float64(total)) + " found in shared_buffers, lifetime, " + since,
		Count(c.LifetimeHits) + " hits", Count(c.LifetimeReads) + " reads",
	})
	if b := p.report.Reading.Before; b != nil && b.Cache != nil {
		hits, reads := c.LifetimeHits-b.Cache.LifetimeHits, c.LifetimeReads-b.Cache.LifetimeReads
		if hits+reads > 0 {
			p.items(2, p.paint.bold, []string{
				"in the last " + Duration(p.report.Reading.TakenAt.Sub(b.TakenAt)), percent(100*float64(hits)/float64(hits+reads)) + " found",
			})
		}
	}
	var rows [][]string
	for _, t := range c.Tables[:min(len(c.Tables), 5)] {
		if t.Reads() > 0 {
			rows = append(rows, []string{
				t.Schema + "." + t.Name, percent(100 * float64(t.Hits()) / float64(t.Hits()+t.Reads())), Count(t.HeapReads), Count(t.IndexReads), Count(t.ToastReads),
			})
		}
	}
	if len(rows) > 0 {
		p.table([]string{"MOST READS", "FOUND", "HEAP", "INDEXES", "TOAST"}, rows, []int{1, 2, 3, 4}, []int{0})
	}
}

const (
	// tablesShown bounds the table of tables.
	tablesShown = 20
	// splitWidth is how wide a page must be to show what a size is made of.
	splitWidth = 90
)

// tables writes the largest tables.
func (p *page) tables() {
	t := p.report.Reading.Tables
	if t == nil {
		return
	}
	p.title("Tables")
	var facts []string
	if t.Items != nil {
		facts = append(facts, Count(int64(t.Total))+" in all")
	}
	if t.WithoutPrimaryKey != nil {
		facts = append(facts, Count(int64(t.WithoutPrimaryKeyTotal))+" without a primary key")
	}
	if len(facts) > 0 {
		p.items(2, plainly, facts)
	}
	if shown := len(t.WithoutPrimaryKey); shown < t.WithoutPrimaryKeyTotal {
		p.prose(2, plainly, fmt.Sprintf("The findings are about the %d largest without one.", shown))
	}
	if len(t.Items) == 0 {
		return
	}
	var rows [][]string
	now := p.report.Reading.TakenAt
	for _, x := range t.Items[:min(len(t.Items), tablesShown)] {
		rows = append(rows, tableRow(x, now))
	}
	headers := []string{"LARGEST TABLES", "ROWS", "DEAD", "VACUUMED", "SIZE", "BLOAT", "HEAP", "INDEXES", "TOAST"}
	if p.width < splitWidth {
		// Table takes no more cells than there are headers.
		headers = headers[:5]
	}
	p.table(headers, rows, []int{1, 2, 3, 4, 5, 6, 7, 8}, []int{0})
	for _, v := range t.Vacuums {
		p.prose(2, plainly, fmt.Sprintf("VACUUM of %s.%s: %s, %s of %s blocks read, for %s.", v.Schema, v.Table, v.Phase,
			Count(v.ScannedBlocks), Count(v.HeapBlocks), seconds(v.Seconds)))
	}
}

// tableRow writes one table. An estimate is marked as such.
func tableRow(t reading.Table, now time.Time) []string {
	dead := "-"
	if all := t.LiveTuples + t.DeadTuples; all > 0 {
		dead = percent(100 * float64(t.DeadTuples) / float64(all))
	}
	sizes := []string{"~" + Bytes(t.EstimatedBytes), "?", "?", "?"}
	if t.Exact {
		sizes = []string{Bytes(t.TotalBytes), Bytes(t.TableBytes), Bytes(t.IndexBytes), Bytes(t.ToastBytes)}
	}
	var vacuumed time.Time
	for _, at := range []*time.Time{t.LastVacuum, t.LastAutovacuum} {
		if at != nil && at.After(vacuumed) {
			vacuumed = *at
		}
	}
	bloat := "-"
	if t.Bloat != nil {
		bloat = "~" + Bytes(t.Bloat.Bytes)
		if t.Bloat.Confidence == "high" {
			bloat = Bytes(t.Bloat.Bytes)
		}
	}
	return append([]string{t.Schema + "." + t.Name, Count(t.LiveTuples), dead, Ago(now, vacuumed), sizes[0], bloat}, sizes[1:]...)
}

// indexes writes what was looked at in the indexes.
func (p *page) indexes() {
	x := p.report.Reading.Indexes
	if x == nil {
		return
	}
	p.title("Indexes")
	p.prose(2, plainly, plural(x.ForeignKeysWithoutIndexTotal, "foreign key")+" without a supporting index.")
	if shown := len(x.ForeignKeysWithoutIndex); shown < x.ForeignKeysWithoutIndexTotal {
		p.prose(2, plainly, fmt.Sprintf("The findings are about the %d on the largest tables.", shown))
	}
	if x.Largest == nil {
		return
	}
	p.items(2, plainly, []string{
		pluralOf(x.Total, "index", "indexes") + ", " + Bytes(x.EstimatedBytes), Count(int64(x.UnusedTotal)) + " never scanned",
		fmt.Sprintf("%d invalid", len(x.Invalid)), fmt.Sprintf("%d redundant", len(x.Redundant)),
	})
	var rows [][]string
	for _, i := range x.Largest[:min(len(x.Largest), most)] {
		bloat := "-"
		if i.BloatBytes != nil {
			bloat = "~" + Bytes(*i.BloatBytes)
		}
		rows = append(rows, []string{i.Schema + "." + i.Name, i.TableSchema + "." + i.Table, i.Method, Count(i.Scans), Bytes(i.EstimatedBytes), bloat})
	}
	if len(rows) > 0 {
		p.table([]string{"LARGEST INDEXES", "TABLE", "METHOD", "SCANS", "SIZE", "BLOAT"}, rows, []int{3, 4, 5}, []int{0, 1})
	}
}

// skipped writes what could not be looked at, and why.
func (p *page) skipped() {
	if len(p.report.Reading.Skipped) == 0 {
		return
	}
	p.title("Not looked at")
	for _, s := range p.report.Reading.Skipped {
		p.prose(2, plainly, fmt.Sprintf("%s (%s): %s", s.Query, s.Section, s.Reason))
	}
}

// cost writes what the look itself took.
func (p *page) cost() {
	c := p.report.Reading.Cost
	p.line("")
	cost := pluralOf(c.Queries, "query", "queries")
	// Earlier versions did not count them.
	if c.Connections > 0 {
		cost += fmt.Sprintf(" (%s in all) on %s", plural(c.Statements, "statement"), plural(c.Connections, "connection"))
	}
	p.prose(0, p.paint.faint, fmt.Sprintf("This look cost the server %s in %s.", cost, seconds(c.Seconds)))
}

// pluralOf writes a number of things whose plural is its own word.
func pluralOf(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(int64(n)) + " " + more
}
