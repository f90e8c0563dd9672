package pool

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The errors that callers branch on, with errors.Is.
var (
	// ErrPoolTimeout means that no connection was free, and none could be
	// opened, within Config.AcquireTimeout. Nothing was sent. The error is a
	// *AcquireTimeoutError, which says who holds the connections.
	ErrPoolTimeout = errors.New("no connection within the acquire timeout")
	// ErrOverloaded means that Config.MaxWaiting callers wait already, so that
	// this one was turned away at once. Nothing was sent.
	ErrOverloaded = errors.New("too many callers wait for a connection")
	// ErrCircuitOpen means that the server could not be reached several times
	// in a row, and is left alone for a moment. Nothing was sent.
	ErrCircuitOpen = errors.New("the server could not be reached and is left alone for a moment")
	// ErrNoPrimary means that none of the servers is known to be the primary.
	// Nothing was sent.
	ErrNoPrimary = errors.New("no server is known to be the primary")
	// ErrQueryTimeout means that a statement ran for longer than
	// Config.QueryTimeout, and was cancelled.
	ErrQueryTimeout = errors.New("the statement ran into the query timeout")
	// ErrOutcomeUnknown means that the connection was lost while a COMMIT, or a
	// statement outside a transaction, was under way: it may have been done or
	// not. Or that the wait of a commit for its synchronous standbys was
	// cancelled: it is done on the primary, and a failover may undo it. The pool
	// did not try again. Only the caller can find out, for instance by looking for
	// the row.
	ErrOutcomeUnknown = errors.New("it is not known whether the work was done, and will last")
	// ErrShutdown means that Shutdown was called.
	ErrShutdown = errors.New("the pool is shut down")
	// ErrConfig means that a Config, a connection string or an environment
	// variable is wrong. The error is a *ConfigError.
	ErrConfig = errors.New("wrong configuration")
)

// AcquireTimeoutError is an ErrPoolTimeout with the facts of that moment.
type AcquireTimeoutError struct {
	// Server is the host and port.
	Server string
	// Waited is how long the caller waited.
	Waited time.Duration
	// InUse is how many connections were in use, of at most Max; Waiting is how
	// many other callers waited.
	InUse, Max, Waiting int
	// Holders are those that had held a connection for longest, at most three.
	Holders []Holder
}

// Holder is somebody who holds a connection.
type Holder struct {
	// PID is the process of the server that works for the session, or zero behind a
	// pooler, where it is not known.
	PID uint32 `json:"pid"`
	// Held is for how long.
	Held time.Duration `json:"held_ns"`
	// SQL is the statement that runs or ran last, without its literals.
	SQL string `json:"sql"`
	// Running says whether it is running; else the caller keeps the connection
	// between two statements.
	Running bool `json:"running"`
	// TakenBy are the functions that called for the connection, the nearest first, with
	// their lines. It is empty unless Config.LeakAfter is set.
	TakenBy string `json:"taken_by,omitempty"`
}

// Error tells the facts in one line.
func (e *AcquireTimeoutError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no connection to %s within %s: %d of %d in use, %d more callers waiting",
		e.Server, e.Waited.Round(time.Millisecond), e.InUse, e.Max, e.Waiting)
	writeHolders(&b, e.Holders)
	return b.String()
}

// holdersNamed is how many of those that hold connections an error names.
const holdersNamed = 3

// writeHolders adds the first few of those that hold connections.
func writeHolders(b *strings.Builder, holders []Holder) {
	for i, h := range holders[:min(len(holders), holdersNamed)] {
		state := "idle after"
		if h.Running {
			state = "running"
		}
		if i == 0 {
			b.WriteString("; held longest by:")
		}
		fmt.Fprintf(b, " (%d) %s, %s %q", i+1, h.Held.Round(time.Millisecond), state, h.SQL)
	}
}

// Is says that the error is an ErrPoolTimeout.
func (e *AcquireTimeoutError) Is(target error) bool { return target == ErrPoolTimeout }

// Hint says what can be done.
func (e *AcquireTimeoutError) Hint() string {
	if e.InUse < e.Max {
		return "connections were free but could not be opened in time: look at the network and the server"
	}
	return "shorten what holds connections, or raise MaxConns (DB_CONNECTION_LIMIT) as far as the server's max_connections allows"
}

// ConfigError says what is wrong with a configuration. It never quotes a
// connection string or a secret.
type ConfigError struct {
	// Field is the field of Config, the parameter or the environment variable.
	Field string
	// Problem is what is wrong with it.
	Problem string
	// Advice is what to do.
	Advice string
}

// Error returns the field and the problem.
func (e *ConfigError) Error() string { return e.Field + ": " + e.Problem }

// Is says that the error is an ErrConfig.
func (e *ConfigError) Is(target error) bool { return target == ErrConfig }

// Hint returns the advice.
func (e *ConfigError) Hint() string { return e.Advice }

// ShutdownError is what Shutdown returns if work was still running when its
// context ended.
type ShutdownError struct {
	// Cut are those whose connections were closed under them.
	Cut []Holder
	// Err is why the context ended.
	Err error
}

// Error says how many were cut off, and what the first of them did.
func (e *ShutdownError) Error() string {
	were := "1 connection was"
	if len(e.Cut) != 1 {
		were = fmt.Sprintf("%d connections were", len(e.Cut))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "shutdown: %s cut while in use: %v", were, e.Err)
	writeHolders(&b, e.Cut)
	return b.String()
}

// Unwrap returns Err.
func (e *ShutdownError) Unwrap() error { return e.Err }

// Hint says what can be done.
func (e *ShutdownError) Hint() string {
	return "close rows and end transactions before Shutdown, or give its context more time"
}

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }
func (e *hinted) Hint() string  { return e.hint }

// Hint returns the advice that comes with an error of this package, or nothing.
func Hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	if Classify(err) == ClassReadOnly {
		return "reads refuse writes: send this one by the DB itself, or in InTx without Read"
	}
	return ""
}
