package main

import (
	"crypto/rand"
	"io"

	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// jsonLines is where records go as JSON.
type jsonLines struct{ w io.Writer }

// Write implements io.Writer.
func (j jsonLines) Write(p []byte) (int, error) {
	if _, err := j.w.Write(words.JSON(p)); err != nil {
		return 0, err //nolint:wrapcheck // a stream's own
	}
	return len(p), nil
}

// value cleans what is one value, painted perhaps: it can't begin a line.
func (e *env) value(s string) string { return words.Keep{Weights: true, Key: e.key}.Clean(s) }

// cleanStreams puts terminal.Text before the streams that the program was given.
func (e *env) cleanStreams() {
	e.rawOut, e.rawErr = e.stdout, e.stderr
	e.key = rand.Text()
	e.stdout = terminal.Text{W: e.rawOut, Terminal: e.stdoutTTY, Key: e.key}
	e.screen.Text = terminal.Text{W: e.rawErr, Terminal: e.stderrTTY, Key: e.key}
	e.stderr = e.screen.Text
}
