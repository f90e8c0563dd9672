package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// detailLines are what the marked backup's details take.
const detailLines = 5

// backupRoom is how many backups fit on a screen: without the title, the search, the
// headers, the details with an empty line on either side, and the keys.
func backupRoom(size terminal.Size) int { return max(size.Height-6-detailLines, 1) }

// restoreWays are what can be done with a backup.
func restoreWays() []string {
	return []string{
		"into a new database, beside the living one",
		"in place of the living one, which is kept to go back to",
	}
}

// Lines implements terminal.Page.
func (m *chooser) Lines(size terminal.Size) []string {
	switch m.stage {
	case stageWhat:
		return m.whatLines()
	case stageName:
		return []string{
			m.paint.Bold("Into a new database of which name?"), "", "  " + words.Clean(m.name.Text) + "▏", "",
			m.paint.Faint("enter: restore   esc: back"),
		}
	}
	lines := []string{
		m.paint.Bold("Restore which backup?") + m.paint.Faint(fmt.Sprintf("   %d of %d", len(m.shown), len(m.all))),
		"search: " + words.Clean(m.search.Text) + "▏",
	}
	lines = append(lines, m.listLines(size)...)
	lines = append(lines, "")
	if len(m.shown) > 0 {
		lines = append(lines, m.details(m.shown[m.backups.Marked])...)
	}
	for len(lines) < backupRoom(size)+4+detailLines {
		lines = append(lines, "")
	}
	return append(lines, "", m.paint.Faint("↑↓: mark   type: search   enter: choose   esc: leave"))
}

// listLines are the headers and the backups around the marked one.
func (m *chooser) listLines(size terminal.Size) []string {
	if len(m.shown) == 0 {
		return []string{"", "  no backup has all of these words"}
	}
	rows := make([][]string, 0, len(m.shown))
	for _, e := range m.shown {
		rows = append(rows, m.cells(e))
	}
	headers := []string{"AGE", "DATABASE", "SIZE", "PROOF", "ID"}
	table := terminal.Table(headers, rows, terminal.TableOptions{Width: size.Width - 2, Shrink: []int{1, 3}, Right: []int{2}})
	all := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	lines := []string{m.paint.Bold("  " + all[0])}
	from, until := m.backups.Window(len(m.shown), backupRoom(size))
	for i := from; i < until; i++ {
		line := "  " + all[i+1]
		if i == m.backups.Marked {
			line = m.paint.Bold("> " + all[i+1])
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
		fmt.Sprintf("%s in %s, %s on the server", words.Plural(e.Rows, "row"), words.Plural(e.Tables, "table"), words.Bytes(b.Database.SizeBytes)),
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
	lines := []string{m.paint.Bold("Restore backup "+words.Clean(b.ID)) + " of " + words.Clean(b.Database.Name), ""}
	for i, what := range restoreWays() {
		if i == m.what.Marked {
			lines = append(lines, m.paint.Bold("> "+what))
		} else {
			lines = append(lines, "  "+what)
		}
	}
	return append(lines, "", m.paint.Faint("↑↓: mark   enter: choose   esc: back"))
}
