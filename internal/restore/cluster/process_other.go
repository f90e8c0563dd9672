//go:build !linux

package cluster

import "syscall"

// processAttributes puts a server into a session of its own. A private one goes on here when we
// are killed.
func processAttributes(bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
