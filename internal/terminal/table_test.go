package terminal_test

import (
	"slices"
	"strings"
	"testing"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic/internal/terminal"
)

func TestTableMeasuresWhatATerminalShows(t *testing.T) {
	out := terminal.Table([]string{"NAME", "N"}, [][]string{{"診療", "1"}, {"e\u0301te\u0301", "22"}, {"a\x1bb"}, {"abcdefghij", "333"}},
		terminal.TableOptions{Indent: 1, Right: []int{1}})
	want := " NAME          N\n 診療          1\n e\u0301te\u0301          22\n a\\x1bb\n abcdefghij  333\n"
	if out != want {
		t.Errorf("got\n%s, want\n%s", out, want)
	}
}

func TestTableShrinksItsWidestColumns(t *testing.T) {
	rows := [][]string{{strings.Repeat("診", 30), strings.Repeat("b", 30), "123456"}}
	for _, width := range []int{20, 40, 60, 200} {
		out := terminal.Table([]string{"A", "B", "C"}, rows, terminal.TableOptions{Width: width, Shrink: []int{0, 1}})
		if !strings.Contains(out, "123456") {
			t.Errorf("a column that may not shrink did:\n%s", out)
		}
		for line := range strings.SplitSeq(out, "\n") {
			if n := lipgloss.Width(line); n > width && width > 20 {
				t.Errorf("%d of %d columns: %s", n, width, line)
			}
		}
	}
}

// TestTableKeepsWholeColumns: at no width of a terminal does a column lose anything that
// may not be shortened, such as an id or a size with its unit, and what is shortened says so.
func TestTableKeepsWholeColumns(t *testing.T) {
	rows := [][]string{
		{"20261122T020000Z-7f3a9c", "3 hours", "clinic", "1.2 GB", "proven 2 hours ago"},
		{"20261121T020000Z-7f3a9d", "1 day", "a_database_with_a_name_as_long_as_PostgreSQL_allows_any_to_have", "830 MB", "taken"},
		{"20261120T020000Z-7f3a9e", "2 days", strings.Repeat("診療", 16), "12 kB", "failed"},
	}
	for width := 1; width <= 200; width++ {
		out := terminal.Table([]string{"ID", "AGE", "DATABASE", "SIZE", "PROOF"}, rows,
			terminal.TableOptions{Width: width, Shrink: []int{2, 4}, Right: []int{3}})
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		if len(lines) != 1+len(rows) {
			t.Fatalf("width %d: %d lines", width, len(lines))
		}
		for i, row := range rows {
			for _, whole := range []int{0, 1, 3} {
				if !strings.Contains(lines[i+1], row[whole]) {
					t.Fatalf("width %d: %q is not whole in %q", width, row[whole], lines[i+1])
				}
			}
			for _, cut := range []int{2, 4} {
				if !strings.Contains(lines[i+1], row[cut]) && !strings.Contains(lines[i+1], "…") {
					t.Fatalf("width %d: %q is cut without a mark in %q", width, row[cut], lines[i+1])
				}
			}
		}
		if n := lipgloss.Width(lines[2]); width >= 80 && n > width {
			t.Fatalf("width %d: a row takes %d columns", width, n)
		}
	}
}

// TestWrapKeepsWhatIsPasted: at no width is a word broken that fits on a line, an option
// with hyphens included, and nothing is lost.
func TestWrapKeepsWhatIsPasted(t *testing.T) {
	const text = "Restore it  beside the living one: pgmedic restore latest --into clinic_copy --accept-differences; 診療 is in " +
		"s3://backups/a/very/long/prefix/that/is/wider/than/most/terminals/are/clinic-20261122T020000Z-7f3a9c"
	words := strings.Fields(text)
	if got := terminal.Wrap(" \t ", 10); got != nil {
		t.Errorf("of spaces: %q", got)
	}
	for width := 1; width <= 200; width++ {
		whole := terminal.WrapWords(text, width)
		if got := strings.Join(whole, " "); got != text {
			t.Fatalf("width %d: %q", width, got)
		}
		for _, line := range whole {
			if lipgloss.Width(line) > width && strings.Contains(line, " ") {
				t.Fatalf("width %d: %q is too wide", width, line)
			}
		}
		cut := terminal.Wrap(text, width)
		if got := strings.ReplaceAll(strings.Join(cut, ""), " ", ""); got != strings.Join(words, "") {
			t.Fatalf("width %d: %q", width, got)
		}
		fields := strings.Fields(strings.Join(cut, "\n"))
		for _, word := range words {
			if lipgloss.Width(word) <= width && !slices.Contains(fields, word) {
				t.Fatalf("width %d: %q is broken in %q", width, word, cut)
			}
		}
		for _, line := range cut {
			if lipgloss.Width(line) > width && width > 1 { // a wide character takes two columns
				t.Fatalf("width %d: %q is too wide", width, line)
			}
		}
	}
}

// TestShorten: a text that is cut fits and says so, at each width.
func TestShorten(t *testing.T) {
	for _, text := range []string{"PostgreSQL 15.14", "診療診療", "\x1b[1mbold and long\x1b[m", "e\u0301te\u0301 a\u0300"} {
		for width := 1; width <= 20; width++ {
			got := terminal.Shorten(text, width)
			if lipgloss.Width(got) > width || (got != text) != strings.HasSuffix(got, "…") || (got == text) != (lipgloss.Width(text) <= width) {
				t.Errorf("%q at width %d is %q", text, width, got)
			}
		}
	}
}

// TestTableFitsEveryWidth: whatever is in it, a table whose columns may move is never wider
// than the terminal, loses no word, and its colours change no text.
func TestTableFitsEveryWidth(t *testing.T) {
	headers := []string{"ID", "AGE", "DATABASE", "SIZE", "PROOF"}
	rows := [][]string{
		{"20261122T020000Z-7f3a9c", "59 min ago", "clinic", "1023.9 KiB", "claimed: verified 59 min ago"},
		{"20261121T020000Z-7f3a9d", "1234 days ago", strings.Repeat("診療", 16), "830 MiB", "taken"},
		{"20261120T020000Z-7f3a9e", "just now", "evil\x1b[2J", "12 KiB"},
	}
	below := []string{"", "safety, partial, damaged pages, shrunk, held, marked, copies 1 of 3, 1 unknown", "not encrypted"}
	paint := func(_, _ int, cell string) string { return "\x1b[31m" + cell + "\x1b[m" }
	for width := 60; width <= 200; width++ {
		o := terminal.TableOptions{Width: width, Shrink: []int{2}, Right: []int{3}, Move: []int{4}, Below: below}
		out := terminal.Table(headers, rows, o)
		for line := range strings.SplitSeq(out, "\n") {
			if n := lipgloss.Width(line); n > width {
				t.Fatalf("width %d: %d columns: %s", width, n, line)
			}
		}
		text := strings.Join(strings.Fields(out), " ")
		for _, whole := range []string{rows[0][0], rows[0][1], rows[0][3], rows[0][4], rows[1][0], rows[1][1], rows[1][4], rows[2][0], below[1], below[2]} {
			if !strings.Contains(text, whole) {
				t.Fatalf("width %d: %q is not in\n%s", width, whole, out)
			}
		}
		if strings.Contains(out, "\x1b") {
			t.Fatalf("width %d: %q", width, out)
		}
		o.Paint = paint
		painted := terminal.Table(headers, rows, o)
		if got := strings.NewReplacer("\x1b[31m", "", "\x1b[m", "").Replace(painted); got != out || painted == out {
			t.Fatalf("width %d: painted it is\n%q\nand plain\n%q", width, got, out)
		}
	}
	// As few columns move as it takes, the first of Move first.
	wide := [][]string{{"a", strings.Repeat("b", 30), strings.Repeat("c", 30)}}
	o := terminal.TableOptions{Width: 50, Shrink: []int{}, Move: []int{2, 1}}
	if got, want := terminal.Table([]string{"A", "B", "C"}, wide, o), "A  B\na  "+wide[0][1]+"\n    "+wide[0][2]+"\n"; got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	o.Width = 20
	if got, want := terminal.Table([]string{"A", "B", "C"}, wide, o), "A\na\n    "+wide[0][1]+",\n    "+wide[0][2]+"\n"; got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

// TestWrapWordsKeepsCommands: a command between backticks is on one line wherever it fits
// into one, and no width loses a word.
func TestWrapWordsKeepsCommands(t *testing.T) {
	const command = "`pgmedic prune --only databases --keep-displaced 1h`"
	const text = "see what is kept, then (" + command + ", which asks), or ` alone and " + command
	for width := 1; width <= 120; width++ {
		lines := terminal.WrapWords(text, width)
		if got := strings.Join(lines, " "); got != text {
			t.Fatalf("width %d: %q", width, got)
		}
		for _, line := range lines {
			if strings.Contains(line, " ") && lipgloss.Width(line) > width {
				t.Fatalf("width %d: %q", width, line)
			}
		}
		if first := "(" + command + ","; width >= len(first) && !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, first) }) {
			t.Fatalf("width %d: %q", width, lines)
		}
	}
}
