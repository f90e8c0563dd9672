package store

import (
	"os"
	"runtime"
	"syscall"
)

// ForbidLinks makes l believe that its file system has no hard links, and
// reports whether it can do without.
func ForbidLinks(l *Local) bool {
	l.link = func(*os.Root, string, string) error { return &os.LinkError{Op: "link", Err: syscall.EPERM} }
	return runtime.GOOS == "linux"
}
