package cleanup

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownerName is the file that a run keeps locked in a folder of its own.
const ownerName = "owner"

// stagingName matches the names of folders in which restores and backups stage
// definitions, as os.MkdirTemp makes them; with a dot while they are being made.
var stagingName = regexp.MustCompile(`^\.?pgmedic-(restore|backup)-[0-9]+$`)

// staging plans for the folders whose run died.
func (c *collector) staging() {
	if c.o.TempDir == "" {
		return
	}
	entries, err := os.ReadDir(c.o.TempDir)
	if err != nil {
		c.missed(c.o.TempDir, err)
	}
	for _, e := range entries {
		if !e.IsDir() || !stagingName.MatchString(e.Name()) {
			continue
		}
		item := Item{Kind: Staging, Path: filepath.Join(c.o.TempDir, e.Name()), Action: Delete, Reason: "the run that made this folder is dead"}
		if release, info := claim(item.Path); release != nil {
			release()
			item.ModifiedAt, item.info = info.ModTime().UTC(), info
			c.items = append(c.items, item)
		}
	}
}

// claim locks a folder of our own whose run is dead, until release is called. For any
// other it returns nil: also for a folder without the empty file that a run makes and
// locks, which another program may have made.
func claim(path string) (release func(), info fs.FileInfo) {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() || !ours(info) {
		return nil, nil
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, nil
	}
	// Whoever made the folder may put anything there: no waiting for the other end of a
	// pipe, and no link.
	owner, err := root.OpenFile(ownerName, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		_ = root.Close() // only read
		return nil, nil
	}
	release = func() { _ = owner.Close(); _ = root.Close() } // only read
	made, err := owner.Stat()
	if err != nil || !made.Mode().IsRegular() || made.Size() != 0 || !ours(made) || unix.Flock(int(owner.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		release()
		return nil, nil
	}
	return release, info
}

// ours reports whether a file or folder belongs to the user that this process runs as.
func ours(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// removeStaging removes a folder, if its run is still dead.
func (i *Item) removeStaging() error {
	release, info := claim(i.Path)
	if release == nil || !os.SameFile(info, i.info) {
		if release != nil {
			release()
		}
		return errChanged
	}
	defer release()
	return os.RemoveAll(i.Path)
}
