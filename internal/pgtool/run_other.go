//go:build !linux

package pgtool

import (
	"os"
	"os/exec"
)

func dieWithParent(*exec.Cmd) {}

func terminate(p *os.Process) error { return p.Signal(os.Interrupt) }

func killRest(*os.Process) {}
