package pool

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestClassify(t *testing.T) {
	state := func(code string) error { return fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code}) }
	connecting := func(code, message string) error {
		return errors.Join(&pgconn.ConnectError{}, &pgconn.PgError{Code: code, Severity: "FATAL", Message: message})
	}
	for name, test := range map[string]struct {
		err  error
		want Class
	}{
		"nil":                                   {nil, ClassNone},
		"cancelled":                             {fmt.Errorf("x: %w", context.Canceled), ClassCanceled},
		"deadline":                              {context.DeadlineExceeded, ClassCanceled},
		"cancelled by the caller on the server": {fmt.Errorf("%w: %w", context.Canceled, state("57014")), ClassCanceled},
		"cancelled on the server":               {state("57014"), ClassTimeout},
		"query timeout":                         {fmt.Errorf("%w: %w", ErrQueryTimeout, state("57014")), ClassTimeout},
		"lock timeout":                          {state("55P03"), ClassTimeout},
		"pool timeout":                          {&AcquireTimeoutError{}, ClassOverload},
		"overloaded":                            {&hinted{fmt.Errorf("h: %w", ErrOverloaded), "x"}, ClassOverload},
		"breaker":                               {fmt.Errorf("h: %w", ErrCircuitOpen), ClassUnavailable},
		"no primary":                            {ErrNoPrimary, ClassUnavailable},
		"starting":                              {state("57P03"), ClassUnavailable},
		"too many":                              {state("53300"), ClassUnavailable},
		"shut down":                             {state("57P01"), ClassConnectionLost},
		"connection failure":                    {state("08006"), ClassConnectionLost},
		"PgBouncer lost its server":             {&pgconn.PgError{Code: "08P01", Severity: "FATAL"}, ClassConnectionLost},
		"PgBouncer can't log in":                {connecting("08P01", "server login failed: FATAL too many"), ClassUnavailable},
		"PgBouncer takes no such parameter":     {connecting("08P01", "unsupported startup parameter: work_mem"), ClassInvalid},
		"PgBouncer of old, no such parameter":   {connecting("08P01", "Unsupported startup parameter: work_mem"), ClassInvalid},
		"PgBouncer knows no such database":      {connecting("08P01", "no such database: clinic"), ClassInvalid},
		"idle for too long":                     {state("57P05"), ClassConnectionLost},
		"idle in transaction for too long":      {state("25P03"), ClassConnectionLost},
		"database dropped":                      {state("57P04"), ClassConnectionLost},
		"before connecting":                     {fmt.Errorf("%w: %w", errNoSession, context.DeadlineExceeded), ClassUnavailable},
		"protocol violation":                    {&pgconn.PgError{Code: "08P01", Severity: "ERROR"}, ClassInvalid},
		"end of file":                           {fmt.Errorf("x: %w", io.ErrUnexpectedEOF), ClassConnectionLost},
		"network":                               {&net.OpError{Op: "read", Err: errors.New("reset")}, ClassConnectionLost},
		"closed":                                {pgconn.ErrConnClosed, ClassConnectionLost},
		"serialization":                         {state("40001"), ClassConflict},
		"deadlock":                              {state("40P01"), ClassConflict},
		"unknown to the server":                 {state("40003"), ClassOutcomeUnknown},
		"unknown":                               {fmt.Errorf("%w: %w", ErrOutcomeUnknown, state("57P01")), ClassOutcomeUnknown},
		"read-only":                             {state("25006"), ClassReadOnly},
		"unique":                                {state("23505"), ClassConstraint},
		"a certificate":                         {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, ClassPermission},
		"password":                              {state("28P01"), ClassPermission},
		"privilege":                             {state("42501"), ClassPermission},
		"syntax":                                {state("42601"), ClassInvalid},
		"division":                              {state("22012"), ClassInvalid},
		"no such database":                      {state("3D000"), ClassInvalid},
		"disk":                                  {state("53100"), ClassResources},
		"no rows":                               {pgx.ErrNoRows, ClassNoRows},
		"raised":                                {state("P0001"), ClassOther},
		"anything":                              {errors.New("anything"), ClassOther},
	} {
		if got := Classify(test.err); got != test.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	for class := ClassNone; class <= ClassOther; class++ {
		if class.String() == "" || class != ClassOther && class.String() == ClassOther.String() {
			t.Errorf("class %d has no name of its own", class)
		}
	}
}
