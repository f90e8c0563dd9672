package s3_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/awsenv"
	"github.com/pgmedic/pgmedic/internal/store/s3"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
)

// keptKeys are credentials where somebody keeps and replaces them.
type keptKeys struct {
	mu      sync.Mutex
	values  map[string]string
	again   int
	elapsed time.Duration
}

func (k *keptKeys) set(server *s3test.Server) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.values = map[string]string{"AWS_ACCESS_KEY_ID": server.AccessKey, "AWS_SECRET_ACCESS_KEY": server.SecretKey}
	k.elapsed += time.Minute
}

func (k *keptKeys) credentials() *awsenv.Credentials {
	began := time.Now()
	return awsenv.NewCredentials(awsenv.CredentialsOptions{
		Getenv: func(name string) string {
			return map[string]string{"AWS_ACCESS_KEY_ID": "kept", "AWS_SECRET_ACCESS_KEY": "kept"}[name]
		},
		Secret: func(_ context.Context, name, _ string, again bool) (string, error) {
			k.mu.Lock()
			defer k.mu.Unlock()
			if again {
				k.again++
			}
			return k.values[name], nil
		},
		Now: func() time.Time {
			k.mu.Lock()
			defer k.mu.Unlock()
			return began.Add(k.elapsed) // it stands still but for what the test says
		},
	})
}

// TestS3Rotation: a store that is open goes on with the key that replaces its own, whichever
// request meets that first.
func TestS3Rotation(t *testing.T) {
	server := s3test.Start(t, s3test.Options{})
	server.Setenv(t)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "")
	}
	keys := &keptKeys{}
	keys.set(server)
	o := server.Options(server.Bucket())
	o.Credentials = keys.credentials()
	s, err := s3.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(key string) error {
		_, err := s.Put(t.Context(), key, strings.NewReader("x"))
		return err
	}
	if err := put("first"); err != nil {
		t.Fatal(err)
	}

	// The old key is refused, and there is no new one yet: that is the error, and where keys
	// are kept is asked once.
	server.Restart("second", "secondsecret")
	for range 2 {
		if err := put("early"); pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(pgmedic.HintOf(err), "doesn't accept these credentials") {
			t.Errorf("a key that was not replaced: %v (%s)", err, pgmedic.HintOf(err))
		}
	}
	if keys.again != 2 { // the id and the secret
		t.Errorf("asked %d times", keys.again)
	}

	for i, do := range []struct {
		name string
		try  func() error
	}{
		{"put", func() error { return put("second") }},
		{"stat", func() error { _, err := s.Stat(t.Context(), "first"); return err }},
		{"open", func() error {
			r, err := s.Open(t.Context(), "first", 0, -1)
			if err != nil {
				return err
			}
			defer func() { _ = r.Close() }() // only read
			_, err = io.ReadAll(r)
			return err
		}},
		{"list", func() error {
			for _, err := range s.List(t.Context(), "") {
				if err != nil {
					return err
				}
			}
			return nil
		}},
		{"delete", func() error { return s.Delete(t.Context(), "first") }},
	} {
		if i > 0 {
			server.Restart("key"+do.name, "secret"+do.name)
		}
		keys.set(server)
		if err := do.try(); err != nil {
			t.Errorf("%s: %v", do.name, err)
		}
	}
}

// TestS3KeptElsewhere: where what says where a key is kept can't be followed, the error says why,
// and not that there are no credentials.
func TestS3KeptElsewhere(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "")
	}
	s, err := s3.New(t.Context(), s3.Options{
		Bucket: "bucket", Region: "here", Endpoint: "http://127.0.0.1:1", MaxAttempts: 1,
		Credentials: awsenv.NewCredentials(awsenv.CredentialsOptions{
			Getenv: func(name string) string {
				return map[string]string{"AWS_ACCESS_KEY_ID": "kept", "AWS_SECRET_ACCESS_KEY": "kept"}[name]
			},
			Secret: func(_ context.Context, name, _ string, _ bool) (string, error) {
				return "", pgmedic.Errorf(pgmedic.KindUsage, "correct the reference", "%s: no such secret", name)
			},
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Stat(t.Context(), "first")
	// Not bad usage, by which a backup would be damaged.
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.HasSuffix(err.Error(), ": AWS_ACCESS_KEY_ID: no such secret") || pgmedic.HintOf(err) != "correct the reference" {
		t.Errorf("%v (%s)", err, pgmedic.HintOf(err))
	}
}

// TestS3RoleRefused: where the token of a role has expired, that is the error, and nothing waits.
func TestS3RoleRefused(t *testing.T) {
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code><Message>it is over</Message></Error></ErrorResponse>`)
	}))
	defer sts.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("example"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_ENDPOINT_URL_STS": sts.URL,
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/example", "AWS_WEB_IDENTITY_TOKEN_FILE": token} {
		t.Setenv(name, value)
	}
	s, err := s3.New(t.Context(), s3.Options{Bucket: "bucket", Region: "eu-central-1", Endpoint: "http://127.0.0.1:1", MaxAttempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, end := context.WithTimeout(t.Context(), time.Minute) // it would be for ever
	defer end()
	_, err = s.Stat(ctx, "first")
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "ExpiredTokenException: it is over") {
		t.Errorf("%v", err)
	}
}
