//go:build unix

package owner

import (
	"io/fs"
	"syscall"
)

// Of returns the owner of a file.
func Of(info fs.FileInfo) (ID, bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ID{}, false
	}
	return ID{UID: int(s.Uid), GID: int(s.Gid)}, true
}
