package s3_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/s3"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
)

func TestS3Locks(t *testing.T) {
	server := startS3(t, s3test.Options{Versions: true})
	storetest.Locks(t, func(t *testing.T) storetest.LockPlace {
		bucket := server.LockBucket()
		s := openS3(t, server, bucket)
		if kept, err := s.KeepsVersions(t.Context()); err != nil || !kept {
			t.Errorf("keeps versions: %v, %v", kept, err)
		}
		return storetest.LockPlace{
			Store: s, LargeBytes: s3.MinPartSizeBytes + 1, Hides: true,
			Destroy: func(key string) error { return server.DeleteVersions(bucket, key) },
		}
	})
}

// TestS3WithoutLocks: a bucket that can't lock says so, and never takes an object as if it
// were locked.
func TestS3WithoutLocks(t *testing.T) {
	server := startS3(t, s3test.Options{Versions: true})
	for name, c := range map[string]struct {
		bucket   string
		versions bool
	}{"plain": {server.Bucket(), false}, "versions": {server.VersionBucket(), true}} {
		t.Run(name, func(t *testing.T) {
			s := openS3(t, server, c.bucket)
			storetest.NoLocks(t, s)
			if kept, err := s.KeepsVersions(t.Context()); err != nil || kept != c.versions {
				t.Errorf("keeps versions: %v, %v", kept, err)
			}
		})
	}
	server.Restart("other", "another")
	s := openS3(t, server, server.Bucket())
	if err := s.CheckLocks(t.Context()); pgmedic.KindOf(err) != pgmedic.KindUnreachable {
		t.Errorf("CheckLocks with wrong credentials: %v", err)
	}
}

func TestS3LockClock(t *testing.T) {
	server := startS3(t, s3test.Options{Versions: true})
	upstream, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	storetest.LockClock(t, func(t *testing.T, apart time.Duration) (store.Locker, store.Store) {
		proxy := httptest.NewServer(&httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) { // the signature covers the host
				r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = upstream.Scheme, upstream.Host, r.In.Host
			},
			ModifyResponse: func(r *http.Response) error {
				r.Header.Set("Date", time.Now().Add(apart).UTC().Format(http.TimeFormat))
				return nil
			},
		})
		t.Cleanup(proxy.Close)
		bucket := server.LockBucket()
		return openS3(t, server, bucket, func(o *s3.Options) { o.Endpoint = proxy.URL }), openS3(t, server, bucket)
	})
}
