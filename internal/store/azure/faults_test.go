package azure_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/azure"
	"github.com/pgmedic/pgmedic/internal/store/azuretest"
	"github.com/pgmedic/pgmedic/internal/store/remote"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
)

// noise returns n bytes that don't compress.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}

func put(ctx context.Context, s store.Store, key string, data []byte) error {
	_, err := s.Put(ctx, key, bytes.NewReader(data))
	return err
}

func get(ctx context.Context, s store.Store, key string) ([]byte, error) {
	r, err := s.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

// front stands before a server. Its function sees each request, and the answer that is
// about to be given; it returns false if it has answered itself.
type front struct {
	before func(w http.ResponseWriter, r *http.Request) bool
	after  func(*http.Response) error
}

// signed returns the store of a new container behind a front. It is signed for all but
// the address, as a shared access signature is.
func (f *front) signed(t *testing.T, server *azuretest.Server, change ...func(*azure.Options)) *remote.Locking {
	t.Helper()
	to, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = to.Scheme, to.Host, to.Host
		},
		ModifyResponse: func(r *http.Response) error {
			if f.after == nil {
				return nil
			}
			return f.after(r)
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.before == nil || f.before(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(h.Close)
	return open(t, server, append([]func(*azure.Options){func(o *azure.Options) {
		o.Key, o.SASToken = "", server.SAS(o.Container, sas.ContainerPermissions{Read: true, Create: true, Write: true, Delete: true, List: true}, time.Now().Add(time.Hour))
		o.Endpoint = h.URL + to.Path
	}}, change...)...)
}

var errDropped = errors.New("dropped")

// TestAzureRace: of eight Puts of one key exactly one wins, small and in blocks.
func TestAzureRace(t *testing.T) {
	storetest.Race(t, open(t, azuretest.Start(t)), 100, 1000, azure.MinPartSizeBytes+1000)
}

// TestAzureLostAnswers: where the answer to a commit is lost, Put finds out whether its
// object is there.
func TestAzureLostAnswers(t *testing.T) {
	server := azuretest.Start(t)
	for name, size := range map[string]int{"small": 100, "blocks": 3*azure.MinPartSizeBytes + 5} {
		t.Run(name, func(t *testing.T) {
			var drop atomic.Int32
			f := &front{after: func(r *http.Response) error {
				q := r.Request.URL.Query()
				commit := r.Request.Method == http.MethodPut && q.Get("comp") != "block"
				if commit && r.StatusCode == http.StatusCreated && drop.Add(1) == 1 {
					return errDropped
				}
				return nil
			}}
			s := f.signed(t, server)
			data := noise(size)
			if o, err := s.Put(t.Context(), "a/key", bytes.NewReader(data)); err != nil || o.SizeBytes != int64(size) {
				t.Fatalf("%+v, %v", o, err)
			}
			if drop.Load() == 0 {
				t.Fatal("no answer was lost")
			}
			if got, err := get(t.Context(), s, "a/key"); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if err := put(t.Context(), s, "a/key", data); !errors.Is(err, store.ErrExists) {
				t.Errorf("a second Put: %v", err)
			}
		})
	}
}

// TestAzureForeignAnswer: a 404 without a code of Azure comes from a proxy, or from a server
// that is another: nothing is known of the object.
func TestAzureForeignAnswer(t *testing.T) {
	server := azuretest.Start(t)
	var foreign atomic.Bool
	f := &front{before: func(w http.ResponseWriter, _ *http.Request) bool {
		if foreign.Load() {
			w.WriteHeader(http.StatusNotFound)
		}
		return !foreign.Load()
	}}
	s := f.signed(t, server)
	if err := put(t.Context(), s, "there", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "absent"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what Azure says is absent: %v", err)
	}
	foreign.Store(true)
	_, statErr := s.Stat(t.Context(), "there")
	_, openErr := s.Open(t.Context(), "there", 0, -1)
	deleteErr := s.Delete(t.Context(), "there")
	for name, err := range map[string]error{"stat": statErr, "open": openErr, "delete": deleteErr} {
		if err == nil || errors.Is(err, store.ErrNotFound) || pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(pgmedic.HintOf(err), "endpoint") {
			t.Errorf("%s: %v (%v, hint %q)", name, err, pgmedic.KindOf(err), pgmedic.HintOf(err))
		}
	}
}

// TestAzureRetries: answers that may be others later are asked for again, a bounded
// number of times, and each is told; other answers are final.
func TestAzureRetries(t *testing.T) {
	server := azuretest.Start(t)
	for _, test := range []struct {
		name     string
		status   int
		code     string
		failures int32
		kind     pgmedic.Kind
		requests int32
	}{
		{"busy once", http.StatusServiceUnavailable, "ServerBusy", 1, 0, 2},
		{"busy for ever", http.StatusServiceUnavailable, "ServerBusy", 1000, pgmedic.KindUnreachable, 3},
		{"refused", http.StatusForbidden, "AuthorizationPermissionMismatch", 1000, pgmedic.KindUnreachable, 1},
		{"no container", http.StatusNotFound, "ContainerNotFound", 1000, pgmedic.KindUsage, 1},
		{"no room", http.StatusConflict, "AccountStorageCapacityExceeded", 1000, pgmedic.KindFailed, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var asked atomic.Int32
			var logged bytes.Buffer
			f := &front{before: func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Query().Get("comp") != "list" || asked.Add(1) > test.failures {
					return true
				}
				w.Header().Set("x-ms-error-code", test.code)
				w.WriteHeader(test.status)
				return false
			}}
			s := f.signed(t, server, func(o *azure.Options) { o.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
			var err error
			for _, listErr := range s.List(t.Context(), "") {
				err = listErr
			}
			if succeeds := test.failures == 1; (err == nil) != succeeds || !succeeds && pgmedic.KindOf(err) != test.kind || asked.Load() != test.requests {
				t.Errorf("%v (%v) after %d requests", err, pgmedic.KindOf(err), asked.Load())
			}
			if told := strings.Contains(logged.String(), "trying again"); told != (test.requests > 1) || strings.Contains(logged.String(), "sig=") {
				t.Errorf("logged: %s", logged.String())
			}
		})
	}
}

// TestAzureCutOff: a download that is cut off goes on, with the same object only, and
// ends with an error where it can't.
func TestAzureCutOff(t *testing.T) {
	server := azuretest.Start(t)
	data := noise(3 << 20)
	var cuts atomic.Int32
	cuts.Store(2)
	f := &front{after: func(r *http.Response) error {
		if r.Request.Method == http.MethodGet && r.StatusCode < 300 && cuts.Add(-1) >= 0 {
			r.Body = &cut{ReadCloser: r.Body, left: 1 << 20}
		}
		return nil
	}}
	s := f.signed(t, server)
	if err := put(t.Context(), s, "key", data); err != nil {
		t.Fatal(err)
	}
	if got, err := get(t.Context(), s, "key"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("cut off twice: %d bytes, %v", len(got), err)
	}
	cuts.Store(1000)
	f.after = func(r *http.Response) error {
		if r.Request.Method == http.MethodGet && r.StatusCode < 300 {
			r.Body = &cut{ReadCloser: r.Body, left: 100_000}
		}
		return nil
	}
	if got, err := get(t.Context(), s, "key"); !errors.Is(err, io.ErrUnexpectedEOF) || pgmedic.KindOf(err) != pgmedic.KindUnreachable || len(got) >= len(data) || strings.Contains(err.Error(), "sig=") {
		t.Errorf("cut off for ever: %d bytes, %v (%v)", len(got), err, pgmedic.KindOf(err))
	}
}

// cut is a body that breaks off.
type cut struct {
	io.ReadCloser
	left int
}

func (c *cut) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errDropped
	}
	n, err := c.ReadCloser.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// TestAzureFolders: blobs that stand for folders are no objects.
func TestAzureFolders(t *testing.T) {
	server := azuretest.Start(t)
	name := server.Container()
	s := open(t, server, func(o *azure.Options) { o.Container = name })
	if err := put(t.Context(), s, "a/b", []byte("x")); err != nil {
		t.Fatal(err)
	}
	yes := "true"
	for _, folder := range []string{"a", "c"} {
		client := server.Client(name).NewBlockBlobClient(folder)
		if _, err := client.UploadBuffer(t.Context(), nil, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := client.SetMetadata(t.Context(), map[string]*string{"Hdi_isfolder": &yes}, &blob.SetMetadataOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Stat(t.Context(), folder); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Stat %s: %v", folder, err)
		}
		if _, err := s.Open(t.Context(), folder, 0, -1); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Open %s: %v", folder, err)
		}
	}
	var keys []string
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	if !slices.Equal(keys, []string{"a/b"}) {
		t.Errorf("listed %q", keys)
	}
}

// TestAzureLeftovers: what a container keeps of deleted objects is counted. Azurite keeps
// nothing, so that what it lists is changed on the way into what Azure lists then.
func TestAzureLeftovers(t *testing.T) {
	server := azuretest.Start(t)
	f := &front{}
	s := f.signed(t, server)
	for _, key := range []string{"a/1", "a/2", "b"} {
		if err := put(t.Context(), s, key, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Leftovers(t.Context(), "a/"); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	f.after = func(r *http.Response) error {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		changed := bytes.ReplaceAll(text, []byte("</Name>"), []byte("</Name><Deleted>true</Deleted>"))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(changed)), int64(len(changed))
		r.Header.Set("Content-Length", strconv.Itoa(len(changed)))
		return nil
	}
	if n, err := s.Leftovers(t.Context(), "a/"); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestAzureOptions(t *testing.T) {
	const key = "Q0FOQVJZQ0FOQVJZQ0FOQVJZQ0FOQVJZ"
	for name, change := range map[string]func(*azure.Options){
		"no container":       func(o *azure.Options) { o.Container = "" },
		"a large letter":     func(o *azure.Options) { o.Container = "Backups" },
		"two dashes":         func(o *azure.Options) { o.Container = "a--b" },
		"prefix":             func(o *azure.Options) { o.Prefix = "a//b" },
		"no account":         func(o *azure.Options) { o.Account = "" },
		"account":            func(o *azure.Options) { o.Account = "a/b" },
		"key":                func(o *azure.Options) { o.Key = "CANARY!" },
		"endpoint":           func(o *azure.Options) { o.Endpoint = "blob.core.windows.net" },
		"secret in endpoint": func(o *azure.Options) { o.Endpoint = "https://x.blob.core.windows.net/?sig=CANARY" },
		"signature":          func(o *azure.Options) { o.Key, o.SASToken = "", "CANARY" },
		"identity in clear":  func(o *azure.Options) { o.Key, o.Endpoint = "", "http://x.blob.core.windows.net" },
		"tier":               func(o *azure.Options) { o.AccessTier = "Archive" },
		"small parts":        func(o *azure.Options) { o.PartSizeBytes = 1 },
		"large parts":        func(o *azure.Options) { o.PartSizeBytes = 1 << 40 },
		"concurrency":        func(o *azure.Options) { o.Concurrency = -1 },
		"attempts":           func(o *azure.Options) { o.MaxAttempts = -1 },
		"connection string":  func(o *azure.Options) { o.ConnectionString = "CANARY" },
		"half of one":        func(o *azure.Options) { o.ConnectionString = "AccountName=x;Other=CANARY" },
		"another account":    func(o *azure.Options) { o.ConnectionString = "AccountName=other;AccountKey=" + key },
	} {
		o := azure.Options{Container: "backups", Account: "clinic", Key: key}
		change(&o)
		s, err := azure.New(o)
		if s != nil || pgmedic.KindOf(err) != pgmedic.KindUsage || strings.Contains(err.Error()+pgmedic.HintOf(err), "CANARY") || strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v (%v)", name, err, pgmedic.KindOf(err))
		}
	}
	for want, o := range map[string]azure.Options{
		"azblob://backups/a/b at https://clinic.blob.core.windows.net":  {Container: "backups", Prefix: "a/b", Account: "clinic", Key: key},
		"azblob://backups at https://clinic.blob.core.chinacloudapi.cn": {Container: "backups", ConnectionString: "AccountName=clinic;AccountKey=" + key + ";EndpointSuffix=core.chinacloudapi.cn"},
		"azblob://backups at http://127.0.0.1:10000/clinic":             {Container: "backups", ConnectionString: "BlobEndpoint=http://127.0.0.1:10000/clinic/;SharedAccessSignature=sv=1&sig=x;"},
		"azblob://backups at https://private.example":                   {Container: "backups", Endpoint: "https://private.example/", SASToken: "?sv=1&sig=x"},
	} {
		s, err := azure.New(o)
		if err != nil || s.String() != want {
			t.Errorf("%v, %v; want %s", s, err, want)
		}
	}
}

// TestAzureBlockSizes: blocks are as many and as large as Azure allows.
func TestAzureBlockSizes(t *testing.T) {
	for _, size := range []int64{azure.MinPartSizeBytes, azure.DefaultPartSizeBytes, azure.MaxPartSizeBytes} {
		total, blocks := int64(0), int64(0)
		for n := int64(1); azure.BlockSize(size, n) > 0; n++ {
			if azure.BlockSize(size, n) > 4000<<20 {
				t.Fatalf("block %d has %d bytes", n, azure.BlockSize(size, n))
			}
			blocks, total = n, total+azure.BlockSize(size, n)
		}
		if blocks != 50_000 || total != 570_000*size {
			t.Errorf("%d blocks of %d and more are %d bytes", blocks, size, total)
		}
	}
}

// TestAzureGrows puts objects whose blocks grow, up to the last and past it.
func TestAzureGrows(t *testing.T) {
	server := azuretest.Start(t)
	o := server.Options(server.Container())
	o.PartSizeBytes = azure.MinPartSizeBytes
	s, err := azure.NewGrowing(o, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	const most = (2*1 + 2*2) * azure.MinPartSizeBytes
	for _, size := range []int{azure.MinPartSizeBytes, 2 * azure.MinPartSizeBytes, 2*azure.MinPartSizeBytes + 1, most} {
		key, data := fmt.Sprintf("a/%d", size), noise(size)
		if err := put(t.Context(), s, key, data); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if got, err := get(t.Context(), s, key); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
		}
	}
	err = put(t.Context(), s, "b", noise(most+1))
	if pgmedic.KindOf(err) != pgmedic.KindFailed || !strings.Contains(pgmedic.HintOf(err), "part_size") {
		t.Errorf("an object that is too large: %v (%v)", err, pgmedic.KindOf(err))
	}
	if _, err := s.Stat(t.Context(), "b"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it is there: %v", err)
	}
}

// TestAzureUnordered: a listing in another order is an error and not taken for a whole
// one.
func TestAzureUnordered(t *testing.T) {
	server := azuretest.Start(t)
	f := &front{after: func(r *http.Response) error {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		swapped := strings.NewReplacer("<Name>a", "<Name>z", "<Name>z", "<Name>a").Replace(string(text))
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(swapped)), int64(len(swapped))
		return nil
	}}
	s := f.signed(t, server)
	for _, key := range []string{"a/1", "z/1"} {
		if err := put(t.Context(), s, key, nil); err != nil {
			t.Fatal(err)
		}
	}
	var listErr, foldersErr error
	for _, err := range s.List(t.Context(), "") {
		listErr = err
	}
	for _, err := range s.Folders(t.Context(), "") {
		foldersErr = err
	}
	if pgmedic.KindOf(listErr) != pgmedic.KindUnreachable || listErr == nil || !strings.Contains(listErr.Error(), "out of order") {
		t.Errorf("List: %v", listErr)
	}
	if foldersErr != nil { // those of one answer are put in order
		t.Errorf("Folders: %v", foldersErr)
	}
}

// TestAzureNoCredentials: where no identity is found, that is said.
func TestAzureNoCredentials(t *testing.T) {
	for _, name := range []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_USERNAME", "AZURE_PASSWORD"} {
		t.Setenv(name, "")
	}
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
	s, err := azure.New(azure.Options{Container: "backups", Endpoint: "https://127.0.0.1:1", MaxAttempts: 3})
	if err == nil {
		_, err = s.Stat(t.Context(), "key")
	}
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || err == nil || !strings.Contains(err.Error(), "no Azure credentials were found") || strings.Contains(err.Error(), "\n") ||
		!strings.Contains(pgmedic.HintOf(err), "AZURE_STORAGE_KEY") {
		t.Errorf("%v (%v; %s)", err, pgmedic.KindOf(err), pgmedic.HintOf(err))
	}
}
