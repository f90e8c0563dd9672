package text

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// server writes the overview.
func (p *page) server() {
	r := p.report.Reading
	if !r.Wants(reading.SectionOverview) {
		return
	}
	p.title("Server")
	facts := []string{
		"PostgreSQL " + r.Server.Version, string(r.Server.Role), "up " + words.Seconds(r.Server.UptimeSeconds),
	}
	if r.Size != nil {
		facts = append(facts, "database "+words.Bytes(r.Size.DatabaseBytes))
	}
	p.items(2, plainly, facts)
	var settings []string
	for _, name := range []string{
		"shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem", "max_wal_size",
		"random_page_cost", "autovacuum", "fsync", "full_page_writes", "data_checksums", "wal_level", "archive_mode",
	} {
		for _, s := range r.Server.Settings {
			if s.Name == name {
				settings = append(settings, s.Name+" "+render.SettingValue(s))
			}
		}
	}
	for _, s := range r.Server.Settings {
		if s.PendingRestart {
			settings = append(settings, s.Name+" changes at the next restart")
		}
	}
	if len(settings) > 0 {
		p.items(2, p.paint.Faint, settings)
	}
	var extensions []string
	for _, e := range r.Server.Extensions {
		extensions = append(extensions, e.Name+" "+e.Version)
	}
	if len(extensions) > 0 {
		extensions[0] = "extensions: " + extensions[0]
		p.items(2, p.paint.Faint, extensions)
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
			fmt.Sprintf("%s of %s taken (%s)", words.Count(int64(c.Used)), words.Count(int64(usable)),
				words.Percent(100*float64(c.Used)/float64(usable))),
			fmt.Sprintf("max_connections %d, %d reserved", c.MaxConnections, c.SuperuserReserved+c.Reserved),
			"oldest transaction " + words.Seconds(c.OldestTransactionSeconds),
		}
		if c.WaitingForLock > 0 {
			facts = append(facts, fmt.Sprintf("%d waiting for a lock", c.WaitingForLock))
		}
		p.items(2, plainly, facts)
	}
	var states []string
	for _, s := range c.ByState {
		states = append(states, s.State+" "+words.Count(int64(s.Connections)))
	}
	if len(states) > 0 {
		p.items(2, plainly, states)
	}
	p.items(2, p.paint.Faint, []string{
		"connections " + words.Seconds(c.AverageConnectionSeconds) + " old on average, oldest " + words.Seconds(c.OldestConnectionSeconds),
		"transactions " + words.Seconds(c.AverageTransactionSeconds) + " on average",
		"longest statement " + words.Seconds(c.OldestQuerySeconds) + ", " + words.Seconds(c.AverageQuerySeconds) + " on average",
	})
	if len(c.ByUser) == 0 {
		return
	}
	var rows [][]string
	for _, u := range c.ByUser {
		rows = append(rows, []string{u.User, words.OrDash(u.Application), words.Count(int64(u.Connections))})
	}
	p.table([]string{"ROLE", "APPLICATION", "CONNECTIONS"}, rows, []int{2}, []int{0, 1})
	rows = nil
	for _, s := range c.Longest[:min(len(c.Longest), 5)] {
		rows = append(rows, []string{strconv.Itoa(s.PID), s.User, s.State, words.OrDash(s.WaitEvent), words.Seconds(s.TransactionSeconds), s.Query})
	}
	if len(rows) > 0 {
		p.table([]string{"PID", "ROLE", "STATE", "WAITS FOR", "TRANSACTION", "STATEMENT"}, rows, nil, []int{5, 3})
	}
}

// table writes a table within the page, after an empty line. Where it is too wide, columns
// are below their rows: those of move, or else those that may be shortened but for the first.
func (p *page) table(headers []string, rows [][]string, right, shrink []int, move ...int) {
	if move == nil {
		move = slices.DeleteFunc(slices.Clone(shrink), func(c int) bool { return c == 0 })
	}
	p.line("")
	p.WriteString(terminal.Table(headers, rows, terminal.TableOptions{
		Width: p.width, Indent: 2, Right: right, Shrink: shrink, Move: move, Color: p.paint.On,
	}))
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
		words.Percent(100*float64(c.LifetimeHits)/float64(total)) + " found in shared_buffers, lifetime, " + since,
		words.Plural(c.LifetimeHits, "hit"), words.Plural(c.LifetimeReads, "read"),
	})
	if b := p.report.Reading.Before; b != nil && b.Cache != nil {
		hits, reads := c.LifetimeHits-b.Cache.LifetimeHits, c.LifetimeReads-b.Cache.LifetimeReads
		if hits+reads > 0 {
			p.items(2, p.paint.Bold, []string{
				"in the last " + words.Duration(p.report.Reading.TakenAt.Sub(b.TakenAt)), words.Percent(100*float64(hits)/float64(hits+reads)) + " found",
			})
		}
	}
	var rows [][]string
	for _, t := range c.Tables[:min(len(c.Tables), 5)] {
		if t.Reads() > 0 {
			rows = append(rows, []string{
				t.Schema + "." + t.Name, words.Percent(100 * float64(t.Hits()) / float64(t.Hits()+t.Reads())), words.Count(t.HeapReads), words.Count(t.IndexReads), words.Count(t.ToastReads),
			})
		}
	}
	if len(rows) > 0 {
		p.table([]string{"MOST READS", "FOUND", "HEAP", "INDEXES", "TOAST"}, rows, []int{1, 2, 3, 4}, []int{0})
	}
}

const (
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
		facts = append(facts, words.Count(int64(t.Total))+" in all")
	}
	if t.WithoutPrimaryKey != nil && t.WithoutPrimaryKeyTotal > 0 {
		facts = append(facts, words.Count(int64(t.WithoutPrimaryKeyTotal))+" without a primary key")
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
	for _, x := range t.Items[:min(len(t.Items), render.TablesShown)] {
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
			words.Count(v.ScannedBlocks), words.Count(v.HeapBlocks), words.Seconds(v.Seconds)))
	}
}

// tableRow writes one table. An estimate is marked as such.
func tableRow(t reading.Table, now time.Time) []string {
	dead := "-"
	if all := t.LiveTuples + t.DeadTuples; all > 0 {
		dead = words.Percent(100 * float64(t.DeadTuples) / float64(all))
	}
	sizes := []string{"~" + words.Bytes(t.EstimatedBytes), "?", "?", "?"}
	if t.Exact {
		sizes = []string{words.Bytes(t.TotalBytes), words.Bytes(t.TableBytes), words.Bytes(t.IndexBytes), words.Bytes(t.ToastBytes)}
	}
	var vacuumed time.Time
	for _, at := range []*time.Time{t.LastVacuum, t.LastAutovacuum} {
		if at != nil && at.After(vacuumed) {
			vacuumed = *at
		}
	}
	bloat := "-"
	if t.Bloat != nil {
		bloat = "~" + words.Bytes(t.Bloat.Bytes)
		if t.Bloat.Confidence == "high" {
			bloat = words.Bytes(t.Bloat.Bytes)
		}
	}
	return append([]string{t.Schema + "." + t.Name, words.Count(t.LiveTuples), dead, words.Ago(now, vacuumed), sizes[0], bloat}, sizes[1:]...)
}

// indexes writes what was looked at in the indexes.
func (p *page) indexes() {
	x := p.report.Reading.Indexes
	if x == nil {
		return
	}
	p.title("Indexes")
	if x.ForeignKeysWithoutIndexTotal > 0 {
		p.prose(2, plainly, words.Plural(x.ForeignKeysWithoutIndexTotal, "foreign key")+" without a supporting index.")
	}
	if shown := len(x.ForeignKeysWithoutIndex); shown < x.ForeignKeysWithoutIndexTotal {
		p.prose(2, plainly, fmt.Sprintf("The findings are about the %d on the largest tables.", shown))
	}
	if x.Largest == nil {
		return
	}
	facts := some([]string{words.Plural(x.Total, "index", "indexes") + ", " + words.Bytes(x.EstimatedBytes)},
		int64(x.UnusedTotal), words.Count(int64(x.UnusedTotal))+" never scanned")
	facts = some(facts, int64(len(x.Invalid)), fmt.Sprintf("%d invalid", len(x.Invalid)))
	p.items(2, plainly, some(facts, int64(len(x.Redundant)), fmt.Sprintf("%d redundant", len(x.Redundant))))
	var rows [][]string
	for _, i := range x.Largest[:min(len(x.Largest), render.RowsShown)] {
		bloat := "-"
		if i.BloatBytes != nil {
			bloat = "~" + words.Bytes(*i.BloatBytes)
		}
		rows = append(rows, []string{i.Schema + "." + i.Name, i.TableSchema + "." + i.Table, i.Method, words.Count(i.Scans), words.Bytes(i.EstimatedBytes), bloat})
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
	p.title("Not checked")
	for _, s := range p.report.Reading.Skipped {
		p.prose(2, plainly, fmt.Sprintf("%s (%s): %s", s.Query, s.Section, s.Reason))
	}
}

// cost writes what the look itself took.
func (p *page) cost() {
	c := p.report.Reading.Cost
	p.line("")
	cost := words.Plural(c.Queries, "query", "queries")
	// Earlier versions did not count them.
	if c.Connections > 0 {
		cost += fmt.Sprintf(" (%s in all) on %s", words.Plural(c.Statements, "statement"), words.Plural(c.Connections, "connection"))
	}
	p.prose(0, p.paint.Faint, fmt.Sprintf("Collecting this report cost the server %s in %s.", cost, words.Seconds(c.Seconds)))
}
