//go:build !linux

package store

import (
	"errors"
	"os"
)

// renameNoReplace is not available here.
func renameNoReplace(*os.Root, string, string) error { return errors.ErrUnsupported }

// startFlush does nothing: f.Sync has it all to do.
func startFlush(*os.File, int64, int64) {}
