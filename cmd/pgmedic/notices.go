package main

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/pgmedic/pgmedic/internal/words"
)

// notices writes log records for a person at a terminal, in the form in which errors are
// printed: `warning: what happened: the error (key: value)`, and `hint: what to do`
// below it. The time is now, and the terminal is read now.
type notices struct {
	w     io.Writer
	level slog.Level
	paint paint
	// attrs are those of With; group is the prefix of keys that WithGroup opened.
	attrs []slog.Attr
	group string
	// one keeps the lines of a record together.
	one *sync.Mutex
}

func newNotices(w io.Writer, level slog.Level, p paint) *notices {
	return &notices{w: w, level: level, paint: p, one: &sync.Mutex{}}
}

// Enabled implements slog.Handler.
func (n *notices) Enabled(_ context.Context, level slog.Level) bool { return level >= n.level }

// Handle implements slog.Handler.
func (n *notices) Handle(_ context.Context, r slog.Record) error {
	var cause, hint string
	var more []string
	add := func(prefix string, a slog.Attr) {
		for _, one := range flat(prefix, a) {
			switch value := words.OneLine(one.Value.String()); {
			case value == "":
			case one.Key == "error":
				cause = value
			case one.Key == "hint":
				hint = value
			default:
				more = append(more, words.OneLine(one.Key)+": "+value)
			}
		}
	}
	for _, a := range n.attrs {
		add("", a)
	}
	r.Attrs(func(a slog.Attr) bool {
		add(n.group, a)
		return true
	})
	text := n.label(r.Level) + " " + words.OneLine(r.Message)
	if cause != "" {
		text += ": " + cause
	}
	if len(more) > 0 {
		text += " (" + strings.Join(more, ", ") + ")"
	}
	text += "\n"
	if hint != "" {
		text += n.paint.dim("hint:") + " " + hint + "\n"
	}
	n.one.Lock()
	defer n.one.Unlock()
	_, err := io.WriteString(n.w, text)
	return err //nolint:wrapcheck // a stream's own
}

// label is the word that a record begins with.
func (n *notices) label(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return n.paint.bad("error:")
	case level >= slog.LevelWarn:
		return n.paint.warn("warning:")
	case level >= slog.LevelInfo:
		return n.paint.dim("info:")
	}
	return n.paint.dim("debug:")
}

// WithAttrs implements slog.Handler.
func (n *notices) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *n
	with.attrs = append([]slog.Attr(nil), n.attrs...)
	for _, a := range attrs {
		with.attrs = append(with.attrs, flat(n.group, a)...)
	}
	return &with
}

// WithGroup implements slog.Handler.
func (n *notices) WithGroup(name string) slog.Handler {
	with := *n
	if name != "" {
		with.group += name + "."
	}
	return &with
}

// flat returns an attribute, or those of a group, with the whole keys.
func flat(prefix string, a slog.Attr) []slog.Attr {
	a.Value = a.Value.Resolve()
	if a.Value.Kind() != slog.KindGroup {
		if a.Key == "" {
			return nil
		}
		return []slog.Attr{{Key: prefix + a.Key, Value: a.Value}}
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	var all []slog.Attr
	for _, member := range a.Value.Group() {
		all = append(all, flat(prefix, member)...)
	}
	return all
}
