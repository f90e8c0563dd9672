//go:build !unix

package store

import "os"

// removeDir removes a folder if it is empty.
func removeDir(root *os.Root, folder string) error { return root.Remove(folder) }
