package sftpstore

import (
	"encoding/binary"
	"io"
	"sync/atomic"

	"github.com/pkg/sftp"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	// maxListing is how many bytes of names a server may send while one folder is listed,
	// some 400,000 entries: our choice. The client holds all of them at once, and asks
	// until the server says that there are no more.
	maxListing = 64 << 20
	// namesType is the type of packets of names (SSH_FXP_NAME) in version 3 of SFTP.
	namesType = 104
)

// limitedNames passes on what a server sends, and fails once it has sent more names than
// allowed: those of all listings on this connection count together.
type limitedNames struct {
	r io.Reader
	// head is the length and the type of the packet that is read, of which have is there.
	head [5]byte
	have int
	left int64 // of the packet
	// sent is how many bytes of names came, allowed how many may.
	sent, allowed atomic.Int64
}

// Read implements io.Reader.
func (l *limitedNames) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	for data := p[:n]; len(data) > 0; {
		if l.left > 0 {
			passed := min(l.left, int64(len(data)))
			if l.left, data = l.left-passed, data[passed:]; l.head[4] == namesType {
				l.sent.Add(passed)
			}
			continue
		}
		copied := copy(l.head[l.have:], data)
		l.have, data = l.have+copied, data[copied:]
		if l.have == len(l.head) {
			l.have, l.left = 0, int64(binary.BigEndian.Uint32(l.head[:]))-1
		}
	}
	if l.exceeded() {
		return 0, errTooManyNames
	}
	return n, err
}

// allow lets the server send the names of one more listing.
func (l *limitedNames) allow() { l.allowed.Store(l.sent.Load() + maxListing) }

func (l *limitedNames) exceeded() bool { return l.sent.Load() > l.allowed.Load() }

// errTooManyNames is final: another connection would be sent as many.
var errTooManyNames = pgmedic.Errorf(pgmedic.KindFailed, "look into the folder on the server, which holds what no backup is, or whose server is not to be trusted",
	"the server lists more than %s of names in one folder", words.Size(maxListing))

// newClient begins SFTP on a connection.
func (l *line) newClient() (err error) {
	session, err := l.conn.NewSession()
	if err != nil {
		return err
	}
	in, err := session.StdinPipe()
	if err != nil {
		return err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return err
	}
	said, err := session.StderrPipe()
	if err != nil {
		return err
	}
	l.calls.Go(func() { _, _ = io.Copy(io.Discard, said) }) // it ends with the connection
	if err := session.RequestSubsystem("sftp"); err != nil {
		return err
	}
	l.names = &limitedNames{r: out}
	l.names.allow()
	l.client, err = sftp.NewClientPipe(l.names, in, sftp.UseConcurrentWrites(true))
	return err
}
