package azure_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/azure"
	"github.com/pgmedic/pgmedic/internal/store/azuretest"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
)

// keptSecrets are credentials where somebody keeps and replaces them.
type keptSecrets struct {
	mu    sync.Mutex
	value azure.Secrets
	err   error
	again int
	now   time.Time
}

// set replaces them, long after they were read.
func (k *keptSecrets) set(value azure.Secrets, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.value, k.err, k.now = value, err, k.now.Add(time.Minute)
}

func (k *keptSecrets) reads() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.again
}

// use has a store begin with secrets, and read those that are kept.
func (k *keptSecrets) use(first azure.Secrets) func(*azure.Options) {
	k.now = time.Now()
	k.value = first
	return func(o *azure.Options) {
		o.ConnectionString, o.Key, o.SASToken = first.ConnectionString, first.Key, first.SASToken
		o.Renew = func(context.Context) (azure.Secrets, error) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.again++
			return k.value, k.err
		}
		o.Clock(func() time.Time { // it stands still but for what the test says
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.now
		})
	}
}

// requests are one of each kind. The object "first" must be there; the last one deletes it.
func requests(ctx context.Context, s store.Store) []func() error {
	return []func() error{
		func() error { return put(ctx, s, "second", []byte("x")) },
		func() error { _, err := s.Stat(ctx, "first"); return err },
		func() error { _, err := get(ctx, s, "first"); return err },
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

// TestAzureRotation: a store that is open goes on with the key that replaces its own, whether
// that stands by itself or in a connection string.
func TestAzureRotation(t *testing.T) {
	server := azuretest.Start(t)
	kept := &keptSecrets{}
	s := open(t, server, kept.use(azure.Secrets{Key: server.Key}))
	if err := put(t.Context(), s, "first", []byte("x")); err != nil {
		t.Fatal(err)
	}

	// The old key is refused, and there is no new one yet: that is the error, and where keys
	// are kept is asked once.
	server.Rekey()
	for i := range 2 {
		err := put(t.Context(), s, "early", []byte("x"))
		if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "(status 403") || pgmedic.IsTemporary(err) || strings.Contains(err.Error(), "again") {
			t.Errorf("a key that was not replaced: %v (%s)", err, pgmedic.HintOf(err))
		}
		if kept.reads() != 1 {
			t.Errorf("attempt %d: asked %d times", i, kept.reads())
		}
	}
	kept.set(azure.Secrets{Key: server.Key}, nil)
	if err := put(t.Context(), s, "second", []byte("x")); err != nil || kept.reads() != 2 {
		t.Errorf("%v; asked %d times", err, kept.reads())
	}
	server.Rekey()
	kept.set(azure.Secrets{ConnectionString: server.ConnectionString()}, nil)
	if _, err := s.Stat(t.Context(), "second"); err != nil || kept.reads() != 3 {
		t.Errorf("%v; asked %d times", err, kept.reads())
	}
}

// TestAzureRenewalFails: where the secret can't be read again, or is one of another account,
// the error says so beside what the server said, and has nothing of the secret.
func TestAzureRenewalFails(t *testing.T) {
	server := azuretest.Start(t)
	kept := &keptSecrets{}
	old := azure.Secrets{SASToken: server.SAS("none", sas.ContainerPermissions{Read: true}, time.Now().Add(-time.Hour))}
	s := open(t, server, kept.use(old))
	unread := pgmedic.Errorf(pgmedic.KindUsage, "correct the reference", "vault has no such secret")
	for words, secrets := range map[string]azure.Secrets{
		"vault has no such secret":     {},
		"is of account":                {ConnectionString: "AccountName=elsewhere;AccountKey=aHVudGVyMg=="},
		"the account's key is not one": {Key: "hunter2"},
		"is not one":                   {SASToken: "hunter2"},
		"neither a key nor a shared":   {},
	} {
		var err error
		if strings.HasPrefix(words, "vault") {
			err = unread
		}
		kept.set(secrets, err)
		_, err = s.Stat(t.Context(), "key")
		text := fmt.Sprint(err)
		if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(text, words) || !strings.Contains(text, "(status 403") || !strings.Contains(text, "can't be read again") ||
			pgmedic.HintOf(err) == "" || strings.Contains(text, "hunter2") {
			t.Errorf("%s: %v (%s)", words, err, pgmedic.HintOf(err))
		}
	}
	// Without where it is kept, the error is the server's, as it was.
	s = open(t, server, func(o *azure.Options) { o.Key, o.SASToken = "", old.SASToken })
	if _, err := s.Stat(t.Context(), "key"); !strings.Contains(fmt.Sprint(err), "the shared access signature expired at") || strings.Contains(err.Error(), "again") {
		t.Errorf("%v", err)
	}
}

// TestAzureExpiredSignature: a signature that has expired is replaced.
func TestAzureExpiredSignature(t *testing.T) {
	server := azuretest.Start(t)
	kept := &keptSecrets{}
	all := sas.ContainerPermissions{Read: true, Create: true, Write: true, Delete: true, List: true}
	s := open(t, server, func(o *azure.Options) {
		kept.use(azure.Secrets{SASToken: server.SAS(o.Container, all, time.Now().Add(-time.Hour))})(o)
		kept.set(azure.Secrets{SASToken: server.SAS(o.Container, all, time.Now().Add(time.Hour))}, nil)
	})
	if err := put(t.Context(), s, "key", []byte("x")); err != nil || kept.reads() != 1 {
		t.Errorf("%v; read %d times", err, kept.reads())
	}
}

// revoked is a front that knows which signatures it must refuse, as Azure does.
type revoked struct {
	mu      sync.Mutex
	valid   string // the signature that is in force; empty: all are
	refused int
}

func (v *revoked) revoke(valid string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.valid, v.refused = valid, 0
}

func (v *revoked) before(w http.ResponseWriter, r *http.Request) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.valid == "" || strings.Contains(r.URL.RawQuery, v.valid) {
		return true
	}
	v.refused++
	_, _ = io.Copy(io.Discard, r.Body) // some of it was sent before the answer came
	w.Header().Set("x-ms-error-code", "AuthenticationFailed")
	w.WriteHeader(http.StatusForbidden)
	return false
}

// TestAzureRotationMeanwhile: an upload whose blocks are refused in its midst is made whole, and
// is not there before; several requests that are refused at once read the secret once. Where the
// secret did not change, nothing is left that could be read.
func TestAzureRotationMeanwhile(t *testing.T) {
	server := azuretest.Start(t)
	refuse, kept := &revoked{}, &keptSecrets{}
	var name, next string
	s := (&front{before: refuse.before}).signed(t, server, func(o *azure.Options) {
		name = o.Container
		next = server.SAS(name, sas.ContainerPermissions{Read: true, Create: true, Write: true, Delete: true, List: true}, time.Now().Add(2*time.Hour))
		kept.use(azure.Secrets{SASToken: o.SASToken})(o)
	})
	data := noise(5*azure.MinPartSizeBytes + 5)
	if err := put(t.Context(), s, "small", []byte("x")); err != nil {
		t.Fatal(err)
	}
	upload := func(key string, meanwhile func()) error {
		_, err := s.Put(t.Context(), key, storetest.Meanwhile(bytes.NewReader(data), 2*azure.MinPartSizeBytes, meanwhile))
		return err
	}
	err := upload("lost", func() { refuse.revoke(next) })
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "AuthenticationFailed (status 403") || kept.reads() != 1 {
		t.Errorf("%v; read %d times", err, kept.reads())
	}
	refuse.revoke("")
	if _, err := s.Stat(t.Context(), "lost"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what was refused in its midst: %v", err)
	}
	err = upload("whole", func() {
		if _, err := s.Stat(t.Context(), "whole"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("in the midst of it: %v", err)
		}
		kept.set(azure.Secrets{SASToken: next}, nil)
		refuse.revoke(next)
	})
	if err != nil || kept.reads() != 2 || refuse.refused == 0 {
		t.Errorf("%v; read %d times, refused %d", err, kept.reads(), refuse.refused)
	}
	if got, err := get(t.Context(), s, "whole"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}

	all := sas.ContainerPermissions{Read: true, Create: true, Write: true, Delete: true, List: true}
	if err := put(t.Context(), s, "first", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for i, do := range requests(t.Context(), s) {
		token := server.SAS(name, all, time.Now().Add(time.Duration(i+4)*time.Hour))
		kept.set(azure.Secrets{SASToken: token}, nil)
		refuse.revoke(token)
		if err := do(); err != nil || kept.reads() != i+3 {
			t.Errorf("request %d: %v; read %d times", i, err, kept.reads())
		}
	}
	before := kept.reads()
	third := server.SAS(name, sas.ContainerPermissions{Read: true}, time.Now().Add(3*time.Hour))
	kept.set(azure.Secrets{SASToken: third}, nil)
	refuse.revoke(third)
	var together sync.WaitGroup
	for range 10 {
		together.Go(func() {
			if _, err := s.Stat(t.Context(), "small"); err != nil {
				t.Error(err)
			}
		})
	}
	together.Wait()
	if kept.reads() != before+1 {
		t.Errorf("ten requests read it %d times", kept.reads()-before)
	}
}
