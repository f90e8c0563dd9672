//go:build !unix

package store

import "os"

// syncDir closes a folder. It takes what Open returned. Folders can't be
// flushed here.
func syncDir(f *os.File, err error) error {
	if err != nil {
		return err
	}
	return f.Close()
}

// removeDir removes a folder if it is empty.
func removeDir(root *os.Root, folder string) error { return root.Remove(folder) }
