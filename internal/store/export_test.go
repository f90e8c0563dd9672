package store

import (
	"os"
	"runtime"
	"syscall"
)

// AfterLink has l do something right after it has published an object.
func AfterLink(l *Local, do func()) {
	l.link = func(root *os.Root, from, to string) error {
		err := root.Link(from, to)
		do()
		return err
	}
}

// ForbidLinks makes l believe that its file system has no hard links, and
// reports whether it can do without.
func ForbidLinks(l *Local) bool {
	l.link = func(*os.Root, string, string) error { return &os.LinkError{Op: "link", Err: syscall.EPERM} }
	return runtime.GOOS == "linux"
}
