//go:build unix

package store_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestLocalShared: as root in another user's folder, what is shared is that user's, and
// anything else is not.
func TestLocalShared(t *testing.T) {
	dir := t.TempDir()
	l, err := store.NewLocal(store.LocalOptions{Dir: dir, Shared: func(key string) bool { return strings.HasPrefix(key, "shared/") }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	uid := uint32(os.Geteuid())
	if uid == 0 {
		uid = 54321
		if err := os.Chown(dir, int(uid), os.Getegid()); err != nil {
			t.Fatal(err)
		}
	}
	put(t, l, "shared/a/b", "x")
	put(t, l, "shared/a/c", "x")
	put(t, l, "own/a", "x")
	for name, want := range map[string]uint32{
		"shared": uid, "shared/a": uid, "shared/a/b": uid, "shared/a/c": uid, "own": uint32(os.Geteuid()), "own/a": uint32(os.Geteuid()),
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Uid; got != want || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: uid %d, mode %v; want uid %d", name, got, info.Mode(), want)
		}
	}
}

// TestLocalUnreadableFolder: a folder that can't be read is named, and only reading it is
// an error.
func TestLocalUnreadableFolder(t *testing.T) {
	if os.Geteuid() == 0 {
		testkit.Elsewhere(t, "root can read every folder")
	}
	l, dir := newLocal(t)
	put(t, l, "a/b", "x")
	put(t, l, "closed/b/c", "x")
	closed := filepath.Join(dir, "closed")
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(closed, 0o700) })
	var all []string
	for folder, err := range l.Folders(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, folder)
	}
	if !slices.Equal(all, []string{"a/", "closed/"}) {
		t.Errorf("%q", all)
	}
	for _, err := range l.Folders(t.Context(), "closed/") {
		if err == nil {
			t.Error("a folder that can't be read is empty")
		}
	}
}
