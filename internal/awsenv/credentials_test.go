package awsenv_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"

	"github.com/pgmedic/pgmedic/internal/awsenv"
)

// alone takes all sources of the SDK away from the test, but for a file of credentials.
func alone(t *testing.T, file string) {
	t.Helper()
	for _, name := range []string{"AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
}

func wantKey(t *testing.T, c aws.CredentialsProvider, want string) {
	t.Helper()
	got, err := c.Retrieve(t.Context())
	if err != nil || got.AccessKeyID != want {
		t.Errorf("key %q, %v, want %q", got.AccessKeyID, err, want)
	}
}

var expired = &smithy.GenericAPIError{Code: "ExpiredToken"}

// TestCredentialsAgain: what a server refuses is read again from where it is kept, at most
// every ten seconds, and requests that were under way meanwhile are sent again as well.
func TestCredentialsAgain(t *testing.T) {
	alone(t, os.DevNull)
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	var mu sync.Mutex // a request that has ended is read for all the same, in the background
	key, fails := "one", error(nil)
	first, again := 0, 0
	c := awsenv.NewCredentials(awsenv.CredentialsOptions{
		Getenv: func(name string) string {
			return map[string]string{"AWS_ACCESS_KEY_ID": "kept:id", "AWS_SECRET_ACCESS_KEY": "kept:key", "AWS_REGION": "eu-central-1"}[name]
		},
		Secret: func(_ context.Context, name, text string, anew bool) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			if text == "kept:id" && anew {
				again++
			} else if text == "kept:id" {
				first++
			}
			return key, fails
		},
		Now: func() time.Time { return now },
	})
	cfg, err := c.Load(t.Context())
	if err != nil || cfg.Region != "eu-central-1" || cfg.Credentials != aws.CredentialsProvider(c) {
		t.Fatalf("%+v, %v", cfg.Region, err)
	}
	wantKey(t, c, "one")
	wantKey(t, c, "one")
	if first != 1 || again != 0 {
		t.Errorf("read %d times, and again %d times", first, again)
	}
	for _, other := range []error{nil, errors.New("reset"), &smithy.GenericAPIError{Code: "AccessDenied"}, &smithy.GenericAPIError{Code: "NoSuchKey"}} {
		if got := c.IsErrorRetryable(other); got != aws.UnknownTernary {
			t.Errorf("%v: %v", other, got)
		}
	}
	// It did not change: refused a second time, that is the answer.
	for range 2 { // two requests with one key
		if c.IsErrorRetryable(expired) != aws.TrueTernary {
			t.Error("what is refused is not read again")
		}
	}
	wantKey(t, c, "one")
	if c.IsErrorRetryable(expired) != aws.UnknownTernary || again != 1 {
		t.Errorf("the same once more; read again %d times", again)
	}
	// It changes, but was read just now.
	key = "two"
	if c.IsErrorRetryable(expired) != aws.UnknownTernary {
		t.Error("read again at once")
	}
	now = now.Add(10 * time.Second)
	if c.IsErrorRetryable(&smithy.GenericAPIError{Code: "Forbidden"}) != aws.TrueTernary { // of HEAD
		t.Error("not read again after ten seconds")
	}
	wantKey(t, c, "two")
	// Another request had the old one.
	if c.IsErrorRetryable(expired) != aws.TrueTernary {
		t.Error("a request that was under way is not sent again")
	}
	wantKey(t, c, "two")
	if again != 2 {
		t.Errorf("read again %d times", again)
	}
	// Where it is kept can't be reached: that is asked once in ten seconds, and what is still
	// allowed goes on with the old key meanwhile.
	now, fails, again = now.Add(time.Minute), errors.New("vault can't be reached"), 0
	c.IsErrorRetryable(expired)
	var retrieve *awsenv.RetrieveError
	if _, err := c.Retrieve(t.Context()); !errors.Is(err, fails) || !errors.As(err, &retrieve) || err.Error() != retrieve.Err.Error() {
		t.Errorf("%v", err)
	}
	for range 2 {
		wantKey(t, c, "two")
		if c.IsErrorRetryable(expired) != aws.UnknownTernary {
			t.Error("asked again at once")
		}
	}
	if again != 1 {
		t.Errorf("asked %d times", again)
	}
	key, fails, now = "three", nil, now.Add(10*time.Second)
	if c.IsErrorRetryable(expired) != aws.TrueTernary {
		t.Error("not asked again after ten seconds")
	}
	wantKey(t, c, "three")
	// The request that was to read them ends: another one does.
	key, now = "four", now.Add(10*time.Second)
	c.IsErrorRetryable(expired)
	ended, end := context.WithCancel(t.Context())
	end()
	fails = context.Canceled
	if _, err := c.Retrieve(ended); !errors.Is(err, context.Canceled) || !errors.As(err, &retrieve) {
		t.Errorf("%v", err)
	}
	mu.Lock()
	fails = nil
	mu.Unlock()
	wantKey(t, c, "four")
}

// TestCredentialsFile: the SDK's own sources are read again as well.
func TestCredentialsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	alone(t, file)
	write := func(id string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = "+id+"\naws_secret_access_key = example\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	c := awsenv.NewCredentials(awsenv.CredentialsOptions{Getenv: func(string) string { return "" }})
	if _, err := c.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantKey(t, c, "one")
	write("two")
	wantKey(t, c, "one")
	if c.IsErrorRetryable(expired) != aws.TrueTernary {
		t.Error("not read again")
	}
	wantKey(t, c, "two")
}

// TestCredentialsOfRole: where the credentials with which others are asked for are refused, that
// is the error: the client that asks does not wait for what it is to bring.
func TestCredentialsOfRole(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("example"), 0o600); err != nil {
		t.Fatal(err)
	}
	alone(t, os.DevNull)
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code><Message>it is over</Message></Error></ErrorResponse>`)
	}))
	defer sts.Close()
	for name, value := range map[string]string{"AWS_ENDPOINT_URL_STS": sts.URL, "AWS_REGION": "eu-central-1",
		"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/example", "AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": ""} {
		t.Setenv(name, value)
	}
	c := awsenv.NewCredentials(awsenv.CredentialsOptions{})
	cfg, err := c.Load(t.Context(), config.WithRetryer(func() aws.Retryer { return retry.NewStandard() }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithTimeout(t.Context(), time.Minute) // it would wait for ever
	defer end()
	for range 2 {
		var answer smithy.APIError
		var retrieve *awsenv.RetrieveError
		if _, err := c.Retrieve(ctx); !errors.As(err, &retrieve) || !errors.As(err, &answer) || answer.ErrorCode() != "ExpiredTokenException" {
			t.Errorf("%v", err)
		}
	}
	// The client that uses them does ask for others.
	if !cfg.Retryer().IsErrorRetryable(expired) || cfg.Retryer().IsErrorRetryable(errors.New("other")) {
		t.Error("what is refused is not sent again, or all is")
	}
}
