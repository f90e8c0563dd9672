//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package pool

import "syscall"

// peekAt looks at one socket.
func (s *socket) peekAt(fd uintptr) {
	for {
		n, _, err := syscall.Recvfrom(int(fd), s.buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			s.found = socketQuiet
		case err != nil || n == 0:
			s.found = socketClosed
		default:
			s.found = socketReadable
		}
		return
	}
}
