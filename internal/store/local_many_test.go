package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/store"
)

// TestLocalManyKeys lists 100,000 keys: all of them, each once, in order, and
// without holding them.
func TestLocalManyKeys(t *testing.T) {
	const folders, each = 500, 200
	dir := t.TempDir()
	for f := range folders {
		folder := filepath.Join(dir, "main", "shop", fmt.Sprintf("%06d", f))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		// Names of one file are as good as files, and made faster.
		first := filepath.Join(folder, "pack-0000")
		if err := os.WriteFile(first, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for n := range each - 1 {
			if err := os.Link(first, filepath.Join(folder, fmt.Sprintf("pack-%04d", n+1))); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, err := store.NewLocal(store.LocalOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	begin, most := heap(), uint64(0)
	n := 0
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("main/shop/%06d/pack-%04d", n/each, n%each); o.Key != want {
			t.Fatalf("key %d is %s, want %s", n, o.Key, want)
		}
		if n++; n%10_000 == 5_000 {
			most = max(most, heap())
		}
	}
	if n != folders*each {
		t.Errorf("%d keys, want %d", n, folders*each)
	}
	// All keys at once would be more than 10 MiB.
	if most > begin+2<<20 {
		t.Errorf("%d KiB are held while it lists", (most-begin)>>10)
	}
	n = 0
	for o, err := range s.List(t.Context(), "main/shop/0004") {
		if err != nil || !strings.HasPrefix(o.Key, "main/shop/0004") {
			t.Fatal(o.Key, err)
		}
		n++
	}
	if n != 100*each {
		t.Errorf("%d keys below a prefix, want %d", n, 100*each)
	}
}
