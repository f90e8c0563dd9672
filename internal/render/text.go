package render

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic"
)

// TextOptions say how Text lays a report out.
type TextOptions struct {
	// Width is the widest line, in columns of the terminal; zero is 100, and
	// anything less than 60 is 60. Only SQL to paste may be wider.
	Width int
	// Color colours the report. The text is the same without.
	Color bool
}

// Text writes the report for a terminal: the verdict, the findings with their
// fixes, the sections, what was skipped, and what the look cost.
func Text(w io.Writer, report Report, opts TextOptions) error {
	if opts.Width == 0 {
		opts.Width = 100
	}
	p := &page{report: report.visible(), width: max(60, opts.Width), paint: paint{opts.Color}}
	p.head()
	p.findings()
	p.server()
	p.backups()
	p.trends()
	p.connections()
	p.locks()
	p.replication()
	p.limits()
	p.tables()
	p.indexes()
	p.statements()
	p.cache()
	p.size()
	p.transactions()
	p.checkpoints()
	p.waits()
	p.otherDatabases()
	p.muted()
	p.skipped()
	p.cost()
	if _, err := w.Write(p.Bytes()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// page is a text report in the making.
type page struct {
	bytes.Buffer
	report Report
	width  int
	paint  paint
}

// line writes one line, which the caller has cleaned and coloured.
func (p *page) line(s string) { p.WriteString(s + "\n") }

// prose writes a text, cleaned, wrapped and indented.
func (p *page) prose(indent int, style func(string) string, s string) {
	p.lines(indent, style, wrap(Clean(s), p.width-indent))
}

// items writes items in a flow, cleaned and indented.
func (p *page) items(indent int, style func(string) string, items []string) {
	cleaned := make([]string, len(items))
	for i, s := range items {
		cleaned[i] = Clean(s)
	}
	p.lines(indent, style, flow(cleaned, " · ", p.width-indent))
}

// lines writes lines that fit, indented.
func (p *page) lines(indent int, style func(string) string, lines []string) {
	for _, l := range lines {
		p.line(strings.Repeat(" ", indent) + style(l))
	}
}

// title begins a section.
func (p *page) title(s string) {
	p.line("")
	rule := strings.Repeat("─", max(0, p.width-lipgloss.Width(s)-1))
	p.line(p.paint.bold(s) + " " + p.paint.faint(rule))
}

// plainly leaves a text without a style.
func plainly(s string) string { return s }

// head writes what the report is of, and the verdict.
func (p *page) head() {
	r := p.report.Reading
	p.prose(0, p.paint.bold, fmt.Sprintf("pgmedic report: database %s, PostgreSQL %s (%s)",
		r.Database, r.Server.Version, r.Server.Role))
	when := "read " + r.TakenAt.UTC().Format("2006-01-02 15:04:05 UTC")
	if age := p.report.GeneratedAt.Sub(r.TakenAt); age > time.Minute {
		when += ", judged " + Duration(age) + " later"
	}
	p.prose(0, p.paint.faint, when)
	p.line("")
	style := p.paint.good
	if f := p.report.Findings; len(f) > 0 && f[0].Severity.Rank() > pgmedic.SeverityInfo.Rank() {
		style = func(s string) string { return p.paint.severity(f[0].Severity, s) }
	}
	p.prose(0, style, p.report.Verdict)
}

// mark is the symbol and the word of a severity, which must not depend on
// colour alone.
func mark(s pgmedic.Severity) string {
	switch s {
	case pgmedic.SeverityCritical:
		return "✖ CRITICAL"
	case pgmedic.SeverityWarn:
		return "▲ WARNING"
	default:
		return "• NOTE"
	}
}

// findings writes every finding, worst first as they come.
func (p *page) findings() {
	if len(p.report.Findings) == 0 {
		return
	}
	p.title("Findings")
	for i, f := range p.report.Findings {
		if i > 0 {
			p.line("")
		}
		p.finding(f)
	}
}

// finding writes one finding. Its fix stands alone on its lines, so that it
// can be selected and pasted.
func (p *page) finding(f pgmedic.Finding) {
	word := mark(f.Severity)
	name := f.Object
	if f.Database != "" {
		name += ", in database " + f.Database
	}
	object := wrap(Clean(name), p.width-lipgloss.Width(word)-2)
	for i, l := range object {
		if i == 0 {
			p.line(p.paint.severity(f.Severity, word) + "  " + p.paint.bold(l))
			continue
		}
		p.line(strings.Repeat(" ", lipgloss.Width(word)+2) + p.paint.bold(l))
	}
	p.prose(4, plainly, f.Summary)
	var facts []string
	for _, e := range f.Evidence {
		if e.Value != "" {
			facts = append(facts, fact(e))
		}
	}
	if len(facts) > 0 {
		p.items(4, p.paint.faint, facts)
	}
	if f.Fix != "" {
		p.line("    Fix:")
		for l := range strings.SplitSeq(f.Fix, "\n") {
			p.line("      " + p.paint.sql(Clean(l)))
		}
	}
	if f.Risk != "" {
		p.prose(4, plainly, "Risk: "+f.Risk)
	}
	p.prose(4, p.paint.faint, "More: pgmedic explain "+f.ID)
}

// fact writes one piece of evidence for a reader. The end of its name says its
// unit: dead_tuples 60000 becomes "dead tuples 60,000", size_bytes 8192 becomes
// "size 8.0 KiB".
func fact(e pgmedic.Evidence) string {
	name, value := factWords(e)
	return name + " " + value
}

// factWords is fact in two parts.
func factWords(e pgmedic.Evidence) (name, value string) {
	name, value = e.Name, e.Value
	number, err := strconv.ParseFloat(value, 64)
	whole, wholeErr := strconv.ParseInt(value, 10, 64)
	moment, timeErr := time.Parse(time.RFC3339, value)
	switch {
	case strings.HasSuffix(name, "_bytes") && wholeErr == nil:
		name, value = strings.TrimSuffix(name, "_bytes"), Bytes(whole)
	case strings.HasSuffix(name, "_seconds") && err == nil:
		name, value = strings.TrimSuffix(name, "_seconds"), seconds(number)
	case strings.HasSuffix(name, "_percent") && err == nil:
		name, value = strings.TrimSuffix(name, "_percent"), percent(number)
	case wholeErr == nil:
		value = Count(whole)
	case timeErr == nil:
		value = moment.UTC().Format("2006-01-02 15:04 UTC")
	}
	return strings.ReplaceAll(name, "_", " "), value
}

// seconds writes a number of seconds as Duration does.
func seconds(s float64) string { return Duration(time.Duration(s * float64(time.Second))) }

// percent writes a share with one decimal, or none where it is whole.
func percent(p float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(p, 'f', 1, 64), ".0") + " %"
}
