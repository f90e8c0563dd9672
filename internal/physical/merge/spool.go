package merge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/pgmedic/pgmedic/internal/pgdata"
	"github.com/pgmedic/pgmedic/internal/physical"
)

// spooled is a line of a spool: a chunk, or a file with the head of an incremental one. The
// paths of files are escaped.
type spooled struct {
	Chunk *physical.Chunk     `json:"chunk,omitempty"`
	File  *physical.File      `json:"file,omitempty"`
	Head  *pgdata.Incremental `json:"head,omitempty"`
}

// spool is a file of lines that has no name, so that nothing is left of it.
type spool struct {
	file *os.File
	out  *bufio.Writer
	size int64
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "pgmedic-merge-*")
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("make a temporary file: %w", err), f.Close())
	}
	return &spool{file: f, out: bufio.NewWriterSize(f, 64<<10)}, nil
}

// add appends a line and returns where it is.
func (s *spool) add(e spooled) (at int64, err error) {
	line, err := json.Marshal(e)
	if err != nil {
		return 0, fmt.Errorf("write a temporary file: %w", err)
	}
	at = s.size
	s.size += int64(len(line)) + 1
	if _, err := s.out.Write(append(line, '\n')); err != nil {
		return 0, fmt.Errorf("write a temporary file: %w", err)
	}
	return at, nil
}

// flush makes all lines readable.
func (s *spool) flush() error {
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("write a temporary file: %w", err)
	}
	return nil
}

// Close deletes it.
func (s *spool) Close() error { return s.file.Close() }

// lines returns a function that reads the lines from one on, and returns io.EOF behind the
// last. Several can read at once.
func (s *spool) lines(at int64) func(*spooled) error {
	d := json.NewDecoder(bufio.NewReaderSize(io.NewSectionReader(s.file, at, math.MaxInt64-at), 64<<10))
	return func(e *spooled) error {
		err := d.Decode(e)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read a temporary file: %w", err)
		}
		return err
	}
}

// read reads one line.
func (s *spool) read(at int64, e *spooled) error {
	d := json.NewDecoder(io.NewSectionReader(s.file, at, math.MaxInt64-at))
	if err := d.Decode(e); err != nil {
		return fmt.Errorf("read a temporary file: %w", err)
	}
	return nil
}

// heads reads the beginnings of files of a backup, whose list is being read: files that follow
// each other have theirs in the same chunk, which is read once.
type heads struct {
	ctx    context.Context //nolint:containedctx // that of one merge
	chunks *physical.Chunks
	known  []physical.Chunk
	// plain are the bytes of the chunk with the number.
	plain  []byte
	number int64
}

func newHeads(ctx context.Context, s physical.Source) *heads {
	return &heads{ctx: ctx, chunks: s.Chunks(), number: physical.Hole}
}

func (h *heads) close() { h.chunks.Close() }

// note remembers where a chunk is.
func (h *heads) note(c physical.Chunk) { h.known = append(h.known, c) }

// reader reads a file.
func (h *heads) reader(extents []physical.Extent) io.Reader { return &headReader{h, extents, 0} }

type headReader struct {
	h       *heads
	extents []physical.Extent
	at      int64 // within the first
}

func (r *headReader) Read(p []byte) (int, error) {
	for len(r.extents) > 0 && r.at == r.extents[0].Bytes {
		r.extents, r.at = r.extents[1:], 0
	}
	if len(r.extents) == 0 {
		return 0, io.EOF
	}
	e := r.extents[0]
	p = p[:min(int64(len(p)), e.Bytes-r.at)]
	if e.Chunk == physical.Hole {
		clear(p)
	} else {
		plain, err := r.h.chunk(e.Chunk)
		if err != nil {
			return 0, err
		}
		copy(p, plain[e.Offset+r.at:])
	}
	r.at += int64(len(p))
	return len(p), nil
}

func (h *heads) chunk(number int64) ([]byte, error) {
	if h.number != number {
		h.number = physical.Hole
		plain, err := h.chunks.Read(h.ctx, h.known[number])
		if err != nil {
			return nil, err
		}
		h.plain, h.number = plain, number
	}
	return h.plain, nil
}
