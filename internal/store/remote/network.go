package remote

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"

	"github.com/pgmedic/pgmedic"
)

// Unanswered returns what an error of a request without an answer means. Setting is the
// key of the endpoint in the configuration. The text has no address: that may be signed,
// or hold the id of an upload, by which anyone could go on with it.
func Unanswered(err error, setting string) Failure {
	f := Failure{Kind: pgmedic.KindUnreachable, Text: text(err), Again: true}
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dns *net.DNSError
	var dial *net.OpError
	switch {
	case errors.As(err, &authority):
		f.Hint, f.Again = "if the server's certificate comes from a private authority, name its file in SSL_CERT_FILE", false
	case errors.As(err, &hostname), errors.As(err, &invalid):
		f.Hint, f.Again = "the server's certificate is not valid for this endpoint, or today: look at "+setting+" and the certificate", false
	case errors.As(err, &dns):
		f.Hint, f.Again = "the host's name is not known: look at "+setting+" and the network", !dns.IsNotFound
	case errors.As(err, &dial) && dial.Op == "dial":
		f.Hint = "nothing answers there: look at " + setting + ", the network and the firewall"
	default:
		f.Hint = "look at the network, and run it again"
	}
	return f
}

// text says in a few words why there was no answer.
func text(err error) string {
	var address *url.Error
	switch {
	case errors.As(err, &address):
		return address.Err.Error()
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was cut off"
	case errors.Is(err, context.DeadlineExceeded):
		return "it took too long"
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first
}
