package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

func testOpenRange(t *testing.T, s store.Store) {
	const size = 3_000_000
	data := pattern(size, 1)
	put(t, s, "a/key", data)
	put(t, s, "a/empty", nil)
	for _, c := range []struct{ offset, length, from, to int64 }{
		{0, -1, 0, size},
		{0, 0, 0, 0},
		{0, 1, 0, 1},
		{0, size, 0, size},
		{0, size + 1, 0, size},
		{0, math.MaxInt64, 0, size},
		{1, -1, 1, size},
		{12345, 1_000_000, 12345, 1_012_345},
		{size - 1, -1, size - 1, size},
		{size - 1, 1, size - 1, size},
		{size - 1, 5, size - 1, size},
		{size - 1, math.MaxInt64, size - 1, size},
		{size, -1, size, size},
		{size, 0, size, size},
		{size, 10, size, size},
		{size + 1, -1, size, size},
		{size + 1, 10, size, size},
		{math.MaxInt64, -1, size, size},
		{math.MaxInt64, math.MaxInt64, size, size},
		{5, math.MinInt64, 5, size},
	} {
		got, err := read(t.Context(), s, "a/key", c.offset, c.length)
		if err != nil || !bytes.Equal(got, data[c.from:c.to]) {
			t.Errorf("Open(%d, %d): %d bytes, %v; want those from %d to %d", c.offset, c.length, len(got), err, c.from, c.to)
		}
	}
	for _, offset := range []int64{0, 1} {
		if got, err := read(t.Context(), s, "a/empty", offset, -1); err != nil || len(got) != 0 {
			t.Errorf("empty object from %d: %d bytes, %v", offset, len(got), err)
		}
	}
	_, err := s.Open(t.Context(), "a/key", -1, 10)
	wantKind(t, "negative offset", err, nil, pgmedic.KindUsage)

	var wg sync.WaitGroup
	for i := range int64(8) {
		wg.Go(func() {
			got, err := read(t.Context(), s, "a/key", i*100_000, 500_000)
			if err != nil || !bytes.Equal(got, data[i*100_000:i*100_000+500_000]) {
				t.Errorf("concurrent range %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
}

func testOpenCancelled(t *testing.T, s store.Store) {
	put(t, s, "key", pattern(20<<20, 1))
	why := errors.New("the operator asked")
	ctx, cancel := context.WithCancelCause(t.Context())
	r, err := s.Open(ctx, "key", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.CopyN(io.Discard, r, 1000); err != nil {
		t.Fatal(err)
	}
	cancel(why)
	_, err = io.Copy(io.Discard, r)
	wantKind(t, "Read after the context ended", err, why, pgmedic.KindInterrupted)
}

func testOpenDeleted(t *testing.T, s store.Store) {
	data := pattern(9<<20, 1)
	put(t, s, "a/key", data)
	r, err := s.Open(t.Context(), "a/key", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 1000)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "a/key"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(slices.Concat(head, rest), data) {
		t.Errorf("an object deleted while it was read ended cleanly after %d of %d bytes", len(head)+len(rest), len(data))
	}
	if pgmedic.KindOf(err) == pgmedic.KindIntegrity {
		t.Errorf("an object deleted while it was read is called corrupt: %v", err)
	}
}

func testNotFound(t *testing.T, s store.Store) {
	put(t, s, "a/b", []byte("x"))
	for _, key := range []string{"b", "a/c", "a/bc", "c/d/e", "a/b/c"} {
		_, err := s.Stat(t.Context(), key)
		wantKind(t, "Stat "+key, err, store.ErrNotFound, pgmedic.KindNotFound)
		for _, offset := range []int64{0, 5} {
			r, err := s.Open(t.Context(), key, offset, 0)
			wantKind(t, "Open "+key, err, store.ErrNotFound, pgmedic.KindNotFound)
			if r != nil {
				t.Errorf("Open %s returned a reader with its error", key)
			}
		}
	}
}

func testFolderIsNoObject(t *testing.T, s store.Store) {
	put(t, s, "a/b/c", []byte("x"))
	for _, key := range []string{"a", "a/b"} {
		_, err := s.Stat(t.Context(), key)
		wantKind(t, "Stat "+key, err, store.ErrNotFound, pgmedic.KindNotFound)
		_, err = s.Open(t.Context(), key, 0, -1)
		wantKind(t, "Open "+key, err, store.ErrNotFound, pgmedic.KindNotFound)
	}
	// A store may hold both or refuse the second, but not lose the first.
	for _, key := range []string{"a", "a/b", "a/b/c/d", "a/b/c/d/e"} {
		if _, err := s.Put(t.Context(), key, bytes.NewReader(nil)); err != nil {
			wantKind(t, "Put "+key, err, store.ErrExists, pgmedic.KindConflict)
		}
	}
	wantBytes(t, s, "a/b/c", []byte("x"))
}

func testBadKeys(t *testing.T, s store.Store) {
	put(t, s, "a/b", []byte("x"))
	for name, key := range badKeys() {
		_, err := s.Put(t.Context(), key, bytes.NewReader(nil))
		wantKind(t, "Put, "+name, err, nil, pgmedic.KindUsage)
		_, err = s.Open(t.Context(), key, 0, -1)
		wantKind(t, "Open, "+name, err, nil, pgmedic.KindUsage)
		_, err = s.Stat(t.Context(), key)
		wantKind(t, "Stat, "+name, err, nil, pgmedic.KindUsage)
		wantKind(t, "Delete, "+name, s.Delete(t.Context(), key), nil, pgmedic.KindUsage)
	}
	for _, prefix := range []string{"/", "/a", "a//", "../", "./", "a/../", "a\x00", `a\`, "\xff", ".pgmedic-tmp-"} {
		yields := 0
		for o, err := range s.List(t.Context(), prefix) {
			wantKind(t, fmt.Sprintf("List %q", prefix), err, nil, pgmedic.KindUsage)
			if yields++; o != (store.Object{}) {
				t.Errorf("List %q yielded %+v", prefix, o)
			}
		}
		if yields != 1 {
			t.Errorf("List %q yielded %d times", prefix, yields)
		}
	}
	for _, folder := range []string{"/", "a", "a/b", "/a/", "a//", "../", "./", "a/../", "a\x00/", `a\/`, "\xff/", ".pgmedic-tmp-/"} {
		yields := 0
		for found, err := range s.Folders(t.Context(), folder) {
			wantKind(t, fmt.Sprintf("Folders %q", folder), err, nil, pgmedic.KindUsage)
			if yields++; found != "" {
				t.Errorf("Folders %q yielded %q", folder, found)
			}
		}
		if yields != 1 {
			t.Errorf("Folders %q yielded %d times", folder, yields)
		}
	}
	wantKeys(t, s, "", "a/b")
}

func testOddKeys(t *testing.T, s store.Store) {
	keys := oddKeys()
	for _, key := range keys {
		put(t, s, key, []byte(key))
	}
	wantKeys(t, s, "", keys...)
	wantFolders(t, s, "", foldersOf(keys, "")...)
	for _, key := range keys {
		if folder := key[:strings.LastIndexByte(key, '/')+1]; folder != "" {
			wantFolders(t, s, folder, foldersOf(keys, folder)...)
		}
		wantBytes(t, s, key, []byte(key))
		if o, err := s.Stat(t.Context(), key); err != nil || o.Key != key || o.SizeBytes != int64(len(key)) {
			t.Errorf("Stat %q: %+v, %v", key, o, err)
		}
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete %q: %v", key, err)
		}
	}
	wantKeys(t, s, "")
}

func testListOrder(t *testing.T, s store.Store) {
	// "." and "-" sort before "/", digits and letters after it.
	want := []string{
		"A", "a!/x", "a-/z", "a.b", "a.b.c", "a/0", "a/a/a", "a/b", "a/b.c", "a/b0", "a/b0x/y",
		"a0", "a0.b/c", "ab-c/d", "ab/c", "b", "z/z/z/z", "ä/ö", "日",
	}
	if !slices.IsSorted(want) {
		t.Fatal("the test is wrong")
	}
	for i := range want {
		put(t, s, want[(i*8)%len(want)], nil) // in another order: 8 and the length have no common divisor
	}
	wantKeys(t, s, "", want...)
}

func testListPrefix(t *testing.T, s store.Store) {
	for _, key := range []string{"a", "ab/c", "ab/d/e", "abc", "b/a", "b/ab/x", "b.a"} {
		put(t, s, key, nil)
	}
	for prefix, want := range map[string][]string{
		"":        {"a", "ab/c", "ab/d/e", "abc", "b.a", "b/a", "b/ab/x"},
		"a":       {"a", "ab/c", "ab/d/e", "abc"},
		"ab":      {"ab/c", "ab/d/e", "abc"},
		"ab/":     {"ab/c", "ab/d/e"},
		"ab/d":    {"ab/d/e"},
		"ab/d/":   {"ab/d/e"},
		"ab/d/e":  {"ab/d/e"},
		"ab/d/ef": {},
		"ab/d/e/": {},
		"a/":      {},
		"b":       {"b.a", "b/a", "b/ab/x"},
		"b/a":     {"b/a", "b/ab/x"},
		"b/ab":    {"b/ab/x"},
		"c":       {},
		"c/d/e":   {},
		"..":      {},
		"ab/.":    {},
	} {
		wantKeys(t, s, prefix, want...)
	}
}

func testListStops(t *testing.T, s store.Store) {
	for i := range 5 {
		put(t, s, fmt.Sprintf("a/%d", i), nil)
	}
	n := 0
	for range s.List(t.Context(), "") {
		if n++; n == 2 {
			break
		}
	}
	// One sequence can be gone through again.
	seq := s.List(t.Context(), "")
	for range 2 {
		n = 0
		for _, err := range seq {
			if n++; err != nil {
				t.Error(err)
			}
		}
		if n != 5 {
			t.Errorf("listed %d of 5", n)
		}
	}
}

func testListDeleting(t *testing.T, s store.Store) {
	for i := range 30 {
		put(t, s, fmt.Sprintf("a/%d/%02d", i%3, i), nil)
	}
	seen := map[string]bool{}
	for o, err := range s.List(t.Context(), "a/") {
		if err != nil {
			t.Fatal(err)
		}
		if seen[o.Key] {
			t.Errorf("%s was listed twice", o.Key)
		}
		seen[o.Key] = true
		if err := s.Delete(t.Context(), o.Key); err != nil {
			t.Error(err)
		}
	}
	if len(seen) != 30 {
		t.Errorf("listed %d of 30 objects that were deleted on the way", len(seen))
	}
	wantKeys(t, s, "")
}

func testListMany(t *testing.T, s store.Store) {
	want := make([]string, manyKeys())
	for i := range want {
		want[i] = fmt.Sprintf("many/%02d/%06d", i%7, i)
		if i%2 == 0 {
			want[i] = fmt.Sprintf("many/%06d.x", i)
		}
	}
	var wg sync.WaitGroup
	const workers = 32
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(want); i += workers {
				if _, err := s.Put(t.Context(), want[i], bytes.NewReader([]byte(want[i]))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(want)
	if got := list(t, s, ""); !slices.Equal(got, want) {
		t.Errorf("listed %d keys, or in another order; want %d", len(got), len(want))
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := errors.New("the operator asked")
	n := 0
	var last error
	for _, err := range s.List(ctx, "many/") {
		if n, last = n+1, err; n == 10 {
			cancel(why)
		}
	}
	wantKind(t, "List after the context ended", last, why, pgmedic.KindInterrupted)
	if n == len(want) {
		t.Error("List went on to the end after the context had ended")
	}
}

func testCancelledBefore(t *testing.T, s store.Store) {
	put(t, s, "a/key", []byte("x"))
	why := errors.New("the operator asked")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	_, err := s.Put(ctx, "a/other", bytes.NewReader(nil))
	wantKind(t, "Put", err, why, pgmedic.KindInterrupted)
	_, err = s.Open(ctx, "a/key", 0, -1)
	wantKind(t, "Open", err, why, pgmedic.KindInterrupted)
	_, err = s.Stat(ctx, "a/key")
	wantKind(t, "Stat", err, why, pgmedic.KindInterrupted)
	wantKind(t, "Delete", s.Delete(ctx, "a/key"), why, pgmedic.KindInterrupted)
	for _, err := range s.List(ctx, "") {
		wantKind(t, "List", err, why, pgmedic.KindInterrupted)
	}
	for _, err := range s.Folders(ctx, "") {
		wantKind(t, "Folders", err, why, pgmedic.KindInterrupted)
	}
	wantKeys(t, s, "", "a/key")
}

func testString(t *testing.T, s store.Store) {
	if s.String() == "" {
		t.Error("String is empty")
	}
}
