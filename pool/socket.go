package pool

import (
	"net"
	"syscall"
)

// socketState is what the socket of an idle connection shows without being read.
type socketState int

const (
	// socketQuiet: nothing has arrived, as it should be, or it can't be told.
	socketQuiet socketState = iota
	// socketReadable: the server has sent something that nothing asked for: a
	// notification, or that it ends the session.
	socketReadable
	// socketClosed: the other end has closed it, or it broke.
	socketClosed
)

// socket looks at the socket of a connection without reading from it and without
// waiting. The zero socket can't, and always is quiet.
type socket struct {
	raw syscall.RawConn
	// peek is made once, so that a look allocates nothing; it sets found.
	peek  func(fd uintptr)
	found socketState
	buf   [1]byte
}

// open finds the socket below a network connection. One that hides it, as that of
// a Config.DialFunc may, stays without.
func (s *socket) open(conn net.Conn) {
	for {
		if c, ok := conn.(syscall.Conn); ok {
			if raw, err := c.SyscallConn(); err == nil {
				s.raw, s.peek = raw, s.peekAt
			}
			return
		}
		inner, ok := conn.(interface{ NetConn() net.Conn }) // TLS
		if !ok {
			return
		}
		conn = inner.NetConn()
	}
}

// state looks at the socket. It asks for the descriptor alone: what reads with Go's
// own lock would wait for a read that is under way.
func (s *socket) state() socketState {
	if s.raw == nil {
		return socketQuiet
	}
	if err := s.raw.Control(s.peek); err != nil {
		return socketClosed
	}
	return s.found
}
