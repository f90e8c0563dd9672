// Package sending sends messages over HTTP. It says why one was not delivered, and whether
// trying again may help, by what a server answered or what the network did; and it reads the
// addresses of mail servers. Its errors never quote a URL, which can be a secret, nor what the other side
// answered.
package sending

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/egress"
)

// Error says why a message was not delivered, and whether trying again may help.
// It never quotes a URL, which can be a secret, nor what the other side answered.
type Error struct {
	// permanent is true where the same message would be refused again.
	permanent bool
	// after is how long the other side asked to wait, or zero.
	after time.Duration
	hint  string
	err   error
}

func (e *Error) Error() string { return e.err.Error() }
func (e *Error) Unwrap() error { return e.err }

// Refused is an error for good.
func Refused(hint, format string, args ...any) error {
	return &Error{permanent: true, hint: hint, err: fmt.Errorf(format, args...)}
}

// Later is an error that may be gone the next time.
func Later(hint, format string, args ...any) error {
	return &Error{hint: hint, err: fmt.Errorf(format, args...)}
}

// Permanent reports whether trying again can't help.
func Permanent(err error) bool {
	var d *Error
	return errors.As(err, &d) && d.permanent
}

// WaitFor is how long to wait before another try, at least as long as least.
func WaitFor(err error, least time.Duration) time.Duration {
	var d *Error
	if errors.As(err, &d) && d.after > least {
		return d.after
	}
	return least
}

// HintOf is what to do about an error of a delivery.
func HintOf(err error) string {
	var d *Error
	if errors.As(err, &d) {
		return d.hint
	}
	return pgmedic.HintOf(err)
}

// HintKept is the hint of errors that go away by themselves. It is true only of a message that
// is kept: a caller that does not keep it replaces the hint.
const HintKept = "the message is sent again by the next run"

// longestRetryAfter bounds what another side may ask to wait.
const longestRetryAfter = time.Hour

// StatusError is what an answer of HTTP comes to: nil, or an error by its status alone. The
// service is who, and the channel is name.
func StatusError(who, name string, status int, header http.Header, now time.Time) error {
	switch {
	case status >= 200 && status < 300:
		return nil
	case status >= 300 && status < 400:
		return Refused("write the address that it leads to", "%s answers with a redirect (%d), which is not followed", who, status)
	case status == http.StatusNotFound || status == http.StatusGone:
		return Refused("make a new one, and change the channel "+name, "%s says that this address is gone (%d)", who, status)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return Refused("check the token, key or URL of the channel "+name, "%s refuses the credentials (%d)", who, status)
	case status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= 500:
		return &Error{after: retryAfter(header, now), hint: HintKept,
			err: fmt.Errorf("%s could not take the message (%d)", who, status)}
	}
	return Refused("`pgmedic notify test "+name+"` sends another", "%s refuses the message (%d)", who, status)
}

// retryAfter reads the header of that name, in both of its forms.
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	wait := time.Duration(0)
	if seconds, err := strconv.Atoi(text); err == nil {
		wait = time.Duration(min(max(seconds, 0), int(longestRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), longestRetryAfter)
}

// NetworkError says what of the network failed, without the address that was asked.
func NetworkError(who string, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var (
		blocked *egress.BlockedError
		dns     *net.DNSError
		record  tls.RecordHeaderError
		op      *net.OpError
	)
	switch {
	case errors.As(err, &blocked):
		return Refused(BlockedHint(blocked), "%s %w", who, blocked)
	case CertificateError(err):
		return Later("name its authority with ca_file, or see that the certificate is renewed", "%s has a certificate that is not trusted: %s", who, certificateWords(err))
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return Later("check the scheme and the port", "%s does not speak TLS", who)
	case errors.As(err, &dns):
		return Later(HintKept, "the host of %s is not found", who)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), os.IsTimeout(err):
		return Later(HintKept, "%s did not answer in time", who)
	case errors.Is(err, context.Canceled):
		return Later(HintKept, "%s: %w", who, context.Canceled)
	case errors.As(err, &op):
		return Later(HintKept, "%s can't be reached: %w", who, op.Err)
	}
	return Later(HintKept, "%s can't be reached, or hung up", who)
}

// CertificateError reports whether a certificate was not accepted.
func CertificateError(err error) bool {
	var (
		certificate *tls.CertificateVerificationError
		unknown     x509.UnknownAuthorityError
	)
	return errors.As(err, &certificate) || errors.As(err, &unknown)
}

// certificateWords says what is wrong with a certificate.
func certificateWords(err error) string {
	var (
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &host):
		return "it is for another host"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "it has expired, or is not valid yet"
	}
	return "it is not signed by a known authority"
}

// BlockedHint is what to do about an address that is refused.
func BlockedHint(b *egress.BlockedError) string {
	if b.Private {
		return "set notifications.allow_private to true if it is meant"
	}
	return "write another address"
}
