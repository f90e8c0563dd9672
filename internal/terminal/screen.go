package terminal

import (
	"fmt"
	"io"
	"sync"

	"github.com/pgmedic/pgmedic/internal/words"
)

// Text is a stream for people: nothing but text passes it, whatever a server or a store
// had in it, and on a terminal bold, faint, and colours that words.Paint marked with a key
// that no value knows. Print through it, so that a value that was not cleaned where it was
// printed drives no terminal.
type Text struct {
	// W is where the text goes.
	W io.Writer
	// Terminal is true where W is a terminal; elsewhere no colour passes.
	Terminal bool
	// Key is what the colours that may pass are marked with; empty where none may.
	Key string
}

// Write implements io.Writer. A character may not be cut in two by it, which
// holds for whatever is printed by fmt. Errors are those of W.
func (t Text) Write(p []byte) (int, error) {
	text := string(p)
	if t.Terminal {
		text = words.Unmark(t.Key, words.Keep{Lines: true, Weights: true, Key: t.Key}.Clean(text))
	} else {
		text = words.Keep{Lines: true}.Clean(text)
	}
	if _, err := t.W.Write([]byte(text)); err != nil {
		return 0, err //nolint:wrapcheck // a stream's own
	}
	return len(p), nil
}

// Screen is a stream with, at its end, a line that is written over. What else is written
// takes that line away first. It may be used by several goroutines at once.
type Screen struct {
	// Text is where it is written to. It is set before the first use.
	Text Text

	mu       sync.Mutex
	occupied bool // by the line
}

// Write writes whole lines, as Text does.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	return s.Text.Write(p)
}

// Draw writes the line over with another, which must not be wider than the terminal.
func (s *Screen) Draw(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.Text.Key
	fmt.Fprint(s.Text.W, "\r"+words.Unmark(key, words.Keep{Key: key}.Clean(line))+"\x1b[K")
	s.occupied = true
}

// Clear takes the line away, if there is one.
func (s *Screen) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}

func (s *Screen) clear() {
	if s.occupied {
		fmt.Fprint(s.Text.W, "\r\x1b[K")
		s.occupied = false
	}
}
