// Package googleauth sends requests with a token of Google's. It stands in place of
// the transport of Google's own clients, which brings gRPC and OpenTelemetry along.
package googleauth

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/oauth2"
)

// tokenWithin bounds a request for a token.
const tokenWithin = 30 * time.Second

// Context returns the context in which golang.org/x/oauth2/google finds credentials and
// later asks for tokens, by way of base. It is not that of a request: a token is used for
// many.
func Context(base http.RoundTripper) context.Context {
	return context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Transport: base, Timeout: tokenWithin})
}

// Transport returns base with a token of the source in each request. An error of getting
// one is an *oauth2.RetrieveError where Google answered. Unlike oauth2.Transport it does
// not wait for a token when the request has ended.
func Transport(source oauth2.TokenSource, base http.RoundTripper) http.RoundTripper {
	return &transport{source: source, base: base}
}

type transport struct {
	source oauth2.TokenSource
	base   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := t.token(r.Context())
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as the contract has it; nothing was sent of it
		}
		return nil, err
	}
	signed := r.Clone(r.Context()) // the contract forbids to change r
	token.SetAuthHeader(signed)
	return t.base.RoundTrip(signed)
}

// token asks for one, for as long as ctx lasts.
func (t *transport) token(ctx context.Context) (*oauth2.Token, error) {
	type answer struct {
		token *oauth2.Token
		err   error
	}
	answered := make(chan answer, 1) // has room for the answer: ctx may have ended before it comes
	go func() {
		token, err := t.source.Token()
		answered <- answer{token, err}
	}()
	select {
	case a := <-answered:
		return a.token, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
