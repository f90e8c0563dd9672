//go:build !linux

package store

import (
	"errors"
	"os"
)

// renameNoReplace is not available here.
func renameNoReplace(*os.Root, string, string) error { return errors.ErrUnsupported }
