package scratch

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// idRange are ids that systems don't give to anyone.
type idRange struct{ first, count int }

// privateIDs are where ids for servers are taken from. The first range is above
// those of directory services (which end at 2,000,200,000) and below what
// systemd reserves at the end. A container that has few ids has the second,
// which lies between those of greeters and those of dynamic users.
func privateIDs() []idRange {
	return []idRange{{2_040_000_000, 100_000_000}, {60_706, 478}}
}

// isPrivateID reports whether an id is in one of the ranges.
func isPrivateID(id int) bool {
	for _, r := range privateIDs() {
		if id >= r.first && id < r.first+r.count {
			return true
		}
	}
	return false
}

// claimAccount finds a user id, and the group id of the same number, that nothing
// has, and claims it against other drills for as long as the claim is open. No
// account is found where this process has no such ids to give.
func claimAccount() (account, error) {
	for _, r := range privateIDs() {
		if !mapped("/proc/self/uid_map", r) || !mapped("/proc/self/gid_map", r) {
			continue
		}
		const tries = 100
		for range tries {
			id := r.first + rand.IntN(r.count)
			if isTaken(id) {
				continue
			}
			claim, err := claimID(id)
			if errors.Is(err, unix.EADDRINUSE) {
				continue
			}
			if err != nil {
				return account{}, err
			}
			return account{name: strconv.Itoa(id), uid: id, gid: id, other: true, claim: claim}, nil
		}
	}
	return account{}, nil
}

// claimID claims an id by an abstract socket: the kernel lets one process have
// it, and takes it back with the process.
func claimID(id int) (io.Closer, error) {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("@pgmedic-drill-uid-%d", id), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("claim user id %d: %w", id, err)
	}
	return listener, nil
}

// isTaken reports whether an account or a process has an id.
func isTaken(id int) bool {
	text := strconv.Itoa(id)
	if _, err := user.LookupId(text); err == nil {
		return true
	}
	if _, err := user.LookupGroupId(text); err == nil {
		return true
	}
	return len(processesOf(id)) > 0
}

// mapped reports whether a range of ids exists in our user namespace.
func mapped(file string, r idRange) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		var inside, outside, count int
		if _, err := fmt.Sscan(line, &inside, &outside, &count); err != nil {
			continue
		}
		if inside <= r.first && inside+count >= r.first+r.count {
			return true
		}
	}
	return false
}

// processesOf lists the processes of a user.
func processesOf(uid int) (pids []int) {
	for _, pid := range processes() {
		if info, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil && int(ownerOf(info)) == uid {
			pids = append(pids, pid)
		}
	}
	return pids
}

// endProcesses ends what runs with an id that is a server's alone, whatever
// group, session or parent it gave itself.
func endProcesses(uid int) {
	if !isPrivateID(uid) || os.Geteuid() != 0 {
		return
	}
	const rounds = 100
	for range rounds {
		pids := processesOf(uid)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			endOne(pid, uid)
		}
	}
}

// endOne kills a process if it still is the user's. It is found before it is
// checked: the handle stays with it even if its id is used again.
func endOne(pid, uid int) {
	found, err := os.FindProcess(pid)
	if err != nil {
		return
	}
	defer func() { _ = found.Release() }()
	if info, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil && int(ownerOf(info)) == uid {
		_ = found.Signal(syscall.SIGKILL)
	}
}

// endLeftovers ends the processes of a server whose owner died, unless another
// drill has taken the id since.
func endLeftovers(uid int) {
	if !isPrivateID(uid) || os.Geteuid() != 0 {
		return
	}
	claim, err := claimID(uid)
	if err != nil {
		return
	}
	endProcesses(uid)
	_ = claim.Close()
}

// findPostmaster finds the process that works in a data folder. One in a
// namespace of its own writes an id into its file that is none here.
func findPostmaster(dataDir string) int {
	for _, pid := range processes() {
		if isPostmaster(pid, dataDir) {
			return pid
		}
	}
	return 0
}
