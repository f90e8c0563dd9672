package terminal

import (
	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic"
)

// Painter colours text, or leaves it as it is. It adds no character that shows,
// so that a report has the same text either way. The colours are the
// terminal's own sixteen, which its user has chosen for their background.
type Painter struct{ On bool }

// with renders a text in a style.
func (p Painter) with(style lipgloss.Style, s string) string {
	if !p.On || s == "" {
		return s
	}
	return style.Inline(true).Render(s)
}

// Bold makes a text bold.
func (p Painter) Bold(s string) string { return p.with(lipgloss.NewStyle().Bold(true), s) }

// Faint makes a text faint.
func (p Painter) Faint(s string) string { return p.with(lipgloss.NewStyle().Faint(true), s) }

// SQL colours a statement to paste.
func (p Painter) SQL(s string) string {
	return p.with(lipgloss.NewStyle().Foreground(lipgloss.Cyan), s)
}

// Severity colours a text by how bad it is.
func (p Painter) Severity(severity pgmedic.Severity, s string) string {
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

// Good colours what is as it should be.
func (p Painter) Good(s string) string {
	return p.with(lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Green), s)
}
