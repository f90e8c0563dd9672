package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

// folders returns all folders directly below one.
func folders(t testing.TB, s store.Store, folder string) []string {
	t.Helper()
	found := []string{}
	for f, err := range s.Folders(t.Context(), folder) {
		if err != nil {
			t.Fatalf("Folders %q: %v", folder, err)
		}
		found = append(found, f)
	}
	return found
}

// wantFolders fails the test unless exactly these folders are directly below one.
func wantFolders(t testing.TB, s store.Store, folder string, want ...string) {
	t.Helper()
	if got := folders(t, s, folder); !slices.Equal(got, want) {
		t.Errorf("Folders %q returned %q, want %q", folder, got, want)
	}
}

// foldersOf is what Folders must find among keys, by its contract.
func foldersOf(keys []string, folder string) []string {
	found := []string{}
	for _, key := range keys {
		rest, below := strings.CutPrefix(key, folder)
		if segment, _, more := strings.Cut(rest, "/"); below && more {
			found = append(found, folder+segment+"/")
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func testFolders(t *testing.T, s store.Store) {
	wantFolders(t, s, "")
	keys := []string{"a/b/c", "a/b/d", "a/bc/d/e/f", "a/e", "ab/c", "f", "x../y", "x../z/w"}
	for _, key := range keys {
		put(t, s, key, nil)
	}
	for folder, want := range map[string][]string{
		"":        {"a/", "ab/", "x../"},
		"a/":      {"a/b/", "a/bc/"},
		"a/b/":    {},
		"a/bc/":   {"a/bc/d/"},
		"a/bc/d/": {"a/bc/d/e/"},
		"x../":    {"x../z/"},
		"b/":      {},
		"f/":      {},
		"a/e/":    {},
		"c/d/e/":  {},
	} {
		wantFolders(t, s, folder, want...)
	}
	// A folder is there as long as a key is below it.
	for _, key := range []string{"a/b/c", "a/bc/d/e/f", "ab/c"} {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	wantFolders(t, s, "", "a/", "x../")
	wantFolders(t, s, "a/", "a/b/")
	put(t, s, "a/bc/d/e/f", nil)
	wantFolders(t, s, "a/", "a/b/", "a/bc/")
}

// testFoldersOrder: the slash at the end counts, as it does in the keys.
func testFoldersOrder(t *testing.T, s store.Store) {
	want := []string{"A/", "a!/", "a-/", "a.b/", "a/", "a0/", "ab/", "z/", "ä/", "日/"}
	if !slices.IsSorted(want) {
		t.Fatal("the test is wrong")
	}
	for i := range want {
		put(t, s, want[(i*3)%len(want)]+"x/y", nil)
		put(t, s, "in/"+want[(i*7)%len(want)]+"x", nil)
	}
	below := make([]string, len(want))
	for i, folder := range want {
		below[i] = "in/" + folder
	}
	wantFolders(t, s, "in/", below...)
	all := append(slices.Clone(want), "in/")
	slices.Sort(all)
	wantFolders(t, s, "", all...)
}

func testFoldersStop(t *testing.T, s store.Store) {
	for i := range 5 {
		put(t, s, fmt.Sprintf("a/%d/x", i), nil)
	}
	seq := s.Folders(t.Context(), "a/")
	n := 0
	for range seq {
		if n++; n == 2 {
			break
		}
	}
	// One sequence can be gone through again, and what it finds be deleted meanwhile.
	for round := range 2 {
		n = 0
		for folder, err := range seq {
			if n++; err != nil {
				t.Error(err)
			}
			if round == 1 {
				if err := s.Delete(t.Context(), folder+"x"); err != nil {
					t.Error(err)
				}
			}
		}
		if n != 5 {
			t.Errorf("found %d folders of 5", n)
		}
	}
	wantFolders(t, s, "")
}

// testFoldersMany has more folders, and more objects in one of them, than a server
// lists in one answer.
func testFoldersMany(t *testing.T, s store.Store) {
	const many = 1_100
	var want, keys []string
	for i := range many {
		folder := fmt.Sprintf("many/%06d/", i)
		want, keys = append(want, folder), append(keys, folder+"x", fmt.Sprintf("many/000000/%06d", i))
	}
	var wg sync.WaitGroup
	const workers = 32
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(keys); i += workers {
				if _, err := s.Put(t.Context(), keys[i], bytes.NewReader(nil)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := folders(t, s, "many/"); !slices.Equal(got, want) {
		t.Errorf("found %d folders, or in another order; want %d", len(got), len(want))
	}
	wantFolders(t, s, "", "many/")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := errors.New("the operator asked")
	n := 0
	var last error
	for _, err := range s.Folders(ctx, "many/") {
		if n, last = n+1, err; n == 10 {
			cancel(why)
		}
	}
	wantKind(t, "Folders after the context ended", last, why, pgmedic.KindInterrupted)
}
