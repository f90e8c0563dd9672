//go:build linux && !amd64 && !arm64

package scratch

// filterArch is unknown: there is no filter for this machine.
const filterArch = 0

func oldRefusedCalls() []uintptr { return nil }

func oldIgnoredCalls() []uintptr { return nil }
