// Package html writes a report as one HTML page that needs nothing from anywhere else.
package html

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

// htmlFiles are the page's template, its style and its script.
//
//go:embed *.html report.css report.js
var htmlFiles embed.FS

// Options say what an HTML report holds beside the report.
type Options struct {
	// Explain returns what the documentation says of a kind of finding, in
	// Markdown, or nothing. Nil explains none.
	Explain func(id string) string
}

// htmlPage is what the template writes. Every text in it that came from a
// server went through Clean, and the template escapes it once more.
type htmlPage struct {
	Database string
	// Headline says what is worst, of Object; Verdict is the report's own line.
	Object, Headline, Verdict string

	// Tone is the worst finding's severity; without any it is good, or unknown
	// where not everything could be looked at.
	Tone          string
	Facts         []htmlFact
	TakenAt       time.Time
	Judged        string
	Counts        []htmlCount
	Tiles         []htmlTile
	Findings      []*htmlGroup
	FindingsTotal int
	Muted         []htmlMuted
	Sections      []*htmlSection
	Cost          string
	CSS           template.CSS
	JS            template.JS
	Policy        string
}

// htmlCount is how many findings there are of one severity.
type htmlCount struct {
	Severity pgmedic.Severity
	Count    int
	Word     string
}

// Write writes the report as one page that fetches nothing: style, script and
// charts are in it, and its own Content-Security-Policy allows these alone, by
// their hashes. Without the script the page is complete. The same report gives
// the same bytes.
func Write(w io.Writer, report render.Report, opts Options) error {
	page, err := newHTMLPage(report.Visible(), opts)
	if err != nil {
		return err
	}
	t, err := template.New("page.html").Funcs(template.FuncMap{
		"severityWord": severityWord,
		"iso":          func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"utc":          utc,
	}).ParseFS(htmlFiles, "*.html")
	if err != nil {
		return fmt.Errorf("read the template of the HTML report: %w", err)
	}
	// A template that fails midway must not leave half a page.
	var b bytes.Buffer
	if err := t.Execute(&b, page); err != nil {
		return fmt.Errorf("make the HTML report: %w", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the HTML report: %w", err)
	}
	return nil
}

// newHTMLPage lays the report out.
func newHTMLPage(report render.Report, opts Options) (*htmlPage, error) {
	css, err := htmlFiles.ReadFile("report.css")
	if err != nil {
		return nil, fmt.Errorf("read the style of the HTML report: %w", err)
	}
	js, err := htmlFiles.ReadFile("report.js")
	if err != nil {
		return nil, fmt.Errorf("read the script of the HTML report: %w", err)
	}
	s := newSheet(report)
	r := report.Reading
	page := &htmlPage{
		Database: cut(words.Clean(r.Database), longestCell),
		Verdict:  words.Clean(report.Verdict),
		TakenAt:  r.TakenAt,
		Counts:   countSeverities(report.Findings),
		Tiles:    s.tiles(),
		Findings: groupFindings(report.Findings, opts.Explain),
		Muted:    s.muted(),
		Sections: s.sections(),
		Cost: fmt.Sprintf("%s in %s", words.Plural(r.Cost.Queries, "query", "queries"),
			words.Seconds(r.Cost.Seconds)),
		FindingsTotal: len(report.Findings),
		CSS:           template.CSS(css), //nolint:gosec // it is our own file, not a report's text
		JS:            template.JS(js),   //nolint:gosec // it is our own file, not a report's text
		Policy:        htmlPolicy(css, js),
	}
	page.Facts = s.headFacts()
	page.lead(report)
	if age := report.GeneratedAt.Sub(r.TakenAt); age > time.Minute {
		page.Judged = words.Duration(age) + " later"
	}
	return page, nil
}

// htmlPolicy is the page's Content-Security-Policy: its own style and script,
// by their hashes, its own icon, and nothing else from anywhere.
func htmlPolicy(css, js []byte) string {
	hash := func(b []byte) string {
		sum := sha256.Sum256(b)
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; style-src " + hash(css) + "; script-src " + hash(js) +
		"; img-src data:; base-uri 'none'; form-action 'none'"
}

// lead fills in the page's first words: the worst finding where something needs
// doing. What could not be looked at is not called good.
func (p *htmlPage) lead(report render.Report) {
	blind := len(report.Reading.Skipped) > 0
	switch f := report.Findings; {
	case len(f) > 0 && f[0].Severity.Rank() > pgmedic.SeverityInfo.Rank():
		p.Object, p.Headline = cut(words.Clean(f[0].Object), longestCell), cut(words.Clean(f[0].Summary), 2*longestCell)
		p.Tone = string(f[0].Severity)
		return
	case blind:
		p.Headline, p.Tone = "Nothing needs doing now, in what could be checked.", "unknown"
	default:
		p.Headline, p.Tone = "Nothing needs doing now.", "good"
	}
}

// countSeverities counts the findings, worst first.
func countSeverities(findings []pgmedic.Finding) []htmlCount {
	counts := []htmlCount{{Severity: pgmedic.SeverityCritical}, {Severity: pgmedic.SeverityWarn}, {Severity: pgmedic.SeverityInfo}}
	for i, c := range counts {
		for _, f := range findings {
			if f.Severity == c.Severity {
				counts[i].Count++
			}
		}
		counts[i].Word = severityWord(c.Severity)
		if counts[i].Count != 1 && c.Severity != pgmedic.SeverityCritical {
			counts[i].Word += "s"
		}
	}
	return counts
}

// severityWord is the word of a severity for a reader.
func severityWord(s pgmedic.Severity) string {
	switch s {
	case pgmedic.SeverityCritical:
		return "critical"
	case pgmedic.SeverityWarn:
		return "warning"
	case pgmedic.SeverityInfo:
		return "note"
	default:
		return "nothing found"
	}
}

// utc writes a moment for a reader.
func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
