package spool_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/spool"
)

func folder(t *testing.T) spool.Folder {
	t.Helper()
	f := spool.Folder{Dir: filepath.Join(t.TempDir(), "a", "b")}
	if err := f.Create(); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestMessages: what is put is given to one run at a time, in order, until it is removed.
func TestMessages(t *testing.T) {
	f := folder(t)
	second, err := f.Put(spool.Name("evt_2", "ops"), []byte("two"))
	if err != nil {
		t.Fatal(err)
	}
	first, err := f.Put(spool.Name("evt_1", "ops"), []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	names, err := f.Waiting()
	if err != nil || len(names) != 2 || names[0] != first.Name {
		t.Fatalf("%v, %v", names, err)
	}
	if m, err := f.Take(first.Name); m != nil || err != nil {
		t.Errorf("one that is in use was given away: %v, %v", m, err)
	}
	first.Release()
	m, err := f.Take(first.Name)
	if err != nil || m == nil || string(m.Data) != "one" {
		t.Fatalf("%+v, %v", m, err)
	}
	m.Remove()
	if m, err := f.Take(first.Name); m != nil || err != nil {
		t.Errorf("one that was removed: %v, %v", m, err)
	}
	second.Remove()
	if names, err = f.Waiting(); len(names) != 0 || err != nil {
		t.Errorf("%v, %v", names, err)
	}
}

// TestRace: of many that take a message one gets it, and once it is removed none does.
func TestRace(t *testing.T) {
	f := folder(t)
	for i := range 50 {
		m, err := f.Put(spool.Name(fmt.Sprintf("evt_%d", i), "ops"), nil)
		if err != nil {
			t.Fatal(err)
		}
		m.Release()
		var got atomic.Int32
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				m, err := f.Take(m.Name)
				if err != nil {
					t.Error(err)
				}
				if m != nil {
					got.Add(1)
					m.Remove()
				}
			})
		}
		group.Wait()
		if got.Load() != 1 {
			t.Fatalf("%d got the message", got.Load())
		}
	}
}

// TestRefused: a folder that others can write to, a message too many, and what is no
// message.
func TestRefused(t *testing.T) {
	f := folder(t)
	if err := os.Chmod(f.Dir, 0o770); err != nil {
		t.Fatal(err)
	}
	if err := f.Create(); err == nil || !strings.Contains(err.Error(), "others can write into it") {
		t.Errorf("%v", err)
	}
	if err := f.Write("x.json", []byte("{}")); err != nil {
		t.Error(err)
	}
	if err := os.Symlink("x.json", filepath.Join(f.Dir, spool.Name("evt_1", "ops"))); err != nil {
		t.Fatal(err)
	}
	if names, err := f.Waiting(); len(names) != 0 || err != nil {
		t.Errorf("%v, %v", names, err)
	}
	for i := range spool.Most {
		if err := os.WriteFile(filepath.Join(f.Dir, spool.Name(strconv.Itoa(i), "ops")), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Put(spool.Name("evt_2", "ops"), nil); err == nil || !strings.Contains(err.Error(), "messages wait already") {
		t.Errorf("%v", err)
	}
}

// TestLock: one has the lock at a time, and whoever waits for it can give up.
func TestLock(t *testing.T) {
	f := folder(t)
	var inside atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			unlock, err := f.Lock(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if n := inside.Add(1); n != 1 {
				t.Errorf("%d have the lock", n)
			}
			inside.Add(-1)
		})
	}
	group.Wait()
}

// TestLeftOver: what a killed run left of a file that it wrote goes, and what is being
// written stays.
func TestLeftOver(t *testing.T) {
	f := folder(t)
	old, fresh := filepath.Join(f.Dir, ".new-1"), filepath.Join(f.Dir, ".new-2")
	for _, path := range []string{old, fresh} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(old, before, before); err != nil {
		t.Fatal(err)
	}
	if err := f.Create(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("%v: it is still there", err)
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Error(err)
	}
}

// TestTooLong: what could not be read again whole is not put down.
func TestTooLong(t *testing.T) {
	f := folder(t)
	if m, err := f.Put(spool.Name("evt_1", "ops"), make([]byte, 4<<20+1)); m != nil || err == nil {
		t.Errorf("%v", err)
	}
	if names, err := f.Waiting(); len(names) > 0 || err != nil {
		t.Errorf("%v, %v", names, err)
	}
}
