//go:build unix

package durable

import (
	"errors"
	"os"
	"syscall"
)

// Opened is Folder for what Open returned. It closes the folder.
func Opened(f *os.File, err error) error {
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, f.Close())
}
