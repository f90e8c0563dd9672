package awsenv

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
)

// betweenReads is how long credentials that are refused are not read again once they were:
// our choice, so that a key which is wrong for good is not asked for with every request.
const betweenReads = 10 * time.Second

// RefusedCodes are those of answers to credentials that are wrong, or no longer right.
func RefusedCodes() []string {
	return []string{"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "InvalidToken",
		"TokenRefreshRequired", "InvalidClientTokenId", "XAdminUserNotFound"}
}

// bodilessCodes are what the SDK makes of the status of an answer to HEAD, which has no code:
// that may be one of RefusedCodes, or a permission that lacks.
func bodilessCodes() []string { return []string{"Forbidden", "BadRequest"} }

// CredentialsOptions say where credentials are looked for before the SDK's own sources. All
// are optional.
type CredentialsOptions struct {
	// Getenv returns a variable, or empty. Nil: there are none.
	Getenv func(name string) string
	// Secret returns the value of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or
	// AWS_SESSION_TOKEN by what the variable has, which may say where it is kept; again is
	// true where a value that was read before has proven wrong. Nil: it is the variable's.
	Secret func(ctx context.Context, name, text string, again bool) (string, error)
	// Now tells how long ago they were read. Nil: time.Now.
	Now func() time.Time
}

// Credentials are those of a client that may be in use for longer than they are valid: if a
// server refuses them, they are looked for again, in all sources, and the request is sent
// once more. They are read again at most every ten seconds. They may be used by several
// goroutines, and by one client.
type Credentials struct {
	o CredentialsOptions

	mu   sync.Mutex
	load []func(*config.LoadOptions) error
	from aws.CredentialsProvider
	// used are those that were given last.
	used aws.Credentials
	// refused is true where they are to be read again, readAt when they were the last time,
	// and changed whether others came of that.
	refused, changed bool
	readAt           time.Time
}

// NewCredentials returns Credentials, which read nothing yet.
func NewCredentials(o CredentialsOptions) *Credentials {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Credentials{o: o}
}

// Load is config.LoadDefaultConfig with the variables of Options, for a client whose
// credentials are c. Its Retryer has c, too; the clients by which the SDK finds credentials,
// such as that of STS, have not: what refuses them are other credentials, and they are used
// while c is being read.
func (c *Credentials) Load(ctx context.Context, load ...func(*config.LoadOptions) error) (aws.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load = load
	cfg, err := c.read(ctx, false)
	cfg.Credentials = c
	own := cfg.Retryer
	cfg.Retryer = func() aws.Retryer {
		if own == nil {
			return retryer{retry.NewStandard(), c}
		}
		return retryer{own(), c}
	}
	return cfg, err
}

// retryer is that of a client that uses Credentials.
type retryer struct {
	aws.Retryer
	c *Credentials
}

func (r retryer) IsErrorRetryable(err error) bool {
	return r.c.IsErrorRetryable(err) == aws.TrueTernary || r.Retryer.IsErrorRetryable(err)
}

// read looks for credentials in all sources.
func (c *Credentials) read(ctx context.Context, again bool) (aws.Config, error) {
	variables := Options(c.o.Getenv)
	if c.o.Secret != nil && c.o.Getenv != nil && c.o.Getenv("AWS_ACCESS_KEY_ID") != "" && c.o.Getenv("AWS_SECRET_ACCESS_KEY") != "" {
		variables = append(variables, config.WithCredentialsProvider(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			return c.kept(ctx, again)
		})))
	}
	cfg, err := config.LoadDefaultConfig(ctx, slices.Concat(variables, c.load)...)
	if err == nil {
		c.from = cfg.Credentials
	}
	return cfg, err
}

// kept follows what the variables say.
func (c *Credentials) kept(ctx context.Context, again bool) (found aws.Credentials, err error) {
	found.Source = "AWS_ACCESS_KEY_ID"
	for _, v := range []struct {
		name string
		to   *string
	}{{"AWS_ACCESS_KEY_ID", &found.AccessKeyID}, {"AWS_SECRET_ACCESS_KEY", &found.SecretAccessKey}, {"AWS_SESSION_TOKEN", &found.SessionToken}} {
		if text := c.o.Getenv(v.name); text != "" {
			if *v.to, err = c.o.Secret(ctx, v.name, text, again); err != nil {
				return aws.Credentials{}, err
			}
		}
	}
	return found, nil
}

// RetrieveError is every error of Credentials.Retrieve: a request was not sent, because
// there are no credentials to sign it with. It reads as the error that it wraps.
type RetrieveError struct{ Err error }

func (e *RetrieveError) Error() string { return e.Err.Error() }

func (e *RetrieveError) Unwrap() error { return e.Err }

// Retrieve returns the credentials, read again where a server has refused them. An error of
// that, a RetrieveError, is one of this request alone: the next ones have the credentials
// from before, until these are refused, and ten seconds are over.
func (c *Credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, again, from := c.used, c.refused, c.from
	var found aws.Credentials
	var err error
	if again {
		c.refused, c.changed, c.readAt = false, false, c.o.Now()
		_, err = c.read(ctx, true)
	}
	if err == nil {
		found, err = c.from.Retrieve(ctx)
	}
	if err != nil {
		// Those from before may be good still: what was refused can have been a permission.
		// Where it was only this request that ended, the next one reads them.
		c.from, c.refused = from, again && ctx.Err() != nil
		return aws.Credentials{}, &RetrieveError{err}
	}
	c.used = found
	if again {
		c.changed = found.AccessKeyID != before.AccessKeyID || found.SecretAccessKey != before.SecretAccessKey || found.SessionToken != before.SessionToken
	}
	return found, nil
}

// IsErrorRetryable has a request that was refused for its credentials sent again, if they
// were not read again just now, or if others came of that: requests that were under way
// had the old ones. It says nothing of other errors.
func (c *Credentials) IsErrorRetryable(err error) aws.Ternary {
	var answer smithy.APIError
	if !errors.As(err, &answer) || !slices.Contains(RefusedCodes(), answer.ErrorCode()) && !slices.Contains(bodilessCodes(), answer.ErrorCode()) {
		return aws.UnknownTernary
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.refused && !c.readAt.IsZero() && c.o.Now().Sub(c.readAt) < betweenReads {
		if c.changed {
			return aws.TrueTernary
		}
		return aws.UnknownTernary
	}
	c.refused = true
	return aws.TrueTernary
}
