package html

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

// sheet makes the sections of an HTML report.
type sheet struct {
	report render.Report
	r      *reading.Reading
	trends *judge.Trends
	charts int
}

func newSheet(report render.Report) *sheet {
	return &sheet{report: report, r: report.Reading, trends: report.Trends}
}

// htmlSection is one section of the page.
type htmlSection struct {
	// ID is the section's name in findings.
	ID, Title string
	// Worst is the severity of its worst finding, Findings how many it has, and
	// First the first of them on the page.
	Worst    pgmedic.Severity
	Findings int
	First    string
	// Read is false where nothing of the section is known, and Judged where
	// nothing in it is judged.
	Read, Judged bool
	Blocks       []htmlBlock
	// Skipped are the things that could not be looked at.
	Skipped []htmlFact
	// Absent says why an unread section is empty where nothing was skipped.
	Absent string
}

// htmlBlock is one of its fields.
type htmlBlock struct {
	Heading string
	Facts   []htmlFact
	Note    string
	Table   *htmlTable
	Charts  []*lineChart
	Plan    *htmlPlan
}

// htmlPlan is how a statement would be carried out.
type htmlPlan struct{ Statement, Text string }

// htmlTable is a table with its first column as headers of rows.
type htmlTable struct {
	Caption string
	Columns []htmlColumn
	Rows    [][]cell
	// More says how many rows are not on the page.
	More string
	// Note explains the table, below it.
	Note   string
	Legend []htmlKey
}

// htmlColumn is a column: numbers are aligned to the right, and statements get
// more room.
type htmlColumn struct {
	Name         string
	Number, Wide bool
}

// htmlKey says what a colour of a bar or a line means.
type htmlKey struct{ Class, Name string }

// cell is one cell of a table.
type cell struct {
	Text string
	// Full is the whole text where Text is its beginning.
	Full string
	// Code is set for names and statements; Sub is a fainter second line.
	Code bool
	Sub  string
	Bar  *bar
}

// bar is a bar of up to a few pieces, of barWidth in all. The numbers that it
// shows stand beside it.
type bar struct{ Pieces []barPiece }

type barPiece struct{ Class, X, Width string }

// barWidth is the length of a bar, in its own units.
const barWidth = 100

// newBar makes a bar of pieces that are shares of whole.
func newBar(whole float64, classes []string, shares ...float64) *bar {
	b := &bar{}
	x := 0.0
	for i, share := range shares {
		if whole <= 0 || share <= 0 {
			continue
		}
		width := min(barWidth*share/whole, barWidth-x)
		b.Pieces = append(b.Pieces, barPiece{Class: classes[i], X: decimals(x), Width: decimals(max(width, 0))})
		x += width
	}
	return b
}

// decimals writes a coordinate. More digits would make the page larger, and no
// chart finer.
func decimals(x float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(x, 'f', 1, 64), ".0")
}

// longestCell is how many characters of a name or a statement a cell shows
// before the rest is folded away, and longestText how many are kept at all.
const (
	longestCell = 140
	longestText = 2000
)

// name is a cell with what a server calls something, or a statement.
func name(s string) cell {
	if s == "" {
		return cell{Text: "-"}
	}
	c := cell{Text: words.Clean(s), Code: true}
	if short := cut(c.Text, longestCell); short != c.Text {
		c.Text, c.Full = short, cut(c.Text, longestText)
	}
	return c
}

// text is a cell with our own words, or a number.
func text(s string) cell { return cell{Text: cut(words.Clean(words.OrDash(s)), longestCell)} }

// share is a cell with a bar and a percentage.
func share(part, whole float64, class string) cell {
	if whole <= 0 {
		return cell{Text: "-"}
	}
	words := words.Percent(100 * part / whole)
	// What is there is not nothing.
	if part > 0 && words == "0 %" {
		words = "< 0.1 %"
	}
	return cell{Text: words, Bar: newBar(whole, []string{class}, part)}
}

// cut shortens a text to a number of characters and marks the cut.
func cut(s string, most int) string {
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i] + "…"
		}
	}
	return s
}

// columns makes the columns of a table; the name of one with numbers ends in #.
func columns(names ...string) []htmlColumn {
	all := make([]htmlColumn, len(names))
	for i, n := range names {
		all[i] = htmlColumn{Name: n, Wide: n == "Statement"}
		if last := len(n) - 1; n[last] == '#' {
			all[i] = htmlColumn{Name: n[:last], Number: true}
		}
	}
	return all
}

// add adds a block.
func (x *htmlSection) add(b htmlBlock) { x.Read, x.Blocks = true, append(x.Blocks, b) }

// facts adds names and values; those without a value are left out.
func (x *htmlSection) facts(facts ...htmlFact) {
	var all []htmlFact
	for _, f := range facts {
		if f.Value != "" {
			all = append(all, htmlFact{Name: words.Clean(f.Name), Value: cut(words.Clean(f.Value), longestCell), Code: f.Code})
		}
	}
	if len(all) > 0 {
		x.add(htmlBlock{Facts: all})
	}
}

// note adds a sentence.
func (x *htmlSection) note(format string, args ...any) {
	x.add(htmlBlock{Note: words.Clean(fmt.Sprintf(format, args...))})
}

// plan adds the plan of a statement, where one was asked for.
func (x *htmlSection) plan(k reading.Statement) {
	if len(k.Plan) == 0 {
		return
	}
	lines := make([]string, len(k.Plan))
	for i, l := range k.Plan {
		step := strings.TrimLeft(l, " ")
		lines[i] = l[:len(l)-len(step)] + words.Clean(step)
	}
	x.add(htmlBlock{Plan: &htmlPlan{Statement: cut(words.Clean(k.Query), longestCell), Text: strings.Join(lines, "\n")}})
}

// table adds a table, unless it is empty. What is beyond the rows shown is
// counted: all is how many there are, or zero where nobody knows more.
func (x *htmlSection) table(t htmlTable, shown, all int) {
	if len(t.Rows) == 0 {
		return
	}
	if len(t.Rows) > shown {
		all = max(all, len(t.Rows))
		t.Rows = t.Rows[:shown]
	}
	if rest := all - len(t.Rows); rest > 0 {
		t.More = "and " + words.Count(int64(rest)) + " more"
	}
	for _, row := range t.Rows {
		for i := range row {
			row[i].Sub = cut(words.Clean(row[i].Sub), longestCell)
		}
	}
	x.add(htmlBlock{Table: &t})
}

// sectionNames are the sections in the order of the page.
func sectionNames() [][2]string {
	return [][2]string{
		{reading.SectionOverview, "Overview"}, {reading.SectionConnections, "Connections"}, {reading.SectionStatements, "Slow queries"},
		{reading.SectionIndexes, "Indexes"}, {reading.SectionTables, "Tables and bloat"}, {reading.SectionLocks, "Locks"},
		{reading.SectionCache, "Cache"}, {reading.SectionSize, "Size and growth"}, {reading.SectionTransactions, "Transactions"},
		{reading.SectionReplication, "Replication"}, {reading.SectionCheckpoints, "Checkpoints, WAL and I/O"},
		{reading.SectionLimits, "Wraparound and limits"}, {reading.SectionWaits, "Waits"}, {reading.SectionServices, "Services"}, {reading.SectionTrends, "Trends"}, {reading.SectionSettings, "Recommendations"},
		{reading.SectionBackups, "Backups"},
	}
}

// sectionTitle is what the page calls a section.
func sectionTitle(id string) string {
	for _, s := range sectionNames() {
		if s[0] == id {
			return s[1]
		}
	}
	return words.Clean(id)
}

// sectionAnchor is a section's id on the page, or empty for one that it has
// not.
func sectionAnchor(id string) string {
	for _, s := range sectionNames() {
		if s[0] == id {
			return "section-" + id
		}
	}
	return ""
}

// sections makes all sections, in order.
func (s *sheet) sections() []*htmlSection {
	fill := map[string]func(*htmlSection){
		reading.SectionOverview: s.overview, reading.SectionConnections: s.connections, reading.SectionStatements: s.statements,
		reading.SectionIndexes: s.indexes, reading.SectionTables: s.tables, reading.SectionLocks: s.locks, reading.SectionCache: s.cache,
		reading.SectionSize: s.size, reading.SectionTransactions: s.transactions, reading.SectionReplication: s.replication,
		reading.SectionCheckpoints: s.checkpoints, reading.SectionLimits: s.limits, reading.SectionWaits: s.waits, reading.SectionServices: func(x *htmlSection) { services(x, s.r) }, reading.SectionTrends: s.trendsSection,
		reading.SectionSettings: s.settings, reading.SectionBackups: s.backups,
	}
	var all []*htmlSection
	for _, names := range sectionNames() {
		x := &htmlSection{ID: names[0], Title: names[1], Judged: names[0] != reading.SectionOverview}
		fill[x.ID](x)
		s.judge(x)
		s.skipped(x)
		all = append(all, x)
	}
	if len(s.r.Databases) > 0 {
		x := &htmlSection{ID: "databases", Title: "Other databases"}
		s.otherDatabases(x)
		all = append(all, x)
	}
	return all
}

// judge counts the section's findings.
func (s *sheet) judge(x *htmlSection) {
	for i, f := range s.report.Findings {
		if f.Section != x.ID {
			continue
		}
		if x.Findings == 0 {
			x.Worst, x.First = f.Severity, "finding-"+strconv.Itoa(i+1)
		}
		x.Findings++
	}
}

// skipped lists what of the section could not be looked at.
func (s *sheet) skipped(x *htmlSection) {
	for _, k := range s.r.Skipped {
		// What belongs to no section of ours is said in the first.
		if k.Section == x.ID || x.ID == reading.SectionOverview && sectionAnchor(k.Section) == "" {
			x.Skipped = append(x.Skipped, htmlFact{Name: cut(words.Clean(k.Query), longestCell), Value: cut(words.Clean(k.Reason), longestCell)})
		}
	}
	if x.Read || len(x.Skipped) > 0 {
		return
	}
	switch x.ID {
	case reading.SectionWaits:
		x.Absent = "Waits are sampled over an interval: pgmedic report --interval 10s."
	case reading.SectionServices:
		x.Absent = "No service was named: pgmedic report --pool http://clinic:8080/debug/pool."
	case reading.SectionTrends:
		x.Absent = "There are no earlier readings here, so there are no charts: from the second reading that the history keeps, they show how the server got here."
	case reading.SectionBackups:
		x.Absent = "No store of backups was read."
	default:
		x.Absent = "Not part of this report."
	}
}
