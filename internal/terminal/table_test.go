package terminal_test

import (
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
