// Package durable makes names in folders last: a file that was flushed can lose its name
// in a power cut until its folder is flushed, too.
package durable

import (
	"fmt"
	"os"
)

// Folder makes the names in a folder last. File systems that can't do this say so with
// EINVAL or ENOTSUP, and have no more to offer: for them it returns nil.
func Folder(path string) error {
	if err := Opened(os.Open(path)); err != nil {
		return fmt.Errorf("flush folder %s: %w", path, err)
	}
	return nil
}
