package pool

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Class sorts errors by what a caller can do about them.
type Class int

// The classes of errors.
const (
	// ClassNone is not an error.
	ClassNone Class = iota
	// ClassCanceled: the caller's context ended, by cancel or deadline.
	ClassCanceled
	// ClassTimeout: the statement took too long (query timeout,
	// statement_timeout, lock_timeout) or somebody cancelled it on the server.
	ClassTimeout
	// ClassOverload: ErrPoolTimeout or ErrOverloaded. Shed load.
	ClassOverload
	// ClassUnavailable: no session could be had, so nothing was run: can't
	// connect, the server is starting up or full, the breaker is open.
	ClassUnavailable
	// ClassConnectionLost: the session broke, at any moment of the work.
	ClassConnectionLost
	// ClassOutcomeUnknown: ErrOutcomeUnknown.
	ClassOutcomeUnknown
	// ClassConflict: a serialization failure or a deadlock. The transaction was
	// rolled back, and may well succeed when it is run again.
	ClassConflict
	// ClassReadOnly: a write on a standby or in a read-only transaction.
	ClassReadOnly
	// ClassConstraint: the data breaks a rule of the schema (SQLSTATE class 23).
	ClassConstraint
	// ClassPermission: a wrong password, a certificate that is not trusted, or a
	// missing privilege.
	ClassPermission
	// ClassInvalid: the statement or its values are wrong (classes 22, 42 and
	// most others). Running it again fails again.
	ClassInvalid
	// ClassResources: the server is out of memory, disk or another resource
	// (classes 53, 54 and 58).
	ClassResources
	// ClassNoRows: QueryRow found no row.
	ClassNoRows
	// ClassOther is everything else.
	ClassOther
)

// String returns the name of the class as it appears in logs and metrics.
func (c Class) String() string {
	names := [...]string{
		"ok", "canceled", "timeout", "overload", "unavailable", "connection_lost", "outcome_unknown", "conflict",
		"read_only", "constraint", "permission", "invalid", "resources", "no_rows", "other",
	}
	if c < 0 || int(c) >= len(names) {
		return "other"
	}
	return names[c]
}

// Classify says what kind of error this is. It looks at SQLSTATEs and types,
// never at text, which PostgreSQL translates. It returns ClassNone for nil.
func Classify(err error) Class {
	switch {
	case err == nil:
		return ClassNone
	case errors.Is(err, ErrOutcomeUnknown):
		return ClassOutcomeUnknown
	case errors.Is(err, ErrPoolTimeout), errors.Is(err, ErrOverloaded):
		return ClassOverload
	case errors.Is(err, ErrQueryTimeout):
		return ClassTimeout
	case errors.Is(err, ErrCircuitOpen), errors.Is(err, ErrNoPrimary), errors.Is(err, errNoSession):
		return ClassUnavailable
	case errors.Is(err, errReadOnly):
		return ClassReadOnly
	case errors.Is(err, pgx.ErrNoRows):
		return ClassNoRows
	}
	var pgErr *pgconn.PgError
	connecting := isConnectError(err)
	if errors.As(err, &pgErr) {
		// The server says 57014 on the caller's cancel, and also of a COPY whose source
		// has failed here.
		if pgErr.Code == "57014" && isContextError(err) {
			return ClassCanceled
		} else if pgErr.Code == "57014" && pgErr.Routine == "CopyGetData" {
			return ClassOther
		}
		if pgErr.Code == "08P01" && pgErr.Severity == "FATAL" {
			if connecting && misconfigured(pgErr.Message) {
				return ClassInvalid
			}
			// How PgBouncer, which translates nothing, tells of a server that it has
			// lost or can't reach.
			return classOfState("08006", connecting)
		}
		return classOfState(pgErr.Code, connecting)
	}
	switch {
	case isCertificateError(err):
		return ClassPermission
	case connecting:
		return ClassUnavailable
	case isContextError(err):
		return ClassCanceled
	case isConnectionLost(err):
		return ClassConnectionLost
	}
	return ClassOther
}

// misconfigured says whether PgBouncer refuses a connection for a reason that
// somebody has to change. It has one SQLSTATE for everything, but its messages are
// never translated; another text is taken for trouble that passes.
func misconfigured(message string) bool {
	message = strings.ToLower(message)
	for _, prefix := range []string{
		"unsupported startup parameter", "unsupported options startup parameter", "no such database", "no such user",
		"no username supplied", "username too long", "password too long", "bouncer config error", "ssl required",
		"login rejected", "not allowed", "auth_type=any requires forced user",
	} {
		if strings.HasPrefix(message, prefix) {
			return true
		}
	}
	return false
}

// endedIdle says whether the server had ended the session before it read the
// statement: while it was idle (57P05), or idle in a transaction (25P03), which was
// rolled back then. What the statement asked for was not done.
func endedIdle(err error) bool {
	state := sqlState(err)
	return state == "57P05" || state == "25P03"
}

// classOfState classifies an SQLSTATE. Connecting says that it answered an
// attempt to connect.
func classOfState(code string, connecting bool) Class {
	switch code {
	case "40001", "40P01":
		return ClassConflict
	case "25006":
		return ClassReadOnly
	case "57014", "55P03":
		return ClassTimeout
	case "57P03", "53300":
		return ClassUnavailable
	case "57P01", "57P02", "57P04", "57P05", "25P03", "25P04":
		if connecting {
			return ClassUnavailable
		}
		return ClassConnectionLost
	case "42501":
		return ClassPermission
	case "40003":
		return ClassOutcomeUnknown
	case "08P01":
		// A protocol violation comes again, unless it is a link that broke.
		return ClassInvalid
	}
	for _, c := range classesOfStates {
		if strings.HasPrefix(code, c.prefix) {
			if c.class == ClassConnectionLost && connecting {
				return ClassUnavailable
			}
			return c.class
		}
	}
	return ClassInvalid
}

// classesOfStates are whole classes of SQLSTATEs.
var classesOfStates = []struct {
	prefix string
	class  Class
}{
	{"08", ClassConnectionLost},
	{"23", ClassConstraint},
	{"28", ClassPermission},
	{"53", ClassResources},
	{"54", ClassResources},
	{"58", ClassResources},
	{"XX", ClassOther},
	{"P0", ClassOther}, // what functions raise
}

// Retryable says whether errors of the class can go away by themselves, so that
// a caller may try again later what it knows to be safe to run twice. It is not
// what the pool does by itself: see the table in docs/pool.md.
func (c Class) Retryable() bool {
	switch c {
	case ClassOverload, ClassUnavailable, ClassConnectionLost, ClassConflict, ClassResources:
		return true
	default:
		return false
	}
}

// sqlState returns the SQLSTATE of an error, or nothing. It alone is logged: the
// message of an error can hold values.
func sqlState(err error) string {
	state, _ := stateOf(err)
	return state
}

// stateOf returns the SQLSTATE of an error and the server's routine that raised it,
// or nothing.
func stateOf(err error) (state, routine string) {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code, pgErr.Routine
	}
	return "", ""
}

func isConnectError(err error) bool {
	var connectErr *pgconn.ConnectError
	return errors.As(err, &connectErr)
}

// isCertificateError says whether one side did not trust the other's certificate.
func isCertificateError(err error) bool {
	var verification *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &verification) || errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid)
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// isConnectionLost recognises what is left of a session after its connection
// broke. That pgx says of an error that it is safe to try again is not a sign of that: it
// also says so of a connection that is busy, and of a message that is too long.
func isConnectionLost(err error) bool {
	var netErr net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, pgconn.ErrConnClosed) || errors.As(err, &netErr)
}
