package gcs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/gcs"
	"github.com/pgmedic/pgmedic/internal/store/gcstest"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
)

// clock stands still but for what the test says.
type clock struct{ passed atomic.Int64 }

func (c *clock) use(o *gcs.Options) {
	began := time.Now()
	o.Clock(func() time.Time { return began.Add(time.Duration(c.passed.Load())) })
}

// replace puts the account's present key into a file, long after it was read.
func (c *clock) replace(t *testing.T, server *gcstest.Server, file string) {
	t.Helper()
	if err := os.Rename(server.Credentials(true), file); err != nil {
		t.Fatal(err)
	}
	c.passed.Add(int64(time.Minute))
}

// requests are one of each kind. The object "first" must be there; the last one deletes it.
func requests(ctx context.Context, s store.Store) []func() error {
	return []func() error{
		func() error { _, err := s.Put(ctx, "second", strings.NewReader("x")); return err },
		func() error { _, err := s.Stat(ctx, "first"); return err },
		func() error {
			r, err := s.Open(ctx, "first", 0, -1)
			if err != nil {
				return err
			}
			_, err = io.ReadAll(r)
			return errors.Join(err, r.Close())
		},
		func() error {
			for _, err := range s.List(ctx, "") {
				if err != nil {
					return err
				}
			}
			return nil
		},
		func() error { return s.Delete(ctx, "first") },
	}
}

// TestGCSRotation: a store that is open goes on with the file that replaces its own, whether
// Google refuses a token or to give one.
func TestGCSRotation(t *testing.T) {
	server := gcstest.Start(t)
	clock := &clock{}
	var file string
	s := open(t, server, clock.use, func(o *gcs.Options) { file = o.CredentialsFile })
	// No token was asked for yet, and none is given for the key that the store has read.
	server.Rotate(false)
	clock.replace(t, server, file)
	if _, err := s.Put(t.Context(), "first", strings.NewReader("x")); err != nil {
		t.Fatalf("invalid_grant: %v", err)
	}

	// The old key is refused, and there is no new one yet: that is the error, and nothing is
	// tried again.
	server.Rotate(true)
	asked := count(server)
	for i, words := range []string{"Invalid Credentials (status 401)", "Invalid Credentials (status 401)"} {
		_, err := s.Put(t.Context(), "early", strings.NewReader("x"))
		if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.HasSuffix(err.Error(), words) || pgmedic.IsTemporary(err) || asked.Load() != int64(i+1) {
			t.Errorf("a key that was not replaced: %v, after %d requests", err, asked.Load())
		}
	}
	for i, do := range requests(t.Context(), s) {
		if i > 0 {
			server.Rotate(true)
		}
		clock.replace(t, server, file)
		if err := do(); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
	}

	// What is there instead is of no use: the error says so beside what Google said, and the
	// next rotation is followed all the same.
	server.Rotate(true)
	clock.replace(t, server, file)
	if err := os.WriteFile(file, []byte(`{"type": "service_account", "private_key": "hunter2"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.Stat(t.Context(), "second")
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "(status 401); the credentials can't be read again") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	clock.replace(t, server, file)
	if _, err := s.Stat(t.Context(), "second"); err != nil {
		t.Error(err)
	}
}

// count counts the requests to a server from now on.
func count(server *gcstest.Server) *atomic.Int64 {
	var n atomic.Int64
	server.Intercept(func(http.ResponseWriter, *http.Request) bool {
		n.Add(1)
		return false
	})
	return &n
}

// TestGCSRotationMeanwhile: an upload whose parts are refused in its midst is made whole, and is
// not there before; where the file did not change, nothing is left. Several requests that are
// refused at once all go on.
func TestGCSRotationMeanwhile(t *testing.T) {
	server := gcstest.Start(t)
	clock := &clock{}
	var file string
	s := open(t, server, clock.use, func(o *gcs.Options) { file = o.CredentialsFile })
	data := bytes.Repeat([]byte("0123456789abcdef"), 5*gcs.MinPartSizeBytes/16+1)
	upload := func(key string, meanwhile func()) error {
		_, err := s.Put(t.Context(), key, storetest.Meanwhile(bytes.NewReader(data), 2*gcs.MinPartSizeBytes+1, meanwhile))
		return err
	}
	err := upload("lost", func() { server.Rotate(true) })
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "(status 401)") {
		t.Errorf("%v", err)
	}
	clock.replace(t, server, file)
	if _, err := s.Stat(t.Context(), "lost"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what was refused in its midst: %v", err)
	}
	err = upload("whole", func() {
		if _, err := s.Stat(t.Context(), "whole"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("in the midst of it: %v", err)
		}
		server.Rotate(true)
		clock.replace(t, server, file)
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), "whole", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}

	server.Rotate(true)
	clock.replace(t, server, file)
	var tokens atomic.Int64
	server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			tokens.Add(1)
		}
		return false
	})
	var together sync.WaitGroup
	for range 10 {
		together.Go(func() {
			if _, err := s.Stat(t.Context(), "whole"); err != nil {
				t.Error(err)
			}
		})
	}
	together.Wait()
	if tokens.Load() != 1 {
		t.Errorf("%d tokens were asked for", tokens.Load())
	}
}
