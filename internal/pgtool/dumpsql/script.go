package dumpsql

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"

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
	// Rows counts what passes, or would; nothing of another database than Database.
	Rows RowCounter
	// Without is what does not.
	Without Without
	// Connects allows the \connect that pg_dump -C and pg_dumpall write, which is left
	// out. Database, if not empty, is the one whose part of pg_dumpall's script passes;
	// if it is empty, all of them must name the same one.
	Connects bool
	Database string

	src  io.Reader
	buf  []byte
	out  bytes.Buffer
	meta []byte // a psql command that has not come whole
	err  error

	held    []byte // of a statement that may be left out, or come last
	passing bool   // the statement is longer than any of those
	last    []byte // what comes last
	leaving bool   // the rows of a COPY that was left out

	connected string // what the last \connect named
	found     bool   // one named Database
	comment   []byte // of one line
	ended     bool   // by pg_dump's mark, and no statement has come since
	behind    bool   // the mark ended Database's part, and only otherDatabase has come since
	next      int    // how much of held is statements of otherDatabase
}

// Ended reports whether what passed ended as pg_dump ends a dump, with a comment that
// says so and no statement behind it. What pg_dumpall writes behind Database's part to
// make the next database is no such statement, and does not pass.
func (s *Script) Ended() bool { return s.ended }

// Found reports whether the part of Database was there, as far as was read.
func (s *Script) Found() bool { return s.found }

// Connected is the database that the last \connect named; empty where none did.
func (s *Script) Connected() string { return s.connected }

// muted reports whether what comes is another database's.
func (s *Script) muted() bool { return s.Database != "" && s.connected != s.Database }

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
				s.err = refusedCommand(s.meta...)
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

// CommandError is that of a script that holds a command of psql's.
type CommandError struct {
	// Name is its first word, such as \copy; empty where it is none.
	Name string
}

// Error implements error.
func (c *CommandError) Error() string {
	if c.Name == "" {
		return "the dump holds a psql command, which pg_dump does not write"
	}
	return "the dump holds a psql command (" + c.Name + "), which pg_dump does not write"
}

var (
	// commandName is the beginning of a command; what comes behind may be data.
	commandName = regexp.MustCompile(`^\\([a-z_]{1,20}\+?|[!?])`)
	// pg_dump writes names of other characters as a connection string in quotes, and an
	// encoding for psql to read it by.
	connectName   = regexp.MustCompile(`^\\connect ([A-Za-z0-9_.]+)\r?\n$`)
	connectString = regexp.MustCompile(`^(?:\\encoding SQL_ASCII\r?\n)?\\connect -reuse-previous=on "((?:[^"]|"")*)"\r?\n$`)
)

// connectEncoding is that encoding. It is read with the \connect on the next line as one
// command, because nowhere else does pg_dump write it.
var connectEncoding = regexp.MustCompile(`^\\encoding SQL_ASCII\r?\n$`)

// connection is the database that a command connects to.
func connection(command []byte) (database string, ok bool) {
	if m := connectName.FindSubmatch(command); m != nil {
		return string(m[1]), true
	}
	m := connectString.FindSubmatch(command)
	if m == nil {
		return "", false
	}
	name, ok := strings.CutPrefix(strings.ReplaceAll(string(m[1]), `""`, `"`), "dbname=")
	if quoted, is := strings.CutPrefix(name, "'"); is {
		if name, is = strings.CutSuffix(quoted, "'"); !is {
			return "", false
		}
		name = strings.NewReplacer(`\\`, `\`, `\'`, `'`).Replace(name)
	}
	return name, ok && name != ""
}

// connect takes a command that connects to a database, and reports whether it may be
// left out.
func (s *Script) connect(command []byte) bool {
	name, ok := connection(command)
	if !ok || !s.Connects || s.Database == "" && s.connected != "" && s.connected != name {
		return false
	}
	s.connected, s.found = name, s.found || name == s.Database
	s.held = append(s.held[:0], s.held[s.next:]...)
	s.behind, s.next = false, 0
	if s.muted() {
		s.release() // comments
	}
	return true
}

// endOfDump is what pg_dump's last comment says.
const endOfDump = " PostgreSQL database dump complete"

// watchEnd follows the comments for the one that ends a dump.
func (s *Script) watchEnd(b byte) {
	switch {
	case s.Rows.state == lexLineComment:
		if len(s.comment) < 2*len(endOfDump) {
			s.comment = append(s.comment, b)
		}
	case len(s.comment) > 0:
		// The first byte is the second dash.
		if string(bytes.TrimRight(s.comment[1:], "\r")) == endOfDump {
			s.ended, s.behind = true, s.Database != "" && !s.Rows.other && len(s.Rows.statement) == 0
		}
		s.comment = s.comment[:0]
	case s.Rows.other || len(s.Rows.statement) > 1: // a statement, or more than what may become a comment
		s.ended = false
	}
}

const distrust = "do not restore this backup: find out who wrote it"

func refusedCommand(command ...byte) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, distrust, "%w", &CommandError{Name: string(commandName.Find(command))})
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
	s.Rows.muted = s.muted()
	s.Rows.lex(b)
	switch {
	case s.Rows.odd:
		s.err = refusedText()
	case s.Rows.meta || len(s.meta) > 0:
		s.meta = append(s.meta, b)
		if (b != '\n' || connectEncoding.Match(s.meta)) && len(s.meta) < 256 {
			return
		}
		if !ownCommand.Match(s.meta) && !s.connect(s.meta) {
			if _, connects := connection(s.meta); connects {
				s.meta = []byte(`\connect`) // not the encoding ahead of it
			}
			s.err = refusedCommand(s.meta...)
			return
		}
		s.meta = s.meta[:0]
		s.passOn('\n', false)
	case inNormal && b == '\\':
		s.err = refusedCommand() // psql takes one in the middle of a statement, too
	default:
		if s.Rows.muted {
			return
		}
		s.watchEnd(b)
		s.passOn(b, s.Rows.ended)
	}
}
