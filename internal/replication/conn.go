// Package replication speaks PostgreSQL's protocol of physical replication: which
// cluster a server is, its slots, the histories of its timelines, its WAL as a stream,
// and base backups. A role with the attribute REPLICATION can do all of it.
package replication

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// The errors that callers branch on; postgres.Wrap's error is in their chain.
var (
	// ErrRemoved: the server no longer has the WAL that was asked for.
	ErrRemoved = errors.New("the server has removed that WAL")
	// ErrHistoryMissing: the server has no history of that timeline.
	ErrHistoryMissing = errors.New("the server does not have that history")
	// ErrSlotMissing: there is no slot of that name on this server.
	ErrSlotMissing = errors.New("there is no such replication slot")
	// ErrSlotExists: a slot of that name is there.
	ErrSlotExists = errors.New("there is a replication slot of that name")
	// ErrSlotActive: another connection uses the slot.
	ErrSlotActive = errors.New("another process uses the replication slot")
	// ErrSlotLost: the server has invalidated the slot, and will not use it again.
	ErrSlotLost = errors.New("the replication slot is lost")
	// ErrSlotLogical: the slot is one for logical decoding, and so somebody else's.
	ErrSlotLogical = errors.New("the replication slot is a logical one, of another program")
)

// Conn is a connection for replication. It is not safe for concurrent use.
type Conn struct{ pg *pgconn.PgConn }

// Connect opens a connection for replication.
func Connect(ctx context.Context, t postgres.Target) (*Conn, error) {
	pg, err := postgres.ConnectReplication(ctx, t)
	if err != nil {
		return nil, err
	}
	return &Conn{pg: pg}, nil
}

// Close ends the connection within a few seconds, also when ctx has ended.
func (c *Conn) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	_ = c.pg.Close(ctx)
}

// System is what a server says of itself.
type System struct {
	// Identifier is the number that initdb gave the cluster.
	Identifier uint64
	// Timeline is the one that the server is on, and Flushed the end of its WAL.
	Timeline    wal.Timeline
	Flushed     wal.LSN
	SegmentSize wal.SegmentSize
	// Standby is true for a server in recovery: Flushed is then what it has received, and
	// says nothing of its primary. A server of version 12 or 13 on which transactions are
	// read only by default is taken for one.
	Standby bool
	// Version is PostgreSQL's, such as 15.18.
	Version string
}

// Identify asks the server what it is.
func (c *Conn) Identify(ctx context.Context) (System, error) {
	const attempted = "ask the server which cluster it is"
	version, _, _ := strings.Cut(c.pg.ParameterStatus("server_version"), " ") // and what the packager added
	s := System{Version: version}
	rows, err := c.query(ctx, "IDENTIFY_SYSTEM")
	if err != nil {
		return s, refused(err, attempted)
	}
	size, err := c.query(ctx, "SHOW wal_segment_size")
	if err != nil {
		return s, refused(err, attempted)
	}
	if len(rows) != 1 || len(rows[0]) < 3 || len(size) != 1 || len(size[0]) < 1 {
		return s, unexpected(attempted)
	}
	tli, tliErr := strconv.ParseUint(rows[0][1], 10, 32)
	if s.Identifier, err = strconv.ParseUint(rows[0][0], 10, 64); err != nil || tliErr != nil || tli == 0 {
		return s, unexpected(attempted)
	}
	s.Timeline = wal.Timeline(tli)
	if s.Flushed, err = wal.ParseLSN(rows[0][2]); err != nil {
		return s, unexpected(attempted)
	}
	if s.SegmentSize, err = wal.ParseSegmentSize(size[0][0]); err != nil {
		return s, unexpected(attempted)
	}
	// Not the parameter's status: that is of when the connection began.
	setting := "in_hot_standby"
	if c.major() < 14 {
		setting = "transaction_read_only"
	}
	standby, err := c.query(ctx, "SHOW "+setting)
	if err != nil {
		return s, refused(err, attempted)
	}
	if len(standby) != 1 || len(standby[0]) < 1 {
		return s, unexpected(attempted)
	}
	s.Standby = standby[0][0] == "on"
	return s, nil
}

// SlotsLimited reports whether the server bounds how much WAL it keeps for slots, by
// max_slot_wal_keep_size, which PostgreSQL 12 does not have.
func (c *Conn) SlotsLimited(ctx context.Context) bool {
	rows, err := c.query(ctx, "SHOW max_slot_wal_keep_size")
	return err == nil && len(rows) == 1 && len(rows[0]) == 1 && rows[0][0] != "-1"
}

// History returns the history of a timeline as the server stores it. Timeline 1 has none.
// ErrHistoryMissing is found in the error where the server no longer has the file.
func (c *Conn) History(ctx context.Context, t wal.Timeline) ([]byte, error) {
	attempted := fmt.Sprintf("read the history of timeline %d", t)
	rows, err := c.query(ctx, fmt.Sprintf("TIMELINE_HISTORY %d", t))
	if postgres.Code(err) == codeFile {
		return nil, &pgmedic.Error{
			Kind: pgmedic.KindFailed, Hint: "copy " + wal.HistoryName(t) + " into the server's pg_wal, from another server of the cluster",
			Err: fmt.Errorf("%s: %w", attempted, &sentinel{ErrHistoryMissing, postgres.Wrap(err, attempted)}),
		}
	}
	if err != nil {
		return nil, refused(err, attempted)
	}
	if len(rows) != 1 || len(rows[0]) < 2 || rows[0][0] != wal.HistoryName(t) || len(rows[0][1]) > wal.MaxHistoryBytes {
		return nil, unexpected(attempted)
	}
	return []byte(rows[0][1]), nil
}

// slotName is what PostgreSQL accepts as the name of a slot.
var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// CheckSlotName refuses, with a pgmedic.KindUsage error, what can't be the name of a slot.
func CheckSlotName(name string) error {
	if slotName.MatchString(name) {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindUsage, "use up to 63 lower-case letters, digits and underscores",
		"%.80q is not a valid name of a replication slot", name)
}

// CreateSlot makes a permanent slot, for which the server keeps its WAL from the last
// checkpoint on.
func (c *Conn) CreateSlot(ctx context.Context, name string) error {
	if err := CheckSlotName(name); err != nil {
		return err
	}
	_, err := c.query(ctx, fmt.Sprintf(`CREATE_REPLICATION_SLOT "%s" PHYSICAL RESERVE_WAL`, name))
	return refused(err, "create replication slot "+name)
}

// DropSlot removes a physical slot. One that is in use is ErrSlotActive, and one for
// logical decoding, which is left alone, ErrSlotLogical.
func (c *Conn) DropSlot(ctx context.Context, name string) error {
	if err := CheckSlotName(name); err != nil {
		return err
	}
	if err := c.checkPhysical(ctx, name); err != nil {
		return err
	}
	_, err := c.query(ctx, fmt.Sprintf(`DROP_REPLICATION_SLOT "%s"`, name))
	return refused(err, "drop replication slot "+name)
}

// noPosition is a position that no server has reached.
const noPosition wal.LSN = math.MaxUint64 &^ 0xffffff

// checkPhysical returns ErrSlotLogical for a slot that is not physical. SQL is not
// understood on this connection.
func (c *Conn) checkPhysical(ctx context.Context, name string) error {
	attempted := "read the type of replication slot " + name
	if c.major() >= 15 {
		rows, err := c.query(ctx, fmt.Sprintf(`READ_REPLICATION_SLOT "%s"`, name))
		switch {
		case postgres.Code(err) == codeUnsupported:
			return logicalSlot(name)
		case err != nil:
			return refused(err, attempted)
		case len(rows) != 1 || len(rows[0]) < 1:
			return unexpected(attempted)
		case rows[0][0] == "":
			return &pgmedic.Error{Kind: pgmedic.KindFailed, Err: fmt.Errorf("%s: %w", attempted, ErrSlotMissing)}
		case rows[0][0] != "physical":
			return logicalSlot(name)
		}
		return nil
	}
	// Older servers have no command for it. They look at the slot's type before they
	// refuse the position.
	c.pg.Frontend().Send(&pgproto3.Query{String: fmt.Sprintf(`START_REPLICATION SLOT "%s" PHYSICAL %v`, name, noPosition)})
	if err := c.pg.Frontend().Flush(); err != nil {
		return lost(err, attempted)
	}
	physical, problem := false, unexpected(attempted)
	for {
		message, err := c.pg.ReceiveMessage(ctx)
		if err != nil {
			return lost(err, attempted)
		}
		switch m := message.(type) {
		case *pgproto3.CopyBothResponse:
			physical = true
		case *pgproto3.ErrorResponse:
			if problem = refused(pgconn.ErrorResponseToPgError(m), attempted); m.Code == codeState {
				problem = logicalSlot(name)
			}
		case *pgproto3.ReadyForQuery:
			if physical {
				return nil
			}
			return problem
		}
	}
}

func logicalSlot(name string) error {
	return pgmedic.Errorf(pgmedic.KindConflict, "give the stream a slot of its own (--slot)", "use replication slot %s: %w", name, ErrSlotLogical)
}

// major returns the server's major version, or 0.
func (c *Conn) major() int {
	digits, _, _ := strings.Cut(c.pg.ParameterStatus("server_version"), " ")
	digits, _, _ = strings.Cut(digits, ".")
	if i := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = digits[:i] // such as 19beta1
	}
	n, _ := strconv.Atoi(digits)
	return n
}

// query runs one command and returns its rows as text.
func (c *Conn) query(ctx context.Context, command string) ([][]string, error) {
	results, err := c.pg.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for _, result := range results {
		for _, row := range result.Rows {
			values := make([]string, len(row))
			for i, value := range row {
				values[i] = string(value)
			}
			rows = append(rows, values)
		}
	}
	return rows, nil
}

func unexpected(attempted string) error {
	return pgmedic.Errorf(pgmedic.KindUnreachable, "connect to PostgreSQL 12 or newer itself, not to a program between",
		"%s: the answer is not that of a PostgreSQL server", attempted)
}

// The codes of PostgreSQL that mean one thing for a stream, and others elsewhere.
const (
	codeFile  = "58P01" // undefined_file
	codeState = "55000" // object_not_in_prerequisite_state
	// codeUnsupported is also what READ_REPLICATION_SLOT says of a logical slot.
	codeUnsupported = "0A000" // feature_not_supported
)

// refusedStream is refused for what was streamed: a file that is missing there is WAL.
func refusedStream(err error, attempted string) error {
	if postgres.Code(err) != codeFile {
		return refused(err, attempted)
	}
	return &pgmedic.Error{
		Kind: pgmedic.KindFailed, Hint: "keep more WAL on the server: a replication slot, or a larger max_slot_wal_keep_size or wal_keep_size",
		Err: fmt.Errorf("%s: %w", attempted, &sentinel{ErrRemoved, postgres.Wrap(err, attempted)}),
	}
}

// refused adds to a server's error what callers branch on.
func refused(err error, attempted string) error {
	if err == nil {
		return nil
	}
	var what error
	kind, hint := pgmedic.KindFailed, ""
	switch postgres.Code(err) {
	case "42704":
		what = ErrSlotMissing
	case "42710":
		what, kind = ErrSlotExists, pgmedic.KindConflict
	case "55006":
		what, kind, hint = ErrSlotActive, pgmedic.KindConflict, "find the other one: SELECT * FROM pg_catalog.pg_stat_replication; each streamer takes a slot of its own (--slot)"
	default:
		return postgres.Wrap(err, attempted)
	}
	return &pgmedic.Error{Kind: kind, Hint: hint, Err: fmt.Errorf("%s: %w", attempted, &sentinel{what, postgres.Wrap(err, attempted)})}
}

// sentinel is an error that callers branch on, in the words of its own, and with the
// server's error in its chain.
type sentinel struct{ what, server error }

func (s *sentinel) Error() string   { return s.what.Error() }
func (s *sentinel) Unwrap() []error { return []error{s.what, s.server} }
