//go:build unix

package store

import (
	"errors"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

// syncDir makes what is in a folder durable and closes it. It takes what Open
// returned. File systems that can't do this for folders say so with EINVAL or
// ENOTSUP; they have no more to offer.
func syncDir(f *os.File, err error) error {
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// removeDir removes a folder if it is empty. Unlike os.Root.Remove it never
// removes a file that took the folder's place meanwhile.
func removeDir(root *os.Root, folder string) error {
	parent, err := root.Open(parentOf(folder))
	if err != nil {
		return err
	}
	err = unix.Unlinkat(int(parent.Fd()), path.Base(folder), unix.AT_REMOVEDIR)
	return errors.Join(err, parent.Close())
}
