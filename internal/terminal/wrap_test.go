package terminal_test

import (
	"strings"
	"testing"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic/internal/terminal"
)

// TestWrapLines: lines that don't fit go on to the right of where they began; the rest stays
// as it is, and no width loses a word.
func TestWrapLines(t *testing.T) {
	const text = "short\n  state   the WAL of timeline 3 is stored without a gap and can be read on this host\n\nlast"
	for width := range 120 {
		got := terminal.WrapLines(text, width)
		if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(text), " ") {
			t.Fatalf("width %d: %q", width, got)
		}
		lines := strings.Split(got, "\n")
		if lines[0] != "short" || lines[len(lines)-1] != "last" || lines[len(lines)-2] != "" {
			t.Fatalf("width %d: %q", width, got)
		}
		for i, line := range lines[1 : len(lines)-2] {
			switch {
			case i == 0 && !strings.HasPrefix(line, "  state"), i > 0 && !strings.HasPrefix(line, "    "), i > 0 && line[4] == ' ':
				t.Fatalf("width %d: line %d begins elsewhere: %q", width, i, line)
			case lipgloss.Width(line) > width && (width >= 24 || i > 0):
				t.Fatalf("width %d: %q", width, line)
			}
		}
	}
}

// TestWrapAt: a text that does not fit beside its name goes on at its column, or below the
// name, and no width loses a word or a line.
func TestWrapAt(t *testing.T) {
	const column = 12
	for name, text := range map[string]string{
		"words":  "the WAL of timeline 3 is stored without a gap and can be read on this host",
		"a path": "it is in /var/lib/pgmedic/spool/clinic/000000030000000A00000042 and stays there",
	} {
		longest := 0
		for _, word := range strings.Fields(text) {
			longest = max(longest, len(word))
		}
		for width := range 120 {
			got := terminal.WrapAt(text, column, width)
			if strings.Join(strings.Fields(got), " ") != text {
				t.Fatalf("%s, width %d: %q", name, width, got)
			}
			if width < 24 || width-column >= len(text) {
				if got != text {
					t.Fatalf("%s, width %d: %q", name, width, got)
				}
				continue
			}
			lines := strings.Split(got, "\n")
			indent := strings.Repeat(" ", column)
			if below := width-column < 20 || longest > width-column; below {
				indent = "    "
				if lines[0] != "" {
					t.Fatalf("%s, width %d: it begins beside its name: %q", name, width, got)
				}
			}
			for _, line := range lines[1:] {
				if !strings.HasPrefix(line, indent) || line[len(indent)] == ' ' || len(line) > width && strings.Contains(strings.TrimSpace(line), " ") {
					t.Fatalf("%s, width %d: %q", name, width, line)
				}
			}
		}
	}
}
