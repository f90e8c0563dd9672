package pgmedic

import (
	"context"
	"errors"
	"fmt"
)

// Kind sorts errors by what the caller of pgmedic can do about them. Each has
// one exit code, listed in docs/exit-codes.md and in --help.
type Kind int

// The kinds of errors. The zero Kind is a plain failure.
const (
	// KindFailed is a failure of no more special kind.
	KindFailed Kind = iota
	// KindUsage is a wrong command line, configuration or set-up: trying
	// again changes nothing until somebody changes that.
	KindUsage
	// KindNotFound means that what was named is not there: a backup, a
	// database, a table.
	KindNotFound
	// KindIntegrity means that bytes were read and are wrong: damaged,
	// truncated, or not what was recorded. Never used where reading failed.
	KindIntegrity
	// KindUnreachable means that something could not be reached or read
	// (network, server down, permission); it proves nothing about the data.
	KindUnreachable
	// KindNotConfirmed means that a question was not answered with yes.
	KindNotConfirmed
	// KindConflict means that the target exists, is in use, or is locked by
	// another run.
	KindConflict
	// KindDegraded means that the work is done but something beside it
	// failed, such as a copy or a notification.
	KindDegraded
	// KindInterrupted means that the caller's context ended.
	KindInterrupted
)

// String returns the kind's name as it appears in JSON.
func (k Kind) String() string {
	switch k {
	case KindUsage:
		return "usage"
	case KindNotFound:
		return "not_found"
	case KindIntegrity:
		return "integrity"
	case KindUnreachable:
		return "unreachable"
	case KindNotConfirmed:
		return "not_confirmed"
	case KindConflict:
		return "conflict"
	case KindDegraded:
		return "degraded"
	case KindInterrupted:
		return "interrupted"
	default:
		return "failed"
	}
}

// Error is an error with a kind and a hint. Its message is that of Err. It
// never holds a secret or a row.
type Error struct {
	Kind Kind
	// Hint says in one sentence what the reader can do now, or is empty.
	Hint string
	// Temporary: the same call may succeed later without anybody's doing, because a
	// network or a server is away or overloaded.
	Temporary bool
	Err       error
}

// Error returns the message of the wrapped error, without the hint.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an Error of the given kind and hint. Format and arguments are
// those of fmt.Errorf, %w included.
func Errorf(kind Kind, hint, format string, args ...any) error {
	return &Error{Kind: kind, Hint: hint, Err: fmt.Errorf(format, args...)}
}

// KindOf returns the kind of the outermost Error in err's chain, or
// KindInterrupted for a cancelled context, or KindFailed. Of several errors that
// were joined, the first Error decides that is not of KindDegraded: that the work
// is done is true only if all of them say so, and of any other error beside them
// the kind is KindFailed or KindInterrupted.
func KindOf(err error) Kind {
	if kind, said := kindIn(err); said {
		return kind
	}
	if errors.Is(err, context.Canceled) {
		return KindInterrupted
	}
	return KindFailed
}

// kindIn returns the kind that the Errors in err's tree give it, and whether they do.
func kindIn(err error) (kind Kind, said bool) {
	switch e := err.(type) { //nolint:errorlint // this very link of the chain
	case *Error:
		return e.Kind, true
	case interface{ Unwrap() error }:
		return kindIn(e.Unwrap())
	case interface{ Unwrap() []error }:
		degraded := true
		for _, part := range e.Unwrap() {
			kind, said := kindIn(part)
			if said && kind != KindDegraded {
				return kind, true
			}
			degraded = degraded && said
		}
		return KindDegraded, degraded && len(e.Unwrap()) > 0
	}
	return KindFailed, false
}

// IsTemporary reports whether what err says could not be reached, and an Error in its
// chain says that this may pass by itself.
func IsTemporary(err error) bool {
	if KindOf(err) != KindUnreachable {
		return false
	}
	var e *Error
	for errors.As(err, &e) {
		if e.Temporary {
			return true
		}
		err = e.Err
	}
	return false
}

// HintOf returns the outermost hint in err's chain that is not empty.
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
