package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// ServerError is an error that PostgreSQL reported, without anything that can
// quote a row: its detail, its context and, in the classes that quote values,
// its message are left out.
type ServerError struct {
	// Code is the SQLSTATE.
	Code string
	// Text says what happened in words that hold no data.
	Text string
	// TooLarge is true where a value is too large to be written as text.
	TooLarge bool
	// Full is the server's whole message. It may quote rows: it is for the
	// terminal of a person who asked for it, and never for a log.
	Full string
}

// Error returns the safe text with its SQLSTATE.
func (e *ServerError) Error() string { return fmt.Sprintf("%s (SQLSTATE %s)", e.Text, e.Code) }

// Unredacted returns the server's whole message, which may hold rows.
func (e *ServerError) Unredacted() string { return e.Full }

// Wrap says what was attempted and takes from a PostgreSQL error everything
// that can hold data. Other errors are wrapped as they are; nil stays nil.
func Wrap(err error, attempted string) error {
	if err == nil {
		return nil
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		if errors.Is(err, context.Canceled) { // the caller's doing, and no lost connection
			return fmt.Errorf("%s: %w", attempted, context.Canceled)
		}
		if pgconn.Timeout(err) || isConnLost(err) {
			return pgmedic.Errorf(pgmedic.KindUnreachable,
				"check the server's log and the network, then run the command again",
				"%s: the connection was lost: %w", attempted, err)
		}
		return fmt.Errorf("%s: %w", attempted, err)
	}
	server := &ServerError{Code: e.Code, Text: safeText(e), Full: fullText(e), TooLarge: tooLarge(e)}
	kind, hint := KindOf(e.Code)
	if server.TooLarge {
		server.Text = "a value is too large to be written as text, which may take 1 GiB: " + server.Text
		hint = "docs/limits.md says which values have no text form, and how they are backed up"
	}
	if e.Routine == "check_enable_rls" {
		hint = "use a role with BYPASSRLS: a backup under row-level security would miss rows"
	}
	if kind == pgmedic.KindFailed && hint == "" {
		return fmt.Errorf("%s: %w", attempted, server)
	}
	return pgmedic.Errorf(kind, hint, "%s: %w", attempted, server)
}

// TooLargeForText reports whether a request for n bytes of memory is for the text
// of a value. The server gives no more than 1 GiB at once, to a value as well as to
// its text, and that takes up to four bytes for one. More is asked for by mistake:
// of a length that is damaged.
func TooLargeForText(n uint64) bool { return n >= 1<<30-1 && n <= 1<<32 }

// tooLarge looks at the names of the server's functions and at the number in the
// message, which are the same in every language.
func tooLarge(e *pgconn.PgError) bool {
	switch {
	case e.Code == "54000" || e.Code == "53200":
		return strings.HasPrefix(e.Routine, "enlargeStringInfo") || e.Routine == "makeStringInfoExt"
	case e.Code != "XX000":
		return false
	}
	notDigit := func(r rune) bool { return r < '0' || r > '9' }
	n, err := strconv.ParseUint(e.Message[strings.LastIndexFunc(e.Message, notDigit)+1:], 10, 64)
	alloc := strings.Contains(e.Routine, "alloc") || strings.HasPrefix(e.Routine, "MemoryContext")
	return err == nil && alloc && TooLargeForText(n)
}

// Code returns the SQLSTATE in err's chain, or empty.
func Code(err error) string {
	var server *ServerError
	if errors.As(err, &server) {
		return server.Code
	}
	var refused *refusal
	if errors.As(err, &refused) {
		return refused.code
	}
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// RefusedContent reports whether the server refused a statement or rows for what they
// say, or for what this server has not got: others may go in. It did not, where it
// has no room, no memory or no session any more, or found damage.
func RefusedContent(err error) bool {
	code := Code(err)
	if len(code) != 5 {
		return false
	}
	switch code {
	case "58P01", // a library that is not installed
		"55000": // a library that must be loaded at the server's start
		return true
	case "XX001", "XX002":
		return false
	}
	switch code[:2] {
	case "08", "25", "28", "40", "53", "55", "57", "58":
		return false
	}
	return true
}

// isConnLost reports whether an error is that of a connection, by its type. One that
// has a kind already is that of whoever takes rows out of a COPY or gives them, such
// as a store, and says itself what is wrong.
func isConnLost(err error) bool {
	var of *pgmedic.Error
	if errors.As(err, &of) {
		return false
	}
	var connectErr *pgconn.ConnectError
	var opErr *net.OpError
	return errors.As(err, &connectErr) || errors.As(err, &opErr) || errors.Is(err, pgconn.ErrConnClosed) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// KindOf returns the kind of an error with the given SQLSTATE, and what to do
// about it where that can be said.
func KindOf(code string) (pgmedic.Kind, string) {
	switch {
	case strings.HasPrefix(code, "57P"), strings.HasPrefix(code, "08"):
		return pgmedic.KindUnreachable, "the server ended the session: check its log, then run the command again"
	case code == "3D000":
		return pgmedic.KindNotFound, ""
	case code == "42P04":
		return pgmedic.KindConflict, ""
	case code == "42501":
		return pgmedic.KindUnreachable, "grant the privilege to the role that pgmedic uses; `pgmedic init` prints the roles it needs"
	case code == "55P03":
		return pgmedic.KindConflict, "another session holds a lock on it: run the command again, or raise backup.lock_timeout"
	case code == "53100":
		return pgmedic.KindFailed, "free space on the server's disk"
	case strings.HasPrefix(code, "XX00") && code != "XX000":
		return pgmedic.KindFailed, "the server found damage in its own files: see its log before anything else is written to it"
	}
	return pgmedic.KindFailed, ""
}

// safeText keeps the message of classes whose messages name objects and
// limits, and for all others says the class and the objects only.
func safeText(e *pgconn.PgError) string {
	// RAISE can give any text any SQLSTATE.
	if safeMessage(e.Code) && e.Routine != "exec_stmt_raise" {
		return e.Message
	}
	text := Condition(e.Code)
	switch {
	case e.ConstraintName != "":
		text += " on constraint " + sqltext.QuoteIdent(e.ConstraintName)
	case e.ColumnName != "":
		text += " in column " + sqltext.QuoteIdent(e.ColumnName)
	}
	if e.TableName != "" {
		text += " of table " + sqltext.QuoteQualified(e.SchemaName, e.TableName)
	}
	return text
}

func fullText(e *pgconn.PgError) string {
	parts := []string{e.Message}
	for _, p := range []string{e.Detail, e.Where} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, "; ")
}

func safeMessage(code string) bool {
	if code == "42601" || len(code) != 5 { // a syntax error quotes the text near it
		return false
	}
	switch code[:2] {
	case "08", "0A", "25", "28", "2B", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX":
		return true
	}
	return false
}

// Condition returns words for an SQLSTATE: the condition where it is a common
// one, else its class, else "error". The names are those of PostgreSQL's
// appendix A, with spaces.
func Condition(code string) string {
	switch code {
	case "22001":
		return "string data right truncation"
	case "22003":
		return "numeric value out of range"
	case "22P02":
		return "invalid text representation"
	case "23502":
		return "not null violation"
	case "23503":
		return "foreign key violation"
	case "23505":
		return "unique violation"
	case "23514":
		return "check violation"
	case "23P01":
		return "exclusion violation"
	case "3F000":
		return "invalid schema name"
	case "42501":
		return "insufficient privilege"
	case "42601":
		return "syntax error"
	case "42704":
		return "undefined object"
	case "42710":
		return "duplicate object"
	case "42883":
		return "undefined function"
	case "42P01":
		return "undefined table"
	case "42P07":
		return "duplicate table"
	case "53100":
		return "disk full"
	case "53200":
		return "out of memory"
	case "57P01":
		return "admin shutdown"
	case "58P01":
		return "undefined file"
	case "P0001":
		return "raise exception"
	}
	return conditionClass(code)
}

func conditionClass(code string) string {
	if len(code) < 2 {
		return "error"
	}
	switch code[:2] {
	case "08":
		return "connection exception"
	case "0A":
		return "feature not supported"
	case "22":
		return "data exception"
	case "23":
		return "integrity constraint violation"
	case "40":
		return "transaction rollback"
	case "42":
		return "syntax error or access rule violation"
	case "53":
		return "insufficient resources"
	case "54":
		return "program limit exceeded"
	case "55":
		return "object not in prerequisite state"
	case "57":
		return "operator intervention"
	case "58":
		return "system error"
	case "P0":
		return "PL/pgSQL error"
	case "XX":
		return "internal error"
	}
	return "error"
}
