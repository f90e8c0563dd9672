package scratch

import "golang.org/x/sys/unix"

const filterArch = unix.AUDIT_ARCH_X86_64

// oldRefusedCalls are the older forms of refused calls, which newer machines
// don't have.
func oldRefusedCalls() []uintptr {
	return []uintptr{
		unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_UTIME, unix.SYS_UTIMES, unix.SYS_FUTIMESAT,
	}
}

func oldIgnoredCalls() []uintptr { return []uintptr{unix.SYS_CHMOD} }
