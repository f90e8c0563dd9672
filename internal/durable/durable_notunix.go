//go:build !unix

package durable

import "os"

// Opened closes a folder. It takes what Open returned. Folders can't be
// flushed here.
func Opened(f *os.File, err error) error {
	if err != nil {
		return err
	}
	return f.Close()
}
