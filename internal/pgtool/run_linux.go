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

// terminate asks the program and what it started to end.
func terminate(p *os.Process) error {
	if err := syscall.Kill(-p.Pid, syscall.SIGTERM); err != nil {
		return os.ErrProcessDone
	}
	return nil
}

// killRest ends what a program left behind that did not hear terminate. The
// program itself is gone.
func killRest(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
