package secret_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/secret"
)

// canary is in every secret and every path here, and in no error.
const canary = "k4n4ry"

// cloud is an HTTP client for which every name is one server's, which is how a recording
// takes the place of a cloud.
func cloud(t *testing.T, handler http.HandlerFunc) *http.Client {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "example.com", MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// gone is a client that reaches nothing.
func gone() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connection refused")}
	}}}
}

// recorded answers one request with a status and a body.
type recorded struct {
	status int
	body   string
}

// manager is one manager of secrets as it was recorded: the reference to a secret, the
// answers for each case, and what a request must have.
type manager struct {
	ref, withField, place, permission string
	found, foundObject                recorded
	missing, forbidden, broken        recorded
	asked                             func(r *http.Request, body string) error
	before                            func(w http.ResponseWriter, r *http.Request) bool
	environ                           map[string]string
}

func managers() map[string]manager {
	google := func(text string) recorded {
		sum := crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli))
		return recorded{200, fmt.Sprintf(`{"name":"projects/123456789012/secrets/%s/versions/3","payload":{"data":%q,"dataCrc32c":"%d"}}`,
			canary, base64.StdEncoding.EncodeToString([]byte(text)), sum)}
	}
	return map[string]manager{
		"AWS": {
			ref: "aws-sm://eu-central-1/clinic/" + canary, withField: "aws-sm://eu-central-1/clinic/" + canary + "#url",
			place: "aws-sm (eu-central-1)", permission: "secretsmanager:GetSecretValue",
			environ: map[string]string{"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"},
			found: recorded{200, `{"ARN":"arn:aws:secretsmanager:eu-central-1:123456789012:secret:clinic/` + canary + `-a1b2c3","CreatedDate":1.7e9,"Name":"clinic/` +
				canary + `","SecretString":"` + canary + `-value","VersionId":"9c2b6d1e-0000-4000-8000-000000000000","VersionStages":["AWSCURRENT"]}`},
			foundObject: recorded{200, `{"Name":"x","SecretString":"{\"url\":\"` + canary + `-value\",\"port\":5432}"}`},
			missing:     recorded{400, `{"__type":"ResourceNotFoundException","Message":"Secrets Manager can't find the specified secret."}`},
			forbidden:   recorded{400, `{"__type":"AccessDeniedException","Message":"User: arn:aws:iam::123456789012:user/x is not authorized to perform: secretsmanager:GetSecretValue on resource: clinic/` + canary + `"}`},
			broken:      recorded{500, `{"__type":"InternalServiceError","Message":"An error occurred on the server side."}`},
			asked: func(r *http.Request, body string) error {
				if r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue" || !strings.Contains(body, `"SecretId":"clinic/`+canary+`"`) ||
					!strings.Contains(r.Header.Get("Authorization"), "Credential=AKIDEXAMPLE/") || !strings.Contains(r.Header.Get("Authorization"), "/eu-central-1/secretsmanager/") {
					return fmt.Errorf("%s %s", r.Header, body)
				}
				return nil
			},
		},
		"Azure": {
			ref: "azure-kv://clinic/" + canary, withField: "azure-kv://clinic/" + canary + "#url",
			place: "azure-kv (clinic)", permission: "Key Vault Secrets User",
			found: recorded{200, `{"value":"` + canary + `-value","id":"https://clinic.vault.azure.net/secrets/` + canary + `/4387e9f3d6e14c459867679a90fd0f79",` +
				`"attributes":{"enabled":true,"created":1493938410,"updated":1493938410,"recoveryLevel":"Recoverable+Purgeable"}}`},
			foundObject: recorded{200, `{"value":"{\"url\":\"` + canary + `-value\",\"port\":5432}","id":"https://clinic.vault.azure.net/secrets/x/1"}`},
			missing:     recorded{404, `{"error":{"code":"SecretNotFound","message":"A secret with (name/id) ` + canary + ` was not found in this key vault."}}`},
			forbidden:   recorded{403, `{"error":{"code":"Forbidden","message":"Caller is not authorized to perform action on resource ` + canary + `","innererror":{"code":"ForbiddenByRbac"}}}`},
			broken:      recorded{500, `{"error":{"code":"InternalServerError","message":"x"}}`},
			asked: func(r *http.Request, _ string) error {
				if r.Host != "clinic.vault.azure.net" || strings.TrimSuffix(r.URL.Path, "/") != "/secrets/"+canary || r.Header.Get("Authorization") != "Bearer example" {
					return fmt.Errorf("%s %s %s", r.Host, r.URL, r.Header)
				}
				return nil
			},
			// Key Vault says first who has to be asked for a token.
			before: func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Authorization") != "" {
					return false
				}
				w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/72f988bf-0000-0000-0000-000000000000", resource="https://vault.azure.net"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			},
		},
		"Google": {
			ref: "gcp-sm://clinic-prod/" + canary, withField: "gcp-sm://clinic-prod/" + canary + "#url",
			place: "gcp-sm (clinic-prod)", permission: "roles/secretmanager.secretAccessor",
			found:       google(canary + "-value"),
			foundObject: google(`{"url":"` + canary + `-value","port":5432}`),
			missing:     recorded{404, `{"error":{"code":404,"message":"Secret [projects/123/secrets/` + canary + `] not found or has no versions.","status":"NOT_FOUND"}}`},
			forbidden:   recorded{403, `{"error":{"code":403,"message":"Permission 'secretmanager.versions.access' denied for resource '` + canary + `' (or it may not exist).","status":"PERMISSION_DENIED"}}`},
			broken:      recorded{503, `{"error":{"code":503,"message":"The service is currently unavailable.","status":"UNAVAILABLE"}}`},
			asked: func(r *http.Request, _ string) error {
				if r.Host != "secretmanager.googleapis.com" || r.URL.Path != "/v1/projects/clinic-prod/secrets/"+canary+"/versions/latest:access" {
					return fmt.Errorf("%s %s", r.Host, r.URL)
				}
				return nil
			},
		},
		"Vault": {
			ref: "vault://secret/clinic/" + canary + "#password", withField: "vault://secret/clinic/" + canary + "#url",
			place: "vault", permission: "capabilities",
			environ:     map[string]string{"VAULT_ADDR": "https://vault.example:8200", "VAULT_TOKEN": "example", "VAULT_NAMESPACE": "team"},
			found:       recorded{200, `{"request_id":"1","data":{"data":{"password":"` + canary + `-value"},"metadata":{"version":3,"destroyed":false}}}`},
			foundObject: recorded{200, `{"request_id":"1","data":{"data":{"url":"` + canary + `-value","port":5432},"metadata":{"version":3}}}`},
			missing:     recorded{404, `{"errors":[]}`},
			forbidden:   recorded{403, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`},
			broken:      recorded{503, `{"errors":["Vault is sealed"]}`},
			asked: func(r *http.Request, _ string) error {
				if r.Host != "vault.example:8200" || r.URL.Path != "/v1/secret/data/clinic/"+canary || r.Header.Get("X-Vault-Token") != "example" || r.Header.Get("X-Vault-Namespace") != "team" {
					return fmt.Errorf("%s %s %s", r.Host, r.URL, r.Header)
				}
				return nil
			},
		},
	}
}

type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "example", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func (m manager) resolver(client *http.Client) *secret.Resolver {
	return secret.New(secret.Options{HTTP: client, Azure: token{}, Getenv: func(name string) string { return m.environ[name] }})
}

// wantError checks an error's kind, words and hint, and that it is one line without a
// secret or a path.
func wantError(t *testing.T, err error, kind pgmedic.Kind, words, hint string) {
	t.Helper()
	if err == nil || pgmedic.KindOf(err) != kind || !strings.Contains(err.Error(), words) || !strings.Contains(pgmedic.HintOf(err), hint) || pgmedic.HintOf(err) == "" {
		t.Fatalf("%v (%v), hint %q; want %v, %q, %q", err, pgmedic.KindOf(err), pgmedic.HintOf(err), kind, words, hint)
	}
	if all := err.Error() + pgmedic.HintOf(err); strings.Contains(all, canary) || strings.Contains(all, "\n") {
		t.Errorf("the error tells too much, or in more than one line: %s", all)
	}
}

// TestManagers asks recordings of each manager.
func TestManagers(t *testing.T) {
	for _, name := range []string{"AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ENDPOINT_URL"} {
		t.Setenv(name, "") // the SDK's own
	}
	t.Setenv("HOME", t.TempDir())
	for name, m := range managers() {
		t.Run(name, func(t *testing.T) {
			var answers []recorded
			var asked atomic.Int64
			client := cloud(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if m.before != nil && m.before(w, r) {
					return
				}
				if err := m.asked(r, string(body)); err != nil {
					t.Errorf("asked for %v", err)
				}
				n := int(asked.Add(1))
				answer := answers[min(n, len(answers))-1]
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(answer.status)
				_, _ = io.WriteString(w, answer.body)
			})
			read := func(ref string, all ...recorded) (string, error) {
				answers = all
				asked.Store(0)
				return m.resolver(client).Resolve(t.Context(), ref)
			}
			if got, err := read(m.ref, m.found); err != nil || got != canary+"-value" {
				t.Fatalf("%q, %v", got, err)
			}
			if got, err := read(m.withField, m.foundObject); err != nil || got != canary+"-value" {
				t.Errorf("a field: %q, %v", got, err)
			}
			if got, err := read(m.ref, m.broken, m.found); err != nil || got != canary+"-value" || asked.Load() != 2 {
				t.Errorf("the second try: %q, %v, asked %d times", got, err, asked.Load())
			}
			_, err := read(m.ref, m.missing)
			wantError(t, err, pgmedic.KindUsage, m.place, "check the name in the reference")
			if asked.Load() != 1 {
				t.Errorf("what is not there was asked for %d times", asked.Load())
			}
			_, err = read(m.ref, m.forbidden)
			wantError(t, err, pgmedic.KindUnreachable, m.place+" refuses to give the secret", m.permission)
			_, err = read(m.ref, m.broken)
			wantError(t, err, pgmedic.KindUnreachable, m.place+" can't be reached", "")
			if asked.Load() != 2 {
				t.Errorf("a broken manager was asked %d times", asked.Load())
			}
			_, err = read(m.withField+"x", m.foundObject)
			wantError(t, err, pgmedic.KindUsage, "has no field of the name", "#")
			_, err = read(strings.TrimSuffix(m.withField, "url")+"port", m.foundObject)
			wantError(t, err, pgmedic.KindUsage, "not a text", "")
			_, err = m.resolver(gone()).Resolve(t.Context(), m.ref)
			wantError(t, err, pgmedic.KindUnreachable, m.place+" can't be reached", "")
		})
	}
}

// TestVaultLogins: AppRole and a pod of Kubernetes, and a token that ends meanwhile.
func TestVaultLogins(t *testing.T) {
	jwt := t.TempDir() + "/token"
	write(t, jwt, "example-jwt\n")
	for name, test := range map[string]struct {
		environ    map[string]string
		path, body string
	}{
		"AppRole":    {map[string]string{"VAULT_ROLE_ID": "role", "VAULT_SECRET_ID": "id"}, "/v1/auth/approle/login", `{"role_id":"role","secret_id":"id"}`},
		"elsewhere":  {map[string]string{"VAULT_ROLE_ID": "role", "VAULT_SECRET_ID": "id", "VAULT_APPROLE_PATH": "clinic"}, "/v1/auth/clinic/login", `{"role_id":"role","secret_id":"id"}`},
		"Kubernetes": {map[string]string{"VAULT_K8S_ROLE": "backup", "VAULT_K8S_TOKEN_FILE": jwt}, "/v1/auth/kubernetes/login", `{"jwt":"example-jwt","role":"backup"}`},
		"OpenBao":    {map[string]string{"BAO_ROLE_ID": "role", "BAO_SECRET_ID": "id"}, "/v1/auth/approle/login", `{"role_id":"role","secret_id":"id"}`},
	} {
		t.Run(name, func(t *testing.T) {
			logins, refuse := 0, false
			client := cloud(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				switch {
				case r.Method == http.MethodPost && r.URL.Path == test.path && string(body) == test.body && !refuse:
					logins++
					_, _ = fmt.Fprintf(w, `{"auth":{"client_token":"token-%d","lease_duration":3600}}`, logins)
				case r.Method == http.MethodPost && !refuse:
					t.Errorf("%s %s", r.URL.Path, body)
				case r.Header.Get("X-Vault-Token") == fmt.Sprintf("token-%d", max(2, logins)): // the first has ended
					_, _ = io.WriteString(w, `{"data":{"data":{"f":"value"},"metadata":{}}}`)
				default:
					w.WriteHeader(http.StatusForbidden)
				}
			})
			resolver := secret.New(secret.Options{HTTP: client, Getenv: func(name string) string {
				if name == "VAULT_ADDR" {
					return "https://vault.example"
				}
				return test.environ[name]
			}})
			for range 2 {
				if got, err := resolver.Fresh(t.Context(), "vault://secret/x#f"); err != nil || got != "value" {
					t.Fatalf("%q, %v", got, err)
				}
			}
			if logins != 2 {
				t.Errorf("%d logins", logins)
			}
			refuse, logins = true, 9
			_, err := resolver.Fresh(t.Context(), "vault://secret/"+canary+"#f")
			wantError(t, err, pgmedic.KindUnreachable, "vault refuses", "")
		})
	}
}

// TestVaultSettings: what is wrong with them is said before anything is sent.
func TestVaultSettings(t *testing.T) {
	sent := cloud(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("sent %s", r.URL) })
	for name, test := range map[string]struct {
		environ     map[string]string
		words, hint string
	}{
		"no address":   {nil, "VAULT_ADDR is not set", "https://"},
		"not one":      {map[string]string{"VAULT_ADDR": "vault.example"}, "not an address", "https://"},
		"in the clear": {map[string]string{"VAULT_ADDR": "http://vault.example:8200", "VAULT_TOKEN": canary}, "in the clear", "https://"},
		"a password":   {map[string]string{"VAULT_ADDR": "https://a:" + canary + "@vault.example"}, "not an address", "https://"},
		"nobody":       {map[string]string{"VAULT_ADDR": "https://vault.example"}, "nothing says who asks", "VAULT_TOKEN"},
		"no pod":       {map[string]string{"VAULT_ADDR": "https://vault.example", "VAULT_K8S_ROLE": "x", "VAULT_K8S_TOKEN_FILE": "/nowhere"}, "token can't be read", "VAULT_K8S_TOKEN_FILE"},
		"no authority": {map[string]string{"VAULT_ADDR": "https://vault.example", "VAULT_TOKEN": "x", "VAULT_CACERT": "/nowhere"}, "VAULT_CACERT", "PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			r := secret.New(secret.Options{HTTP: sent, Getenv: func(name string) string { return test.environ[name] }})
			_, err := r.Resolve(t.Context(), "vault://secret/"+canary+"#f")
			wantError(t, err, pgmedic.KindUsage, test.words, test.hint)
		})
	}
}

// TestVaultRedirect: a token is not carried to where an answer points.
func TestVaultRedirect(t *testing.T) {
	client := cloud(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "vault.example" {
			t.Errorf("asked %s, with the token %q", r.Host, r.Header.Get("X-Vault-Token"))
		}
		http.Redirect(w, r, "https://elsewhere.example"+r.URL.Path, http.StatusTemporaryRedirect)
	})
	r := secret.New(secret.Options{HTTP: client, Getenv: func(name string) string {
		return map[string]string{"VAULT_ADDR": "https://vault.example", "VAULT_TOKEN": "x"}[name]
	}})
	_, err := r.Resolve(t.Context(), "vault://secret/"+canary+"#f")
	wantError(t, err, pgmedic.KindUsage, "points to another", "VAULT_ADDR")
}
