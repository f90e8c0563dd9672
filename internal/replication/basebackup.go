package replication

import (
	"context"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// The bounds of what a server says of a base backup.
const (
	// maxMessage is the largest message: a server sends 32 KiB of files at a time.
	maxMessage = 1 << 20
	// maxTablespaces is how many there may be, and maxLocation how long the path of each.
	maxTablespaces = 10000
	maxLocation    = 4096
)

// The limits of BaseBackupOptions.MaxRate, which are PostgreSQL's.
const (
	MinBackupRate = 32 << 10
	MaxBackupRate = 1 << 30
)

// BaseBackupOptions say how a base backup is taken, and to whom its parts go. The
// functions are called one after the other, in the order that the server sends in: each
// archive is read to its end before the next begins.
type BaseBackupOptions struct {
	// Label stands in backup_label: letters, digits, spaces and .-_ only.
	Label string
	// Fast asks for the checkpoint that it begins with at once. Otherwise the server spreads
	// it over checkpoint_timeout, which spares its disks.
	Fast bool
	// MaxRate bounds the bytes a second that the server sends. Zero means no bound.
	MaxRate int64
	// Incremental asks for what was changed since the backup whose manifest UploadManifest has
	// sent on this connection. PostgreSQL 17 or newer.
	Incremental bool
	// Started receives where the backup begins, before any archive.
	Started func(BaseBackupStart) error
	// Archive receives the tar archive of a tablespace, by its OID, or of the data directory,
	// whose OID here is 0.
	Archive func(tablespace uint32, archive io.Reader) error
	// Manifest receives the server's manifest, behind all archives. PostgreSQL 12 has none.
	Manifest func(manifest io.Reader) error
	// Warning receives what the server warns of, such as a file that it leaves out. It may be
	// nil.
	Warning func(message string)
}

// BaseBackupStart is where a base backup begins.
type BaseBackupStart struct {
	Timeline wal.Timeline
	LSN      wal.LSN
	// Tablespaces are those outside of the data directory. SizeBytes of each, and of the data
	// directory itself, are estimates.
	Tablespaces []BaseBackupTablespace
	SizeBytes   int64
}

// BaseBackupTablespace is a tablespace of a base backup.
type BaseBackupTablespace struct {
	OID       uint32
	Location  string
	SizeBytes int64
}

// BaseBackupEnd is where a base backup ends: WAL up to there makes it consistent.
type BaseBackupEnd struct {
	Timeline wal.Timeline
	LSN      wal.LSN
}

var labelPattern = regexp.MustCompile(`^[A-Za-z0-9 ._-]{1,200}$`)

// check refuses, with a pgmedic.KindUsage error, what the server would refuse later.
func (o BaseBackupOptions) check() error {
	if !labelPattern.MatchString(o.Label) {
		return fmt.Errorf("take a base backup: %.80q can't be its label", o.Label)
	}
	if o.MaxRate != 0 && (o.MaxRate < MinBackupRate || o.MaxRate > MaxBackupRate) {
		return pgmedic.Errorf(pgmedic.KindUsage, "use a rate from 32KiB to 1GiB, or 0 for no limit", "a base backup is not sent at %d bytes a second", o.MaxRate)
	}
	return nil
}

// command is BASE_BACKUP in the words of the server's version.
func (o BaseBackupOptions) command(major int) string {
	// The server's own check of checksums ends the whole backup at its end, and costs it time:
	// the pages are checked here. CRC32C is what hardware counts.
	checkpoint, rate := "spread", o.MaxRate>>10
	if o.Fast {
		checkpoint = "fast"
	}
	if major < 15 {
		words := []string{"BASE_BACKUP LABEL '" + o.Label + "' PROGRESS"}
		if o.Fast {
			words = append(words, "FAST")
		}
		words = append(words, "NOWAIT")
		if rate > 0 {
			words = append(words, fmt.Sprintf("MAX_RATE %d", rate))
		}
		words = append(words, "TABLESPACE_MAP NOVERIFY_CHECKSUMS")
		if major >= 13 {
			words = append(words, "MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'")
		}
		return strings.Join(words, " ")
	}
	options := []string{
		"LABEL '" + o.Label + "'", "PROGRESS true", "CHECKPOINT '" + checkpoint + "'", "WAIT false", "TABLESPACE_MAP true",
		"VERIFY_CHECKSUMS false", "MANIFEST 'yes'", "MANIFEST_CHECKSUMS 'CRC32C'",
	}
	if o.Incremental {
		options = append(options, "INCREMENTAL true")
	}
	if rate > 0 {
		options = append(options, fmt.Sprintf("MAX_RATE %d", rate))
	}
	return "BASE_BACKUP (" + strings.Join(options, ", ") + ")"
}

// BaseBackup takes a base backup. It returns when the server has sent all of it; an error
// of one of the functions is returned as it is, and the connection can't be used then.
func (c *Conn) BaseBackup(ctx context.Context, o BaseBackupOptions) (BaseBackupEnd, error) {
	if err := o.check(); err != nil {
		return BaseBackupEnd{}, err
	}
	b := &baseBackup{ctx: ctx, pg: c.pg, o: o, major: c.major()}
	frontend := c.pg.Frontend()
	frontend.SetMaxBodyLen(maxMessage)
	frontend.Send(&pgproto3.Query{String: o.command(b.major)})
	if err := frontend.Flush(); err != nil {
		return BaseBackupEnd{}, lost(err, attemptedBackup)
	}
	for {
		message, err := b.receive()
		if err != nil {
			return BaseBackupEnd{}, err
		}
		switch m := message.(type) {
		case *pgproto3.RowDescription:
			b.set++
		case *pgproto3.DataRow:
			err = b.row(m)
		case *pgproto3.CommandComplete:
			if b.set == setTablespaces && !b.started {
				err = b.start()
			}
		case *pgproto3.CopyOutResponse:
			err = b.copy()
		case *pgproto3.ReadyForQuery:
			return b.end, b.whole()
		}
		if err != nil {
			return BaseBackupEnd{}, err
		}
	}
}

const attemptedBackup = "take a base backup"

// The sets of rows that the server sends.
const (
	setStart = iota + 1
	setTablespaces
	setEnd
)

// baseBackup is one that is being received.
type baseBackup struct {
	ctx   context.Context //nolint:containedctx // that of one call
	pg    *pgconn.PgConn
	o     BaseBackupOptions
	major int

	set     int // which set of rows comes
	begin   BaseBackupStart
	started bool
	// order are the tablespaces in the server's order; that of the data directory is 0.
	order []uint32
	// archives counts those that came, and manifest is true behind the manifest.
	received map[uint32]bool
	copies   int
	manifest bool
	end      BaseBackupEnd
	ended    bool
}

// receive returns the next message that is not a notice. A server's error is one.
func (b *baseBackup) receive() (pgproto3.BackendMessage, error) {
	for {
		message, err := b.pg.ReceiveMessage(b.ctx)
		if err != nil {
			if b.ctx.Err() != nil {
				return nil, context.Cause(b.ctx)
			}
			return nil, lost(err, attemptedBackup)
		}
		switch m := message.(type) {
		case *pgproto3.NoticeResponse:
			if b.o.Warning != nil {
				b.o.Warning(m.Message)
			}
		case *pgproto3.ErrorResponse:
			return nil, b.refused(pgconn.ErrorResponseToPgError(m))
		default:
			return message, nil
		}
	}
}

// refusedBackup says what a server's refusal asks for.
func refusedBackup(err error) error {
	switch postgres.Code(err) {
	case "42501":
		return &pgmedic.Error{Kind: pgmedic.KindUsage, Hint: "let a superuser run: ALTER ROLE … REPLICATION; with the role that pgmedic connects as", Err: postgres.Wrap(err, attemptedBackup)}
	case codeState:
		return &pgmedic.Error{
			Kind: pgmedic.KindUsage, Err: postgres.Wrap(err, attemptedBackup),
			Hint: "set wal_level to replica on the server; if it is a standby, full_page_writes must be on for its primary, and it must not have been promoted meanwhile",
		}
	}
	return postgres.Wrap(err, attemptedBackup)
}

// row takes a row of one of the sets.
func (b *baseBackup) row(m *pgproto3.DataRow) error {
	switch b.set {
	case setStart:
		lsn, tli, err := position(m)
		b.begin.LSN, b.begin.Timeline = lsn, tli
		return err
	case setTablespaces:
		return b.tablespace(m)
	case setEnd:
		lsn, tli, err := position(m)
		b.end, b.ended = BaseBackupEnd{tli, lsn}, err == nil
		return err
	}
	return unexpected(attemptedBackup)
}

// position reads a position and its timeline.
func position(m *pgproto3.DataRow) (wal.LSN, wal.Timeline, error) {
	if len(m.Values) < 2 {
		return 0, 0, unexpected(attemptedBackup)
	}
	lsn, lsnErr := wal.ParseLSN(string(m.Values[0]))
	tli, tliErr := strconv.ParseUint(string(m.Values[1]), 10, 32)
	if lsnErr != nil || tliErr != nil || lsn == 0 || tli == 0 {
		return 0, 0, unexpected(attemptedBackup)
	}
	return lsn, wal.Timeline(tli), nil
}

func (b *baseBackup) tablespace(m *pgproto3.DataRow) error {
	if len(m.Values) < 3 || len(b.order) > maxTablespaces {
		return unexpected(attemptedBackup)
	}
	kilobytes, err := strconv.ParseInt(string(m.Values[2]), 10, 64)
	if err != nil || kilobytes < 0 || kilobytes > math.MaxInt64>>20 {
		return unexpected(attemptedBackup)
	}
	b.begin.SizeBytes += min(kilobytes<<10, math.MaxInt64-b.begin.SizeBytes)
	if m.Values[0] == nil {
		b.order = append(b.order, 0)
		return nil
	}
	oid, err := strconv.ParseUint(string(m.Values[0]), 10, 32)
	if err != nil || oid == 0 || len(m.Values[1]) == 0 || len(m.Values[1]) > maxLocation {
		return unexpected(attemptedBackup)
	}
	b.order = append(b.order, uint32(oid))
	b.begin.Tablespaces = append(b.begin.Tablespaces, BaseBackupTablespace{uint32(oid), string(m.Values[1]), kilobytes << 10})
	return nil
}

// start says where the backup begins, once that is known.
func (b *baseBackup) start() error {
	b.received = make(map[uint32]bool, len(b.order))
	for _, oid := range b.order {
		if _, twice := b.received[oid]; twice {
			return unexpected(attemptedBackup)
		}
		b.received[oid] = false
	}
	if _, base := b.received[0]; !base || b.begin.LSN == 0 {
		return unexpected(attemptedBackup)
	}
	b.started = true
	return b.o.Started(b.begin)
}

// whole returns an error where something is missing: a server never ends like that.
func (b *baseBackup) whole() error {
	complete := b.started && b.ended && b.end.LSN >= b.begin.LSN && b.manifest == (b.major >= 13)
	for _, came := range b.received {
		complete = complete && came
	}
	if !complete {
		return unexpected(attemptedBackup)
	}
	return nil
}

// copy receives a COPY: one archive or the manifest up to PostgreSQL 14, all of them from 15
// on.
func (b *baseBackup) copy() error {
	if !b.started || b.ended {
		return unexpected(attemptedBackup)
	}
	s := &copyStream{b: b, framed: b.major >= 15}
	if s.framed {
		for {
			head, err := s.next()
			if err != nil || head == nil {
				return err
			}
			if err := b.part(s, head); err != nil {
				return err
			}
		}
	}
	b.copies++
	if b.copies <= len(b.order) {
		return b.archive(s, b.order[b.copies-1])
	}
	return b.serverManifest(s)
}

// part receives what a message announces: an archive, by its name, or the manifest.
func (b *baseBackup) part(s *copyStream, head []byte) error {
	if head[0] == 'm' {
		return b.serverManifest(s)
	}
	name, _, ended := strings.Cut(string(head[1:]), "\x00")
	if !ended {
		return unexpected(attemptedBackup)
	}
	if name == "base.tar" {
		return b.archive(s, 0)
	}
	digits, isTar := strings.CutSuffix(name, ".tar")
	oid, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || !isTar || oid == 0 {
		return unexpected(attemptedBackup)
	}
	return b.archive(s, uint32(oid))
}

func (b *baseBackup) archive(s *copyStream, oid uint32) error {
	came, known := b.received[oid]
	if !known || came || b.manifest {
		return unexpected(attemptedBackup)
	}
	b.received[oid] = true
	if err := b.o.Archive(oid, s); err != nil {
		return err
	}
	return s.drain()
}

func (b *baseBackup) serverManifest(s *copyStream) error {
	if b.manifest || b.major < 13 {
		return unexpected(attemptedBackup)
	}
	for _, came := range b.received {
		if !came {
			return unexpected(attemptedBackup)
		}
	}
	b.manifest = true
	if err := b.o.Manifest(s); err != nil {
		return err
	}
	return s.drain()
}

// copyStream is the bytes of one archive, or of the manifest.
type copyStream struct {
	b      *baseBackup
	framed bool
	data   []byte // of the last message, that was not read yet
	head   []byte // the message that announces what comes next
	done   bool   // the COPY has ended
}

// next returns the message that announces what comes next, or nil at the end.
func (s *copyStream) next() ([]byte, error) {
	for s.head == nil && !s.done {
		if err := s.pull(); err != nil {
			return nil, err
		}
		if len(s.data) > 0 { // nothing was announced
			return nil, unexpected(attemptedBackup)
		}
	}
	head := s.head
	s.head = nil
	return head, nil
}

// pull receives a message: more data, an announcement, the end, or nothing of interest.
func (s *copyStream) pull() error {
	message, err := s.b.receive()
	if err != nil {
		return err
	}
	switch m := message.(type) {
	case *pgproto3.CopyData:
		switch {
		case !s.framed:
			s.data = m.Data
		case len(m.Data) == 0:
			return unexpected(attemptedBackup)
		case m.Data[0] == 'd':
			s.data = m.Data[1:]
		case m.Data[0] == 'n' || m.Data[0] == 'm':
			s.head = append([]byte(nil), m.Data...)
		case m.Data[0] == 'p': // how far it is
		default:
			return unexpected(attemptedBackup)
		}
		return nil
	case *pgproto3.CopyDone:
		s.done = true
		return nil
	}
	return unexpected(attemptedBackup)
}

// Read returns io.EOF where the archive ends.
func (s *copyStream) Read(p []byte) (int, error) {
	for len(s.data) == 0 {
		if s.done || s.head != nil {
			return 0, io.EOF
		}
		if err := s.pull(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.data)
	s.data = s.data[n:]
	return n, nil
}

// drain reads what is left.
func (s *copyStream) drain() error {
	_, err := io.Copy(io.Discard, s)
	return err
}
