package secret

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pgmedic/pgmedic/internal/words"
)

// serviceAccountToken is where Kubernetes puts a pod's own token.
const serviceAccountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token" //nolint:gosec // a path

// vaultSource reads vault://mount/path#field from a KV store of version 2 of HashiCorp
// Vault or OpenBao: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2. The
// address is in VAULT_ADDR or BAO_ADDR, and so with the other names.
type vaultSource struct {
	o     Options
	mu    sync.Mutex
	token string // of a login
}

func (*vaultSource) parse(rest string) (reference, error) {
	r, err := named(rest, false)
	if err == nil && r.field == "" {
		err = errors.New("does not name a field")
	}
	r.version, r.place = r.place, "" // the mount; the place is the address
	return r, err
}

func (*vaultSource) timeout() time.Duration { return callTimeout }
func (*vaultSource) form() string           { return "vault://mount/path#field" }
func (*vaultSource) permission() string {
	return "let a policy of the token or role read it (path \"MOUNT/data/PATH\" { capabilities = [\"read\"] }), and see that it has not expired"
}

// env is a variable by Vault's name or by OpenBao's.
func (s *vaultSource) env(name string) string {
	return or(s.o.Getenv("VAULT_"+name), s.o.Getenv("BAO_"+name))
}

func (s *vaultSource) read(ctx context.Context, r reference) ([]byte, error) {
	segments := strings.Split(r.path, "/")
	for i := range segments {
		segments[i] = url.PathEscape(segments[i])
	}
	var answer struct {
		Data struct {
			Data json.RawMessage `json:"data"`
		} `json:"data"`
	}
	if err := s.ask(ctx, http.MethodGet, url.PathEscape(r.version)+"/data/"+strings.Join(segments, "/"), nil, &answer); err != nil {
		return nil, err
	}
	if len(answer.Data.Data) == 0 || string(answer.Data.Data) == "null" {
		return nil, &problem{what: notFound, detail: "the newest version is deleted, or the mount is not a KV store of version 2"}
	}
	return answer.Data.Data, nil
}

// ask logs in, and asks the server.
func (s *vaultSource) ask(ctx context.Context, method, path string, body, answer any) error {
	v, err := s.session()
	if err != nil {
		return err
	}
	token, err := s.login(ctx, v, false)
	if err != nil {
		return err
	}
	err = v.call(ctx, method, path, token, body, answer)
	var p *problem
	if s.env("TOKEN") == "" && errors.As(err, &p) && p.what == refused {
		// A token that a login gave ends after a while.
		if token, err = s.login(ctx, v, true); err == nil {
			err = v.call(ctx, method, path, token, body, answer)
		}
	}
	return err
}

// login returns the token to ask with: the configured one, or that of a login by
// AppRole or as a pod of Kubernetes.
func (s *vaultSource) login(ctx context.Context, v vaultSession, again bool) (string, error) {
	if token := s.env("TOKEN"); token != "" {
		return token, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != "" && !again {
		return s.token, nil
	}
	var path string
	var body map[string]string
	switch {
	case s.env("ROLE_ID") != "":
		path, body = "auth/"+or(s.env("APPROLE_PATH"), "approle")+"/login", map[string]string{"role_id": s.env("ROLE_ID"), "secret_id": s.env("SECRET_ID")}
	case s.env("K8S_ROLE") != "":
		jwt, err := os.ReadFile(or(s.env("K8S_TOKEN_FILE"), serviceAccountToken))
		if err != nil {
			return "", &problem{what: misconfigured, detail: "the pod's token can't be read: " + plain(err), hint: "set VAULT_K8S_TOKEN_FILE where it is elsewhere"}
		}
		path, body = "auth/"+or(s.env("K8S_PATH"), "kubernetes")+"/login", map[string]string{"role": s.env("K8S_ROLE"), "jwt": strings.TrimSpace(string(jwt))}
	default:
		return "", &problem{
			what: misconfigured, detail: "nothing says who asks",
			hint: "set VAULT_TOKEN, or VAULT_ROLE_ID and VAULT_SECRET_ID, or VAULT_K8S_ROLE in a pod",
		}
	}
	var answer struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	err := v.call(ctx, http.MethodPost, path, "", body, &answer)
	var p *problem
	if errors.As(err, &p) && (p.what == notFound || p.what == refused) {
		return "", &problem{what: refused, detail: "the login failed", hint: "check the role and its secret, and that this login is enabled there"}
	}
	if err == nil && answer.Auth.Token == "" {
		err = &problem{what: unreachable, detail: "the answer to the login has no token"}
	}
	s.token = answer.Auth.Token
	return s.token, err
}

// vaultSession is a server and how it is asked.
type vaultSession struct {
	address   *url.URL
	namespace string
	client    *http.Client
}

func (s *vaultSource) session() (vaultSession, error) {
	text := s.env("ADDR")
	u, err := url.Parse(text)
	switch {
	case text == "":
		return vaultSession{}, &problem{what: misconfigured, detail: "VAULT_ADDR is not set", hint: "set VAULT_ADDR to its address, such as https://vault.example:8200"}
	case err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http":
		return vaultSession{}, &problem{what: misconfigured, detail: "VAULT_ADDR is not an address", hint: "write https://vault.example:8200"}
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return vaultSession{}, &problem{what: misconfigured, detail: "VAULT_ADDR is http, so the token would be sent over the network in the clear", hint: "write https://, and VAULT_CACERT for a private authority"}
	}
	v := vaultSession{address: u, namespace: s.env("NAMESPACE")}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if ok {
		transport = transport.Clone()
	} else {
		transport = &http.Transport{Proxy: http.ProxyFromEnvironment}
	}
	if path := s.env("CACERT"); path != "" {
		pem, err := os.ReadFile(path)
		pool := x509.NewCertPool()
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			return v, &problem{what: misconfigured, detail: "the file of VAULT_CACERT has no certificate that can be read", hint: "name a PEM file that this user may read"}
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	transport.DisableKeepAlives = true // asked once
	v.client = s.o.client(transport)
	return v, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// call asks the server. What it says in words is not repeated: it may name paths.
func (v vaultSession) call(ctx context.Context, method, path, token string, body, answer any) error {
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return &problem{what: misconfigured}
		}
		payload = bytes.NewReader(data)
	}
	where := "at " + v.address.Host
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(v.address.String(), "/")+"/v1/"+path, payload)
	if err != nil {
		return &problem{what: misconfigured, detail: where}
	}
	req.Header.Set("X-Vault-Request", "true")
	for name, value := range map[string]string{"X-Vault-Token": token, "X-Vault-Namespace": v.namespace} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return &problem{what: unreachable, detail: where + reason(err)}
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 4*maxBytes))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return &problem{what: unreachable, detail: where + reason(err)}
	}
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		if json.Unmarshal(data, answer) != nil {
			return &problem{what: unreachable, detail: where + " is something that does not answer as Vault does"}
		}
		return nil
	case code == http.StatusForbidden || code == http.StatusUnauthorized || code == http.StatusBadRequest:
		return &problem{what: refused, detail: where}
	case code == http.StatusNotFound:
		return &problem{what: notFound, detail: where}
	case code >= 300 && code < 400:
		return &problem{what: misconfigured, detail: where + " is a server that points to another", hint: "set VAULT_ADDR to the active one"}
	case code == http.StatusServiceUnavailable:
		return &problem{what: unreachable, detail: where + ": it is sealed, or a standby that can't serve", hint: "unseal it, or ask another server"}
	default:
		return &problem{what: unreachable, detail: where + ": " + resp.Status}
	}
}

// reason says in words why a connection failed, without the URL.
func reason(err error) string {
	var (
		dns      *net.DNSError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		op       *net.OpError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return ": no answer within " + words.Duration(callTimeout)
	case errors.As(err, &dns):
		return ": the name is not known"
	case errors.As(err, &unknown):
		return ": its certificate is of an unknown authority"
	case errors.As(err, &hostname):
		return ": its certificate is for another name"
	case errors.As(err, &op):
		return ": " + op.Err.Error()
	}
	return ""
}
