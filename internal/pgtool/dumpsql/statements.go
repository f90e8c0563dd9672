package dumpsql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// maxStatement bounds a statement that is held to be sent whole. The server
// takes no longer one than 1 GiB; pg_dump writes large objects in parts of 16 KiB.
const maxStatement = 256 << 20

// Statement is one statement of a dump.
type Statement struct {
	// Entry is what it belongs to, as the comments above it or above one before it
	// say. It is zero for the settings at a dump's beginning.
	Entry Entry
	// SQL is the statement with the comments above it.
	SQL string
	// Number counts the dump's statements from 1.
	Number int
	// Table is, for a COPY whose rows are in the dump, the table's quoted name; else
	// it is empty.
	Table string
	// Line is the one of the dump in which it ends, or its rows begin.
	Line int

	blocks *Blocks
}

// EachStatement reads a dump and calls each with its statements, in their order.
// Where one ends is read as psql would. Nothing in it is a command to this host:
// psql's are refused. An error of script's Read wins over those of each, which end
// it, because it is the cause.
func EachStatement(script io.Reader, each func(*Statement) error) error {
	in := &Source{Reader: script}
	blocks := NewBlocks(in)
	blocks.gathers, blocks.line = true, 1
	s := &Statement{blocks: blocks}
	var err error
	for err == nil {
		var rows bool
		if rows, err = blocks.next(); err != nil {
			break
		}
		s.SQL, s.Table, s.Line = string(blocks.text), "", blocks.line
		s.Number++
		comments := leadingComments.FindString(s.SQL)
		if entry, ok := headed(comments); ok {
			s.Entry = entry
		} else if body := s.SQL[len(comments):]; alwaysStatement.MatchString(body) { // away from its own; see Script
			name, _, _ := strings.Cut(strings.TrimPrefix(body, "ALTER EVENT TRIGGER "), " ENABLE ALWAYS;")
			s.Entry = Entry{Type: "EVENT TRIGGER", Name: name}
		}
		if rows {
			s.Table = blocks.counter.table
			s.Line-- // of the COPY itself
		}
		err = each(s)
	}
	switch cause := in.Failure(); {
	case cause != nil:
		return cause
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}

// Run gives the statement, with its rows, to the server. Should the server read it
// otherwise, it refuses what it is given, or runs SQL, which a dump may hold anyway.
func (s *Statement) Run(ctx context.Context, conn *pgx.Conn) error {
	var err error
	if s.Table == "" {
		err = RunStatement(ctx, conn, s.SQL)
	} else {
		_, err = postgres.CopyIn(ctx, conn, s.blocks, s.SQL)
		if failed := s.blocks.Failure(); failed != nil {
			return failed
		}
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("load the dump: %w", context.Cause(ctx))
	}
	attempted := "load " + s.Entry.String()
	if s.Entry == (Entry{}) {
		attempted = fmt.Sprintf("load the dump: line %d", s.Line)
	}
	return postgres.Wrap(err, attempted)
}

// RunStatement runs one statement and discards what it returns. The server takes no
// second one: should it find more in the text, for it reads the end of the first
// elsewhere, it runs none of them, and that is an error of KindIntegrity. Should the
// statement be a COPY, the server waits for rows: it is told at once that there are none,
// which it ignores after any other statement. Other errors are the server's own.
func RunStatement(ctx context.Context, c *pgx.Conn, sql string) error {
	conn := c.PgConn()
	stop := context.AfterFunc(ctx, func() { _ = conn.Conn().SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	frontend := conn.Frontend()
	frontend.SendParse(&pgproto3.Parse{Query: sql})
	frontend.SendBind(&pgproto3.Bind{})
	frontend.SendExecute(&pgproto3.Execute{})
	frontend.Send(&pgproto3.CopyFail{Message: "no rows follow"})
	frontend.SendSync(&pgproto3.Sync{})
	if err := frontend.Flush(); err != nil {
		return fmt.Errorf("send a statement: %w", err)
	}
	var refused error
	for {
		message, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		switch message := message.(type) {
		case *pgproto3.ErrorResponse:
			refused = pgconn.ErrorResponseToPgError(message)
			if message.Code == "42601" && message.Routine == manyCommands {
				refused = pgmedic.Errorf(pgmedic.KindIntegrity, distrust, "the server finds several statements in one of the dump, and has run none of them")
			}
		case *pgproto3.ReadyForQuery:
			return refused
		}
	}
}

// manyCommands is the server's function that refuses several commands in one text. Other
// syntax errors have the same SQLSTATE.
const manyCommands = "exec_parse_message"

// Source keeps the error that ended a reader, for what reads it may make another of
// it.
type Source struct {
	Reader io.Reader

	mu  sync.Mutex
	err error
}

// Read implements io.Reader.
func (m *Source) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		m.mu.Lock()
		m.err = err
		m.mu.Unlock()
	}
	return n, err
}

// Failure returns the error, if one but the end ended the reader.
func (m *Source) Failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}
