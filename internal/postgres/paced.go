package postgres

import (
	"io"
	"time"
)

// The server sends 8 KiB at a time, see PqSendBuffer in PostgreSQL's pqcomm.c. A reader
// that waits for each of them is woken for each, which costs both sides more than the
// copy does, and where processors are few takes them from the server.
const (
	serverSends = 8 << 10
	// A pause is right where it brings about this much: several sends at once, and
	// still less than a Unix-domain socket holds (208 KiB on Linux, bookkeeping
	// included), so that the server never waits for us.
	pacedLow, pacedHigh = 48 << 10, 96 << 10
	pauseFirst          = 250 * time.Microsecond
	pauseMost           = 2 * time.Millisecond
)

// paced reads from a session. While the server streams, it pauses a moment before each
// read, so that more than one send has come; an answer that fits into one is read at
// once.
type paced struct {
	r     io.Reader
	sleep func(time.Duration)

	last  int // what the last read brought
	pause time.Duration
}

func newPaced(r io.Reader) io.Reader {
	if !pacesReads {
		return r
	}
	return &paced{r: r, sleep: sleepThread, pause: pauseFirst}
}

// Read implements io.Reader.
func (p *paced) Read(b []byte) (n int, err error) {
	if p.last >= serverSends {
		p.sleep(p.pause)
	}
	n, err = p.r.Read(b)
	switch p.last = n; {
	case n >= min(pacedHigh, len(b)):
		p.pause = p.pause * 3 / 4
	case n >= serverSends && n < pacedLow:
		p.pause = min(p.pause*5/4+time.Microsecond, pauseMost)
	}
	return n, err
}
