package scratch

import (
	"os"
	"strconv"
	"syscall"
)

// processAttributes puts a child into a session of its own and has the kernel
// send it SIGQUIT when we die, which is PostgreSQL's immediate shutdown.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGQUIT}
}

// isPostmaster reports whether a process is the postmaster of a data folder:
// one that works in that folder and belongs to the folder's owner. A process
// id alone, read from a file, may long be another process's.
func isPostmaster(pid int, dataDir string) bool {
	process := "/proc/" + strconv.Itoa(pid)
	works, err := os.Stat(process + "/cwd")
	if err != nil {
		return false
	}
	data, err := os.Stat(dataDir)
	if err != nil || !os.SameFile(works, data) {
		return false
	}
	runs, err := os.Stat(process)
	return err == nil && ownerOf(runs) == ownerOf(data)
}

func ownerOf(info os.FileInfo) uint32 {
	return info.Sys().(*syscall.Stat_t).Uid
}
