package gcs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/gcs"
	"github.com/pgmedic/pgmedic/internal/store/gcstest"
)

// isPart reports whether a request sends a part of an upload, and whether that is the
// last one.
func isPart(r *http.Request) (part, last bool) {
	span := r.Header.Get("Content-Range")
	return r.Method == http.MethodPut && span != "", span != "" && !strings.HasSuffix(span, "/*")
}

// TestGCSKeptInPart: of each part the server keeps less than was sent, and the rest is
// sent again.
func TestGCSKeptInPart(t *testing.T) {
	server := gcstest.Start(t)
	s := open(t, server)
	const kept = 256 << 10
	var cuts atomic.Int32
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		part, last := isPart(r)
		if !part || last || r.ContentLength <= kept {
			return false
		}
		cuts.Add(1)
		var from, to int64
		if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-%d/*", &from, &to); err != nil {
			t.Error(err)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body[:kept])), kept
		r.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", from, from+kept-1))
		r.Header.Set("Content-Length", strconv.Itoa(kept))
		server.Pass(w, r)
		return true
	})
	data := noise(2*gcs.MinPartSizeBytes + 7)
	if _, err := s.Put(t.Context(), "key", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if got, err := get(t.Context(), s, "key"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if cuts.Load() < 6 {
		t.Errorf("the server kept a part in part %d times", cuts.Load())
	}
}

// TestGCSKeepsNothing: where the server has kept nothing of a part it is sent again, a
// bounded number of times.
func TestGCSKeepsNothing(t *testing.T) {
	server := gcstest.Start(t)
	for _, test := range []struct {
		name     string
		last     bool // whether it happens to the last part, or to the first and the second one
		answers  int32
		succeeds bool
		asked    int32 // how often it happened
	}{
		{"of two parts, once each", false, 1, true, 2},
		{"of the last part, twice", true, 2, true, 2},
		{"of the first part, for ever", false, 1000, false, 3},
		{"of the last part, for ever", true, 1000, false, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, server)
			var mu sync.Mutex
			told, asked := map[int64]int32{}, int32(0)
			server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				part, last := isPart(r)
				var from int64
				if !part || last != test.last {
					return false
				}
				if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-", &from); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if told[from] >= test.answers {
					return false
				}
				told[from]++
				asked++
				_, _ = io.Copy(io.Discard, r.Body)
				if from > 0 {
					w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", from-1))
				}
				w.WriteHeader(http.StatusPermanentRedirect)
				return true
			})
			defer server.Intercept(nil)
			data := noise(2*gcs.MinPartSizeBytes + 7)
			_, err := s.Put(t.Context(), "key", bytes.NewReader(data))
			if asked != test.asked {
				t.Errorf("the server kept nothing %d times, want %d", asked, test.asked)
			}
			if !test.succeeds {
				if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "kept nothing") {
					t.Errorf("%v (%v)", err, pgmedic.KindOf(err))
				}
				if _, err := s.Stat(t.Context(), "key"); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("the object: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := get(t.Context(), s, "key"); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// TestGCSLosesParts: where the server has something else than was sent, or no longer
// knows the upload, the Put fails and there is no object.
func TestGCSLosesParts(t *testing.T) {
	server := gcstest.Start(t)
	for name, answer := range map[string]func(http.ResponseWriter){
		"has less than before": func(w http.ResponseWriter) { w.WriteHeader(http.StatusPermanentRedirect) },
		"has more than was sent": func(w http.ResponseWriter) {
			w.Header().Set("Range", "bytes=0-99999999")
			w.WriteHeader(http.StatusPermanentRedirect)
		},
		"ends it too early": func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"name":"key","size":"5"}`) },
		"answers with HTML": func(w http.ResponseWriter) { _, _ = io.WriteString(w, `<html>CANARY</html>`) },
		"knows nothing of it": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusNotFound)
		},
		"redirects": func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://elsewhere.example/")
			w.WriteHeader(http.StatusPermanentRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, server)
			var parts atomic.Int32
			server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if part, _ := isPart(r); !part || parts.Add(1) < 2 {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				answer(w)
				return true
			})
			_, err := s.Put(t.Context(), "key", bytes.NewReader(noise(3*gcs.MinPartSizeBytes+7)))
			server.Intercept(nil)
			if pgmedic.KindOf(err) != pgmedic.KindUnreachable || strings.Contains(err.Error(), "CANARY") || errors.Is(err, store.ErrNotFound) {
				t.Errorf("%v (%v)", err, pgmedic.KindOf(err))
			}
			if _, err := s.Stat(t.Context(), "key"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("the object: %v", err)
			}
		})
	}
}

// TestGCSSums: each Put says what the sum of the object is before it can be made, and it
// is the sum that the server finds.
func TestGCSSums(t *testing.T) {
	server := gcstest.Start(t)
	s := open(t, server)
	var said, early atomic.Int32
	var sum atomic.Value
	server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		part, last := isPart(r)
		if sent := r.Header.Get("X-Goog-Hash"); part && last {
			said.Add(1)
			sum.Store(sent)
		} else if sent != "" {
			early.Add(1)
		}
		return false
	})
	data := noise(2*gcs.MinPartSizeBytes + 7)
	if _, err := s.Put(t.Context(), "key", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	found, err := server.Checksum(s.String(), "key")
	if err != nil || said.Load() != 1 || early.Load() != 0 || sum.Load() != "crc32c="+found {
		t.Errorf("the server found %q (%v), was told %v %d times at the end and %d times before", found, err, sum.Load(), said.Load(), early.Load())
	}
}

// TestGCSToken: a token goes to the endpoint alone: not to another host at which an
// upload is to go on, and not to where an answer redirects.
func TestGCSToken(t *testing.T) {
	server := gcstest.Start(t)
	s := open(t, server)
	var asked, tokens atomic.Int32
	var redirects atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != "" {
			tokens.Add(1)
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer elsewhere.Close()
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Location", elsewhere.URL+"/upload")
		switch {
		case r.URL.Path == "/token" || r.Method == http.MethodGet && !redirects.Load():
			return false
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
		return true
	})
	if _, err := s.Put(t.Context(), "key", bytes.NewReader(noise(2*gcs.MinPartSizeBytes))); err == nil {
		t.Error("the Put has succeeded")
	}
	if asked.Load() == 0 {
		t.Error("the upload did not go on there")
	}
	before := asked.Load()
	redirects.Store(true)
	for _, err := range s.List(t.Context(), "") {
		if err == nil {
			t.Error("a listing was redirected")
		}
	}
	if asked.Load() != before || tokens.Load() > 0 {
		t.Errorf("%d redirects were followed, %d tokens went elsewhere", asked.Load()-before, tokens.Load())
	}
}
