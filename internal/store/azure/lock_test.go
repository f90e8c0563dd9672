package azure_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/azure"
	"github.com/pgmedic/pgmedic/internal/store/azuretest"
	"github.com/pgmedic/pgmedic/internal/store/remote"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
)

// openLocking returns the store of a new container that can lock, and its name.
func openLocking(t *testing.T, server *azuretest.Server, locks *azuretest.Locks) (*remote.Locking, string) {
	t.Helper()
	container := locks.Container()
	return open(t, server, func(o *azure.Options) { o.Container, o.Endpoint = container, locks.Endpoint }), container
}

// TestAzureLocks: where two lengthen an unlocked policy at the same time, the later request
// counts, as docs/limits.md says.
func TestAzureLocks(t *testing.T) {
	server := azuretest.Start(t)
	storetest.Locks(t, func(t *testing.T) storetest.LockPlace {
		locks := server.Locks()
		s, container := openLocking(t, server, locks)
		return storetest.LockPlace{
			Store: s, LargeBytes: azure.MinPartSizeBytes + 1, Apart: locks.Apart, Hardens: true, Settled: []store.LockMode{store.LockCompliance},
			Destroy: func(key string) error { return locks.Delete(container, key) },
		}
	})
}

func TestAzureWithoutLocks(t *testing.T) {
	server := azuretest.Start(t)
	locks := server.Locks()
	for name, endpoint := range map[string]string{"no immutability": locks.Endpoint, "a server that knows none": server.Endpoint} {
		t.Run(name, func(t *testing.T) {
			storetest.NoLocks(t, open(t, server, func(o *azure.Options) { o.Endpoint = endpoint }))
		})
	}
	none := open(t, server, func(o *azure.Options) { o.Container, o.Endpoint = "nothing-here", locks.Endpoint })
	if err := none.CheckLocks(t.Context()); pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), "ContainerNotFound") {
		t.Errorf("CheckLocks of no container: %v", err)
	}
	// A signature of a container never allows to read its properties.
	signed := func(until time.Time) *remote.Locking {
		return open(t, server, func(o *azure.Options) {
			o.Key, o.SASToken = "", server.SAS(o.Container, sas.ContainerPermissions{Read: true, Create: true, List: true}, until)
			o.Endpoint = locks.Endpoint
		})
	}
	err := signed(time.Now().Add(time.Hour)).CheckLocks(t.Context())
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(pgmedic.HintOf(err), "container's properties") {
		t.Errorf("CheckLocks with a signature: %v; %s", err, pgmedic.HintOf(err))
	}
	err = signed(time.Now().Add(-time.Hour)).CheckLocks(t.Context())
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(pgmedic.HintOf(err), "make a new one") {
		t.Errorf("CheckLocks with an expired signature: %v; %s", err, pgmedic.HintOf(err))
	}
}

func TestAzureLockClock(t *testing.T) {
	server := azuretest.Start(t)
	storetest.LockClock(t, func(t *testing.T, apart time.Duration) (store.Locker, store.Store) {
		locks := server.Locks()
		locks.Apart(apart)
		s, _ := openLocking(t, server, locks)
		return s, s
	})
}

// TestAzurePutOnLocked: a server that refuses to replace what is locked, before it finds
// that there is an object already, says just that.
func TestAzurePutOnLocked(t *testing.T) {
	server := azuretest.Start(t)
	locks := server.Locks()
	s, _ := openLocking(t, server, locks)
	hour := store.Lock{Mode: store.LockCompliance, Until: time.Now().Add(time.Hour)}
	if _, err := s.PutLocked(t.Context(), "a/key", strings.NewReader("x"), hour); err != nil {
		t.Fatal(err)
	}
	locks.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		w.Header().Set("x-ms-error-code", "BlobImmutableDueToPolicy")
		w.WriteHeader(http.StatusConflict)
		return true
	})
	if err := put(t.Context(), s, "a/key", []byte("y")); !errors.Is(err, store.ErrExists) {
		t.Errorf("put again: %v", err)
	}
}

// TestAzureLockMadeShorter: where another host has made an unlocked policy shorter at the
// same moment, it is lengthened again, a bounded number of times.
func TestAzureLockMadeShorter(t *testing.T) {
	server := azuretest.Start(t)
	for name, test := range map[string]struct {
		rivals int32 // how often the other host is later
		kind   pgmedic.Kind
	}{"once": {1, 0}, "a few times": {4, 0}, "each time": {1000, pgmedic.KindUnreachable}} {
		t.Run(name, func(t *testing.T) {
			locks := server.Locks()
			s, container := openLocking(t, server, locks)
			if err := put(t.Context(), s, "a/key", nil); err != nil {
				t.Fatal(err)
			}
			hour := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
			var lengthened, shortened atomic.Int32
			locks.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				const until = "X-Ms-Immutability-Policy-Until-Date"
				switch {
				case r.Header.Get("X-Rival") != "":
				case r.URL.Query().Get("comp") == "immutabilityPolicies":
					lengthened.Add(1)
				case r.Method == http.MethodHead && lengthened.Load() > shortened.Load() && shortened.Load() < test.rivals:
					shortened.Add(1)
					rival, err := http.NewRequestWithContext(t.Context(), http.MethodPut, locks.Endpoint+"/"+container+"/a/key?comp=immutabilityPolicies", nil)
					if err != nil {
						t.Error(err)
						return false
					}
					rival.Header.Set("X-Rival", "yes")
					rival.Header.Set(until, hour.Format(http.TimeFormat))
					rival.Header.Set("X-Ms-Immutability-Policy-Mode", "unlocked")
					answer, err := http.DefaultClient.Do(rival)
					if err != nil || answer.StatusCode != http.StatusOK {
						t.Error(err, answer)
						return false
					}
					_ = answer.Body.Close()
				}
				return false
			})
			day := store.Lock{Mode: store.LockGovernance, Until: hour.Add(23 * time.Hour)}
			err := s.LockUntil(t.Context(), "a/key", day)
			has, readErr := s.LockOf(t.Context(), "a/key")
			if readErr != nil || shortened.Load() == 0 {
				t.Fatal(readErr, shortened.Load())
			}
			if test.kind == 0 && (err != nil || !has.Until.Equal(day.Until)) || test.kind != 0 && (pgmedic.KindOf(err) != test.kind || pgmedic.HintOf(err) == "") {
				t.Errorf("locked %v after %d rivals: %v", has, shortened.Load(), err)
			}
		})
	}
}

// TestAzureLockNotTaken: a server that says yes and sets nothing is found out, and one that
// refuses each time is given up.
func TestAzureLockNotTaken(t *testing.T) {
	server := azuretest.Start(t)
	locks := server.Locks()
	s, _ := openLocking(t, server, locks)
	if err := put(t.Context(), s, "a/key", nil); err != nil {
		t.Fatal(err)
	}
	day := store.Lock{Mode: store.LockCompliance, Until: time.Now().Add(24 * time.Hour)}
	for name, c := range map[string]struct {
		status int
		code   string
		kind   pgmedic.Kind
		words  string
	}{
		"ignored":       {http.StatusOK, "", pgmedic.KindFailed, "set none that lasts as long"},
		"raced":         {http.StatusConflict, "BlobImmutableDueToPolicy", pgmedic.KindUnreachable, "each time"},
		"no permission": {http.StatusForbidden, "AuthorizationPermissionMismatch", pgmedic.KindUnreachable, "AuthorizationPermissionMismatch"},
	} {
		locks.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Get("comp") != "immutabilityPolicies" {
				return false
			}
			if c.code != "" {
				w.Header().Set("x-ms-error-code", c.code)
			}
			w.WriteHeader(c.status)
			return true
		})
		err := s.LockUntil(t.Context(), "a/key", day)
		if pgmedic.KindOf(err) != c.kind || pgmedic.HintOf(err) == "" || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
