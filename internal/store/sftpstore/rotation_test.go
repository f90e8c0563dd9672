package sftpstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/sftpstore"
	"github.com/pgmedic/pgmedic/internal/store/sftptest"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
)

// keptPassword is a password where somebody keeps and replaces it.
type keptPassword struct {
	mu    sync.Mutex
	value string
	err   error
	again int
	now   time.Time
}

// set replaces it, long after it was read.
func (k *keptPassword) set(value string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.value, k.err, k.now = value, err, k.now.Add(time.Minute)
}

func (k *keptPassword) reads() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.again
}

// use has a store log in with a password alone, and read the one that is kept.
func (k *keptPassword) use(first string) func(*sftpstore.Options) {
	k.value, k.now = first, time.Now()
	return func(o *sftpstore.Options) {
		o.IdentityFile, o.Password = "", first
		o.RenewPassword = func(context.Context) (string, error) {
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

func stat(t *testing.T, s *sftpstore.Store, key string) error {
	t.Helper()
	_, err := s.Stat(t.Context(), key)
	return err
}

// TestPasswordRotation: a connection that there is stays, and one that replaces it has the
// password that is kept now. Where that did not change, the error is the server's, and the
// password is read once.
func TestPasswordRotation(t *testing.T) {
	for name, o := range map[string]sftptest.Options{"password": {}, "asked for": {Asking: true}} {
		t.Run(name, func(t *testing.T) {
			server := sftptest.Start(t, o)
			kept := &keptPassword{}
			s, _ := open(t, server, kept.use(server.Password), func(o *sftpstore.Options) { o.Connections = 1 })
			if _, err := s.Put(t.Context(), "key", strings.NewReader("x")); err != nil {
				t.Fatal(err)
			}
			server.NewPassword()
			if err := stat(t, s, "key"); err != nil || kept.reads() != 0 {
				t.Errorf("with the connection from before: %v, read %d times", err, kept.reads())
			}
			server.Drop()
			for i := range 2 {
				err := stat(t, s, "key")
				if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "does not accept the login of") || strings.Contains(err.Error(), "again") || !strings.Contains(pgmedic.HintOf(err), "authorized_keys") {
					t.Errorf("attempt %d: %v (%s)", i, err, pgmedic.HintOf(err))
				}
				if kept.reads() != 1 || server.Opened() != 2+i {
					t.Errorf("attempt %d: read %d times, %d connections", i, kept.reads(), server.Opened())
				}
			}
			kept.set(server.Password, nil)
			if err := stat(t, s, "key"); err != nil || kept.reads() != 2 {
				t.Errorf("%v, read %d times", err, kept.reads())
			}
		})
	}
}

// TestPasswordUnread: where the password can't be read again, the error says so beside what the
// server said.
func TestPasswordUnread(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	kept := &keptPassword{}
	s, _ := open(t, server, kept.use(server.Password))
	server.NewPassword()
	server.Drop()
	kept.set("", pgmedic.Errorf(pgmedic.KindUsage, "correct the reference", "vault has no such secret"))
	err := stat(t, s, "key")
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || pgmedic.HintOf(err) != "correct the reference" ||
		!strings.Contains(err.Error(), "does not accept the login of") || !strings.HasSuffix(err.Error(), "; the login can't be read again where it is kept: vault has no such secret") {
		t.Errorf("%v (%s)", err, pgmedic.HintOf(err))
	}
	kept.set(server.Password, nil)
	if err := stat(t, s, "key"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

// TestIdentityRotation: likewise with the file of a key.
func TestIdentityRotation(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	clock := &keptPassword{now: time.Now()}
	file := write(t, "id_ed25519", "")
	server.NewIdentity(file)
	s, _ := open(t, server, func(o *sftpstore.Options) {
		o.IdentityFile, o.Connections = file, 1
		o.Clock(func() time.Time {
			clock.mu.Lock()
			defer clock.mu.Unlock()
			return clock.now
		})
	})
	server.NewIdentity(server.IdentityFile)
	server.Drop()
	for range 2 {
		if err := stat(t, s, "key"); pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "does not accept the login of") {
			t.Errorf("a key that was not replaced: %v", err)
		}
	}
	if server.Opened() != 3 {
		t.Errorf("%d connections", server.Opened())
	}
	if err := os.Rename(server.IdentityFile, file); err != nil {
		t.Fatal(err)
	}
	clock.set("", nil)
	if err := stat(t, s, "key"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

// TestRotationMeanwhile: several requests whose connections are refused at once read the password
// once, and all go on; a download goes on where it was. An upload whose data was on its way fails,
// as without a rotation, and nothing of it is there.
func TestRotationMeanwhile(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	kept := &keptPassword{}
	s, _ := open(t, server, kept.use(server.Password))
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	if _, err := s.Put(t.Context(), "key", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	rotate := func() {
		server.NewPassword()
		kept.set(server.Password, nil)
		server.Drop()
	}
	rotate()
	var together sync.WaitGroup
	for range 12 {
		together.Go(func() {
			if _, err := s.Stat(t.Context(), "key"); err != nil {
				t.Error(err)
			}
		})
	}
	together.Wait()
	if kept.reads() != 1 {
		t.Errorf("read %d times", kept.reads())
	}

	r, err := s.Open(t.Context(), "key", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 1000)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	rotate()
	rest, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil || !bytes.HasPrefix(data, head) || !bytes.Equal(rest, data[len(head):]) {
		t.Errorf("%d bytes, %v", len(head)+len(rest), err)
	}

	_, err = s.Put(t.Context(), "cut", storetest.Meanwhile(bytes.NewReader(data), len(data)/2, rotate))
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable {
		t.Errorf("an upload that was cut off: %v", err)
	}
	if err := stat(t, s, "cut"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what is left of it: %v", err)
	}
	if _, err := s.Put(t.Context(), "whole", bytes.NewReader(data)); err != nil {
		t.Error(fmt.Errorf("the next upload: %w", err))
	}
}
