package sending

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/pgmedic/pgmedic/internal/egress"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	// Timeout bounds one try of one message.
	Timeout = 10 * time.Second
	// MostSent bounds a message, in bytes, and mostRead what is read of an answer.
	MostSent, mostRead = 64 << 10, 4 << 10
)

// Request is one message as a service takes it.
type Request struct {
	URL    string
	Header http.Header
	Body   []byte
}

// Receiver is where messages go.
type Receiver struct {
	// Service and Name are what errors call it: what it is, and its name in the configuration.
	Service, Name string
	// CAFile has certificates, as PEM, that are trusted besides the system's; it may be empty.
	CAFile string
}

// Client sends messages over HTTP: through the guard, without following redirects, by
// TLS 1.2 or later, and through the proxy of HTTPS_PROXY and HTTP_PROXY.
type Client struct {
	Guard *egress.Guard
	Now   func() time.Time
	// Proxy is http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)
}

// transport returns one for a single request: connections are not kept, because there are
// few messages and minutes between them.
func (c *Client) transport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy: c.Proxy, DialContext: c.dial, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: egress.DialTimeout, ResponseHeaderTimeout: Timeout, MaxResponseHeaderBytes: 32 << 10,
	}
}

// proxied marks the context of a request that goes through a proxy, whose own address
// the administrator's environment has chosen.
type proxied struct{}

func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if ctx.Value(proxied{}) != nil {
		return (&net.Dialer{Timeout: egress.DialTimeout}).DialContext(ctx, network, address) //nolint:wrapcheck // NetworkError does
	}
	return c.Guard.Dial(ctx, network, address)
}

// Post sends a request, once. Its errors are those of this package.
func (c *Client) Post(ctx context.Context, to Receiver, r Request) error {
	if len(r.Body) > MostSent {
		return Refused("write a shorter template", "the message for %s has more than %s", to.Service, words.Size(MostSent))
	}
	roots, err := Trusted(to.CAFile)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(r.Body))
	if err != nil || req.URL.Host == "" || req.URL.Scheme != "https" && req.URL.Scheme != "http" {
		return Refused("write https://HOST/PATH", "the URL of channel %s is not one", to.Name) // the error quotes it
	}
	req.Header = r.Header.Clone()
	req.Header.Set("User-Agent", "pgmedic")
	if through, err := c.Proxy(req); err != nil {
		return Refused("correct HTTPS_PROXY", "the proxy's address is not one")
	} else if through != nil {
		if err := c.Guard.CheckHost(ctx, req.URL.Hostname()); err != nil {
			return NetworkError(to.Service, err)
		}
		req = req.WithContext(context.WithValue(ctx, proxied{}, true))
	}
	transport := c.transport(roots)
	defer transport.CloseIdleConnections()
	hc := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := hc.Do(req)
	if err != nil {
		return NetworkError(to.Service, err)
	}
	_, _ = io.CopyN(io.Discard, answer.Body, mostRead) // the status has come, and decides
	_ = answer.Body.Close()
	return StatusError(to.Service, to.Name, answer.StatusCode, answer.Header, c.Now())
}

// Trusted returns the system's certificates and those of a file; nil are the system's alone.
func Trusted(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, Later("check ca_file of the channel", "read the file of certificates: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(data) {
		return nil, Refused("ca_file is a file of PEM certificates", "the file of certificates has none")
	}
	return roots, nil
}
