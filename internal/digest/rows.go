package digest

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/zeebo/xxh3"

	"github.com/pgmedic/pgmedic"
)

// Rows counts and sums the rows of a stream that COPY wrote, as it passes, however
// it is cut into writes. The forms are those of the COPY page of PostgreSQL's
// manual: a row of the binary form is hashed with its field count and the lengths
// of its fields, a row of the text form without its newline.
//
// It holds no row: one that comes in several writes is hashed as it comes.
type Rows struct {
	// Format is the stream's; empty means text.
	Format pgmedic.CopyFormat
	// Order, if not nil, is the order in which the fields of a text row are hashed:
	// Order[i] is the place in the row of the i-th. Such rows are held whole.
	Order []int

	rows   int64
	sum    Sum
	hasher *xxh3.Hasher // of a row that has not come whole
	inRow  bool

	buf    []byte // the bytes of a number that has not come whole; a row that is to be reordered
	skip   int64  // bytes of a value still to pass over
	fields int    // of the row that are still to come
	begun  bool   // the binary header has passed
	ended  bool   // the binary trailer has been seen
}

const binarySignature = "PGCOPY\n\xff\r\n\x00"

var errNotCopy = errors.New("not what COPY writes")

// Count returns the number of rows so far.
func (r *Rows) Count() int64 { return r.rows }

// Sum returns the sum of the rows so far.
func (r *Rows) Sum() Sum { return r.sum }

// Complete reports whether the stream ended where COPY ends one.
func (r *Rows) Complete() bool {
	if r.Format == pgmedic.CopyBinary {
		return r.ended
	}
	return !r.inRow
}

// Write takes the next part of the stream.
func (r *Rows) Write(p []byte) (int, error) {
	n := len(p)
	if r.Format != pgmedic.CopyBinary {
		r.text(p)
		return n, nil
	}
	for len(p) > 0 {
		if r.begun && !r.ended && !r.inRow && r.skip == 0 && len(r.buf) == 0 {
			whole, err := r.wholeRows(p)
			if err != nil {
				return 0, err
			}
			if p = p[whole:]; len(p) == 0 {
				break
			}
		}
		var err error
		if p, err = r.piece(p); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// wholeRows takes the rows that p begins with and holds whole, and returns their
// length.
func (r *Rows) wholeRows(p []byte) (taken int, err error) {
	for {
		rest := p[taken:]
		if len(rest) < 2 {
			return taken, nil
		}
		fields := int(int16(binary.BigEndian.Uint16(rest)))
		if fields < 0 {
			return taken, nil // the trailer, or an error: piece says which
		}
		end := 2
		for ; fields > 0; fields-- {
			if len(rest) < end+4 {
				return taken, nil
			}
			length := int32(binary.BigEndian.Uint32(rest[end:]))
			end += 4
			if length > 0 { // -1 is null
				if int(length) > len(rest)-end {
					return taken, nil
				}
				end += int(length)
			} else if length < -1 {
				return taken, errNotCopy
			}
		}
		r.rows++
		r.sum.addHash(xxh3.Hash128(rest[:end]))
		taken += end
	}
}

// piece takes the next piece of a row that has not come whole: a part of a value,
// or of a number.
func (r *Rows) piece(p []byte) (rest []byte, err error) {
	if r.ended {
		return p, errNotCopy
	}
	if r.skip > 0 {
		take := min(r.skip, int64(len(p)))
		if r.inRow {
			_, _ = r.hasher.Write(p[:take]) // never fails
		}
		r.skip -= take
		r.endIfWhole()
		return p[take:], nil
	}
	need := 4
	switch {
	case !r.begun:
		need = len(binarySignature) + 8
	case r.fields == 0:
		need = 2
	}
	take := min(need-len(r.buf), len(p))
	r.buf = append(r.buf, p[:take]...)
	if len(r.buf) < need {
		return p[take:], nil
	}
	defer func() { r.buf = r.buf[:0] }()
	return p[take:], r.number(r.buf)
}

// number acts on the header, a field count or the length of a value.
func (r *Rows) number(b []byte) error {
	switch {
	case !r.begun:
		if !bytes.HasPrefix(b, []byte(binarySignature)) {
			return errNotCopy
		}
		r.begun = true
		r.skip = int64(binary.BigEndian.Uint32(b[len(b)-4:]))
		return nil
	case r.fields == 0:
		count := int16(binary.BigEndian.Uint16(b))
		if count < 0 {
			r.ended = count == -1
			if !r.ended {
				return errNotCopy
			}
			return nil
		}
		r.beginRow()
		r.fields = int(count)
	default:
		length := int32(binary.BigEndian.Uint32(b))
		if length < -1 {
			return errNotCopy
		}
		r.fields--
		r.skip = max(int64(length), 0)
	}
	_, _ = r.hasher.Write(b) // never fails
	r.endIfWhole()
	return nil
}

func (r *Rows) beginRow() {
	if r.hasher == nil {
		r.hasher = xxh3.New()
	}
	r.hasher.Reset()
	r.inRow = true
}

func (r *Rows) endIfWhole() {
	if r.inRow && r.fields == 0 && r.skip == 0 {
		r.endRow()
	}
}

func (r *Rows) endRow() {
	r.rows++
	r.sum.addHash(r.hasher.Sum128())
	r.inRow = false
}

// text takes lines.
func (r *Rows) text(p []byte) {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		switch {
		case r.Order != nil:
			p = r.reordered(p, i)
			continue
		case i >= 0 && !r.inRow:
			r.rows++
			r.sum.addHash(xxh3.Hash128(p[:i]))
		default:
			if !r.inRow {
				r.beginRow()
			}
			if i < 0 {
				_, _ = r.hasher.Write(p) // never fails
				return
			}
			_, _ = r.hasher.Write(p[:i])
			r.endRow()
		}
		p = p[i+1:]
	}
}

// reordered takes a line, which ends at i or has not come whole, and hashes its
// fields in their order.
func (r *Rows) reordered(p []byte, i int) (rest []byte) {
	r.inRow = i < 0
	if i < 0 {
		r.buf = append(r.buf, p...)
		return nil
	}
	r.buf = append(r.buf, p[:i]...)
	r.rows++
	fields := bytes.Split(r.buf, []byte{'\t'})
	if len(fields) == len(r.Order) {
		line := make([][]byte, len(fields))
		for to, from := range r.Order {
			line[to] = fields[from]
		}
		r.sum.addHash(xxh3.Hash128(bytes.Join(line, []byte{'\t'})))
	} else {
		r.sum.addHash(xxh3.Hash128(r.buf)) // not such a row, and equal to none
	}
	r.buf = r.buf[:0]
	return p[i+1:]
}
