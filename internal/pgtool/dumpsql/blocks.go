package dumpsql

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Block is the rows of one table in a dump.
type Block struct {
	// Table is the table's quoted name, under which the rows are loaded: that
	// of the topmost partitioned table for rows that must go through it.
	Table string
	// Columns are those that the rows hold, in their order. There may be none.
	Columns []string
}

// Blocks reads the rows of single tables out of the SQL that pg_dump writes. It
// is used as an archive/tar reader is: Next goes to the next table, Read reads
// its rows as COPY's text, without the end mark. Nothing of the SQL is run.
type Blocks struct {
	src     io.Reader
	counter RowCounter
	buf     []byte
	pending []byte // of buf, not yet looked at
	held    []byte // rows that may turn out to be the end mark
	out     []byte // rows to be given
	header  []byte
	err     error // of src, io.EOF included

	// gathers is true where statements are wanted, too. Text is the present one, with
	// the comments before it, and line is where it ends.
	gathers bool
	text    []byte
	line    int

	mu     sync.Mutex
	failed error
}

// Failure returns the error that ended a Read, if one did: what the rows were
// given to may have made another of it.
func (b *Blocks) Failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

// NewBlocks returns the blocks of the dump that r holds.
func NewBlocks(r io.Reader) *Blocks { return &Blocks{src: r, buf: make([]byte, 64<<10)} }

// endMark ends a table's rows.
const endMark = "\\.\n"

// Next passes over what is left of the present block and returns the next one.
// It returns io.EOF only where the dump ends, and ends where a dump does.
func (b *Blocks) Next() (Block, error) {
	if _, err := b.next(); err != nil {
		return Block{}, err
	}
	return Block{Table: b.counter.table, Columns: copyColumns(b.header)}, nil
}

// next goes on to the next block, or statement where those are wanted, and reports
// whether it is a block.
func (b *Blocks) next() (rows bool, err error) {
	b.text = b.text[:0]
	for {
		if b.counter.state == lexRows {
			if _, err := io.Copy(io.Discard, b); err != nil {
				return false, err
			}
			continue
		}
		b.held, b.out = b.held[:0], nil
		if len(b.pending) == 0 {
			if err := b.fill(); errors.Is(err, io.EOF) && b.counter.Complete() {
				return false, io.EOF
			} else if err != nil {
				return false, cutOff(err)
			}
			continue
		}
		if found, err := b.seek(); found || err != nil {
			return b.counter.state == lexRows, err
		}
	}
}

// seek looks at SQL up to where rows begin, or a statement ends that is wanted.
func (b *Blocks) seek() (found bool, err error) {
	for i, c := range b.pending {
		b.counter.lex(c)
		whole := false
		if b.gathers {
			if whole, err = b.gather(c); err != nil {
				return false, err
			}
		}
		if b.counter.state == lexRows {
			b.header, whole = append(b.header[:0], b.counter.statement...), true
		}
		if whole {
			b.pending = b.pending[i+1:]
			return true, nil
		}
	}
	b.pending = nil
	return false, nil
}

// gather takes a byte of the SQL for the present statement, and reports whether it
// is whole. That of a COPY of rows is when its rows begin.
func (b *Blocks) gather(c byte) (whole bool, err error) {
	b.text = append(b.text, c)
	if c == '\n' {
		b.line++
	}
	switch {
	case b.counter.meta:
		return false, refusedCommand()
	case b.counter.odd:
		return false, refusedText()
	case len(b.text) > maxStatement:
		return false, pgmedic.Errorf(pgmedic.KindIntegrity, distrust, "the dump holds a statement of more than %s", words.Size(maxStatement))
	}
	return b.counter.ended && b.counter.pending == "", nil
}

// Read implements io.Reader for the rows of the present block.
func (b *Blocks) Read(p []byte) (int, error) {
	n, err := b.read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.mu.Lock()
		b.failed = err
		b.mu.Unlock()
	}
	return n, err
}

func (b *Blocks) read(p []byte) (int, error) {
	for len(b.out) == 0 {
		if b.counter.state != lexRows {
			return 0, io.EOF
		}
		if len(b.pending) == 0 {
			if err := b.fill(); err != nil {
				return 0, cutOff(err)
			}
			continue
		}
		rest := b.counter.rows(b.pending)
		if b.counter.odd {
			return 0, refusedCommand()
		}
		rows := b.pending[:len(b.pending)-len(rest)]
		b.held, b.line = append(b.held, rows...), b.line+bytes.Count(rows, []byte("\n"))
		b.pending = rest
		keep := max(len(b.held)-len(endMark), 0)
		b.out = append([]byte(nil), b.held[:keep]...)
		b.held = append(b.held[:0], b.held[keep:]...)
		// What is held at a block's end is the mark itself.
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	return n, nil
}

func (b *Blocks) fill() error {
	if b.err != nil {
		return b.err
	}
	n, err := b.src.Read(b.buf)
	b.pending, b.err = b.buf[:n], err
	if n > 0 {
		return nil
	}
	return err
}

// cutOff makes of an end that comes too early the damage that it is.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup", "the dump ends in the middle")
	}
	return err
}

// copyColumns takes the columns out of COPY schema.table (columns) FROM stdin.
func copyColumns(statement []byte) []string {
	rest := strings.TrimPrefix(string(statement), "COPY ")
	for {
		_, tail, _ := cutIdent(rest)
		var more bool
		if rest, more = strings.CutPrefix(tail, "."); !more {
			columns, _, _ := cutColumns(tail)
			return columns
		}
	}
}
