package pgtool

import (
	"os"
	"os/exec"
	"syscall"
)

// dieWithParent gives the program a process group of its own, so that Ctrl-C
// reaches us alone and we end it in order, and has the kernel end it if we are
// killed.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
