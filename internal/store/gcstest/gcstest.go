// Package gcstest gives tests a server of Google Cloud Storage's protocol:
// fake-gcs-server, which knows preconditions and resumable uploads. It asks for no
// credentials; what stands in front of it here does, as Google would: tokens are given
// to whoever signs with the key of the one service account, and other requests need one.
// The front also knows object retention and holds, as a model of what Google documents.
package gcstest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/store/gcs"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// Server is a running fake-gcs-server behind a front that asks for tokens. Both listen
// on ports of the loopback interface that the system chose. It keeps its buckets in
// memory.
type Server struct {
	// Endpoint is the front's URL.
	Endpoint string

	tb      testing.TB
	account atomic.Pointer[account]
	locks   locks
	front   *httptest.Server
	back    atomic.Pointer[url.URL]
	// intercept may answer a request in the front's place.
	intercept atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	said *buffer
}

// account is the one that is let in: who signs with its key gets its token.
type account struct {
	key   *rsa.PrivateKey
	token string
}

func newKey(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// Rotate gives the account another key, and refuses tokens for the one before. Those that
// were given already stay good unless they are revoked.
func (s *Server) Rotate(revoke bool) {
	s.tb.Helper()
	next := account{newKey(s.tb), s.account.Load().token}
	if revoke {
		next.token = "token" + rand.Text()
	}
	s.account.Store(&next)
}

// buffer is written by the server and read by the test.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Start starts a server, and stops it at the end of the test. Without fake-gcs-server
// the test is skipped, or fails where everything is asked for.
func Start(tb testing.TB) *Server {
	tb.Helper()
	program := filepath.Join(cacheDir(), "bin", "fake-gcs-server")
	if _, err := os.Stat(program); err != nil {
		testkit.Missing(tb, "fake-gcs-server is not installed: run scripts/setup.sh")
	}
	s := &Server{tb: tb, locks: locks{
		buckets: map[string]time.Duration{}, objects: map[string]*objectLock{}, uploads: map[string]*objectLock{},
		hidden: map[string]*objectLock{}, keeping: map[string]bool{},
	}}
	s.account.Store(&account{newKey(tb), "token" + rand.Text()})
	s.front = httptest.NewServer(http.HandlerFunc(s.serve))
	s.Endpoint = s.front.URL
	tb.Cleanup(func() {
		s.front.Close()
		s.stop()
	})
	for range 10 { // the port was free a moment ago
		if s.try(program, freePort(tb)) {
			return s
		}
		s.stop()
	}
	tb.Fatalf("fake-gcs-server does not start:\n%s", s.said)
	return nil
}

func (s *Server) try(program, port string) bool {
	s.said = &buffer{}
	dir := s.tb.TempDir()
	host := strings.TrimPrefix(s.Endpoint, "http://")
	s.cmd = exec.Command(program, "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", port,
		"-public-host", host, "-external-url", s.Endpoint, "-log-level", "error")
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = dir, s.said, s.said
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	done := make(chan struct{})
	s.done = done
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // it is killed
		close(done)
	}(s.cmd)
	s.back.Store(&url.URL{Scheme: "http", Host: "127.0.0.1:" + port})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		select {
		case <-done:
			return false
		case <-time.After(5 * time.Millisecond): // between two looks
		}
		if answer, err := s.ask(http.MethodGet, "/storage/v1/b?project=test", ""); err == nil && answer == http.StatusOK {
			return true
		}
	}
	return false
}

// ask sends a request with a token, and returns the status.
func (s *Server) ask(method, path, body string) (int, error) {
	request, err := http.NewRequest(method, s.Endpoint+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+s.account.Load().token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, errors.Join(err, answer.Body.Close())
}

func (s *Server) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.done
	s.cmd = nil
}

// serve is the front.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if f := s.intercept.Load(); f != nil && (*f)(w, r) {
		return
	}
	s.Pass(w, r)
}

// Pass answers a request as if nothing intercepted it: it gives tokens, and passes on
// what has one.
func (s *Server) Pass(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		s.giveToken(w, r)
		return
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "+s.account.Load().token)
	switch {
	case !ok || token != "" && token != fullControl:
		refuse(w, http.StatusUnauthorized, "authError", "Invalid Credentials")
		return
	case r.Method == http.MethodPatch && token != fullControl:
		refuse(w, http.StatusForbidden, "insufficientPermissions", "Request had insufficient authentication scopes.")
		return
	case r.Method == http.MethodPatch:
		s.patch(w, r)
		return
	}
	answered, made := s.locks.before(w, r)
	if answered {
		return
	}
	proxy := &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(s.back.Load())
			p.Out.Host = p.In.Host
		},
		ModifyResponse: func(answer *http.Response) error { return s.locks.after(answer, made) },
	}
	proxy.ServeHTTP(w, r)
}

// patch changes the lock of an object that is there.
func (s *Server) patch(w http.ResponseWriter, r *http.Request) {
	found, err := http.Get(s.back.Load().String() + r.URL.EscapedPath())
	if err != nil {
		refuse(w, http.StatusBadGateway, "backendError", err.Error())
		return
	}
	defer func() { _ = found.Body.Close() }()
	text, err := io.ReadAll(found.Body)
	if err != nil || found.StatusCode != http.StatusOK {
		refuse(w, found.StatusCode, "notFound", "No such object")
		return
	}
	s.locks.patch(w, r, text)
}

// fullControl ends a token that allows more than to read, write and delete.
const fullControl = "-full"

// giveToken gives a token to whoever has signed with the account's key.
func (s *Server) giveToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	parts, account := strings.Split(r.FormValue("assertion"), "."), s.account.Load()
	ok := len(parts) == 3
	if ok {
		signature, err := base64.RawURLEncoding.DecodeString(parts[2])
		sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		ok = err == nil && rsa.VerifyPKCS1v15(&account.key.PublicKey, crypto.SHA256, sum[:], signature) == nil
	}
	if !ok {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`)
		return
	}
	token := account.token
	if claims, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil && bytes.Contains(claims, []byte("devstorage.full_control")) {
		token += fullControl
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600})
}

// Intercept has f see each request first; where it returns true, it has answered it.
// Nil ends that.
func (s *Server) Intercept(f func(http.ResponseWriter, *http.Request) bool) {
	if f == nil {
		s.intercept.Store(nil)
		return
	}
	s.intercept.Store(&f)
}

// Bucket makes a bucket of a new name.
func (s *Server) Bucket() string { return s.bucket(`{"name":"NAME"}`) }

// VersionedBucket makes one that keeps versions.
func (s *Server) VersionedBucket() string {
	return s.bucket(`{"name":"NAME","versioning":{"enabled":true}}`)
}

func (s *Server) bucket(body string) string {
	s.tb.Helper()
	name := "b-" + strings.ToLower(rand.Text()[:16])
	if status, err := s.ask(http.MethodPost, "/storage/v1/b?project=test", strings.ReplaceAll(body, "NAME", name)); err != nil || status != http.StatusOK {
		s.tb.Fatalf("make a bucket: status %d, %v", status, err)
	}
	return name
}

// Checksum returns the CRC32C of an object, as the server found it. Name is the store's.
func (s *Server) Checksum(name, key string) (string, error) {
	bucket, _, _ := strings.Cut(strings.TrimPrefix(name, gcs.Scheme+"://"), " ")
	request, err := http.NewRequest(http.MethodGet, s.Endpoint+"/storage/v1/b/"+bucket+"/o/"+url.PathEscape(key), nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+s.account.Load().token)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	var object struct {
		Sum string `json:"crc32c"`
	}
	err = json.NewDecoder(answer.Body).Decode(&object)
	return object.Sum, errors.Join(err, answer.Body.Close())
}

// Credentials writes a file of the service account's credentials, with the right key or
// another one.
func (s *Server) Credentials(right bool) (file string) {
	s.tb.Helper()
	key := s.account.Load().key
	if !right {
		key = newKey(s.tb)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.tb.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "test", "private_key_id": "test", "client_id": "1",
		"client_email": "pgmedic@test.iam.gserviceaccount.example",
		"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":    s.Endpoint + "/token",
	})
	file = filepath.Join(s.tb.TempDir(), "credentials.json")
	if err = errors.Join(err, os.WriteFile(file, text, 0o600)); err != nil {
		s.tb.Fatal(err)
	}
	return file
}

// Options returns those that reach a bucket.
func (s *Server) Options(bucket string) gcs.Options {
	return gcs.Options{Bucket: bucket, Endpoint: s.Endpoint, CredentialsFile: s.Credentials(true)}
}

func freePort(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err = errors.Join(err, l.Close()); err != nil {
		tb.Fatal(err)
	}
	return port
}

// cacheDir is the same folder as cache_folder in scripts/setup.sh.
func cacheDir() string {
	if dir := os.Getenv("PGMEDIC_CACHE"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/cache/pgmedic"
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "pgmedic")
	}
	return filepath.Join(os.Getenv("HOME"), ".cache", "pgmedic")
}
