//go:build unix

package store

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

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
