package terminal

import (
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
)

// Wrap breaks a text between words so that no line is wider than width; a word
// that is wider by itself is cut into pieces. Nothing is lost but spaces: those at
// the breaks, and all but one between two words.
func Wrap(s string, width int) []string {
	var pieces []string
	for _, word := range strings.Fields(s) {
		for lipgloss.Width(word) > width {
			piece := lipgloss.NewStyle().Inline(true).MaxWidth(width).Render(word)
			if piece == "" || !strings.HasPrefix(word, piece) {
				break
			}
			pieces = append(pieces, piece)
			word = word[len(piece):]
		}
		pieces = append(pieces, word)
	}
	if pieces == nil {
		return nil
	}
	return WrapWords(strings.Join(pieces, " "), width)
}

// WrapWords breaks a text at single spaces so that no line is wider than width, unless it
// is one word, which stays whole so that a path can be copied. Joined with spaces, the
// lines are the text again.
func WrapWords(s string, width int) []string {
	var lines []string
	line, used := "", 0
	for i, word := range unbroken(strings.Split(s, " "), width) {
		switch wide := lipgloss.Width(word); {
		case i == 0:
			line, used = word, wide
		case used+1+wide > width:
			lines = append(lines, line)
			line, used = word, wide
		default:
			line += " " + word
			used += 1 + wide
		}
	}
	return append(lines, line)
}

// unbroken joins the words between two backticks, unless they are wider than a line: half a
// command that is pasted does something else.
func unbroken(words []string, width int) []string {
	quotes := func(word string) bool { return strings.Count(word, "`")%2 == 1 }
	var all []string
	for len(words) > 0 {
		n := 1
		if end := slices.IndexFunc(words[1:], quotes); end >= 0 && quotes(words[0]) {
			if lipgloss.Width(strings.Join(words[:end+2], " ")) <= width {
				n = end + 2
			}
		}
		all, words = append(all, strings.Join(words[:n], " ")), words[n:]
	}
	return all
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

// leastRoom is the number of columns below which lines are left to the terminal to break.
const leastRoom = 20

// WrapLines breaks each line of a text between words for a terminal of width columns. What
// is broken off goes on two columns to the right of where its line began. Lines that fit, and
// those that have fewer than 20 columns, stay as they are: the terminal breaks them.
func WrapLines(text string, width int) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = wrapLine(line, width)
	}
	return strings.Join(lines, "\n")
}

// wrapLine breaks one line between words.
func wrapLine(line string, width int) string {
	text := strings.TrimLeft(line, " ")
	column := len(line) - len(text) + 2
	room := width - column
	if room < leastRoom || lipgloss.Width(line) <= width {
		return line
	}
	broken := WrapWords(text, room)
	for i := range broken {
		indent := column
		if i == 0 {
			indent = column - 2
		}
		broken[i] = strings.Repeat(" ", indent) + strings.TrimLeft(broken[i], " ")
	}
	return strings.Join(broken, "\n")
}

// WrapAt breaks a text that begins at a column of a terminal of width columns between words,
// and goes on at that column. Where there is too little room for its words, it begins on a
// line of its own. On a very narrow terminal, or one of unknown width, it stays as it is.
func WrapAt(text string, column, width int) string {
	const below = 4
	room := width - column
	switch {
	case width < leastRoom+below || lipgloss.Width(text) <= room:
		return text
	case room < leastRoom || slices.ContainsFunc(strings.Fields(text), func(word string) bool { return lipgloss.Width(word) > room }):
		indent := "\n" + strings.Repeat(" ", below)
		return indent + strings.Join(WrapWords(text, width-below), indent)
	}
	return strings.Join(WrapWords(text, room), "\n"+strings.Repeat(" ", column))
}
