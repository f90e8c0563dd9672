// Package text writes a report for a terminal.
package text

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Options say how Text lays a report out.
type Options struct {
	// Width is the widest line, in columns of the terminal; zero is 100, and
	// anything less than 60 is 60. Only SQL to paste may be wider.
	Width int
	// Color colours the report. The text is the same without.
	Color bool
}

// Write writes the report for a terminal: the verdict, the findings with their
// fixes, the sections, what was skipped, and what the look cost.
func Write(w io.Writer, report render.Report, opts Options) error {
	if opts.Width == 0 {
		opts.Width = 100
	}
	p := &page{report: report.Visible(), width: max(60, opts.Width), paint: terminal.Painter{On: opts.Color}}
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
	p.services()
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
	report render.Report
	width  int
	paint  terminal.Painter
}

// line writes one line, which the caller has cleaned and coloured.
func (p *page) line(s string) { p.WriteString(s + "\n") }

// prose writes a text, cleaned, wrapped and indented.
func (p *page) prose(indent int, style func(string) string, s string) {
	p.lines(indent, style, terminal.Wrap(words.Clean(s), p.width-indent))
}

// items writes items in a flow, cleaned and indented.
func (p *page) items(indent int, style func(string) string, items []string) {
	cleaned := make([]string, len(items))
	for i, s := range items {
		cleaned[i] = words.Clean(s)
	}
	p.lines(indent, style, terminal.Flow(cleaned, " · ", p.width-indent))
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
	p.line(p.paint.Bold(s) + " " + p.paint.Faint(rule))
}

// some adds a fact, unless its number is zero: only what there is is worth a place.
func some(facts []string, n int64, fact string) []string {
	if n == 0 {
		return facts
	}
	return append(facts, fact)
}

// none counts things, and says no where there are none.
func none(n int, one, more string) string {
	if n == 0 {
		return "no " + more
	}
	return words.Plural(n, one, more)
}

// plainly leaves a text without a style.
func plainly(s string) string { return s }

// head writes what the report is of, and the verdict.
func (p *page) head() {
	r := p.report.Reading
	p.prose(0, p.paint.Bold, fmt.Sprintf("pgmedic report: database %s, PostgreSQL %s (%s)",
		r.Database, r.Server.Version, r.Server.Role))
	when := "read " + r.TakenAt.UTC().Format("2006-01-02 15:04:05 UTC")
	if age := p.report.GeneratedAt.Sub(r.TakenAt); age > time.Minute {
		when += ", judged " + words.Duration(age) + " later"
	}
	p.prose(0, p.paint.Faint, when)
	p.line("")
	style := p.paint.Good
	if f := p.report.Findings; len(f) > 0 && f[0].Severity.Rank() > pgmedic.SeverityInfo.Rank() {
		style = func(s string) string { return p.paint.Severity(f[0].Severity, s) }
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
	object := terminal.Wrap(words.Clean(name), p.width-lipgloss.Width(word)-2)
	for i, l := range object {
		if i == 0 {
			p.line(p.paint.Severity(f.Severity, word) + "  " + p.paint.Bold(l))
			continue
		}
		p.line(strings.Repeat(" ", lipgloss.Width(word)+2) + p.paint.Bold(l))
	}
	p.prose(4, plainly, f.Summary)
	var facts []string
	for _, e := range f.Evidence {
		if e.Value != "" {
			facts = append(facts, fact(e))
		}
	}
	if len(facts) > 0 {
		p.items(4, p.paint.Faint, facts)
	}
	if f.Fix != "" {
		p.line("    Fix:")
		for l := range strings.SplitSeq(f.Fix, "\n") {
			p.line("      " + p.paint.SQL(words.Clean(l)))
		}
	}
	if f.Risk != "" {
		p.prose(4, plainly, "Risk: "+f.Risk)
	}
	p.prose(4, p.paint.Faint, "More: pgmedic explain "+f.ID)
}

// fact writes one piece of evidence for a reader. The end of its name says its
// unit: dead_tuples 60000 becomes "dead tuples 60,000", size_bytes 8192 becomes
// "size 8.0 KiB".
func fact(e pgmedic.Evidence) string {
	name, value := render.FactWords(e)
	return name + " " + value
}
