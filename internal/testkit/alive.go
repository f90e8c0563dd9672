package testkit

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Alive reports whether a process runs. One that has ended counts as gone although
// no process has waited for it yet, as init does with orphans, at its own time or never.
func Alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(status), ") Z ")
}
