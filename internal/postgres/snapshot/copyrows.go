package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/pgmedic/pgmedic"
)

// CopyCounter counts the rows of a stream that COPY wrote, as it passes. The
// forms are those of the COPY page of PostgreSQL's manual.
type CopyCounter struct {
	// Format is the stream's; empty means text.
	Format pgmedic.CopyFormat
	rows   int64
	buf    []byte // the bytes of a field that has not come whole
	skip   int64  // bytes of a value still to pass over
	fields int    // of the tuple that are still to come
	begun  bool   // the binary header has passed
	ended  bool   // the binary trailer has been seen
}

var (
	binarySignature = []byte("PGCOPY\n\xff\r\n\x00")
	errNotCopy      = errors.New("not what COPY writes")
)

// Rows returns the rows counted so far.
func (c *CopyCounter) Rows() int64 { return c.rows }

// Complete reports whether the stream ended where COPY ends one.
func (c *CopyCounter) Complete() bool {
	if c.Format == pgmedic.CopyBinary {
		return c.ended
	}
	return len(c.buf) == 0
}

// Write takes the next part of the stream.
func (c *CopyCounter) Write(p []byte) (int, error) {
	if c.Format != pgmedic.CopyBinary {
		c.rows += int64(bytes.Count(p, []byte{'\n'}))
		if len(p) > 0 {
			c.buf = c.buf[:0]
			if p[len(p)-1] != '\n' {
				c.buf = append(c.buf, p[len(p)-1])
			}
		}
		return len(p), nil
	}
	n := len(p)
	for len(p) > 0 {
		if c.ended {
			return 0, errNotCopy
		}
		if c.skip > 0 {
			take := min(c.skip, int64(len(p)))
			c.skip -= take
			p = p[take:]
			continue
		}
		var err error
		if p, err = c.field(p); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// field gathers the next header, field count or value length, and acts on it.
func (c *CopyCounter) field(p []byte) ([]byte, error) {
	need := 4
	switch {
	case !c.begun:
		need = len(binarySignature) + 8
	case c.fields == 0:
		need = 2
	}
	take := min(need-len(c.buf), len(p))
	c.buf = append(c.buf, p[:take]...)
	p = p[take:]
	if len(c.buf) < need {
		return p, nil
	}
	defer func() { c.buf = c.buf[:0] }()
	switch {
	case !c.begun:
		if !bytes.HasPrefix(c.buf, binarySignature) {
			return p, errNotCopy
		}
		c.begun = true
		c.skip = int64(binary.BigEndian.Uint32(c.buf[need-4:]))
	case c.fields == 0:
		switch count := int16(binary.BigEndian.Uint16(c.buf)); {
		case count == -1:
			c.ended = true
		case count < 0:
			return p, errNotCopy
		default:
			c.rows++
			c.fields = int(count)
		}
	default:
		c.fields--
		if length := int32(binary.BigEndian.Uint32(c.buf)); length > 0 { // -1 is null
			c.skip = int64(length)
		}
	}
	return p, nil
}
