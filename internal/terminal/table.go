// Package terminal is what a person at a terminal sees and answers: tables, wrapped lines and
// colours, the line of progress, questions, and pages with lists to choose from. What is asked,
// and in which words, is the commands' own.
//
// The tables and the wrapping of the library for widths and colours, lipgloss, are not
// used, as of v2.0.6. Its table has no column that is never cut: one that is too wide
// loses the columns at its right edge, or half of a value such as "12 kB". Its wrapping
// breaks words at hyphens, so that an option such as --accept-differences can't be pasted.
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
	// Move lists the columns that move below their rows, in this order and as few as it
	// takes, where the table does not fit even with what may be shortened. There a number,
	// which is a column of Right, comes after its header in lower case.
	Move []int
	// Color prints the headers in bold.
	Color bool
	// Paint, if not nil, colours a cell by its row and its column; it gets the cell as it
	// is shown and adds no character that shows.
	Paint func(row, column int, cell string) string
	// Below has for each row what is written in lines of its own below it, indented and
	// broken between words, and painted already; nothing where it is empty or missing.
	Below []string
}

// belowIndent is how much further to the right than its row a text below it is.
const belowIndent = 4

// gap is the space between two columns of a table.
const gap = "  "

// leastColumn is the width below which a column is not shortened.
const leastColumn = 6

// Table lays rows out under headers, each line ended with a newline. Widths are
// those on a terminal, wide and combining characters included. Cells are
// cleaned; a row with too few cells is filled with empty ones, and cells beyond
// the headers are left out.
func Table(headers []string, rows [][]string, opts TableOptions) string {
	headers, rows, opts = moved(headers, rows, opts)
	cells, widths := measured(headers, rows)
	shrink(widths, opts)
	var b strings.Builder
	indent := strings.Repeat(" ", opts.Indent)
	for n, line := range cells {
		if n == 0 {
			b.WriteString(Painter{opts.Color}.Bold(indent+tableLine(line, widths, opts.Right, nil)) + "\n")
			continue
		}
		var paint func(int, string) string
		if opts.Paint != nil {
			paint = func(column int, cell string) string { return opts.Paint(n-1, column, cell) }
		}
		b.WriteString(indent + tableLine(line, widths, opts.Right, paint) + "\n")
		if n <= len(opts.Below) && opts.Below[n-1] != "" {
			b.WriteString(below(opts.Below[n-1], opts))
		}
	}
	return b.String()
}

// moved takes from a table the columns that have to go below their rows.
func moved(headers []string, rows [][]string, opts TableOptions) ([]string, [][]string, TableOptions) {
	for n := range len(opts.Move) + 1 {
		h, r, o := without(headers, rows, opts, opts.Move[:n])
		if n == len(opts.Move) || Fits(h, r, o) {
			return h, r, o
		}
	}
	return headers, rows, opts
}

// without is a table with some of its columns below the rows.
func without(headers []string, rows [][]string, opts TableOptions, gone []int) ([]string, [][]string, TableOptions) {
	if len(gone) == 0 {
		return headers, rows, opts
	}
	var left []int
	for i := range headers {
		if !slices.Contains(gone, i) {
			left = append(left, i)
		}
	}
	pick := func(row []string) []string {
		cells := make([]string, len(left))
		for to, from := range left {
			if from < len(row) {
				cells[to] = row[from]
			}
		}
		return cells
	}
	renumbered := func(columns []int) []int {
		numbers := []int{}
		for _, c := range columns {
			if i := slices.Index(left, c); i >= 0 {
				numbers = append(numbers, i)
			}
		}
		return numbers
	}
	o := opts
	if o.Shrink == nil {
		o.Shrink = []int{0}
	}
	o.Shrink, o.Right, o.Move, o.Below = renumbered(o.Shrink), renumbered(o.Right), nil, make([]string, len(rows))
	if opts.Paint != nil {
		o.Paint = func(row, column int, cell string) string { return opts.Paint(row, left[column], cell) }
	}
	kept := make([][]string, len(rows))
	for i, row := range rows {
		kept[i] = pick(row)
		var texts []string
		for c, cell := range row {
			if cell = words.Clean(cell); cell == "" || !slices.Contains(gone, c) {
				continue
			}
			if opts.Paint != nil {
				cell = opts.Paint(i, c, cell)
			}
			if slices.Contains(opts.Right, c) && c < len(headers) {
				cell = strings.ToLower(headers[c]) + " " + cell
			}
			texts = append(texts, cell)
		}
		if i < len(opts.Below) && opts.Below[i] != "" {
			texts = append(texts, opts.Below[i])
		}
		o.Below[i] = strings.Join(texts, ", ")
	}
	return pick(headers), kept, o
}

// below writes a text below its row.
func below(text string, opts TableOptions) string {
	indent, lines := strings.Repeat(" ", opts.Indent+belowIndent), []string{text}
	if room := opts.Width - len(indent); opts.Width > 0 && room > 0 {
		lines = WrapWords(text, room)
	}
	return indent + strings.Join(lines, "\n"+indent) + "\n"
}

// Fits reports whether Table can lay the rows out in opts.Width without a wider line and
// without moving a column.
func Fits(headers []string, rows [][]string, opts TableOptions) bool {
	_, widths := measured(headers, rows)
	shrink(widths, opts)
	total := opts.Indent + len(gap)*max(0, len(widths)-1)
	for _, w := range widths {
		total += w
	}
	return opts.Width <= 0 || total <= opts.Width
}

// measured returns the cleaned cells of a table, the headers first, and how wide each
// column is.
func measured(headers []string, rows [][]string) (cells [][]string, widths []int) {
	for _, row := range slices.Concat([][]string{headers}, rows) {
		line := make([]string, len(headers))
		for i := range min(len(row), len(line)) {
			line[i] = words.Clean(row[i])
		}
		cells = append(cells, line)
	}
	widths = make([]int, len(headers))
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], lipgloss.Width(cell))
		}
	}
	return cells, widths
}

// tableLine pads and joins the cells of one line, without trailing spaces.
func tableLine(line []string, widths, right []int, paint func(column int, cell string) string) string {
	padded := make([]string, len(line))
	for i, cell := range line {
		cell = Shorten(cell, widths[i])
		space := strings.Repeat(" ", widths[i]-lipgloss.Width(cell))
		if paint != nil && cell != "" {
			cell = paint(i, cell)
		}
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

// Shorten cuts a text to a width on the terminal, at least 1, and marks the cut. Colours
// and weights end where the text does.
func Shorten(s string, width int) string {
	switch {
	case lipgloss.Width(s) <= width:
		return s
	case width <= 1:
		return "…"
	}
	return lipgloss.NewStyle().Inline(true).MaxWidth(width-1).Render(s) + "…"
}
