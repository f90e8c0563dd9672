// Package azuretest gives tests a real server of Azure's protocol: Azurite, which checks
// signatures and conditions.
package azuretest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/pgmedic/pgmedic/internal/store/azure"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// Server is a running Azurite. It listens on a port of the loopback interface that the
// system chose, and keeps its containers in a folder of the test.
type Server struct {
	// Endpoint is the URL of its one account.
	Endpoint string
	// Account and Key are the account, with a random key.
	Account, Key string

	tb            testing.TB
	dir           string
	node, program string
	cmd           *exec.Cmd
	done          chan struct{} // closed when cmd has ended
	log           *buffer
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

// Start starts a server, and stops it at the end of the test. It takes its time, so make
// test leaves these tests to make test-all, which has some under the race detector, too.
// Without Azurite a test is skipped, or fails where everything is asked for.
func Start(tb testing.TB) *Server {
	tb.Helper()
	if !testkit.Race {
		testkit.OnlyAll(tb, "Azurite is slow")
	}
	program := filepath.Join(cacheDir(), "azurite", "node_modules", "azurite", "dist", "src", "blob", "main.js")
	node, err := exec.LookPath("node")
	if _, statErr := os.Stat(program); err != nil || statErr != nil {
		testkit.Missing(tb, "Azurite is not installed: run scripts/setup.sh --all")
	}
	s := &Server{tb: tb, dir: tb.TempDir(), node: node, program: program, Account: "pgmedictest", Key: newKey()}
	tb.Cleanup(s.Stop)
	for range 10 { // the port was free a moment ago
		if s.try(node, program, freePort(tb)) {
			return s
		}
		s.Stop()
	}
	tb.Fatalf("Azurite does not start:\n%s", s.log)
	return nil
}

func (s *Server) try(node, program, port string) bool {
	s.log = &buffer{}
	s.cmd = exec.Command(node, program, "--blobHost", "127.0.0.1", "--blobPort", port, "--location", s.dir,
		"--silent", "--skipApiVersionCheck", "--disableTelemetry")
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.dir, "AZURITE_ACCOUNTS=" + s.Account + ":" + s.Key}
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
	s.Endpoint = "http://127.0.0.1:" + port + "/" + s.Account
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		select {
		case <-done:
			return false
		case <-time.After(20 * time.Millisecond): // between two looks
		}
		if s.answers() {
			return true
		}
	}
	return false
}

// answers reports whether it is this server that answers: it knows its key.
func (s *Server) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := s.Client("nothing").GetProperties(ctx, nil)
	var answer *azcore.ResponseError
	return errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound
}

// Rekey gives the account another key, and refuses the one before.
func (s *Server) Rekey() {
	s.tb.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil { // on which it saves what it has
		s.tb.Fatal(err)
	}
	<-s.done
	s.Key = newKey()
	port := strings.TrimSuffix(strings.TrimPrefix(s.Endpoint, "http://127.0.0.1:"), "/"+s.Account)
	if !s.try(s.node, s.program, port) {
		s.tb.Fatalf("Azurite does not start again:\n%s", s.log)
	}
}

func newKey() string {
	key := make([]byte, 64)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}

// Stop kills the server, as a crash does.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.done
	s.cmd = nil
}

// Client is one of a container that always has the right key.
func (s *Server) Client(name string) *container.Client {
	s.tb.Helper()
	key, err := blob.NewSharedKeyCredential(s.Account, s.Key)
	if err != nil {
		s.tb.Fatal(err)
	}
	c, err := container.NewClientWithSharedKeyCredential(s.Endpoint+"/"+name, key, &container.ClientOptions{
		ClientOptions: azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}},
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	return c
}

// Container makes a container of a new name.
func (s *Server) Container() string {
	s.tb.Helper()
	name := "c-" + strings.ToLower(rand.Text()[:16])
	if _, err := s.Client(name).Create(context.Background(), nil); err != nil {
		s.tb.Fatal(err)
	}
	return name
}

// Options returns those that reach a container.
func (s *Server) Options(name string) azure.Options {
	return azure.Options{Container: name, Account: s.Account, Key: s.Key, Endpoint: s.Endpoint}
}

// ConnectionString is that of the account.
func (s *Server) ConnectionString() string {
	return "DefaultEndpointsProtocol=http;AccountName=" + s.Account + ";AccountKey=" + s.Key + ";BlobEndpoint=" + s.Endpoint + ";"
}

// SAS returns a shared access signature of a container with these permissions, in
// force until a time.
func (s *Server) SAS(name string, permissions sas.ContainerPermissions, until time.Time) string {
	s.tb.Helper()
	key, err := blob.NewSharedKeyCredential(s.Account, s.Key)
	if err != nil {
		s.tb.Fatal(err)
	}
	q, err := sas.BlobSignatureValues{
		Protocol: sas.ProtocolHTTPSandHTTP, ExpiryTime: until.UTC(), ContainerName: name, Permissions: permissions.String(),
	}.SignWithSharedKey(key)
	if err != nil {
		s.tb.Fatal(err)
	}
	return q.Encode()
}

// Blobs returns the names in a container, uncommitted ones included, each with a "?"
// behind it.
func (s *Server) Blobs(name string) (all []string) {
	s.tb.Helper()
	pages := s.Client(name).NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Include: container.ListBlobsInclude{UncommittedBlobs: true}})
	for pages.More() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			s.tb.Fatal(err)
		}
		for _, item := range page.Segment.BlobItems {
			all = append(all, *item.Name)
		}
	}
	return all
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
