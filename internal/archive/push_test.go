package archive_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pgmedic/pgmedic/internal/archive"
)

// TestStoredIsOfUse: a segment counts as stored only in an epoch that can be read, because
// the server removes it then.
func TestStoredIsOfUse(t *testing.T) {
	b := newBench(t)
	e := b.begin(at(0), true)
	b.put(e, 0)
	ask := func() archive.SegmentStored {
		t.Helper()
		found, err := b.a.Stored(t.Context(), segment(0), segments.plain[0], 0)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if got := ask(); !got.Same || got.Other {
		t.Errorf("%+v", got)
	}
	file := filepath.Join(b.dir, filepath.FromSlash(b.a.Folder()), e.ID(), "epoch.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ask(); got.Same {
		t.Errorf("with a damaged epoch.json: %+v", got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := ask(); got.Same {
		t.Errorf("without epoch.json: %+v", got)
	}
	b.put(b.begin(at(0), true), 0)
	if got := ask(); !got.Same || got.Other {
		t.Errorf("stored again: %+v", got)
	}
}
