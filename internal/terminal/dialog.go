package terminal

import (
	"context"
	"errors"
	"io"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/pgmedic/pgmedic/internal/words"
)

// Page is what a dialog shows on the whole terminal, and what keys do to it.
type Page interface {
	// Press handles a key at a terminal of a size, and reports whether the dialog ends by
	// it. Ctrl-C never comes here: it ends the dialog as Interrupted.
	Press(key Key, size Size) Ending
	// Lines are drawn on a terminal of a size. What is too wide or too much is cut off.
	Lines(size Size) []string
}

// Size is that of a terminal, in columns and lines.
type Size struct{ Width, Height int }

// assumedWidth and assumedHeight are a terminal's until it says how large it is.
const assumedWidth, assumedHeight = 80, 24

// Key is a key that was pressed, or text that was pasted.
type Key struct {
	// Stroke is the key's name with what is held down, such as x, enter, up, or ctrl+u;
	// empty for pasted text.
	Stroke string
	// Text is what is typed by it; empty where it types nothing.
	Text string
}

// Ending is how a dialog ended.
type Ending int

// The endings of a dialog.
const (
	// Open is that it has not ended.
	Open Ending = iota
	// Chosen is that something was chosen on its page.
	Chosen
	// Left is that nothing was.
	Left
	// Interrupted is that Ctrl-C was pressed.
	Interrupted
)

// DialogOptions say at which terminal a dialog is shown.
type DialogOptions struct {
	// In is where keys come from.
	In io.Reader
	// Out is where the page is drawn.
	Out io.Writer
	// Environ is the environment, as os.Environ returns it: it says what the terminal can
	// show.
	Environ []string
}

// Show shows a page on the whole terminal until it ends, gives the terminal back as it was,
// and returns the ending, which is not Open. If ctx ends first, the error is its cause. Other
// errors are those of reading keys and of drawing. Signals are left to the program.
func Show(ctx context.Context, page Page, o DialogOptions) (Ending, error) {
	d := &dialog{page: page, size: Size{assumedWidth, assumedHeight}}
	_, err := tea.NewProgram(d, tea.WithContext(ctx), tea.WithInput(o.In), tea.WithOutput(o.Out), tea.WithEnvironment(o.Environ), tea.WithoutSignalHandler()).Run()
	switch {
	case ctx.Err() != nil:
		return Interrupted, context.Cause(ctx)
	case errors.Is(err, tea.ErrInterrupted):
		return Interrupted, nil
	case err != nil:
		return Left, err //nolint:wrapcheck // the caller knows what was drawn
	case d.ending == Open:
		return Left, nil
	}
	return d.ending, nil
}

// Draw returns what Show draws of a page at a terminal of a size: lines of text, bold and
// faint perhaps, none of which is wider than the terminal, and no more than it has.
func Draw(page Page, size Size) []string {
	lines := page.Lines(size)
	lines = lines[:min(len(lines), size.Height)]
	drawn := make([]string, len(lines))
	for i, line := range lines {
		drawn[i] = Shorten(words.Keep{Weights: true}.Clean(line), size.Width)
	}
	return drawn
}

// dialog is the model of a page.
type dialog struct {
	page   Page
	size   Size
	ending Ending
}

// Init implements tea.Model.
func (d *dialog) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (d *dialog) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	if d.ending != Open { // keys that were typed ahead are for what comes next
		return d, tea.Quit
	}
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		d.size = Size{msg.Width, msg.Height}
	case tea.PasteMsg:
		d.ending = d.page.Press(Key{Text: msg.Content}, d.size)
	case tea.KeyPressMsg:
		if d.ending = Interrupted; msg.Keystroke() != "ctrl+c" {
			d.ending = d.page.Press(Key{Stroke: msg.Keystroke(), Text: msg.Text}, d.size)
		}
	}
	if d.ending != Open {
		return d, tea.Quit
	}
	return d, nil
}

// View implements tea.Model. Once the dialog has ended nothing is left of it.
func (d *dialog) View() tea.View {
	text := ""
	if d.ending == Open {
		text = strings.Join(Draw(d.page, d.size), "\n")
	}
	v := tea.NewView(text)
	v.AltScreen = true
	return v
}
