package scratch_test

import (
	"os/exec"
	"syscall"
)

// canUnshare reports whether the system lets us make a network namespace.
func canUnshare() bool {
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	return cmd.Run() == nil
}
