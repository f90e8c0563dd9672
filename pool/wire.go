package pool

import (
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// wire watches which kinds of messages pass over a connection, to tell whether the
// server had begun what it was asked for last when it ended the session. With the
// extended protocol it says that it has bound a statement before it runs it, and what
// it says last is in order: a FATAL error that comes first of all proves that nothing
// was run. The simple protocol, in which a COMMIT is sent, proves nothing.
type wire struct {
	// simple: a message of another kind than the extended protocol's was sent since
	// the server was last ready; begun: the server has answered since.
	simple, begun atomic.Bool
	// pending is how often the server has still to say that it is ready: of several
	// parts that were sent together, the first may be done.
	pending atomic.Int32

	// header and rest are the beginning of a message that was read in part, and how
	// much of its body is still to come.
	header []byte
	rest   int
}

// frontend is pgconn's BuildFrontend.
func (w *wire) frontend(r io.Reader, to io.Writer) *pgproto3.Frontend {
	return pgproto3.NewFrontend(wireReader{r, w}, wireWriter{to, w})
}

type wireReader struct {
	io.Reader
	wire *wire
}

// Read is the connection's.
func (r wireReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.wire.received(p[:n])
	return n, err
}

type wireWriter struct {
	io.Writer
	wire *wire
}

// Write is the connection's. Pgx writes whole messages.
func (w wireWriter) Write(p []byte) (int, error) {
	w.wire.sent(p)
	return w.Writer.Write(p)
}

const headerSize = 5 // the kind, and the length without it

// received follows what the server sends.
func (w *wire) received(p []byte) {
	for len(p) > 0 {
		if w.rest > 0 {
			n := min(w.rest, len(p))
			w.rest -= n
			p = p[n:]
			continue
		}
		if len(w.header) > 0 || len(p) < headerSize {
			n := min(headerSize-len(w.header), len(p))
			w.header = append(w.header, p[:n]...)
			p = p[n:]
			if len(w.header) == headerSize {
				w.message(w.header)
				w.header = w.header[:0]
			}
			continue
		}
		w.message(p)
		p = p[headerSize:]
	}
}

// message notes one message of the server's.
func (w *wire) message(header []byte) {
	w.rest = max(int(binary.BigEndian.Uint32(header[1:]))-4, 0)
	switch header[0] {
	case 'Z':
		// That at the begin of the session was not asked for.
		left := max(w.pending.Add(-1), 0)
		w.pending.Store(left)
		w.begun.Store(left > 0)
		if left == 0 {
			w.simple.Store(false)
		}
	case 'N', 'A', 'S', 'E': // these may come at any time
	default:
		if !w.begun.Load() {
			w.begun.Store(true)
		}
	}
}

// sent follows what is sent.
func (w *wire) sent(p []byte) {
	for len(p) >= headerSize {
		switch p[0] {
		case 'S':
			w.pending.Add(1)
		case 'P', 'B', 'D', 'E', 'C', 'H', 'X':
		case 'Q':
			w.pending.Add(1)
			w.simple.Store(true)
		default:
			w.simple.Store(true)
		}
		size := 1 + int64(binary.BigEndian.Uint32(p[1:]))
		if size < headerSize || size > int64(len(p)) {
			return
		}
		p = p[size:]
	}
}

// unread says whether the server has ended the session without having begun what it
// was asked for last, after this error of it. A pooler may say so for a server of
// which it has not passed everything on.
func (s *session) unread(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "FATAL" && s.endpoint.pooled.Load() == pooledNo &&
		!s.wire.simple.Load() && !s.wire.begun.Load()
}

// unreadError is the error of a statement that the server has not begun.
type unreadError struct{ error }

// Unwrap returns the server's error.
func (e *unreadError) Unwrap() error { return e.error }

// isUnread says whether the statement was not begun.
func isUnread(err error) bool {
	var unread *unreadError
	return errors.As(err, &unread)
}
