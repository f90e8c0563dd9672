package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// writeTimeout is how long a status may take to be sent. It has some 40 bytes: a server
// that takes none in this time is gone.
const writeTimeout = 30 * time.Second

// StartOptions say what is streamed.
type StartOptions struct {
	// Slot is the slot that the server notes our position in. Empty is none.
	Slot string
	// Timeline and From are where to begin: the start of a segment.
	Timeline wal.Timeline
	From     wal.LSN
}

// Message is one message of a stream.
type Message struct {
	// Data is WAL, from the position From on. It is valid until the next Receive. It is
	// nil in a message that only says where the server is.
	From wal.LSN
	Data []byte
	// ServerEnd is the end of the server's WAL, and ServerTime its clock.
	ServerEnd  wal.LSN
	ServerTime time.Time
	// Reply is true where the server asks for a status at once.
	Reply bool
	// Ended is true once the server has sent the last WAL of the timeline, or is
	// stopping. Next and NextFrom are then the timeline that follows and where it
	// begins; they are zero where the server only stops.
	Ended    bool
	Next     wal.Timeline
	NextFrom wal.LSN
}

// Stream is WAL that a server sends. It is not safe for concurrent use.
type Stream struct {
	c      *Conn
	o      StartOptions
	ended  bool
	status [34]byte
}

// Start begins a stream. ErrRemoved, ErrSlotMissing, ErrSlotActive, ErrSlotLost and
// ErrSlotLogical are found in its errors. The connection is the stream's until the stream has ended.
func (c *Conn) Start(ctx context.Context, o StartOptions) (*Stream, error) {
	slot := ""
	if o.Slot != "" {
		if err := CheckSlotName(o.Slot); err != nil {
			return nil, err
		}
		slot = fmt.Sprintf(`SLOT "%s" `, o.Slot)
	}
	attempted := fmt.Sprintf("stream WAL of timeline %d from %v", o.Timeline, o.From)
	if o.Slot != "" {
		attempted += " with slot " + o.Slot
	}
	c.pg.Frontend().Send(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION %sPHYSICAL %v TIMELINE %d", slot, o.From, o.Timeline)})
	if err := c.pg.Frontend().Flush(); err != nil {
		return nil, lost(err, attempted)
	}
	s := &Stream{c: c, o: o}
	var problem error
	for {
		message, err := c.pg.ReceiveMessage(ctx)
		if err != nil {
			return nil, lost(err, attempted)
		}
		switch m := message.(type) {
		case *pgproto3.CopyBothResponse:
			return s, nil
		case *pgproto3.ErrorResponse:
			problem = refusedStream(pgconn.ErrorResponseToPgError(m), attempted)
		case *pgproto3.ReadyForQuery:
			if postgres.Code(problem) == codeState && o.Slot != "" {
				// A slot that is lost, or a logical one.
				if err := c.checkPhysical(ctx, o.Slot); err != nil {
					return nil, err
				}
				problem = &pgmedic.Error{Kind: pgmedic.KindFailed, Err: fmt.Errorf("%s: %w", attempted, &sentinel{ErrSlotLost, problem})}
			}
			if problem == nil {
				// A timeline that ends where it was asked for has nothing to send.
				problem = unexpected(attempted)
			}
			return nil, problem
		}
	}
}

// Receive returns the next message. Where ctx ends first, the error is that of ctx, and
// the stream goes on.
func (s *Stream) Receive(ctx context.Context) (Message, error) {
	attempted := fmt.Sprintf("stream WAL of timeline %d", s.o.Timeline)
	var next Message
	for {
		message, err := s.c.pg.ReceiveMessage(ctx)
		if err != nil {
			switch {
			case ctx.Err() != nil && (pgconn.Timeout(err) || errors.Is(err, context.Canceled)):
				return Message{}, context.Cause(ctx)
			case s.ended && postgres.Code(err) == "":
				return Message{Ended: true}, nil // it has said that it stops
			}
			return Message{}, lost(err, attempted)
		}
		switch m := message.(type) {
		case *pgproto3.CopyData:
			if read, ok := parse(m.Data); ok {
				return read, nil
			}
			return Message{}, unexpected(attempted)
		case *pgproto3.CopyDone:
			s.ended = true
			s.c.pg.Frontend().Send(&pgproto3.CopyDone{})
			if err := s.c.pg.Frontend().Flush(); err != nil {
				return Message{Ended: true}, nil //nolint:nilerr // it has said that it stops
			}
		case *pgproto3.DataRow:
			if next, err = parseNext(m); err != nil {
				return Message{}, unexpected(attempted)
			}
		case *pgproto3.ErrorResponse:
			return Message{}, refusedStream(pgconn.ErrorResponseToPgError(m), attempted)
		case *pgproto3.ReadyForQuery:
			next.Ended = true
			return next, nil
		}
	}
}

// parse reads what a server sends within a stream.
func parse(b []byte) (Message, bool) {
	be := binary.BigEndian
	switch {
	case len(b) >= 25 && b[0] == 'w':
		return Message{
			From: wal.LSN(be.Uint64(b[1:])), ServerEnd: wal.LSN(be.Uint64(b[9:])), ServerTime: wal.ServerTime(int64(be.Uint64(b[17:]))), Data: b[25:],
		}, true
	case len(b) >= 18 && b[0] == 'k':
		return Message{ServerEnd: wal.LSN(be.Uint64(b[1:])), ServerTime: wal.ServerTime(int64(be.Uint64(b[9:]))), Reply: b[17] == 1}, true
	}
	return Message{}, false
}

// parseNext reads which timeline follows.
func parseNext(row *pgproto3.DataRow) (m Message, err error) {
	if len(row.Values) < 2 {
		return m, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(string(row.Values[0]), 10, 32)
	if err != nil {
		return m, err
	}
	m.Next = wal.Timeline(n)
	m.NextFrom, err = wal.ParseLSN(string(row.Values[1]))
	return m, err
}

// Status is the position that is reported to the server.
type Status struct {
	// Written is up to where WAL was received, Flushed up to where it is stored: the
	// slot moves with that, and synchronous commits wait for it.
	Written, Flushed wal.LSN
	// Reply asks for a message at once: a server that has nothing to send says nothing
	// on its own as long as it hears from us.
	Reply bool
	// Now is our clock.
	Now time.Time
}

// Send tells the server our position.
func (s *Stream) Send(status Status) error {
	be := binary.BigEndian
	b := s.status[:]
	b[0], b[33] = 'r', 0
	be.PutUint64(b[1:], uint64(status.Written))
	be.PutUint64(b[9:], uint64(status.Flushed))
	// Nothing is applied, and 0 would count as a replay that lags more and more.
	be.PutUint64(b[17:], uint64(status.Flushed))
	be.PutUint64(b[25:], uint64(wal.ServerMicroseconds(status.Now)))
	if status.Reply {
		b[33] = 1
	}
	conn := s.c.pg.Conn()
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // it fails where the write does
	s.c.pg.Frontend().Send(&pgproto3.CopyData{Data: b})
	err := s.c.pg.Frontend().Flush()
	_ = conn.SetWriteDeadline(time.Time{})
	return lost(err, "tell the server our position")
}

// lost is the error of a connection that can no longer be used.
func lost(err error, attempted string) error {
	if err == nil {
		return nil
	}
	wrapped := postgres.Wrap(err, attempted)
	if postgres.Code(err) != "" || pgmedic.KindOf(wrapped) != pgmedic.KindFailed {
		return wrapped
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable, "check the server's log and the network", "%s: the connection was lost: %w", attempted, err)
}
