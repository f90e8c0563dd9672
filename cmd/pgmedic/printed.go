package main

import (
	"io"

	"github.com/pgmedic/pgmedic/internal/words"
)

// cleaned is a stream for people: nothing but text passes it, whatever a server or
// a store had in it, and on a terminal the colours of paint. It is behind all that
// a command prints, so that a value that was not cleaned where it was printed
// drives no terminal.
type cleaned struct {
	w       io.Writer
	colours bool
}

// Write implements io.Writer. A character may not be cut in two by it, which
// holds for whatever is printed by fmt.
func (c cleaned) Write(p []byte) (int, error) {
	if _, err := io.WriteString(c.w, words.Keep{Lines: true, Colours: c.colours}.Clean(string(p))); err != nil {
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
func value(s string) string { return words.Keep{Colours: true}.Clean(s) }
