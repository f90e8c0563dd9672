package secret_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/awsenv"
	"github.com/pgmedic/pgmedic/internal/secret"
	"github.com/pgmedic/pgmedic/internal/signature"
)

func (m keyManager) key(t *testing.T, client *http.Client) *secret.SigningKey {
	t.Helper()
	getenv := func(name string) string { return m.environ[name] }
	k, err := secret.New(secret.Options{HTTP: client, Getenv: getenv}).SigningKey(m.ref, awsenv.NewCredentials(awsenv.CredentialsOptions{Getenv: getenv}))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// recording answers as a manager of keys does, with a key that signs, or with what is set.
type recording struct {
	// public and sign replace the right answers, the last one for good.
	public, sign []recorded
	// spoil changes signatures.
	spoil func([]byte) []byte
	asked atomic.Int64
}

func (m keyManager) record(t *testing.T, key ed25519.PrivateKey, rec *recording) *http.Client {
	t.Helper()
	return cloud(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		rec.asked.Add(1)
		public, err := m.asksPublic(r)
		if err != nil {
			t.Errorf("asked for %v", err)
		}
		instead := &rec.sign
		if public {
			instead = &rec.public
		}
		answer := recorded{200, m.public(key.Public().(ed25519.PublicKey))} //nolint:forcetypeassert // its own
		if !public {
			message, err := m.message(body)
			if err != nil {
				t.Errorf("asked to sign %v", err)
			}
			s := ed25519.Sign(key, message)
			if rec.spoil != nil {
				s = rec.spoil(s)
			}
			answer.body = m.signed(s)
		}
		if len(*instead) > 0 {
			if answer = (*instead)[0]; len(*instead) > 1 {
				*instead = (*instead)[1:]
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(answer.status)
		_, _ = io.WriteString(w, answer.body)
	})
}

// withoutAWS takes the SDK's own sources away from a test.
func withoutAWS(t *testing.T) {
	t.Helper()
	for _, name := range []string{"AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("HOME", t.TempDir())
}

// TestKeyManagers has recordings of each manager sign, and fail.
func TestKeyManagers(t *testing.T) {
	withoutAWS(t)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range keyManagers(key) {
		t.Run(name, func(t *testing.T) { m.signs(t, key) })
		t.Run(name+" fails", func(t *testing.T) { m.fails(t, key) })
	}
}

// signs: what is signed there is a signature of minisign.
func (m keyManager) signs(t *testing.T, key ed25519.PrivateKey) {
	rec := &recording{}
	k := m.key(t, m.record(t, key, rec))
	if k.String() != m.place {
		t.Errorf("it is called %s", k)
	}
	signer, err := signature.NewRemoteKey(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(t.Context(), []byte("{}\n"), "of a test")
	if err != nil || !(signature.Signers{signer.Public()}).Verifies([]byte("{}\n"), signed) || rec.asked.Load() != 3 {
		t.Errorf("asked %d times: %s, %v", rec.asked.Load(), signed, err)
	}
	// A bad moment.
	rec.sign = []recorded{m.broken}
	rec.asked.Store(0)
	if _, err := k.Sign(t.Context(), []byte("x")); pgmedic.KindOf(err) != pgmedic.KindUnreachable || rec.asked.Load() != 2 {
		t.Errorf("%v, asked %d times", err, rec.asked.Load())
	}
	rec.sign = nil
	if s, err := k.Sign(t.Context(), []byte("x")); err != nil || !ed25519.Verify(key.Public().(ed25519.PublicKey), []byte("x"), s) { //nolint:forcetypeassert // its own
		t.Errorf("once it is back: %v", err)
	}
	// A wrong signature, in a right answer.
	rec.spoil = func(s []byte) []byte { s[10] ^= 1; return s }
	signed, err = signer.Sign(t.Context(), []byte("{}\n"), "of a test")
	if signed != nil {
		t.Errorf("%s", signed)
	}
	wantError(t, err, pgmedic.KindIntegrity, m.place+" made a signature that its public key", "the same key")
	rec.spoil = func(s []byte) []byte { return s[:32] }
	_, err = signer.Sign(t.Context(), []byte("{}\n"), "of a test")
	wantError(t, err, pgmedic.KindIntegrity, m.place+" answered with 32 bytes", "Ed25519")
}

// fails: each failure has its kind, and one line that says what to do.
func (m keyManager) fails(t *testing.T, key ed25519.PrivateKey) {
	rec := &recording{}
	client := m.record(t, key, rec)
	k := m.key(t, client)
	ask := func(signs bool, answer recorded) error {
		rec.public, rec.sign = nil, nil
		rec.asked.Store(0)
		if !signs {
			rec.public = []recorded{answer}
			_, err := m.key(t, client).Public(t.Context())
			return err
		}
		if _, err := k.Public(t.Context()); err != nil {
			t.Fatal(err)
		}
		rec.asked.Store(0)
		rec.sign = []recorded{answer}
		_, err := k.Sign(t.Context(), []byte("x"))
		return err
	}
	wantError(t, ask(false, m.missing), pgmedic.KindUsage, m.place+" has no such key", "check the name of the key in the reference")
	if rec.asked.Load() != 1 {
		t.Errorf("what is not there was asked for %d times", rec.asked.Load())
	}
	wantError(t, ask(false, m.forbidden), pgmedic.KindUnreachable, m.place+" refuses to give the public key", m.permission)
	wantError(t, ask(true, m.forbidden), pgmedic.KindUnreachable, m.place+" refuses to sign", m.permission)
	for _, signs := range []bool{false, true} {
		wantError(t, ask(signs, m.broken), pgmedic.KindUnreachable, m.place+" can't be reached", "")
		if rec.asked.Load() != 2 {
			t.Errorf("a broken manager was asked %d times", rec.asked.Load())
		}
	}
	for name, other := range m.others {
		t.Run(name, func(t *testing.T) {
			wantError(t, ask(other.signs, other.answer), pgmedic.KindUsage, "the key of "+m.place+" "+other.words, "")
			if rec.asked.Load() != 1 {
				t.Errorf("asked %d times", rec.asked.Load())
			}
		})
	}
	wantError(t, ask(false, firstOther(m)), pgmedic.KindUsage, "", m.making)
	for name, damage := range m.damage {
		t.Run(name, func(t *testing.T) {
			wantError(t, ask(damage.signs, damage.answer), pgmedic.KindUnreachable, damage.words, "try again")
			if rec.asked.Load() != 2 {
				t.Errorf("asked %d times", rec.asked.Load())
			}
		})
	}
	_, err := m.key(t, gone()).Public(t.Context())
	wantError(t, err, pgmedic.KindUnreachable, m.place+" can't be reached", "")
	m.slow(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(pgmedic.Errorf(pgmedic.KindInterrupted, "", "interrupted"))
	if _, err := k.Sign(ctx, []byte("x")); pgmedic.KindOf(err) != pgmedic.KindInterrupted {
		t.Errorf("interrupted: %v", err)
	}
}

// firstOther is a key of another kind, as it answers.
func firstOther(m keyManager) recorded {
	for _, name := range []string{"RSA", "P-256", "symmetric"} {
		if other, ok := m.others[name]; ok && other.answer.status == 200 {
			return other.answer
		}
	}
	return recorded{}
}

// slow: one that does not answer is asked twice, ten seconds each.
func (m keyManager) slow(t *testing.T) {
	asked := 0
	client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		asked++
		at, ok := r.Context().Deadline()
		if left := time.Until(at); !ok || left > 10*time.Second || left < 9*time.Second {
			t.Errorf("a call may take %v", left)
		}
		return nil, &os.PathError{Op: "read", Path: canary, Err: context.DeadlineExceeded}
	})}
	_, err := m.key(t, client).Public(t.Context())
	wantError(t, err, pgmedic.KindUnreachable, "no answer within 10 s", "try again")
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

type roundTrip func(r *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestSigningReferences: what is wrong with a reference is said without it, before anything
// is asked.
func TestSigningReferences(t *testing.T) {
	r := secret.New(secret.Options{})
	for ref, words := range map[string]string{
		"aws-kms://" + canary:                      "is not complete",
		"aws-kms://eu.central/" + canary:           "does not begin with a region",
		"aws-kms://eu-central-1/a b" + canary:      "do not belong there",
		"aws-kms://eu-central-1/x#" + canary:       "do not belong there",
		"gcp-kms://p/l/r/" + canary:                "is not complete",
		"gcp-kms://p/l/r/" + canary + "/1/2":       "is not complete",
		"gcp-kms://p/l//" + canary + "/1":          "is not complete",
		"gcp-kms://p/l/../" + canary + "/1":        "do not belong there",
		"gcp-kms://p/l/r/" + canary + ":destroy/1": "do not belong there",
		"vault-transit://" + canary:                "is not complete",
		"vault-transit://transit/../" + canary:     "do not belong there",
		"vault-transit://transit/" + canary + "?x": "do not belong there",
		"vault-transit://transit/" + canary + "#x": "do not belong there",
		"azure-kv://" + canary:                     "no signing key is kept",
	} {
		_, err := r.SigningKey(ref, nil)
		wantError(t, err, pgmedic.KindUsage, words, "write ")
	}
	for ref, want := range map[string]bool{"/etc/key": false, "aws-kms://x/y": true, "other://x": true} {
		if secret.IsSigningKey(ref) != want {
			t.Errorf("%s: %v", ref, !want)
		}
	}
}

// TestAWSKeyCredentials: what AWS refuses is read again, once, from where it is kept: a
// backup can take longer than credentials are valid. Without any that is said.
func TestAWSKeyCredentials(t *testing.T) {
	withoutAWS(t)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := keyManagers(key)["AWS"]
	rec := &recording{}
	reads := 0
	credentials := awsenv.NewCredentials(awsenv.CredentialsOptions{
		Getenv: func(name string) string { return m.environ[name] },
		Secret: func(_ context.Context, _, text string, again bool) (string, error) {
			if again {
				reads++
			}
			return text, nil
		},
	})
	k, err := secret.New(secret.Options{HTTP: m.record(t, key, rec)}).SigningKey(m.ref, credentials)
	if err != nil {
		t.Fatal(err)
	}
	rec.public = []recorded{{400, `{"__type":"ExpiredTokenException","message":"` + canary + `"}`}, {200, m.public(key.Public().(ed25519.PublicKey))}} //nolint:forcetypeassert // its own
	if _, err := k.Public(t.Context()); err != nil || reads == 0 || rec.asked.Load() != 2 {
		t.Errorf("%v; read %d times, asked %d times", err, reads, rec.asked.Load())
	}
	rec.public = []recorded{{400, `{"__type":"ExpiredTokenException","message":"` + canary + `"}`}}
	_, err = k.Public(t.Context())
	wantError(t, err, pgmedic.KindUnreachable, "refuses to give the public key: ExpiredTokenException", "AWS_PROFILE")

	none, err := secret.New(secret.Options{HTTP: gone()}).SigningKey(m.ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = none.Public(t.Context())
	wantError(t, err, pgmedic.KindUnreachable, "there are no credentials for AWS", "AWS_PROFILE")
	if errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestTransitSettings: Vault is asked as for a secret.
func TestTransitSettings(t *testing.T) {
	k, err := secret.New(secret.Options{}).SigningKey("vault-transit://transit/"+canary, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Public(t.Context())
	wantError(t, err, pgmedic.KindUsage, "vault-transit can't be asked: VAULT_ADDR is not set", "VAULT_ADDR")
}
