package scratch

import "golang.org/x/sys/unix"

const filterArch = unix.AUDIT_ARCH_AARCH64

// oldRefusedCalls are none: this machine never had them.
func oldRefusedCalls() []uintptr { return nil }

func oldIgnoredCalls() []uintptr { return nil }
