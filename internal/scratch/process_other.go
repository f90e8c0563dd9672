//go:build !linux

package scratch

import (
	"context"
	"strconv"
	"strings"
	"syscall"
)

// processAttributes puts a child into a session of its own. Only Linux has a
// signal at the parent's death: elsewhere a server outlives us if we are
// killed, until the next sweep.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true}
}

// isPostmaster reports whether a process is the postmaster of a data folder,
// judged by its command line. A process id alone, read from a file, may long
// be another process's.
func isPostmaster(pid int, dataDir string) bool {
	out, err := output(context.Background(), "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid))
	return err == nil && strings.Contains(out, " -D "+dataDir+" ")
}
