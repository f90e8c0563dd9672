package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// detailLines are what the marked backup's details take.
const detailLines = 5

// room is how many backups fit on the screen: without the title, the search, the
// headers, the details with an empty line on either side, and the keys.
func (m *chooser) room() int { return max(m.height-6-detailLines, 1) }

// View implements tea.Model.
func (m *chooser) View() tea.View {
	lines := m.lines()
	for i, l := range lines {
		lines[i] = lipgloss.NewStyle().Inline(true).MaxWidth(m.width).Render(words.Keep{Weights: true}.Clean(l))
	}
	if m.end != endNone {
		lines = nil
	}
	v := tea.NewView(strings.Join(lines[:min(len(lines), m.height)], "\n"))
	v.AltScreen = true
	return v
}

func (m *chooser) lines() []string {
	switch m.stage {
	case stageWhat:
		return m.whatLines()
	case stageName:
		return []string{
			m.paint.bold("Into a new database of which name?"), "", "  " + words.Clean(m.name) + "▏", "",
			m.paint.dim("enter: restore   esc: back"),
		}
	}
	lines := []string{
		m.paint.bold("Restore which backup?") + m.paint.dim(fmt.Sprintf("   %d of %d", len(m.shown), len(m.all))),
		"search: " + words.Clean(m.search) + "▏",
	}
	lines = append(lines, m.listLines()...)
	lines = append(lines, "")
	if len(m.shown) > 0 {
		lines = append(lines, m.details(m.shown[m.marked])...)
	}
	for len(lines) < m.room()+4+detailLines {
		lines = append(lines, "")
	}
	return append(lines, "", m.paint.dim("↑↓: mark   type: search   enter: choose   esc: leave"))
}

// listLines are the headers and the backups around the marked one.
func (m *chooser) listLines() []string {
	room := m.room()
	m.first = max(min(m.first, m.marked), m.marked-room+1)
	if len(m.shown) == 0 {
		return []string{"", "  no backup has all of these words"}
	}
	rows := make([][]string, 0, len(m.shown))
	for _, e := range m.shown {
		rows = append(rows, m.cells(e))
	}
	headers := []string{"AGE", "DATABASE", "SIZE", "PROOF", "ID"}
	table := terminal.Table(headers, rows, terminal.TableOptions{Width: m.width - 2, Shrink: []int{1, 3}, Right: []int{2}})
	all := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	lines := []string{m.paint.bold("  " + all[0])}
	for i := m.first; i < min(m.first+room, len(m.shown)); i++ {
		line := "  " + all[i+1]
		if i == m.marked {
			line = m.paint.bold("> " + all[i+1])
		}
		lines = append(lines, line)
	}
	return lines
}

// cells are a backup's in the list.
func (m *chooser) cells(e catalog.Entry) []string {
	phrase := proofOfEntry(e).words(m.now)
	b := e.Backup
	return []string{words.Ago(m.now, b.SnapshotAt), b.Database.Name, words.Bytes(b.StoredBytes()), phrase, b.ID}
}

// details say more of a backup, in as many lines as detailLines.
func (m *chooser) details(e catalog.Entry) []string {
	b := e.Backup
	recovers := "never drilled"
	if drill, ok := e.LastDrill(); ok {
		recovers = "recovers in " + secondsWords(drill.RecoverySeconds)
	}
	kind := string(b.Method)
	if b.Purpose == pgmedic.PurposeSafety {
		kind += ", safety backup of what a restore replaced"
	}
	var labels []string
	for _, k := range slices.Sorted(maps.Keys(b.Labels)) {
		labels = append(labels, k+"="+b.Labels[k])
	}
	lines := []string{
		fmt.Sprintf("data as of %s, server %s, PostgreSQL %s", b.SnapshotAt.UTC().Format("2006-01-02 15:04:05Z"), b.Server.Name, b.Server.Version),
		fmt.Sprintf("%s rows in %d tables, %s on the server", words.Count(e.Rows), e.Tables, words.Bytes(b.Database.SizeBytes)),
		kind,
		sealWords(b) + "; " + recovers,
		strings.Join(labels, ", "),
	}
	for i, l := range lines {
		lines[i] = "  " + words.Clean(l)
	}
	return lines
}

func (m *chooser) whatLines() []string {
	b := m.choice.entry.Backup
	lines := []string{m.paint.bold("Restore backup "+b.ID) + " of " + words.Clean(b.Database.Name), ""}
	for i, what := range []string{
		"into a new database, beside the living one",
		"in place of the living one, which is kept to go back to",
	} {
		if i == m.what {
			lines = append(lines, m.paint.bold("> "+what))
		} else {
			lines = append(lines, "  "+what)
		}
	}
	return append(lines, "", m.paint.dim("↑↓: mark   enter: choose   esc: back"))
}
