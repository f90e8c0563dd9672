package render

import (
	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic"
)

// paint colours text, or leaves it as it is. It adds no character that shows,
// so that a report has the same text either way. The colours are the
// terminal's own sixteen, which its user has chosen for their background.
type paint struct{ on bool }

// with renders a text in a style.
func (p paint) with(style lipgloss.Style, s string) string {
	if !p.on || s == "" {
		return s
	}
	return style.Inline(true).Render(s)
}

func (p paint) bold(s string) string  { return p.with(lipgloss.NewStyle().Bold(true), s) }
func (p paint) faint(s string) string { return p.with(lipgloss.NewStyle().Faint(true), s) }
func (p paint) sql(s string) string   { return p.with(lipgloss.NewStyle().Foreground(lipgloss.Cyan), s) }

// severity colours a text by how bad it is.
func (p paint) severity(severity pgmedic.Severity, s string) string {
	style := lipgloss.NewStyle().Bold(true)
	switch severity {
	case pgmedic.SeverityCritical:
		style = style.Foreground(lipgloss.Red)
	case pgmedic.SeverityWarn:
		style = style.Foreground(lipgloss.Yellow)
	default:
		style = style.Foreground(lipgloss.Blue)
	}
	return p.with(style, s)
}

// good colours what is as it should be.
func (p paint) good(s string) string {
	return p.with(lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Green), s)
}
