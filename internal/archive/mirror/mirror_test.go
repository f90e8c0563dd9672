package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/archive/mirror"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// failing is a store that breaks off at a Put.
type failing struct {
	store.Store
	left atomic.Int64
}

var errKilled = errors.New("killed")

func (f *failing) Put(ctx context.Context, key string, r io.Reader) (store.Object, error) {
	if f.left.Add(-1) < 0 {
		return store.Object{}, errKilled
	}
	return f.Store.Put(ctx, key, r)
}

func local(t *testing.T) store.Store {
	t.Helper()
	s, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func names(t *testing.T, s store.Store) (all []string) {
	t.Helper()
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o.Key)
	}
	return all
}

func has(all []string, part string) bool {
	return strings.Contains(strings.Join(all, "\n"), part)
}

const system = 7711147204259165944

// source is an archive of two epochs, of three segments each.
func source(t *testing.T) (store.Store, *archive.Archive) {
	t.Helper()
	s := local(t)
	a := archive.New(s, "clinic", system)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		e, err := a.Begin(t.Context(), archive.EpochOptions{
			Info:  archive.EpochInfo{StartedAt: time.Date(2026, 11, 1+n, 0, 0, 0, 0, time.UTC), SegmentBytes: int64(wal.MinSegmentSize), Timeline: 1},
			Seal:  seal.Options{Compression: seal.CompressionZstd, Encryption: seal.EncryptionAge},
			Wraps: []seal.Wrap{{Name: "one", To: identity.Recipient()}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			name := wal.MinSegmentSize.Name(wal.Segment{Timeline: 1, Start: wal.LSN(1+3*n+i) * wal.LSN(wal.MinSegmentSize)})
			if _, err := s.Put(t.Context(), fmt.Sprintf("%s%s/seg/%s/%s-%016x.zst.age", a.Folder(), e.ID(), name[:16], name, i), strings.NewReader(name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.PutHistory(t.Context(), 2, []byte("1\t0/A00000\tx\n")); err != nil {
			t.Fatal(err)
		}
	}
	return s, a
}

// TestCopyBreaksOff: a copy that breaks off anywhere has nothing that could not be opened,
// and the next one completes it.
func TestCopyBreaksOff(t *testing.T) {
	s, a := source(t)
	want := names(t, s)
	for left := 0; ; left += testkit.Amount(2, 1, 1) {
		to := &failing{Store: local(t)}
		to.left.Store(int64(left))
		copied, err := mirror.Copy(t.Context(), a, archive.New(to, "clinic", system), mirror.Options{Jobs: 1})
		if err != nil && !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		there := names(t, to)
		epochs, listErr := a.Epochs(t.Context())
		if listErr != nil {
			t.Fatal(listErr)
		}
		for _, id := range epochs {
			if has(there, id+"/seg/") && (!has(there, id+"/keys/one.age") || !has(there, id+"/epoch.json") || !has(there, id+"/hist/")) {
				t.Fatalf("after %d objects there is WAL without its key: %v", left, there)
			}
		}
		to.left.Store(1 << 30)
		again, againErr := mirror.Copy(t.Context(), a, archive.New(to, "clinic", system), mirror.Options{})
		if againErr != nil || again.Kept != len(there) || again.Copied != len(want)-len(there) || strings.Join(names(t, to), "\n") != strings.Join(want, "\n") {
			t.Fatalf("after %d objects the next copy has %+v, %v", left, again, againErr)
		}
		if err == nil {
			if copied.Copied != len(want) || left < len(want) {
				t.Errorf("%+v of %d objects", copied, len(want))
			}
			return
		}
	}
}

// TestCopyRefusesAnother: what is there with another size is never overwritten.
func TestCopyRefusesAnother(t *testing.T) {
	s, a := source(t)
	to := local(t)
	for _, key := range names(t, s) {
		if strings.Contains(key, "/seg/") {
			if _, err := to.Put(t.Context(), key, strings.NewReader("another")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := mirror.Copy(t.Context(), a, archive.New(to, "clinic", system), mirror.Options{}); pgmedic.KindOf(err) != pgmedic.KindConflict || err == nil {
		t.Errorf("%v", err)
	}
}

// TestCopyLeavesOut: of an epoch of which nothing is wanted nothing is copied.
func TestCopyLeavesOut(t *testing.T) {
	_, a := source(t)
	to := local(t)
	epochs, err := a.Epochs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = mirror.Copy(t.Context(), a, archive.New(to, "clinic", system), mirror.Options{Wants: func(o archive.Object) bool { return o.Epoch == epochs[1] }})
	if there := names(t, to); err != nil || has(there, epochs[0]) || !has(there, epochs[1]+"/seg/") {
		t.Errorf("%v, %v", err, there)
	}
}
