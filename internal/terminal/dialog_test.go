package terminal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic/internal/terminal"
)

// letters is a page: a list of letters, and what is typed.
type letters struct {
	list terminal.List
	text terminal.Input
	size terminal.Size // when a key was last pressed
}

func (l *letters) Press(key terminal.Key, size terminal.Size) terminal.Ending {
	l.size = size
	switch key.Stroke {
	case "enter":
		return terminal.Chosen
	case "esc":
		return terminal.Left
	}
	if !l.list.Press(key.Stroke, 26, size.Height) {
		l.text.Press(key)
	}
	return terminal.Open
}

func (l *letters) Lines(size terminal.Size) (lines []string) {
	from, until := l.list.Window(26, size.Height)
	for i := from; i < until; i++ {
		lines = append(lines, fmt.Sprintf("%c %s", 'a'+i, l.text.Text))
	}
	return append(lines, "never seen")
}

// TestShow: a dialog ends by the key that its page ends with, and by Ctrl-C; what is pasted
// is typed.
func TestShow(t *testing.T) {
	for name, test := range map[string]struct {
		keys         string
		want         terminal.Ending
		marked, text string
	}{
		"at once":     {"\r", terminal.Chosen, "a", ""},
		"further":     {"\x1b[B\x1b[B\tx\x1b[A\x10y\x7f\r", terminal.Chosen, "b", "x"},
		"pasted":      {"\x1b[200~two\nlines\x1b[201~\r", terminal.Chosen, "a", "twolines"},
		"interrupted": {"\x1b[B\x03\r", terminal.Interrupted, "b", ""},
	} {
		t.Run(name, func(t *testing.T) {
			page := &letters{}
			// The input stays open, as a terminal does.
			in, typed := io.Pipe()
			defer in.Close()
			go func() { _, _ = io.WriteString(typed, test.keys) }()
			got, err := terminal.Show(t.Context(), page, terminal.DialogOptions{In: in, Out: io.Discard, Environ: []string{"TERM=xterm"}})
			if marked := string(rune('a' + page.list.Marked)); got != test.want || err != nil || marked != test.marked || page.text.Text != test.text {
				t.Errorf("ending %d, %v; %s is marked, %q was typed", got, err, marked, page.text.Text)
			}
		})
	}
}

// TestShowEnds: a dialog that no key ends does so with its context, whose cause is the error.
func TestShowEnds(t *testing.T) {
	in, typed := io.Pipe()
	defer typed.Close()
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	if ending, err := terminal.Show(ctx, &letters{}, terminal.DialogOptions{In: in, Out: &bytes.Buffer{}, Environ: []string{"TERM=xterm"}}); ending == terminal.Chosen || !errors.Is(err, stopped) {
		t.Errorf("ending %d, %v", ending, err)
	}
}

// TestDialog: the page has the terminal's size, its screen is given back once it has ended,
// and Ctrl-C is not its own.
func TestDialog(t *testing.T) {
	page := &letters{}
	d := terminal.NewDialog(page)
	d.Update(tea.WindowSizeMsg{Width: 3, Height: 2})
	for _, r := range "wide" {
		d.Update(tea.KeyPressMsg{Code: r, Text: string(r)})
	}
	if v := d.View(); v.Content != "a …\nb …" || !v.AltScreen || page.size != (terminal.Size{Width: 3, Height: 2}) {
		t.Errorf("%q at %v", v.Content, page.size)
	}
	page.size = terminal.Size{}
	if _, quit := d.Update(tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}); quit == nil || page.size != (terminal.Size{}) {
		t.Error("Ctrl-C is a key of the page")
	}
	if _, quit := d.Update(tea.KeyPressMsg{Code: tea.KeyEnter}); quit == nil || page.size != (terminal.Size{}) {
		t.Error("a key after the end is one of the page")
	}
	if v := d.View(); v.Content != "" {
		t.Errorf("after its end: %q", v.Content)
	}
}

// hostile is a page of texts that were not cleaned.
type hostile struct{}

func (hostile) Press(terminal.Key, terminal.Size) terminal.Ending { return terminal.Open }
func (hostile) Lines(terminal.Size) []string {
	return []string{"\x1b[1mbold\x1b[m", "a\nb", "\x1b[2J\x1b[31m" + strings.Repeat("診", 30), "\u202e"}
}

// TestDraw: what is drawn fits at each size, and is text.
func TestDraw(t *testing.T) {
	for width := 1; width <= 80; width++ {
		for height := range 6 {
			lines := terminal.Draw(hostile{}, terminal.Size{Width: width, Height: height})
			if len(lines) != min(height, 4) {
				t.Fatalf("%d×%d: %d lines", width, height, len(lines))
			}
			for _, line := range lines {
				text := strings.NewReplacer("\x1b[1m", "", "\x1b[m", "").Replace(line)
				if lipgloss.Width(line) > width || strings.ContainsAny(text, "\x1b\n\u202e") {
					t.Fatalf("%d×%d: %q", width, height, line)
				}
			}
		}
	}
	want := []string{"\x1b[1mbold\x1b[m", `a\nb`}
	if got := terminal.Draw(hostile{}, terminal.Size{Width: 80, Height: 2}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestListWindow: wherever the mark goes, it is among the items and on the screen.
func TestListWindow(t *testing.T) {
	strokes := []string{"down", "down", "pgdown", "up", "tab", "pgdown", "ctrl+n", "ctrl+p", "pgup", "down", "pgdown", "pgdown", "pgdown", "up", "up", "pgup", "pgup", "pgup"}
	for count := 1; count <= 12; count++ {
		for room := 1; room <= 12; room++ {
			var l terminal.List
			for i, stroke := range strokes {
				if !l.Press(stroke, count, room) {
					t.Fatalf("%s moves nothing", stroke)
				}
				from, until := l.Window(count, room)
				if l.Marked < from || l.Marked >= until || from < 0 || until > count || until-from != min(room, count) && until != count {
					t.Fatalf("%d items, room for %d, key %d: %d is marked of %d to %d", count, room, i, l.Marked, from, until)
				}
			}
		}
	}
	l := terminal.List{Marked: 3}
	if l.Press("left", 9, 4) || l.Press("", 9, 4) || l.Marked != 3 {
		t.Errorf("another key moves the mark to %d", l.Marked)
	}
	if l.Press("down", 0, 4); l.Marked != 0 {
		t.Errorf("of no items %d is marked", l.Marked)
	}
	l = terminal.List{Marked: 8}
	l.Window(9, 4)
	l.Reset()
	if from, until := l.Window(9, 4); l.Marked != 0 || from != 0 || until != 4 {
		t.Errorf("again from the start: %d of %d to %d", l.Marked, from, until)
	}
}

// TestInput: a key says whether it changed the text.
func TestInput(t *testing.T) {
	var i terminal.Input
	for n, test := range []struct {
		key     terminal.Key
		want    string
		changed bool
	}{
		{terminal.Key{Stroke: "backspace"}, "", false}, {terminal.Key{Stroke: "ctrl+u"}, "", false}, {terminal.Key{Stroke: "left"}, "", false},
		{terminal.Key{Stroke: "x", Text: "x"}, "x", true}, {terminal.Key{Stroke: "診", Text: "診"}, "x診", true},
		{terminal.Key{Stroke: "f1"}, "x診", false}, {terminal.Key{Text: "\x1b[2J\r\n\x7f"}, "x診[2J", true}, {terminal.Key{Text: "\n"}, "x診[2J", false},
		{terminal.Key{Text: strings.Repeat("y", 200)}, "x診[2J", false},
		{terminal.Key{Stroke: "ctrl+u"}, "", true}, {terminal.Key{Text: strings.Repeat("y", 200)}, strings.Repeat("y", 200), true},
		{terminal.Key{Stroke: "z", Text: "z"}, strings.Repeat("y", 200), false}, {terminal.Key{Stroke: "ctrl+u"}, "", true},
		{terminal.Key{Text: "診療"}, "診療", true}, {terminal.Key{Stroke: "backspace"}, "診", true},
	} {
		if changed := i.Press(test.key); changed != test.changed || i.Text != test.want {
			t.Fatalf("key %d, %+v: %t, %q; want %t, %q", n, test.key, changed, i.Text, test.changed, test.want)
		}
	}
}
