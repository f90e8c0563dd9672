//go:build unix

package owner_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pgmedic/pgmedic/internal/owner"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

func TestChoose(t *testing.T) {
	root, service, other := owner.ID{}, owner.ID{UID: 998, GID: 997}, owner.ID{UID: 1000, GID: 1000}
	for name, test := range map[string]struct {
		euid        int
		has, folder owner.ID
		want        owner.ID
		change      bool
	}{
		"root in a service's folder":  {0, root, service, service, true},
		"root in its own":             {0, root, root, root, false},
		"root in its own, by a group": {0, root, owner.ID{GID: 997}, root, false},
		"the service in its own":      {998, service, service, service, false},
		"a user in another's":         {1000, other, service, other, false},
		"given already":               {0, service, service, service, false},
	} {
		if got, change := owner.Choose(test.euid, test.has, test.folder); got != test.want || change != test.change {
			t.Errorf("%s: %v %t", name, got, change)
		}
	}
}

// TestGiven: as root in a folder of another user, what is made is that user's; a folder
// that is not empty is not.
func TestGiven(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		testkit.Elsewhere(t, "only root can give files away")
	}
	const uid, gid = 54321, 54322
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "a", "b", "file")
	if err := owner.MakeFolder(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	f, err := owner.Create(file, os.O_WRONLY)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "a"), filepath.Dir(file), file} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if s := info.Sys().(*syscall.Stat_t); s.Uid != uid || s.Gid != gid || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %d:%d %v", path, s.Uid, s.Gid, info.Mode())
		}
	}
	if _, err := owner.Create(file, os.O_WRONLY); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a file was made over another: %v", err)
	}
	full := filepath.Join(dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	folder, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := os.Open(full)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := owner.GiveFolder(d, folder); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(full); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("a folder that was not made just now was given away: %v", err)
	}
}
