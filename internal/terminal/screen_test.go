package terminal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// TestText: nothing but text passes, and on a terminal what is marked with its key.
func TestText(t *testing.T) {
	const hostile = "a\x1b[2J\x1b]0;title\a\u202e\xff\tb\n"
	const clean = `a\x1b[2J\x1b]0;title\x07\u202e\xff` + "\tb\n"
	red, guessed, bold := words.Paint("key", "\x1b[31mred\x1b[m"), words.Paint("guess", "\x1b[31mred\x1b[m"), "\x1b[1mbold\x1b[m"
	for name, test := range map[string]struct {
		terminal bool
		in, want string
	}{
		"a file":                 {false, hostile, clean},
		"a terminal":             {true, hostile, clean},
		"colours of its own":     {true, red, "\x1b[31mred\x1b[m"},
		"colours of a value":     {true, guessed, `\x1b]guess;31\x07red\x1b]guess;\x07`},
		"weights":                {true, bold, bold},
		"weights in a file":      {false, bold, `\x1b[1mbold\x1b[m`},
		"its colours, in a file": {false, red, `\x1b]key;31\x07red\x1b]key;\x07`},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			n, err := terminal.Text{W: &out, Terminal: test.terminal, Key: "key"}.Write([]byte(test.in))
			if n != len(test.in) || err != nil || out.String() != test.want {
				t.Errorf("%d, %v, %q, want %q", n, err, out.String(), test.want)
			}
		})
	}
	full := errors.New("no space left on device")
	if n, err := (terminal.Text{W: broken{full}}).Write([]byte("x")); n != 0 || !errors.Is(err, full) {
		t.Errorf("%d, %v", n, err)
	}
}

// broken is a stream that can't be written to.
type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

// TestScreen: what is written takes the line away that can be written over, once.
func TestScreen(t *testing.T) {
	var out bytes.Buffer
	s := &terminal.Screen{Text: terminal.Text{W: &out, Terminal: true, Key: "key"}}
	s.Clear()
	write := func(text string) {
		if n, err := s.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	write("a\n")
	s.Draw("1\n\x1b[2J")
	s.Draw(words.Paint("key", "\x1b[31m2\x1b[m"))
	write("b\n")
	write("c\n")
	s.Draw("3")
	s.Clear()
	s.Clear()
	want := "a\n" + "\r1\\n\\x1b[2J\x1b[K" + "\r\x1b[31m2\x1b[m\x1b[K" + "\r\x1b[Kb\n" + "c\n" + "\r3\x1b[K" + "\r\x1b[K"
	if out.String() != want {
		t.Errorf("got\n%q, want\n%q", out.String(), want)
	}
}
