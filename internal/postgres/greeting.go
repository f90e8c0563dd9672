package postgres

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
)

// greeting is what came back from the server's address: an error of pgx does not say
// whether anything listens there, nor whether that is PostgreSQL. pgx dials again in the
// background, to cancel what a session that it gives up is at, so others may use it meanwhile.
type greeting struct {
	// accepted: the connection was made, and only the session was not.
	accepted atomic.Bool
	// first is the first byte that was answered to the request for a session, or 0.
	first atomic.Uint32
}

// dial returns a function that dials, and remembers whether anything listens there.
func (g *greeting) dial(d *net.Dialer) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, address)
		// Where TLS is tried first there are two connections, and no time for the second.
		if err == nil {
			g.accepted.Store(true)
		}
		return conn, err //nolint:wrapcheck // pgx's own dialer's
	}
}

// hear returns a reader that remembers the first byte.
func (g *greeting) hear(r io.Reader) io.Reader { return &heard{r, g} }

// stranger reports whether the answer is not one of PostgreSQL, whose first messages
// are an authentication request, an error, a notice or a version.
func (g *greeting) stranger() bool {
	first := byte(g.first.Load())
	return first != 0 && bytes.IndexByte([]byte("RENv"), first) < 0
}

// heard is the reader that hear returns.
type heard struct {
	r io.Reader
	g *greeting
}

// Read implements io.Reader.
func (h *heard) Read(b []byte) (int, error) {
	n, err := h.r.Read(b)
	if n > 0 {
		h.g.first.CompareAndSwap(0, uint32(b[0]))
	}
	return n, err //nolint:wrapcheck // a stream's own
}
