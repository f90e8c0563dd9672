package scratch

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in what a filter of system calls is shown: the number, the
// architecture, and the lower halves of the arguments on machines whose bytes
// are in that order.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

func loadWord(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func loadArg(n uint32) unix.SockFilter { return loadWord(offsetArgs + 8*n) }

func answer(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }

// fail has a call return an error; zero has it return 0 and do nothing.
func fail(errno unix.Errno) unix.SockFilter {
	return answer(unix.SECCOMP_RET_ERRNO | uint32(errno))
}

func allow() unix.SockFilter { return answer(unix.SECCOMP_RET_ALLOW) }

// jump skips so many instructions if a comparison holds, or so many if not.
func jump(comparison uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | comparison | unix.BPF_K, K: k, Jt: yes, Jf: no}
}

// onCall is a block that is passed over for any other call. It must end in an
// answer whatever way is taken through it.
func onCall(number uintptr, block ...unix.SockFilter) []unix.SockFilter {
	return append([]unix.SockFilter{jump(unix.BPF_JEQ, uint32(number), 0, uint8(len(block)))}, block...)
}

// filterOptions say what else a filter refuses.
type filterOptions struct {
	// userNamespaces are left alone where the server itself starts in one.
	userNamespaces bool
	// truncate does nothing where Landlock does not know it. PostgreSQL calls it
	// for files that it removes at the next checkpoint.
	truncate bool
}

// filter is the program that refuses system calls by which the content of a
// server could reach beyond it. PostgreSQL does without them. Everything else is
// allowed: the filter closes what Landlock, user ids and namespaces leave open.
func filter(o filterOptions) []unix.SockFilter {
	program := []unix.SockFilter{
		loadWord(offsetArch),
		jump(unix.BPF_JEQ, filterArch, 1, 0),
		fail(unix.ENOSYS),
		loadWord(offsetNumber),
		// Calls of the x32 interface have this bit.
		jump(unix.BPF_JGE, 0x40000000, 0, 1),
		fail(unix.ENOSYS),
	}
	add := func(block []unix.SockFilter) { program = append(program, block...) }
	// Unix sockets that wait for connections are all that a server needs.
	// Datagrams could be sent anywhere without a connection.
	for _, number := range []uintptr{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR} {
		add(onCall(number,
			loadArg(0), jump(unix.BPF_JEQ, unix.AF_UNIX, 1, 0), fail(unix.EACCES),
			loadArg(1), unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xf},
			jump(unix.BPF_JEQ, unix.SOCK_STREAM, 1, 0), fail(unix.EACCES), allow()))
	}
	add(onCall(unix.SYS_CONNECT, fail(unix.EACCES)))
	// Its requests pass by the filter. The arguments of clone3 can't be seen;
	// the C library falls back to clone.
	for _, number := range []uintptr{unix.SYS_IO_URING_SETUP, unix.SYS_CLONE3} {
		add(onCall(number, fail(unix.ENOSYS)))
	}
	if !o.userNamespaces {
		add(onCall(unix.SYS_CLONE,
			loadArg(0), jump(unix.BPF_JSET, unix.CLONE_NEWUSER, 0, 1), fail(unix.EPERM), allow()))
	}
	// Of the server's own processes; others' limits are not its business.
	add(onCall(unix.SYS_PRLIMIT64, loadArg(0), jump(unix.BPF_JEQ, 0, 1, 0), fail(unix.EPERM), allow()))
	for _, number := range append(refusedCalls(), oldRefusedCalls()...) {
		add(onCall(number, fail(unix.EPERM)))
	}
	// Landlock does not know modes. The server changes those of its socket and
	// of tablespaces, to what they are.
	ignored := append([]uintptr{unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2}, oldIgnoredCalls()...)
	if o.truncate {
		ignored = append(ignored, unix.SYS_TRUNCATE)
	}
	for _, number := range ignored {
		add(onCall(number, fail(0)))
	}
	return append(program, allow())
}

// refusedCalls act on other processes, on owners, times and attributes of any
// file, on the keys and queues of a user, on what is mounted, or widen what of
// the kernel can be reached.
func refusedCalls() []uintptr {
	return []uintptr{
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE,
		unix.SYS_PROCESS_MRELEASE, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP, unix.SYS_SETPRIORITY, unix.SYS_IOPRIO_SET,
		unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES,
		unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_UTIMENSAT, unix.SYS_FILE_SETATTR,
		unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_SETXATTRAT,
		unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_FREMOVEXATTR, unix.SYS_REMOVEXATTRAT,
		unix.SYS_INOTIFY_ADD_WATCH, unix.SYS_FANOTIFY_INIT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_OPEN_BY_HANDLE_AT,
		unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_MQ_OPEN, unix.SYS_MQ_UNLINK,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE,
		unix.SYS_OPEN_TREE_ATTR, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
		unix.SYS_UNSHARE, unix.SYS_SETNS,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_SYSLOG,
	}
}

// canFilter reports whether the kernel takes filters, and we have one for this
// machine.
func canFilter() bool {
	action := uint32(unix.SECCOMP_RET_ERRNO)
	const actionAvailable = 2                                                                           // SECCOMP_GET_ACTION_AVAIL
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, actionAvailable, 0, uintptr(unsafe.Pointer(&action))) //nolint:gosec // the kernel reads it before the call returns
	return filterArch != 0 && errno == 0
}

// filterCalls installs a filter for the calling thread, and what it starts, for
// ever.
func filterCalls(program []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))) //nolint:gosec // the kernel reads it before the call returns
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("install a filter of system calls: %w", errno)
	}
	return nil
}
