// Package render has the report on a server: a reading, its findings and the verdict,
// as JSON and with the values that its other forms share. Those are packages of their
// own: text, html and prometheus.
package render

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

// ReportFormat is the format number of a Report's JSON, whose schema is
// docs/schema/report.schema.json. Fields may be added without raising it;
// their meaning may not change.
const ReportFormat = 1

// Report is a Reading and what was found in it.
type Report struct {
	// Format is the report's format number, see ReportFormat.
	Format int `json:"format"`
	// GeneratedAt is when the findings were made, in UTC; the Reading may be
	// older.
	GeneratedAt time.Time `json:"generated_at"`
	// Verdict is one line: the number of findings of each severity, what to deal with
	// first, which is what does harm now even where another finding is worse, and how many
	// checks were skipped.
	Verdict  string            `json:"verdict"`
	Reading  *reading.Reading  `json:"reading"`
	Findings []pgmedic.Finding `json:"findings"`
	// Trends is nil without earlier readings.
	Trends *judge.Trends `json:"trends"`
	// Muted are the findings that the configuration silences for a time.
	Muted []judge.Muted `json:"muted"`
}

// NewReport makes a Report, with its verdict. Findings that a mute covers at
// now are told apart from the others and don't count.
func NewReport(now time.Time, got *reading.Reading, findings []pgmedic.Finding, mutes ...judge.Mute) Report {
	shown, muted := judge.Silence(findings, mutes, now)
	return Report{
		Format:      ReportFormat,
		GeneratedAt: now.UTC(),
		Verdict:     verdict(shown, len(got.Skipped)),
		Reading:     got,
		Findings:    shown,
		Muted:       muted,
	}
}

// Visible is the report as it is shown: with the sections that were asked for.
func (r Report) Visible() Report {
	if !r.Reading.Wants(reading.SectionTrends) {
		r.Trends = nil
	}
	r.Reading = r.Reading.Visible()
	return r
}

// verdict says in one line how bad it is, what to deal with first, and what is unknown.
// The findings come worst first.
func verdict(findings []pgmedic.Finding, skipped int) string {
	counts := map[pgmedic.Severity]int{}
	for _, f := range findings {
		counts[f.Severity]++
	}
	var parts []string
	for _, c := range []struct {
		severity pgmedic.Severity
		word     string
	}{{pgmedic.SeverityCritical, "critical"}, {pgmedic.SeverityWarn, "warning"}, {pgmedic.SeverityInfo, "note"}} {
		if n := counts[c.severity]; n > 0 {
			parts = append(parts, words.Plural(n, c.word))
		}
	}
	line := "Nothing needs doing now."
	if first, ok := judge.MostUrgent(findings); ok {
		line = fmt.Sprintf("%s. Most urgent: %s (%s).", strings.Join(parts, ", "), strings.ReplaceAll(first.ID, "-", " "), first.Object)
	} else if parts != nil {
		line += " " + parts[0] + "."
	}
	switch skipped {
	case 0:
	case 1:
		line += " 1 check was skipped."
	default:
		line += " " + words.Plural(skipped, "check") + " were skipped."
	}
	return line
}

// JSON writes the report as indented JSON.
func JSON(w io.Writer, report Report) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	// SQL is full of < and >; the output is not part of a web page.
	e.SetEscapeHTML(false)
	if err := e.Encode(report); err != nil {
		return fmt.Errorf("write the report as JSON: %w", err)
	}
	return nil
}
