package dumpsql

import (
	"bytes"
	"errors"
	"io"
	"regexp"

	"github.com/pgmedic/pgmedic"
)

// Script passes pg_dump's SQL on, less what psql would take for a command of its
// own: by \! a dump that somebody forged could run programs as the user who gives it
// to psql.
//
// The two that pg_dump writes itself, \restrict and \unrestrict, are left out,
// and every other one ends the script with an error of KindIntegrity, as does text
// that programs read in more than one way and pg_dump does not write.
//
// What makes an event trigger fire in every session comes last: pg_dump writes it
// before it refreshes materialized views, and the trigger would fire for those.
type Script struct {
	// Rows counts what passes, or would.
	Rows RowCounter
	// Without is what does not.
	Without Without

	src  io.Reader
	buf  []byte
	out  bytes.Buffer
	meta []byte // a psql command that has not come whole
	err  error

	held    []byte // of a statement that may be left out, or come last
	passing bool   // the statement is longer than any of those
	last    []byte // what comes last
	leaving bool   // the rows of a COPY that was left out
}

// NewScript returns the script that r holds.
func NewScript(r io.Reader) *Script { return &Script{src: r, buf: make([]byte, 64<<10)} }

// Read implements io.Reader. Nothing behind a refused command is passed on.
func (s *Script) Read(p []byte) (int, error) {
	for s.out.Len() == 0 {
		if s.err != nil {
			return 0, s.err
		}
		n, err := s.src.Read(s.buf)
		s.filter(s.buf[:n])
		if s.err == nil && err != nil {
			s.err = err
			if errors.Is(err, io.EOF) && len(s.meta) > 0 {
				s.err = refusedCommand()
			}
			s.release()
			if errors.Is(s.err, io.EOF) {
				s.out.Write(s.last)
			}
		}
	}
	return s.out.Read(p)
}

// ownCommand is what pg_dump writes around its SQL.
var ownCommand = regexp.MustCompile(`^\\(un)?restrict [A-Za-z0-9]+\r?\n$`)

const distrust = "do not restore this backup: find out who wrote it"

func refusedCommand() error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, distrust, "the dump holds a psql command, which pg_dump does not write")
}

func refusedText() error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, distrust, "the dump holds text that programs read in more than one way, which pg_dump does not write")
}

func (s *Script) filter(p []byte) {
	if bytes.IndexByte(p, 0) >= 0 {
		s.err = refusedCommand() // psql's lines end there: it would find other rows and commands than we
		return
	}
	for len(p) > 0 && s.err == nil {
		if s.Rows.state == lexRows {
			rest := s.Rows.rows(p)
			if s.Rows.odd {
				s.err = refusedCommand()
				return
			}
			s.passRows(p[:len(p)-len(rest)])
			p = rest
			continue
		}
		s.step(p[0])
		p = p[1:]
	}
}

// step passes one byte on that is not of a table's rows.
func (s *Script) step(b byte) {
	inNormal := s.Rows.state == lexNormal
	s.Rows.lex(b)
	switch {
	case s.Rows.odd:
		s.err = refusedText()
	case s.Rows.meta || len(s.meta) > 0:
		s.meta = append(s.meta, b)
		if b != '\n' && len(s.meta) < 256 {
			return
		}
		if !ownCommand.Match(s.meta) {
			s.err = refusedCommand()
			return
		}
		s.meta = s.meta[:0]
		s.passOn('\n', false)
	case inNormal && b == '\\':
		s.err = refusedCommand() // psql takes one in the middle of a statement, too
	default:
		s.passOn(b, s.Rows.ended)
	}
}
