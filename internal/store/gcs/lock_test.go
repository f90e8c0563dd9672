package gcs_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/gcs"
	"github.com/pgmedic/pgmedic/internal/store/gcstest"
	"github.com/pgmedic/pgmedic/internal/store/remote"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
)

// openLocking returns the store of a new bucket that can lock, and the bucket's name.
func openLocking(t *testing.T, server *gcstest.Server, policy time.Duration) (*remote.Locking, string) {
	t.Helper()
	bucket := server.LockBucket(policy)
	return open(t, server, func(o *gcs.Options) { o.Bucket = bucket }), bucket
}

func TestGCSLocks(t *testing.T) {
	server := gcstest.Start(t)
	storetest.Locks(t, func(t *testing.T) storetest.LockPlace {
		s, bucket := openLocking(t, server, 0)
		t.Cleanup(func() { server.Apart(0) })
		return storetest.LockPlace{
			Store: s, LargeBytes: 2*gcs.MinPartSizeBytes + 1, Apart: server.Apart, Hardens: true, Settled: []store.LockMode{store.LockGovernance, store.LockCompliance},
			Destroy: func(key string) error { return server.Delete(bucket, key) },
		}
	})
}

// TestGCSLocksInVersions: in a bucket that keeps versions what is locked can be hidden, and
// its bytes stay.
func TestGCSLocksInVersions(t *testing.T) {
	server := gcstest.Start(t)
	storetest.Locks(t, func(t *testing.T) storetest.LockPlace {
		bucket := server.LockVersionBucket()
		return storetest.LockPlace{
			Store:      open(t, server, func(o *gcs.Options) { o.Bucket = bucket }),
			LargeBytes: 2*gcs.MinPartSizeBytes + 1, Hardens: true, Hides: true,
			Destroy: func(key string) error { return server.Delete(bucket, key) },
		}
	})
}

func TestGCSWithoutLocks(t *testing.T) {
	server := gcstest.Start(t)
	for name, bucket := range map[string]string{"plain": server.Bucket(), "versions": server.VersionedBucket()} {
		t.Run(name, func(t *testing.T) {
			storetest.NoLocks(t, open(t, server, func(o *gcs.Options) { o.Bucket = bucket }))
		})
	}
	wrong := open(t, server, func(o *gcs.Options) { o.CredentialsFile = server.Credentials(false) })
	if err := wrong.CheckLocks(t.Context()); pgmedic.KindOf(err) != pgmedic.KindUnreachable {
		t.Errorf("CheckLocks with wrong credentials: %v", err)
	}
	none := open(t, server, func(o *gcs.Options) { o.Bucket = "nothing-here" })
	if err := none.CheckLocks(t.Context()); pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("CheckLocks of no bucket: %v", err)
	}
}

func TestGCSLockClock(t *testing.T) {
	server := gcstest.Start(t)
	storetest.LockClock(t, func(t *testing.T, apart time.Duration) (store.Locker, store.Store) {
		server.Apart(apart)
		s, _ := openLocking(t, server, 0)
		return s, s
	})
	// A server that does not say what time it is.
	s, _ := openLocking(t, server, 0)
	server.Apart(0)
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/storage/v1/b/") || strings.Contains(r.URL.Path, "/o") {
			return false
		}
		w.Header()["Date"] = nil
		_, _ = w.Write([]byte(`{"objectRetention":{"mode":"Enabled"}}`))
		return true
	})
	if err := s.CheckLocks(t.Context()); pgmedic.KindOf(err) != pgmedic.KindFailed || !strings.Contains(err.Error(), "what time it is") {
		t.Errorf("CheckLocks without a time: %v", err)
	}
}

// TestGCSBucketPolicy: a retention policy of the bucket, and an event-based hold, keep
// objects, too, and are said; what they do is not claimed to be strict, nor undone.
func TestGCSBucketPolicy(t *testing.T) {
	server := gcstest.Start(t)
	s, bucket := openLocking(t, server, 48*time.Hour)
	began := time.Now()
	hour := store.Lock{Mode: store.LockCompliance, Until: began.UTC().Truncate(time.Second).Add(time.Hour)}
	if _, err := s.PutLocked(t.Context(), "a/key", strings.NewReader("x"), hour); err != nil {
		t.Fatal(err)
	}
	l, err := s.LockOf(t.Context(), "a/key")
	if err != nil || l.Mode != store.LockGovernance || l.Until.Before(began.Add(48*time.Hour)) || l.Held {
		t.Errorf("locked %v, %v", l, err)
	}
	// What the policy covers is left alone; a longer time is set, and stays strict.
	if err := s.LockUntil(t.Context(), "a/key", store.Lock{Mode: store.LockGovernance, Until: hour.Until.Add(time.Hour)}); err != nil {
		t.Error(err)
	}
	week := store.Lock{Mode: store.LockGovernance, Until: hour.Until.Add(7 * 24 * time.Hour)}
	if err := s.LockUntil(t.Context(), "a/key", week); err != nil {
		t.Error(err)
	}
	if l, err := s.LockOf(t.Context(), "a/key"); err != nil || l != (store.Lock{Mode: store.LockCompliance, Until: week.Until}) {
		t.Errorf("locked %v, %v", l, err)
	}
	server.EventHold(bucket, "a/key")
	if err := s.Hold(t.Context(), "a/key", true); err != nil {
		t.Error(err)
	}
	if err := s.Hold(t.Context(), "a/key", false); err != nil {
		t.Error(err)
	}
	if l, err := s.LockOf(t.Context(), "a/key"); err != nil || !l.Held {
		t.Errorf("another program's hold is gone: %v, %v", l, err)
	}
	server.Apart(30 * 24 * time.Hour)
	if err := s.Delete(t.Context(), "a/key"); !errors.Is(err, store.ErrLocked) {
		t.Errorf("held, and deleted: %v", err)
	}
}

// TestGCSLockLostAnswer: a request whose answer is lost is sent again, and finds that the
// object has the lock already.
func TestGCSLockLostAnswer(t *testing.T) {
	server := gcstest.Start(t)
	s, _ := openLocking(t, server, 0)
	if _, err := s.Put(t.Context(), "a/key", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int32
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch || sent.Add(1) > 1 {
			return false
		}
		server.Pass(nowhere{}, r)
		panic(http.ErrAbortHandler)
	})
	day := store.Lock{Mode: store.LockCompliance, Until: time.Now().UTC().Truncate(time.Second).Add(24 * time.Hour)}
	if err := s.LockUntil(t.Context(), "a/key", day); err != nil {
		t.Error(err)
	}
	if l, err := s.LockOf(t.Context(), "a/key"); err != nil || l != day || sent.Load() < 2 {
		t.Errorf("locked %v, %v, after %d requests", l, err, sent.Load())
	}
}

// TestGCSPutOnLocked: a server that refuses to replace what is locked, before it finds that
// there is an object already, says just that.
func TestGCSPutOnLocked(t *testing.T) {
	server := gcstest.Start(t)
	s, _ := openLocking(t, server, 0)
	hour := store.Lock{Mode: store.LockCompliance, Until: time.Now().Add(time.Hour)}
	if _, err := s.PutLocked(t.Context(), "a/key", strings.NewReader("x"), hour); err != nil {
		t.Fatal(err)
	}
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || r.URL.Path == "/token" {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"error":{"code":403,"message":"no","errors":[{"reason":"retentionPolicyNotMet"}]}}`))
		return true
	})
	if _, err := s.Put(t.Context(), "a/key", strings.NewReader("y")); !errors.Is(err, store.ErrExists) {
		t.Errorf("put again: %v", err)
	}
}

// nowhere takes an answer that is lost.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}

// TestGCSLockNotTaken: a server that says yes and sets nothing is found out, and one whose
// lock something else changes each time is given up.
func TestGCSLockNotTaken(t *testing.T) {
	server := gcstest.Start(t)
	s, _ := openLocking(t, server, 0)
	if _, err := s.Put(t.Context(), "a/key", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	day := store.Lock{Mode: store.LockCompliance, Until: time.Now().Add(24 * time.Hour)}
	for name, c := range map[string]struct {
		status int
		answer string
		kind   pgmedic.Kind
		words  string
	}{
		"ignored": {http.StatusOK, `{"generation":"1"}`, pgmedic.KindFailed, "did not set"},
		"raced":   {http.StatusPreconditionFailed, `{"error":{"code":412,"message":"no"}}`, pgmedic.KindUnreachable, "changed"},
		"refused": {http.StatusForbidden, `{"error":{"code":403,"message":"x does not have storage.objects.setRetention access"}}`, pgmedic.KindUnreachable, "setRetention"},
	} {
		server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPatch {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.answer))
			return true
		})
		err := s.LockUntil(t.Context(), "a/key", day)
		if pgmedic.KindOf(err) != c.kind || pgmedic.HintOf(err) == "" || name != "ignored" && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: LockUntil: %v", name, err)
		}
		if name == "raced" {
			continue
		}
		if err := s.Hold(t.Context(), "a/key", true); pgmedic.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: Hold: %v", name, err)
		}
	}
}
