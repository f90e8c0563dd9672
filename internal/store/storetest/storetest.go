// Package storetest is the suite that every kind of store.Store must pass: each
// promise of the contract has a test here that tries to break it.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

// ManyKeysEnv names the variable that makes the suite list 100,000 keys rather
// than 5,000, which takes minutes on stores that flush each object to a disk.
const ManyKeysEnv = "PGMEDIC_TEST_MANY_KEYS"

// Run tests the store that open returns. Each call of open returns a Store that
// is empty and is cleaned up with t; the tests of one may run at the same time
// as those of another.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, store.Store)
	}{
		{"PutAndOpen", testPutAndOpen},
		{"PutReaderFails", testPutReaderFails},
		{"PutCancelled", testPutCancelled},
		{"PutLeavesReader", testPutLeavesReader},
		{"PutExisting", testPutExisting},
		{"PutRace", testPutRace},
		{"PutDeleteRace", testPutDeleteRace},
		{"OpenRange", testOpenRange},
		{"OpenCancelled", testOpenCancelled},
		{"OpenDeleted", testOpenDeleted},
		{"NotFound", testNotFound},
		{"FolderIsNoObject", testFolderIsNoObject},
		{"Delete", testDelete},
		{"BadKeys", testBadKeys},
		{"OddKeys", testOddKeys},
		{"ListOrder", testListOrder},
		{"ListPrefix", testListPrefix},
		{"ListStops", testListStops},
		{"ListDeleting", testListDeleting},
		{"ListMany", testListMany},
		{"Folders", testFolders},
		{"FoldersOrder", testFoldersOrder},
		{"FoldersStop", testFoldersStop},
		{"FoldersMany", testFoldersMany},
		{"CancelledBefore", testCancelledBefore},
		{"String", testString},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// pattern returns n bytes that differ from seed to seed and don't compress.
func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	src.Read(b)
	return b
}

// put stores an object and fails the test if that fails.
func put(t testing.TB, s store.Store, key string, data []byte) store.Object {
	t.Helper()
	o, err := s.Put(t.Context(), key, bytes.NewReader(data))
	if err != nil {
		t.Fatalf("Put %q: %v", key, err)
	}
	return o
}

// read returns a range of an object.
func read(ctx context.Context, s store.Store, key string, offset, length int64) ([]byte, error) {
	r, err := s.Open(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// wantBytes fails the test unless key holds data.
func wantBytes(t testing.TB, s store.Store, key string, data []byte) {
	t.Helper()
	got, err := read(t.Context(), s, key, 0, -1)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%q holds %d bytes (%v), want the %d that were put", key, len(got), err, len(data))
	}
}

// list returns all keys with a prefix.
func list(t testing.TB, s store.Store, prefix string) []string {
	t.Helper()
	keys := []string{}
	for o, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("List %q: %v", prefix, err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

// wantKeys fails the test unless exactly these keys have the prefix.
func wantKeys(t testing.TB, s store.Store, prefix string, want ...string) {
	t.Helper()
	if got := list(t, s, prefix); !slices.Equal(got, want) {
		t.Errorf("List %q returned %q, want %q", prefix, got, want)
	}
}

// wantNothing fails the test unless the store looks as if key had never been.
func wantNothing(t testing.TB, s store.Store, key string) {
	t.Helper()
	if _, err := s.Stat(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Stat %q: %v, want ErrNotFound", key, err)
	}
	wantKeys(t, s, "")
}

// wantKind fails the test unless err is target, if there is one, and of a kind.
func wantKind(t testing.TB, what string, err, target error, kind pgmedic.Kind) {
	t.Helper()
	if err == nil || pgmedic.KindOf(err) != kind || (target != nil && !errors.Is(err, target)) {
		t.Errorf("%s: got %v (%v), want %v (%v)", what, err, pgmedic.KindOf(err), target, kind)
	}
}

// manyKeys is how many keys testListMany lists.
func manyKeys() int {
	switch {
	case testing.Short():
		return 1_000
	case os.Getenv(ManyKeysEnv) != "":
		return 100_000
	case os.Getenv("PGMEDIC_TEST_ALL") != "":
		return 5_000
	}
	return 2_200 // servers list 1,000 at a time: three pages
}

// badKeys are keys that every method refuses.
func badKeys() map[string]string {
	return map[string]string{
		"empty":            "",
		"slash":            "/",
		"leading slash":    "/a",
		"trailing slash":   "a/",
		"empty segment":    "a//b",
		"dot":              ".",
		"dots":             "..",
		"dot inside":       "a/./b",
		"dots inside":      "a/../b",
		"dots first":       "../a",
		"dots last":        "a/..",
		"NUL":              "a\x00b",
		"newline":          "a\nb",
		"delete":           "a\x7f",
		"C1 control":       "a\u0085b",
		"backslash":        `a\b`,
		"not UTF-8":        "a\xffb",
		"long segment":     "a/" + strings.Repeat("x", 256),
		"long key":         strings.Repeat("x/", 512) + "x",
		"temporary":        ".pgmedic-tmp-x",
		"temporary inside": "a/.pgmedic-tmp-/b",
	}
}

// oddKeys are keys that every method accepts.
func oddKeys() []string {
	keys := []string{
		" ", " a ", "a b/c d", "%", "%2F", "100%/%41", "ünï/cödé", "日本/バックアップ", "e\u0301", "🐘",
		"...", ".hidden", "a/..b", "-rf", "~", "a:b", "a?b*c", `"quoted"`, "'single'", "a;b&c|d",
		"$HOME", "#frag", "a+b=c@d,e", "(x)[y]{z}", "CON", "trailing.", ".pgmedic", "x.pgmedic-tmp-y",
		"deep/" + strings.Repeat("d/", 40) + "d",
		"long/" + strings.Repeat("x", 255),
		strings.Repeat(strings.Repeat("y", 255)+"/", 3) + "y/" + strings.Repeat("y", 254), // 1024
	}
	slices.Sort(keys)
	return keys
}
