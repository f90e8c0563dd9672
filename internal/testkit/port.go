package testkit

import (
	"syscall"
	"testing"
)

// ClosedPort returns a port of 127.0.0.1 that nothing listens on. It is taken until the
// end of the test, for of a port that is free somebody else may make use.
func ClosedPort(tb testing.TB) int {
	tb.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		tb.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	tb.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatal(err)
	}
	address, err := syscall.Getsockname(fd)
	if err != nil {
		tb.Fatal(err)
	}
	return address.(*syscall.SockaddrInet4).Port
}
