package pgtool

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/pgmedic/pgmedic"
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

	// run, if not nil, is given each statement that is no COPY of rows. Text is the
	// present one, with the comments before it, and line is where it ends; sql is
	// the COPY whose rows are read.
	run  func(sql []byte) error
	text []byte
	sql  string
	line int

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
	for {
		if b.counter.state == lexRows {
			if _, err := io.Copy(io.Discard, b); err != nil {
				return Block{}, err
			}
			continue
		}
		b.held, b.out = b.held[:0], nil
		if len(b.pending) == 0 {
			if err := b.fill(); errors.Is(err, io.EOF) && b.counter.Complete() {
				return Block{}, io.EOF
			} else if err != nil {
				return Block{}, cutOff(err)
			}
			continue
		}
		if found, err := b.seek(); err != nil {
			return Block{}, err
		} else if found {
			return Block{Table: b.counter.table, Columns: copyColumns(b.header)}, nil
		}
	}
}

// seek looks at SQL up to where rows begin.
func (b *Blocks) seek() (found bool, err error) {
	for i, c := range b.pending {
		b.counter.lex(c)
		if b.run != nil {
			if err := b.gather(c); err != nil {
				return false, err
			}
		}
		if b.counter.state == lexRows {
			b.header = append(b.header[:0], b.counter.statement...)
			b.sql, b.text = string(b.text), b.text[:0]
			b.pending = b.pending[i+1:]
			return true, nil
		}
	}
	b.pending = nil
	return false, nil
}

// gather takes a byte of the SQL for the present statement, and runs it at its
// end.
func (b *Blocks) gather(c byte) error {
	switch b.text = append(b.text, c); {
	case b.counter.meta:
		return refusedCommand()
	case b.counter.odd:
		return refusedText()
	case len(b.text) > maxStatement:
		return pgmedic.Errorf(pgmedic.KindIntegrity, distrust, "the dump holds a statement of more than %d MiB", maxStatement>>20)
	case b.counter.ended && b.counter.pending == "":
		if err := b.run(b.text); err != nil {
			return err
		}
		b.text = b.text[:0]
	}
	if c == '\n' {
		b.line++
	}
	return nil
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
