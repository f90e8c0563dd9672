package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stagingPattern names the folders in which definitions are staged.
const stagingPattern = "pgmedic-restore-*"

// stagingOwner is a file that the process which made a folder keeps locked.
const stagingOwner = "owner"

// makeStaging makes a 0700 folder for what pg_restore reads several times, and
// removes those that a killed process left. The caller calls remove.
func makeStaging() (dir string, remove func(), err error) {
	sweepStaging()
	// It gets its name only once its owner is known: one without an owner has to be
	// left alone for a while, because another process may be making it.
	dir, err = os.MkdirTemp("", "."+stagingPattern)
	if err != nil {
		return "", nil, fmt.Errorf("make a folder for the definitions: %w", err)
	}
	owner, err := os.OpenFile(filepath.Join(dir, stagingOwner), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(owner.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		named := filepath.Join(filepath.Dir(dir), strings.TrimPrefix(filepath.Base(dir), "."))
		if err = os.Rename(dir, named); err == nil {
			dir = named
		}
	}
	remove = func() {
		_ = os.RemoveAll(dir) // in the system's folder for such things
		_ = owner.Close()     // only locked
	}
	if err != nil {
		remove()
		return "", nil, fmt.Errorf("make a folder for the definitions: %w", err)
	}
	return dir, remove, nil
}

// sweepStaging removes the folders whose owner is dead. Those that can't be read belong
// to another user.
func sweepStaging() {
	found, _ := filepath.Glob(filepath.Join(os.TempDir(), stagingPattern)) // the patterns are good ones
	begun, _ := filepath.Glob(filepath.Join(os.TempDir(), "."+stagingPattern))
	for _, dir := range slices.Concat(found, begun) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			continue
		}
		if abandoned(root) {
			_ = os.RemoveAll(dir)
		}
		_ = root.Close()
	}
}

func abandoned(root *os.Root) bool {
	// The user who made the folder may put anything there: do not wait for the other
	// end of a pipe.
	owner, err := root.OpenFile(stagingOwner, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) { // being made at this moment, or its maker died then
		info, err := root.Stat(".")
		return err == nil && time.Since(info.ModTime()) > time.Minute
	}
	if err != nil {
		return false
	}
	defer func() { _ = owner.Close() }() // only locked
	return unix.Flock(int(owner.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}
