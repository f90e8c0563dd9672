package store

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// renameNoReplace renames temp to final, in the same folder, and fails if final
// exists. It returns unix.EINVAL or an errors.ErrUnsupported where the file
// system or the kernel can't.
func renameNoReplace(root *os.Root, temp, final string) error {
	folder, err := root.Open(parentOf(final))
	if err != nil {
		return err
	}
	fd := int(folder.Fd())
	err = unix.Renameat2(fd, path.Base(temp), fd, path.Base(final), unix.RENAME_NOREPLACE)
	return errors.Join(err, folder.Close())
}

// startFlush makes the kernel begin to write n bytes of f to the disk, and waits
// for nothing. It promises nothing either: what counts is f.Sync.
func startFlush(f *os.File, offset, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, n, unix.SYNC_FILE_RANGE_WRITE) // a hint
}
