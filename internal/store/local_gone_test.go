package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

// TestLocalGone: where the whole folder is gone, or another one is in its place,
// nothing is known of what was in it.
func TestLocalGone(t *testing.T) {
	for name, replaced := range map[string]bool{"deleted": false, "replaced": true} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			s, err := store.NewLocal(store.LocalOptions{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			if _, err := s.Put(t.Context(), "a/b", strings.NewReader("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Stat(t.Context(), "a/c"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("what isn't there: %v", err)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if replaced {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			_, statErr := s.Stat(t.Context(), "a/b")
			_, openErr := s.Open(t.Context(), "a/b", 0, -1)
			var listErr error
			for _, err := range s.List(t.Context(), "") {
				listErr = err
			}
			for op, err := range map[string]error{"stat": statErr, "open": openErr, "list": listErr} {
				if err == nil || pgmedic.KindOf(err) != pgmedic.KindUnreachable || errors.Is(err, store.ErrNotFound) {
					t.Errorf("%s: %s %v", op, pgmedic.KindOf(err), err)
				}
			}
		})
	}
}
