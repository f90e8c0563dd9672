package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// jsonError is how an error is printed with --json: a last line of standard error.
// Standard output has the result, if there is one.
type jsonError struct {
	Error errorBody `json:"error"`
}

// errorBody is what failed, and what to do about it.
type errorBody struct {
	// Kind is failed, usage, not_found, integrity, unreachable, not_confirmed, conflict,
	// degraded or interrupted.
	Kind string `json:"kind"`
	// Message says in one line what was attempted and what happened.
	Message string `json:"message"`
	// Hint says what to do.
	Hint string `json:"hint,omitempty"`
	// Data are the server's own words with --show-data.
	Data string `json:"data,omitempty"`
	// ExitCode is the exit code of the process.
	ExitCode int `json:"exit_code"`
}

func (e *env) printJSONError(err error, code int) {
	var out jsonError
	out.Error.Kind, out.Error.ExitCode = pgmedic.KindOf(err).String(), code
	out.Error.Message, out.Error.Hint = words.OneLine(err.Error()), words.OneLine(pgmedic.HintOf(err))
	var unredacted interface{ Unredacted() string }
	if e.global.showData && errors.As(err, &unredacted) {
		out.Error.Data = cleanLines(unredacted.Unredacted())
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // it is read by people, too
	if err := encoder.Encode(out); err != nil {
		e.printError(err)
		return
	}
	fmt.Fprint(e.stderr, text.String())
}

// asksJSON reports whether --json is among the arguments, for errors of arguments that
// come before it and keep it from being read.
func asksJSON(args []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	return slices.Contains(args, "--json")
}
