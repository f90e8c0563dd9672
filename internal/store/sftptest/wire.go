package sftptest

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/pkg/sftp"
)

// The types of requests: of extensions, and of files.
const (
	extended  = 200
	openFile  = 3
	closeFile = 4
)

// CutAfter has the next n requests of an extension, such as hardlink@openssh.com, done by
// the server, and all connections cut off before the answer is sent.
func (s *Server) CutAfter(extension string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cuts[extension] = n
}

// wire is what passes between a client and sftp-server.
type wire struct {
	s  *Server
	mu sync.Mutex
	// waited are the numbers of requests after which to cut.
	waited map[uint32]bool
}

// fromClient gives sftp-server what the client sends, packet by packet.
type fromClient struct {
	r    io.Reader
	w    *wire
	rest []byte
}

func (f *fromClient) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		head := make([]byte, 4)
		if _, err := io.ReadFull(f.r, head); err != nil {
			return 0, err
		}
		packet := make([]byte, 4+binary.BigEndian.Uint32(head))
		copy(packet, head)
		if _, err := io.ReadFull(f.r, packet[4:]); err != nil {
			return 0, err
		}
		f.w.asked(packet[4:])
		f.rest = packet
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// OpenFiles is how many files were asked for more often than closed, if each was there.
func (s *Server) OpenFiles() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files
}

// asked counts open files, and notes a request that is to be cut off.
func (w *wire) asked(packet []byte) {
	if len(packet) > 0 && (packet[0] == openFile || packet[0] == closeFile) {
		w.s.mu.Lock()
		if w.s.files++; packet[0] == closeFile {
			w.s.files -= 2
		}
		w.s.mu.Unlock()
	}
	if len(packet) < 9 || packet[0] != extended {
		return
	}
	size := binary.BigEndian.Uint32(packet[5:])
	if uint64(len(packet)) < 9+uint64(size) {
		return
	}
	name := string(packet[9 : 9+size])
	w.s.mu.Lock()
	cut := w.s.cuts[name] > 0
	if cut {
		w.s.cuts[name]--
	}
	w.s.mu.Unlock()
	if cut {
		w.mu.Lock()
		w.waited[binary.BigEndian.Uint32(packet[1:])] = true
		w.mu.Unlock()
	}
}

// endless is a folder that has no last entry.
type endless struct{}

func (endless) Filelist(r *sftp.Request) (sftp.ListerAt, error) { return entries(r.Method), nil }

// entries are those of a folder, or the folder itself where it is asked for.
type entries string

func (e entries) ListAt(to []os.FileInfo, at int64) (int, error) {
	if e != "List" {
		to[0] = entry("/")
		return 1, io.EOF
	}
	for i := range to {
		to[i] = entry(fmt.Sprintf("%0200d", at+int64(i)))
	}
	return len(to), nil
}

// entry is a folder of that name.
type entry string

func (e entry) Name() string       { return string(e) }
func (e entry) Size() int64        { return 0 }
func (e entry) Mode() fs.FileMode  { return fs.ModeDir | 0o755 }
func (e entry) ModTime() time.Time { return time.Time{} }
func (e entry) IsDir() bool        { return true }
func (e entry) Sys() any           { return nil }

// toClient gives the client what sftp-server answers, packet by packet.
type toClient struct {
	w    io.Writer
	wire *wire
	have []byte
}

func (t *toClient) Write(p []byte) (int, error) {
	t.have = append(t.have, p...)
	for len(t.have) >= 9 {
		size := 4 + int(binary.BigEndian.Uint32(t.have))
		if len(t.have) < size {
			break
		}
		t.wire.mu.Lock()
		cut := t.wire.waited[binary.BigEndian.Uint32(t.have[5:])]
		t.wire.mu.Unlock()
		if cut {
			t.wire.s.Drop()
			return 0, io.ErrClosedPipe
		}
		if _, err := t.w.Write(t.have[:size]); err != nil {
			return 0, err
		}
		t.have = t.have[size:]
	}
	return len(p), nil
}
