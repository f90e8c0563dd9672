package main

import (
	"crypto/rand"
	"io"

	"github.com/pgmedic/pgmedic/internal/words"
)

// cleaned is a stream for people: nothing but text passes it, whatever a server or
// a store had in it, and on a terminal the colours of paint, which have a key that
// no value knows. It is behind all that a command prints, so that a value that was
// not cleaned where it was printed drives no terminal.
type cleaned struct {
	w        io.Writer
	terminal bool
	key      string
}

// Write implements io.Writer. A character may not be cut in two by it, which
// holds for whatever is printed by fmt.
func (c cleaned) Write(p []byte) (int, error) {
	text := string(p)
	if c.terminal {
		text = words.Unmark(c.key, words.Keep{Lines: true, Weights: true, Key: c.key}.Clean(text))
	} else {
		text = words.Keep{Lines: true}.Clean(text)
	}
	if _, err := c.w.Write([]byte(text)); err != nil {
		return 0, err //nolint:wrapcheck // a stream's own
	}
	return len(p), nil
}

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
func (a *app) value(s string) string { return words.Keep{Weights: true, Key: a.key}.Clean(s) }

// cleanStreams puts cleaned before the streams that the program was given.
func (a *app) cleanStreams() {
	a.rawOut, a.rawErr = a.stdout, a.stderr
	a.key = rand.Text()
	a.stdout, a.stderr = cleaned{a.rawOut, a.stdoutTTY, a.key}, cleaned{a.rawErr, a.stderrTTY, a.key}
	a.screen.w, a.screen.terminal, a.screen.key = a.rawErr, a.stderrTTY, a.key
}
