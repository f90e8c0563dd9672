// Package s3test gives tests a real S3 server: versitygw, which checks
// signatures, conditions and multipart uploads. A server that can't be had fails
// the test: nothing is skipped without being asked.
package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/store/s3"
)

// Options say how a Server runs.
type Options struct {
	// TLS makes it speak https, with a certificate of an authority of its own.
	TLS bool
	// Versions has it keep versions in buckets that ask for that, as those with locks do.
	Versions bool
}

// Server is a running versitygw. It listens on a port of the loopback interface
// that the system chose, and keeps its buckets in a folder of the test.
type Server struct {
	// Endpoint is its URL.
	Endpoint string
	// AccessKey and SecretKey are the one account that it has.
	AccessKey, SecretKey string
	// CACertFile is the authority of its certificate, or empty without TLS.
	CACertFile string

	tb       testing.TB
	o        Options
	dir      string
	certArgs []string
	port     string // of the last start, which a restart takes again

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	log  *buffer
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

// Start starts a server with an account of random keys, and stops it at the end
// of the test.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	s := &Server{tb: tb, o: o, dir: tb.TempDir(), AccessKey: "key" + rand.Text()[:12], SecretKey: "secret" + rand.Text()}
	for _, name := range []string{"data", "versions"} {
		if err := os.Mkdir(filepath.Join(s.dir, name), 0o700); err != nil {
			tb.Fatal(err)
		}
	}
	if o.TLS {
		s.makeCertificate()
	}
	tb.Cleanup(s.Stop)
	s.start()
	return s
}

// start starts the server. The port was free a moment ago; if it is taken
// meanwhile the server ends, and another one is tried.
func (s *Server) start() {
	s.tb.Helper()
	var said string
	for range 10 {
		port := s.port
		if port == "" {
			port = freePort(s.tb)
		}
		if s.tryStart(port) {
			s.port = port
			return
		}
		said = s.log.String()
		s.Stop()
	}
	s.tb.Fatalf("versitygw does not start:\n%s", said)
}

func (s *Server) tryStart(port string) bool {
	args := append([]string{"--port", "127.0.0.1:" + port, "--quiet", "--keep-alive"}, s.certArgs...)
	args = append(args, "posix")
	if s.o.Versions {
		args = append(args, "--versioning-dir", filepath.Join(s.dir, "versions"))
	}
	args = append(args, filepath.Join(s.dir, "data"))
	s.log = &buffer{}
	s.cmd = exec.Command(binary(s.tb), args...)
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.dir,
		"ROOT_ACCESS_KEY=" + s.AccessKey, "ROOT_SECRET_KEY=" + s.SecretKey}
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.dir, s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	done := make(chan struct{})
	s.done = done
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // it is killed
		close(done)
	}(s.cmd)
	s.Endpoint = "http://127.0.0.1:" + port
	if s.o.TLS {
		s.Endpoint = "https://127.0.0.1:" + port
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		select {
		case <-done:
			return false
		case <-time.After(5 * time.Millisecond): // between two looks
		}
		if s.answers() {
			return true
		}
	}
	return false
}

// answers reports whether it is this server that answers: it knows its keys.
func (s *Server) answers() bool {
	conn, err := net.DialTimeout("tcp", s.Endpoint[strings.LastIndexByte(s.Endpoint, '/')+1:], time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close() // it was only to see whether somebody listens
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = s.client().ListBuckets(ctx, nil)
	return err == nil
}

// Stop kills the server, as a crash does. What it stored stays.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.done
	s.cmd = nil
}

// Restart starts the server again, on the same port, with its data, and with
// other keys if any are given: then everyone who has the old ones is refused.
func (s *Server) Restart(accessKey, secretKey string) {
	s.tb.Helper()
	s.Stop()
	if accessKey != "" {
		s.AccessKey, s.SecretKey = accessKey, secretKey
	}
	s.start()
}

// Bucket makes a bucket of a new name.
func (s *Server) Bucket() string {
	s.tb.Helper()
	name := "b-" + strings.ToLower(rand.Text()[:16])
	s.MakeBucket(name)
	return name
}

// Options returns those that reach a bucket; the credentials are in Environ.
func (s *Server) Options(bucket string) s3.Options {
	return s3.Options{Bucket: bucket, Endpoint: s.Endpoint, PathStyle: true, CACertFile: s.CACertFile, Region: "us-east-1"}
}

// Environ is the environment in which the AWS SDK finds the server's credentials
// and nothing of this machine's.
func (s *Server) Environ() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey, "AWS_SESSION_TOKEN=", "AWS_PROFILE=",
		"AWS_REGION=", "AWS_CA_BUNDLE=", "AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull, "AWS_EC2_METADATA_DISABLED=true",
	}
}

// Setenv makes Environ that of the test.
func (s *Server) Setenv(t *testing.T) {
	t.Helper()
	for _, pair := range s.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
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

// binary is the program that scripts/setup.sh installs, or the one in PATH.
func binary(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(cacheDir(), "bin", "versitygw")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	path, err := exec.LookPath("versitygw")
	if err != nil {
		tb.Fatal("versitygw is not installed: run scripts/setup.sh")
	}
	return path
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

// transport trusts the server's certificate.
func (s *Server) transport() *http.Client {
	if !s.o.TLS {
		return &http.Client{}
	}
	return s.trusting()
}
