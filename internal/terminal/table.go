// Package terminal lays out what a terminal shows: tables, wrapped lines and colours.
package terminal

import (
	"slices"
	"strings"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic/internal/words"
)

// TableOptions say how Table lays out its columns.
type TableOptions struct {
	// Width is the most columns of the terminal that a line may take; zero is
	// no limit.
	Width int
	// Indent is how many spaces begin each line.
	Indent int
	// Right lists the columns that are aligned to the right, such as numbers.
	Right []int
	// Shrink lists the columns that are shortened with an ellipsis where the
	// table is too wide, the widest first; nil is the first column.
	Shrink []int
	// Color prints the headers in bold.
	Color bool
}

// gap is the space between two columns of a table.
const gap = "  "

// leastColumn is the width below which a column is not shortened.
const leastColumn = 6

// Table lays rows out under headers, each line ended with a newline. Widths are
// those on a terminal, wide and combining characters included. Cells are
// cleaned; a row with too few cells is filled with empty ones, and cells beyond
// the headers are left out.
func Table(headers []string, rows [][]string, opts TableOptions) string {
	cells := make([][]string, 0, len(rows)+1)
	for _, row := range slices.Concat([][]string{headers}, rows) {
		line := make([]string, len(headers))
		for i := range min(len(row), len(line)) {
			line[i] = words.Clean(row[i])
		}
		cells = append(cells, line)
	}
	widths := make([]int, len(headers))
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], lipgloss.Width(cell))
		}
	}
	shrink(widths, opts)
	var b strings.Builder
	for n, line := range cells {
		text := strings.Repeat(" ", opts.Indent) + tableLine(line, widths, opts.Right)
		if n == 0 {
			text = Painter{opts.Color}.Bold(text)
		}
		b.WriteString(text + "\n")
	}
	return b.String()
}

// tableLine pads and joins the cells of one line, without trailing spaces.
func tableLine(line []string, widths, right []int) string {
	padded := make([]string, len(line))
	for i, cell := range line {
		cell = shorten(cell, widths[i])
		space := strings.Repeat(" ", widths[i]-lipgloss.Width(cell))
		if slices.Contains(right, i) {
			padded[i] = space + cell
		} else {
			padded[i] = cell + space
		}
	}
	return strings.TrimRight(strings.Join(padded, gap), " ")
}

// shrink takes width from the columns that may give some until the table fits,
// or until they have no more to give.
func shrink(widths []int, opts TableOptions) {
	if opts.Width <= 0 || len(widths) == 0 {
		return
	}
	candidates := opts.Shrink
	if candidates == nil {
		candidates = []int{0}
	}
	total := opts.Indent + len(gap)*(len(widths)-1)
	for _, w := range widths {
		total += w
	}
	for ; total > opts.Width; total-- {
		widest := -1
		for _, i := range candidates {
			if i < len(widths) && widths[i] > leastColumn && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

// shorten cuts a text to a width on the terminal and marks the cut.
func shorten(s string, width int) string {
	if lipgloss.Width(s) <= width {
		return s
	}
	return lipgloss.NewStyle().Inline(true).MaxWidth(width-1).Render(s) + "…"
}

// Wrap breaks a text between words so that no line is wider than width; a word
// that is wider by itself is cut into pieces. Nothing is lost but the spaces at
// the breaks.
func Wrap(s string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && lipgloss.Width(line)+1+lipgloss.Width(word) <= width {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		for lipgloss.Width(word) > width {
			piece := lipgloss.NewStyle().Inline(true).MaxWidth(width).Render(word)
			if piece == "" || !strings.HasPrefix(word, piece) {
				break
			}
			lines = append(lines, piece)
			word = word[len(piece):]
		}
		line = word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// Flow joins items with a separator and breaks lines only between them, except
// within an item that is wider than a line.
func Flow(items []string, separator string, width int) []string {
	var lines []string
	line := ""
	for _, item := range items {
		switch {
		case line == "":
			line = item
		case lipgloss.Width(line)+lipgloss.Width(separator)+lipgloss.Width(item) <= width:
			line += separator + item
		default:
			lines = append(lines, Wrap(line, width)...)
			line = item
		}
	}
	return append(lines, Wrap(line, width)...)
}
