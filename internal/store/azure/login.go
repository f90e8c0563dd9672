package azure

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/rotation"
)

// login is what requests are made by, with the credentials that they have.
type login struct {
	calls calls
	// key or token are the account's key or the shared access signature, of which one
	// counts. Of an identity both are empty.
	key, token string
	// expires is when the shared access signature ends, or zero.
	expires time.Time
}

// login returns that of complete options.
func (o *Options) login(h *http.Client) (login, error) {
	c, err := o.client(h)
	if err != nil {
		return login{}, err
	}
	l := login{calls: callsOf(c), key: o.Key}
	if l.key == "" {
		l.token, l.expires = o.SASToken, sasExpiry(o.SASToken)
	}
	return l, nil
}

// renewed returns the logins of complete options, of which l is the first.
func (l login) renewed(o Options, h *http.Client) *rotation.Credential[login] {
	how := rotation.Options[login]{Now: o.now, Same: func(was, found login) bool { return was.key == found.key && was.token == found.token }}
	if o.Renew != nil {
		how.Read = func(ctx context.Context) (login, error) {
			secrets, err := o.Renew(ctx)
			if err != nil {
				return login{}, err
			}
			next := o // with the account and the endpoint that are in use
			next.ConnectionString, next.Key, next.SASToken = secrets.ConnectionString, secrets.Key, secrets.SASToken
			if err := next.complete(); err != nil {
				return login{}, err
			}
			if next.Key == "" && next.SASToken == "" {
				return login{}, bad(credentialsHint, "there is neither a key nor a shared access signature any more")
			}
			return next.login(h)
		}
	}
	return rotation.New(l, how)
}

// client returns the SDK's client of the container, which tries each request once.
func (o *Options) client(h *http.Client) (*container.Client, error) {
	once := azcore.ClientOptions{
		Transport: h, Retry: policy.RetryOptions{MaxRetries: -1}, Telemetry: policy.TelemetryOptions{Disabled: true},
	}
	options := &container.ClientOptions{ClientOptions: once}
	address := o.Endpoint + "/" + o.Container
	switch {
	case o.Key != "":
		key, err := blob.NewSharedKeyCredential(o.Account, o.Key)
		if err != nil {
			return nil, bad("look at AZURE_STORAGE_KEY or AZURE_STORAGE_CONNECTION_STRING: a key is 88 characters of base64", "the account's key is not one")
		}
		c, err := container.NewClientWithSharedKeyCredential(address, key, options)
		return c, wrap(err)
	case o.SASToken != "":
		c, err := container.NewClientWithNoCredential(address+"?"+o.SASToken, options)
		return c, wrap(err)
	}
	if strings.HasPrefix(o.Endpoint, "http://") {
		return nil, bad("use https, or a key or a shared access signature", "the endpoint is not https, and tokens of an identity are not sent in the clear")
	}
	// The identity services are asked again by the SDK itself, a few times.
	identity, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions: azcore.ClientOptions{Transport: h, Telemetry: once.Telemetry},
	})
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUnreachable, credentialsHint, "%s: no Azure credentials were found", o.name())
	}
	c, err := container.NewClient(address, identity, options)
	return c, wrap(err)
}

func wrap(err error) error {
	if err != nil {
		return bad("look at backup.azure", "the endpoint and the credentials don't make a client of Azure")
	}
	return nil
}

// sasExpiry returns when a shared access signature ends, or zero.
func sasExpiry(token string) time.Time {
	q, err := url.ParseQuery(token)
	if err != nil {
		return time.Time{}
	}
	for _, form := range []string{time.RFC3339, "2006-01-02T15:04Z", time.DateOnly} {
		if at, err := time.Parse(form, q.Get("se")); err == nil {
			return at
		}
	}
	return time.Time{}
}
