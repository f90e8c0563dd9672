package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pgmedic/pgmedic/internal/durable"
)

// TestFolder: a folder that can be flushed is, one of a file system that can't is no
// error, and one that is not there is.
func TestFolder(t *testing.T) {
	const unable = "/proc" // no file system of its kind keeps anything
	f, err := os.Open(unable)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); !errors.Is(err, syscall.EINVAL) {
		t.Fatalf("%s can be flushed, or fails otherwise: %v", unable, err)
	}
	for _, dir := range []string{t.TempDir(), unable} {
		if err := durable.Folder(dir); err != nil {
			t.Error(err)
		}
	}
	if err := durable.Folder(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}
