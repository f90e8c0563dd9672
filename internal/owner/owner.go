// Package owner lets files and folders that root makes belong to the owner of the folder
// that they are in, so that a service account whose folder that is can go on using them.
package owner

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ID is a user and a group, by their numbers.
type ID struct{ UID, GID int }

// Choose says which owner something new gets that a process with the effective user euid
// made in a folder, and whether that is another one than it has. It changes what root made
// in a folder of another user, and nothing else.
func Choose(euid int, has, folder ID) (ID, bool) {
	if euid != 0 || folder.UID == 0 || folder == has {
		return has, false
	}
	return folder, true
}

// Give gives f, which this process has just made, to the owner of the folder that it is
// in. Where root is not allowed to, such as on a file system of another host, f stays as
// it is.
func Give(f *os.File, folder fs.FileInfo) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("give a file to the owner of its folder: %w", err)
	}
	has, known := Of(info)
	to, folderKnown := Of(folder)
	if !known || !folderKnown {
		return nil
	}
	to, change := Choose(os.Geteuid(), has, to)
	if !change {
		return nil
	}
	if err := f.Chown(to.UID, to.GID); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("give a file to the owner of its folder: %w", err)
	}
	return nil
}

// GiveFolder is Give of a folder that was just made. One that is not empty is another one,
// which was put in its place, and stays as it is.
func GiveFolder(f *os.File, folder fs.FileInfo) error {
	if _, err := f.Readdirnames(1); !errors.Is(err, io.EOF) {
		return err
	}
	return Give(f, folder)
}

// GiveIn is Give of what was made in a folder below root.
func GiveIn(root *os.Root, folder string, f *os.File) error {
	info, err := root.Stat(folder)
	if err != nil {
		return err
	}
	return Give(f, info)
}

// GiveFolderIn is GiveFolder of the folder path, which was made in another, below root.
func GiveFolderIn(root *os.Root, folder, path string) error {
	info, err := root.Stat(folder)
	if err != nil {
		return err
	}
	f, err := root.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(GiveFolder(f, info), f.Close())
}

// Create makes a file that does not exist yet, with mode 0600, and gives it to the owner of
// its folder. Flag is os.O_WRONLY or os.O_RDWR.
func Create(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|flag, 0o600)
	if err != nil {
		return nil, err
	}
	folder, err := os.Stat(filepath.Dir(path))
	if err == nil {
		err = Give(f, folder)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

// MakeFolder makes a folder with mode 0700, and its parents, as far as they are missing,
// and gives each to the owner of the one that it is in.
func MakeFolder(path string) error {
	switch info, err := os.Stat(path); {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	case err == nil, !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(path)
	if err := MakeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) { // by another process, just now
			return nil
		}
		return err
	}
	folder, err := os.Stat(parent)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(GiveFolder(f, folder), f.Close())
}
