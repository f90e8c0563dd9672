package terminal_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic/internal/terminal"
)

// TestPromptLine: a line is an answer; what ends without one comes with the reason.
func TestPromptLine(t *testing.T) {
	broken := errors.New("input/output error")
	for name, test := range map[string]struct {
		in   io.Reader
		want string
		err  error
	}{
		"a line":     {strings.NewReader("  clinic \nmore\n"), "clinic", nil},
		"Enter":      {strings.NewReader("\n"), "", nil},
		"closed":     {strings.NewReader(""), "", terminal.ErrClosed},
		"cut":        {strings.NewReader("clin"), "clin", terminal.ErrClosed},
		"read error": {io.MultiReader(strings.NewReader("cl"), failing{broken}), "cl", broken},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			got, err := terminal.Prompt{In: test.in, Out: &out}.Line(t.Context(), "Which? ")
			if got != test.want || !errors.Is(err, test.err) || out.String() != "Which? " {
				t.Errorf("%q, %v, printed %q", got, err, out.String())
			}
		})
	}
}

// failing is an input that can't be read.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestPromptConfirm: nothing but the exact answer confirms.
func TestPromptConfirm(t *testing.T) {
	for name, test := range map[string]struct {
		typed string
		want  bool
	}{
		"the answer": {"clinic\n", true}, "with spaces": {" clinic\t\r\n", true}, "before the end": {"clinic", true},
		"Enter": {"\n", false}, "yes": {"yes\n", false}, "other case": {"Clinic\n", false}, "a part": {"clini\n", false}, "more": {"clinic x\n", false},
		"closed": {"", false}, "the second line": {"\nclinic\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			got, err := terminal.Prompt{In: strings.NewReader(test.typed), Out: &out}.Confirm(t.Context(), "Replace it?", "clinic")
			if got != test.want || err != nil || out.String() != `Replace it? Type "clinic" to go on: ` {
				t.Errorf("%t, %v, printed %q", got, err, out.String())
			}
		})
	}
}

// TestPromptEnds: a question that nothing answers ends with its context, whose cause is the
// error, and so does its line.
func TestPromptEnds(t *testing.T) {
	in, typed := io.Pipe()
	defer typed.Close()
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	var out bytes.Buffer
	p := terminal.Prompt{In: in, Out: &out}
	if _, err := p.Line(ctx, "Which? "); !errors.Is(err, stopped) {
		t.Errorf("Line: %v", err)
	}
	if ok, err := p.Confirm(ctx, "Drop it?", "drop"); ok || !errors.Is(err, stopped) {
		t.Errorf("Confirm: %t, %v", ok, err)
	}
	if got, want := out.String(), "Which? \nDrop it? Type \"drop\" to go on: \n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

// TestPromptFits: on a terminal of any width what is to be typed is on one line, if that
// can hold it, and elsewhere nothing is broken.
func TestPromptFits(t *testing.T) {
	const question, answer, last = "Delete backup 20261122T020000Z-7f3a9c in 2 stores? It can't be undone.", "7f3a9c", `Type "7f3a9c" to go on: `
	for width := range 120 {
		var out bytes.Buffer
		p := terminal.Prompt{In: strings.NewReader(answer + "\n"), Out: &out, Terminal: true, Width: func() int { return width }}
		if ok, err := p.Confirm(t.Context(), question, answer); !ok || err != nil {
			t.Fatalf("width %d: %t, %v", width, ok, err)
		}
		if got, want := strings.Join(strings.Fields(out.String()), " "), question+" "+strings.TrimSpace(last); got != want {
			t.Fatalf("width %d: %q", width, got)
		}
		for line := range strings.SplitSeq(out.String(), "\n") {
			if width >= 30 && lipgloss.Width(line) > width {
				t.Fatalf("width %d: %q", width, line)
			}
		}
		if width >= len(last) && !strings.HasSuffix("\n"+out.String(), "\n"+last) && out.String() != question+" "+last {
			t.Fatalf("width %d: %q", width, out.String())
		}
	}
}
