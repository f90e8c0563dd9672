package physical

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgdata"
)

// Reader reads a list of files. It takes some 40 bytes for each chunk that it has read, and
// a line besides, however many files there are: 8 MB for 1 TiB.
//
// It gives what is consistent only: each chunk lies within its pack and behind the one before
// it there, each extent of a file within a chunk that was read before, extents add up to the
// size of their file, paths lead nowhere out of the data directory. What is not is a
// pgmedic.KindIntegrity error. That a path is there twice is for the caller to refuse, who makes
// files. What was read before io.EOF is not known to be the whole list.
//
// It is not safe for concurrent use.
type Reader struct {
	in     *bufio.Reader
	backup *pgmedic.Backup
	begun  bool
	err    error
	// packs are the sizes of the packs, and used up to where their chunks have come.
	packs, used map[string]int64
	plain       []int64 // of each chunk
	total       end
	// number is that of the line that was read last, for messages.
	number int64
	// made gives entries, in place of all else.
	made func() (Entry, error)
}

// NewReader returns a Reader of the list of a backup: of the plain bytes of its object of
// RoleFiles, which must be read to their io.EOF to be believed.
func NewReader(list io.Reader, b *pgmedic.Backup) *Reader {
	r := &Reader{in: bufio.NewReaderSize(list, 64<<10), backup: b, packs: map[string]int64{}, used: map[string]int64{}}
	for _, o := range b.Objects {
		if o.Role == pgmedic.RolePack {
			r.packs[o.Name] = o.StoredBytes
		}
	}
	return r
}

// ReaderOf returns a Reader of entries that are made, and not read from a list: next returns
// io.EOF behind the last one. Nothing of them is checked.
func ReaderOf(next func() (Entry, error)) *Reader { return &Reader{made: next} }

// Next returns the next entry, or io.EOF behind the last one of a list that is whole. After
// an error it returns that error again.
func (r *Reader) Next() (Entry, error) {
	if r.err != nil {
		return Entry{}, r.err
	}
	next := r.next
	if r.made != nil {
		next = r.made
	}
	e, err := next()
	if err != nil {
		r.err = err
		return Entry{}, err
	}
	return e, nil
}

func (r *Reader) next() (Entry, error) {
	text, err := r.line()
	if err != nil {
		return Entry{}, err
	}
	if !r.begun {
		if err := r.begin(text); err != nil {
			return Entry{}, err
		}
		if text, err = r.line(); err != nil {
			return Entry{}, err
		}
	}
	switch {
	case bytes.HasPrefix(text, []byte(`{"c":`)):
		return r.chunk(text)
	case bytes.HasPrefix(text, []byte(`{"p":`)):
		return r.file(text)
	}
	var l line
	if json.Unmarshal(text, &l) != nil || l.End == nil {
		return Entry{}, Damaged("line %d is not that of a chunk, a file or the end", r.number)
	}
	if *l.End != r.total || r.total.Files != r.backup.Physical.Files || r.total.Bytes != r.backup.Physical.PlainBytes {
		return Entry{}, Damaged("it does not have as many files, chunks or bytes as it says")
	}
	// The reader below is believed at its end only.
	if _, err := r.in.ReadByte(); err == nil {
		return Entry{}, Damaged("something is behind its end")
	} else if !errors.Is(err, io.EOF) {
		return Entry{}, err
	}
	return Entry{}, io.EOF
}

// line reads a line.
func (r *Reader) line() ([]byte, error) {
	r.number++
	var long []byte
	for {
		part, err := r.in.ReadSlice('\n')
		switch {
		case err == nil && long == nil:
			return part[:len(part)-1], nil
		case err == nil:
			long = append(long, part...)
			return long[:len(long)-1], nil
		case errors.Is(err, io.EOF):
			return nil, Damaged("it ends before its last line")
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("read the list of files: %w", err)
		}
		if len(long)+len(part) > maxLineBytes {
			return nil, Damaged("line %d is longer than %d bytes", r.number, maxLineBytes)
		}
		long = append(long, part...)
	}
}

func (r *Reader) begin(text []byte) error {
	var l line
	switch err := json.Unmarshal(text, &l); {
	case err != nil || l.Format < 1:
		return Damaged("its first line is not that of a list")
	case l.Format > sqlListFormat:
		return pgmedic.Errorf(pgmedic.KindUsage, "update pgmedic on this host", "the list of files has format %d, and this version reads up to %d", l.Format, sqlListFormat)
	case l.Format != formatOf(r.backup):
		return Damaged("it has format %d, and the backup's list format %d", l.Format, formatOf(r.backup))
	case l.Backup != r.backup.ID:
		return Damaged("it is that of backup %.40q", l.Backup)
	}
	r.begun = true
	return nil
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (r *Reader) chunk(text []byte) (Entry, error) {
	c := &Chunk{}
	if json.Unmarshal(text, c) != nil {
		return Entry{}, Damaged("line %d is not that of a chunk", r.number)
	}
	size, known := r.packs[c.Pack]
	switch {
	case c.ID != int64(len(r.plain)) || c.ID >= maxChunks:
		return Entry{}, Damaged("chunk %d comes in place of chunk %d", c.ID, len(r.plain))
	case !known:
		return Entry{}, Damaged("chunk %d is in %.80q, which is not a pack", c.ID, c.Pack)
	case c.StoredBytes < 1 || c.Offset < r.used[c.Pack] || c.Offset > size || c.StoredBytes > size-c.Offset:
		return Entry{}, Damaged("chunk %d overlaps another, or lies outside of %s", c.ID, c.Pack)
	case c.PlainBytes < 1 || c.PlainBytes > ChunkBytes:
		return Entry{}, Damaged("chunk %d holds %d bytes", c.ID, c.PlainBytes)
	case !sha256Hex.MatchString(c.SHA256) || !sha256Hex.MatchString(c.PlainSHA256):
		return Entry{}, Damaged("chunk %d has no hash", c.ID)
	}
	r.used[c.Pack] = c.Offset + c.StoredBytes
	r.plain = append(r.plain, c.PlainBytes)
	r.total.Chunks++
	return Entry{Chunk: c}, nil
}

func (r *Reader) file(text []byte) (Entry, error) {
	f := &File{}
	if json.Unmarshal(text, f) != nil {
		return Entry{}, Damaged("line %d is not that of a file", r.number)
	}
	f.Path = pgmedic.UnescapeBytes(f.Path)
	if err := f.check(); err != nil {
		return Entry{}, err
	}
	if err := r.fits(f); err != nil {
		return Entry{}, err
	}
	for _, e := range f.Extents {
		if e.Chunk == Hole {
			continue
		}
		if e.Chunk >= int64(len(r.plain)) || e.Offset > r.plain[e.Chunk] || e.Bytes > r.plain[e.Chunk]-e.Offset {
			return Entry{}, Damaged("%.80q has bytes outside of chunk %d", f.Path, e.Chunk)
		}
	}
	if r.total.Bytes += f.heldBytes(); r.total.Bytes > maxFileBytes {
		return Entry{}, Damaged("its files have impossible sizes")
	}
	r.total.Files++
	return Entry{File: f}, nil
}

// fits refuses a file that a backup of its kind does not have. That of a full one may have any
// name, as it is on the server.
func (r *Reader) fits(f *File) error {
	named, p := false, r.backup.Physical
	if p.Kind == pgmedic.PhysicalIncremental && p.SQL == nil {
		_, named = pgdata.IncrementalOf(f.Path)
	}
	if named != (f.Kind == KindIncremental) || f.Kind == KindKept && (p.Kind != pgmedic.PhysicalIncremental || p.SQL == nil) {
		return Damaged("%.80q is of kind %s, in a backup that is %s", f.Path, f.Kind, r.backup.Physical.Kind)
	}
	return nil
}
