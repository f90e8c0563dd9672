package cluster

import "syscall"

// processAttributes puts a server into a session of its own. The kernel sends a private one
// SIGINT when we die, which is PostgreSQL's fast shutdown.
func processAttributes(private bool) *syscall.SysProcAttr {
	all := &syscall.SysProcAttr{Setsid: true}
	if private {
		all.Pdeathsig = syscall.SIGINT
	}
	return all
}
