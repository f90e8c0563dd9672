package gcs

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/googleauth"
	"github.com/pgmedic/pgmedic/internal/rotation"
)

// login is what requests are sent with.
type login struct {
	// text is the file of credentials that it was made of. Empty: the machine's identity.
	text []byte
	// client sends a token along. locking returns one that sends a token along which allows
	// to change locks; it is made when it is needed.
	client  *http.Client
	locking func() (*http.Client, error)
}

// client is an HTTP client that follows no redirects.
func client(transport http.RoundTripper) *http.Client {
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// login returns that of the credentials that are asked for, or found.
func (o *Options) login(transport http.RoundTripper) (login, error) {
	found, err := o.credentials(transport)
	if err != nil {
		return login{}, err
	}
	source, err := found.source(scope)
	if err != nil {
		return login{}, err
	}
	return login{
		text:   found.text,
		client: client(googleauth.Transport(source, transport)),
		locking: sync.OnceValues(func() (*http.Client, error) {
			source, err := found.source(lockScope)
			if err != nil {
				return nil, err
			}
			return client(googleauth.Transport(source, transport)), nil
		}),
	}, nil
}

// renewed returns the logins of complete options, of which l is the first.
func (l login) renewed(o Options, transport http.RoundTripper) *rotation.Credential[login] {
	return rotation.New(l, rotation.Options[login]{
		Read: func(context.Context) (login, error) { return o.login(transport) }, //nolint:contextcheck // a token is used for many requests
		Same: func(was, found login) bool { return bytes.Equal(was.text, found.text) },
		Now:  o.now,
	})
}

// maxCredentialsBytes is more than any file of credentials has.
const maxCredentialsBytes = 1 << 20

// credentials are a file, or empty those of the machine, and where tokens of a scope come from
// by them.
type credentials struct {
	text   []byte
	source func(scope string) (oauth2.TokenSource, error)
}

// credentials returns those that are asked for, or found. Errors quote nothing of a file.
func (o *Options) credentials(transport http.RoundTripper) (credentials, error) {
	ctx := googleauth.Context(transport)
	if o.CredentialsFile == "" {
		found, err := google.FindDefaultCredentials(ctx, scope)
		if err != nil {
			return credentials{}, o.noCredentials()
		}
		return credentials{found.JSON, func(scope string) (oauth2.TokenSource, error) {
			found, err := google.FindDefaultCredentials(ctx, scope)
			if err != nil {
				return nil, o.noCredentials()
			}
			return found.TokenSource, nil
		}}, nil
	}
	const hint = "look at GOOGLE_APPLICATION_CREDENTIALS or backup.gcs.credentials_file"
	info, err := os.Stat(o.CredentialsFile)
	if err == nil && info.Size() > maxCredentialsBytes {
		return credentials{}, bad(hint, "%s is too large to be a file of credentials", o.CredentialsFile)
	}
	text, err := os.ReadFile(o.CredentialsFile)
	if err != nil {
		return credentials{}, bad(hint, "read the credentials: %w", err)
	}
	var kind struct {
		Type google.CredentialsType `json:"type"`
		Key  string                 `json:"private_key"`
	}
	if err := json.Unmarshal(text, &kind); err != nil || kind.Type == "" {
		return credentials{}, bad(hint, "%s is not a file of Google credentials", o.CredentialsFile)
	}
	return credentials{text, func(scope string) (oauth2.TokenSource, error) {
		found, err := google.CredentialsFromJSONWithType(ctx, text, kind.Type, scope)
		if err == nil && kind.Type == google.ServiceAccount { // else it comes out with the first token
			err = checkKey(kind.Key)
		}
		if err != nil {
			return nil, bad(hint, "%s can't be used as Google credentials of its type", o.CredentialsFile)
		}
		return found.TokenSource, nil
	}}, nil
}

func (o *Options) noCredentials() error {
	return pgmedic.Errorf(pgmedic.KindUnreachable, credentialsHint, "%s: no Google credentials were found", o.name())
}

// checkKey refuses what is not a private key.
func checkKey(text string) error {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return errNoKey
	}
	if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return nil
	}
	if _, err := x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
		return errNoKey
	}
	return nil
}

var errNoKey = errors.New("it has no private key")
