package gcs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/gcs"
	"github.com/pgmedic/pgmedic/internal/store/gcstest"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
)

// noise returns n bytes that don't compress.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}

func get(ctx context.Context, s store.Store, key string) ([]byte, error) {
	r, err := s.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

// TestGCSRace: of eight Puts of one key exactly one wins, small and in parts.
func TestGCSRace(t *testing.T) {
	storetest.Race(t, open(t, gcstest.Start(t)), 100, 1000, gcs.MinPartSizeBytes+1000)
}

// commits reports whether a request is one that makes an object.
func commits(r *http.Request) bool {
	kind := r.URL.Query().Get("uploadType")
	last := r.Header.Get("Content-Range") != "" && !strings.HasSuffix(r.Header.Get("Content-Range"), "/*")
	return kind == "multipart" || r.Method == http.MethodPut && last
}

// TestGCSLostAnswers: where the answer to the last request of a Put is lost, Put finds
// out whether its object is there.
func TestGCSLostAnswers(t *testing.T) {
	server := gcstest.Start(t)
	for name, size := range map[string]int{"small": 100, "parts": 3*gcs.MinPartSizeBytes + 5} {
		t.Run(name, func(t *testing.T) {
			var lost atomic.Int32
			server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !commits(r) || lost.Add(1) > 1 {
					return false
				}
				server.Pass(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			})
			defer server.Intercept(nil)
			s := open(t, server)
			data := noise(size)
			if o, err := s.Put(t.Context(), "a/key", bytes.NewReader(data)); err != nil || o.SizeBytes != int64(size) {
				t.Fatalf("%+v, %v", o, err)
			}
			if lost.Load() == 0 {
				t.Fatal("no answer was lost")
			}
			if got, err := get(t.Context(), s, "a/key"); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if _, err := s.Put(t.Context(), "a/key", bytes.NewReader(data)); !errors.Is(err, store.ErrExists) {
				t.Errorf("a second Put: %v", err)
			}
		})
	}
}

// TestGCSRetries: answers that may be others later are asked for again, a bounded number
// of times, and each is told; other answers are final.
func TestGCSRetries(t *testing.T) {
	server := gcstest.Start(t)
	listing := func(r *http.Request) bool { return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/o") }
	part := func(r *http.Request) bool { return r.Header.Get("Content-Range") != "" }
	session := func(r *http.Request) bool {
		return r.URL.Query().Get("uploadType") == "resumable" && r.Header.Get("Content-Range") == ""
	}
	small := func(r *http.Request) bool { return r.URL.Query().Get("uploadType") == "multipart" }
	for _, test := range []struct {
		name     string
		which    func(*http.Request) bool
		size     int // of a Put, or 0 for a listing
		status   int
		failures int32
		kind     pgmedic.Kind
		requests int32 // 0: any
	}{
		{"busy once", listing, 0, http.StatusServiceUnavailable, 1, 0, 2},
		{"busy for ever", listing, 0, http.StatusServiceUnavailable, 1000, pgmedic.KindUnreachable, 3},
		{"throttled", listing, 0, http.StatusTooManyRequests, 1000, pgmedic.KindUnreachable, 3},
		{"refused", listing, 0, http.StatusForbidden, 1000, pgmedic.KindUnreachable, 1},
		{"no bucket", listing, 0, http.StatusNotFound, 1000, pgmedic.KindUsage, 1},
		{"an object, once", small, 100, http.StatusBadGateway, 1, 0, 2},
		{"an object, for ever", small, 100, http.StatusBadGateway, 1000, pgmedic.KindUnreachable, 3},
		{"a part, once", part, 3 * gcs.MinPartSizeBytes, http.StatusServiceUnavailable, 1, 0, 0},
		{"a part, for ever", part, 3 * gcs.MinPartSizeBytes, http.StatusServiceUnavailable, 1000, pgmedic.KindUnreachable, 3},
		{"the first request, for ever", session, 3 * gcs.MinPartSizeBytes, http.StatusServiceUnavailable, 1000, pgmedic.KindUnreachable, 3},
		{"a part refused", part, 3 * gcs.MinPartSizeBytes, http.StatusForbidden, 1000, pgmedic.KindUnreachable, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var logged bytes.Buffer
			s := open(t, server, func(o *gcs.Options) { o.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
			var asked atomic.Int32
			server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !test.which(r) || asked.Add(1) > test.failures {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(test.status)
				return true
			})
			defer server.Intercept(nil)
			var err error
			if test.size > 0 {
				_, err = s.Put(t.Context(), "key", bytes.NewReader(noise(test.size)))
			} else {
				for _, listErr := range s.List(t.Context(), "") {
					err = listErr
				}
			}
			if succeeds := test.failures == 1; (err == nil) != succeeds || !succeeds && pgmedic.KindOf(err) != test.kind ||
				test.requests > 0 && asked.Load() != test.requests {
				t.Errorf("%v (%v) after %d requests", err, pgmedic.KindOf(err), asked.Load())
			}
			if told := strings.Contains(logged.String(), "trying again"); told != (test.requests != 1) {
				t.Errorf("logged: %s", logged.String())
			}
			server.Intercept(nil)
			if _, statErr := s.Stat(t.Context(), "key"); test.size > 0 && (statErr == nil) != (err == nil) {
				t.Errorf("after %v, the object: %v", err, statErr)
			}
		})
	}
}

// TestGCSCutOff: a download that is cut off goes on, and ends with an error where it
// can't.
func TestGCSCutOff(t *testing.T) {
	server := gcstest.Start(t)
	s := open(t, server)
	data := noise(3 << 20)
	if _, err := s.Put(t.Context(), "key", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	var cuts atomic.Int32
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("alt") != "media" || cuts.Add(-1) < 0 {
			return false
		}
		server.Pass(&cut{ResponseWriter: w, left: 300_000}, r)
		return true
	})
	cuts.Store(2)
	if got, err := get(t.Context(), s, "key"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("cut off twice: %d bytes, %v", len(got), err)
	}
	cuts.Store(1000)
	if got, err := get(t.Context(), s, "key"); !errors.Is(err, io.ErrUnexpectedEOF) || pgmedic.KindOf(err) != pgmedic.KindUnreachable || len(got) >= len(data) {
		t.Errorf("cut off for ever: %d bytes, %v (%v)", len(got), err, pgmedic.KindOf(err))
	}
	// Another object of the same name is not gone on with.
	cuts.Store(1)
	r, err := s.Open(t.Context(), "key", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "key", bytes.NewReader(noise(3<<20))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("replaced meanwhile: %v", err)
	}
}

// cut is an answer that breaks off.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if len(p) > c.left {
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// TestGCSLeftovers: what a bucket keeps of deleted objects is counted.
func TestGCSLeftovers(t *testing.T) {
	server := gcstest.Start(t)
	for bucket, want := range map[string]int{server.Bucket(): 0, server.VersionedBucket(): 2} {
		s := open(t, server, func(o *gcs.Options) { o.Bucket = bucket })
		for _, key := range []string{"a/1", "a/2", "b"} {
			if _, err := s.Put(t.Context(), key, strings.NewReader("x")); err != nil {
				t.Fatal(err)
			}
			if err := s.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := s.Leftovers(t.Context(), "a/"); n != want || err != nil {
			t.Errorf("%d, %v; want %d", n, err, want)
		}
	}
}

// TestGCSUserProject: who pays for the requests is said in each.
func TestGCSUserProject(t *testing.T) {
	server := gcstest.Start(t)
	s := open(t, server, func(o *gcs.Options) { o.UserProject = "payer" })
	var without atomic.Int32
	server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/token" && r.URL.Query().Get("upload_id") == "" && r.URL.Query().Get("userProject") != "payer" {
			without.Add(1)
		}
		return false
	})
	for key, size := range map[string]int{"small": 1, "large": 2 * gcs.MinPartSizeBytes} {
		if _, err := s.Put(t.Context(), key, bytes.NewReader(noise(size))); err != nil {
			t.Fatal(err)
		}
		if _, err := get(t.Context(), s, key); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range s.List(t.Context(), "") {
		t.Error(err)
	}
	if n := without.Load(); n > 0 {
		t.Errorf("%d requests don't say it", n)
	}
}

func TestGCSOptions(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"no.json": "CANARY", "other.json": `{"password":"CANARY"}`, "broken.json": `{"type":"service_account","private_key":"CANARY"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(*gcs.Options){
		"no bucket":          func(o *gcs.Options) { o.Bucket = "" },
		"a large letter":     func(o *gcs.Options) { o.Bucket = "Backups" },
		"prefix":             func(o *gcs.Options) { o.Prefix = "a//b" },
		"endpoint":           func(o *gcs.Options) { o.Endpoint = "storage.example" },
		"secret in endpoint": func(o *gcs.Options) { o.Endpoint = "https://u:CANARY@storage.example" },
		"class":              func(o *gcs.Options) { o.StorageClass = "cold" },
		"small parts":        func(o *gcs.Options) { o.PartSizeBytes = 1 },
		"odd parts":          func(o *gcs.Options) { o.PartSizeBytes = gcs.MinPartSizeBytes + 1 },
		"large parts":        func(o *gcs.Options) { o.PartSizeBytes = 1 << 40 },
		"attempts":           func(o *gcs.Options) { o.MaxAttempts = -1 },
		"no file":            func(o *gcs.Options) { o.CredentialsFile = filepath.Join(dir, "nothing") },
		"no JSON":            func(o *gcs.Options) { o.CredentialsFile = filepath.Join(dir, "no.json") },
		"other JSON":         func(o *gcs.Options) { o.CredentialsFile = filepath.Join(dir, "other.json") },
		"no key":             func(o *gcs.Options) { o.CredentialsFile = filepath.Join(dir, "broken.json") },
	} {
		o := gcs.Options{Bucket: "backups", CredentialsFile: filepath.Join(dir, "nothing.json")}
		change(&o)
		s, err := gcs.New(o)
		if s != nil || pgmedic.KindOf(err) != pgmedic.KindUsage || strings.Contains(err.Error()+pgmedic.HintOf(err), "CANARY") {
			t.Errorf("%s: %v (%v)", name, err, pgmedic.KindOf(err))
		}
	}
}
