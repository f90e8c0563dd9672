package terminal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"charm.land/lipgloss/v2"
)

// ErrClosed is the error of a question after which the input ended.
var ErrClosed = errors.New("the terminal was closed")

// Prompt asks questions, each of which is answered with a line.
type Prompt struct {
	// In is where answers are typed.
	In io.Reader
	// Out is where questions are printed.
	Out io.Writer
	// Terminal is true where Out is a terminal; then the question of Confirm is broken
	// between words.
	Terminal bool
	// Width returns the terminal's columns now, or 0 where they are not known. It must be
	// set if Terminal is.
	Width func() int
}

// Line prints a question as it is and returns the line that is typed, without the spaces
// around it. If the input ends before the line does, the error is ErrClosed, and what was
// typed is returned, too. If ctx ends first, the error is its cause; a read is then still
// going on, and takes the next line.
func (p Prompt) Line(ctx context.Context, question string) (string, error) {
	got, err := p.ask(ctx, question)
	if err == nil {
		err = got.err
	}
	return got.text, err
}

// Confirm asks a question, and reports whether the answer was typed exactly. It names the
// answer. An input that ends is not an error, and confirms only if the answer comes before its
// end; the only error is the cause of a ctx that ended.
func (p Prompt) Confirm(ctx context.Context, question, answer string) (bool, error) {
	typed, between := fmt.Sprintf("Type %q to go on: ", answer), " "
	if p.Terminal && lipgloss.Width(question+between+typed) > p.Width() {
		between = "\n" // what is to be typed is on one line
	}
	question += between + typed
	if p.Terminal {
		question = WrapLines(question, p.Width())
	}
	got, err := p.ask(ctx, question)
	return err == nil && got.text == answer, err
}

// line is what was typed, and why it did not end as a line.
type line struct {
	text string
	err  error
}

// ask prints a question and waits for a line, or for the end of ctx, which is the error.
func (p Prompt) ask(ctx context.Context, question string) (line, error) {
	fmt.Fprint(p.Out, question)
	typed := make(chan line, 1)
	go func() { // ends with the process if nothing is typed
		text, err := bufio.NewReader(p.In).ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = ErrClosed
		}
		typed <- line{strings.TrimSpace(text), err}
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(p.Out) // the question's line is still open
		return line{}, context.Cause(ctx)
	case got := <-typed:
		return got, nil
	}
}
