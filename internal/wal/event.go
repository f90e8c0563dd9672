package wal

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"time"
)

// The numbers of resource managers, the same in versions 12 to 18 (rmgrlist.h).
const (
	resourceXLOG        = 0
	resourceTransaction = 1
	resourceStorage     = 2
	resourceDatabase    = 4
	resourceTablespace  = 5
)

// The records of resource manager XLOG (pg_control.h), by the upper four bits of info.
const (
	xlogShutdown  = 0x00
	xlogOnline    = 0x10
	xlogSwitch    = 0x40
	xlogBackupEnd = 0x50
	xlogParameter = 0x60
	xlogRestore   = 0x70
	xlogFullPages = 0x80
	xlogRecovered = 0x90
	xlogOverwrite = 0xD0
)

// EventKind is what a record that matters to backups records.
type EventKind string

// The kinds of events.
const (
	Commit           EventKind = "commit"
	Abort            EventKind = "abort"
	Prepare          EventKind = "prepare"
	CommitPrepared   EventKind = "commit-prepared"
	AbortPrepared    EventKind = "abort-prepared"
	RestorePoint     EventKind = "restore-point"
	Truncate         EventKind = "truncate"
	SegmentSwitch    EventKind = "switch"
	TablespaceCreate EventKind = "tablespace-create"
	TablespaceDrop   EventKind = "tablespace-drop"
	DatabaseCreate   EventKind = "database-create"
	DatabaseDrop     EventKind = "database-drop"
	// ParameterChange is a change of settings that a standby must follow, wal_level
	// among them.
	ParameterChange EventKind = "parameter-change"
	// FullPageWrites is a change of full_page_writes.
	FullPageWrites EventKind = "full-page-writes"
	EndOfRecovery  EventKind = "end-of-recovery"
	// Overwritten is where a record was left unfinished by a crash.
	Overwritten EventKind = "overwritten"
	// BaseBackupEnd is the end of a base backup on a primary.
	BaseBackupEnd EventKind = "base-backup-end"
	Checkpoint    EventKind = "checkpoint"
)

// Relation is the file of a table or an index: the OIDs of tablespace and database, and
// the file's number.
type Relation struct{ Tablespace, Database, Number uint32 }

// Event is what a record says. Fields that its kind does not have are zero.
type Event struct {
	Kind     EventKind
	Start    LSN
	End      LSN
	Timeline Timeline
	XID      uint32
	// Time is when, by the server's clock, with microseconds: of the ends of
	// transactions, Prepare, RestorePoint and EndOfRecovery. It is zero where the
	// record has none that can be written as a date.
	Time time.Time
	// Name is that of a restore point, or the path of a new tablespace. Bytes that are
	// not UTF-8 are replaced.
	Name string
	// OID is that of the database or tablespace.
	OID uint32
	// Relation and Block are of Truncate: the blocks from Block on are gone. Flags are
	// PostgreSQL's: 1 the table, 2 the visibility map, 4 the free space map.
	Relation Relation
	Block    uint32
	Flags    uint32
	// On is of FullPageWrites and Checkpoint.
	On bool
	// Level is wal_level in ParameterChange: 0 minimal, 1 replica, 2 logical.
	Level uint32
	// From is where a base backup began, or the record that was left unfinished.
	From LSN
}

// Ends reports whether a transaction ends with the event. These are the records at whose
// times a recovery can stop (recoveryStopsBefore in xlogrecovery.c).
func (e Event) Ends() bool {
	switch e.Kind {
	case Commit, Abort, CommitPrepared, AbortPrepared:
		return true
	}
	return false
}

// Committed reports whether the event makes a transaction's work durable.
func (e Event) Committed() bool { return e.Kind == Commit || e.Kind == CommitPrepared }

// Decode returns what a record says. It is false for records that do not matter to
// backups, and for those that are too short for what they are.
func Decode(r *Record) (Event, bool) {
	e := Event{Start: r.Start, End: r.End, Timeline: r.Timeline, XID: r.XID}
	f := fields{r.Data}
	ok := false
	switch r.Resource {
	case resourceTransaction:
		ok = e.transaction(r.Info&0x70, f)
	case resourceXLOG:
		ok = e.xlog(r.Info&0xf0, f)
	case resourceStorage:
		if r.Info&0xf0 == 0x20 && f.has(20) {
			e.Kind, e.Block, e.Flags = Truncate, f.uint32(0), f.uint32(16)
			e.Relation = Relation{f.uint32(4), f.uint32(8), f.uint32(12)}
			ok = true
		}
	case resourceDatabase:
		ok = e.database(r.Info&0xf0, r.Major, f)
	case resourceTablespace:
		ok = e.tablespace(r.Info&0xf0, f)
	}
	return e, ok
}

// transaction reads records of xact.h.
func (e *Event) transaction(op byte, f fields) bool {
	at := 0
	switch op {
	case 0x00:
		e.Kind = Commit
	case 0x10:
		e.Kind, at = Prepare, 16 // behind magic, length, xid and database
	case 0x20:
		e.Kind = Abort
	case 0x30:
		e.Kind = CommitPrepared
	case 0x40:
		e.Kind = AbortPrepared
	default:
		return false
	}
	if !f.has(at + 8) {
		return false
	}
	e.Time = f.time(at)
	return true
}

// xlog reads records of xlog_internal.h and pg_control.h.
func (e *Event) xlog(op byte, f fields) bool {
	switch op {
	case xlogShutdown, xlogOnline:
		e.Kind = Checkpoint
		if !f.has(17) {
			return false
		}
		e.From, e.On = LSN(f.uint64(0)), f.data[16] != 0
	case xlogSwitch:
		e.Kind = SegmentSwitch
	case xlogBackupEnd:
		e.Kind = BaseBackupEnd
		if !f.has(8) {
			return false
		}
		e.From = LSN(f.uint64(0))
	case xlogParameter:
		e.Kind = ParameterChange
		if !f.has(24) {
			return false
		}
		e.Level = f.uint32(20)
	case xlogRestore:
		e.Kind = RestorePoint
		if !f.has(9) {
			return false
		}
		e.Time, e.Name = f.time(0), text(f.data[8:min(len(f.data), 72)])
	case xlogFullPages:
		e.Kind = FullPageWrites
		if !f.has(1) {
			return false
		}
		e.On = f.data[0] != 0
	case xlogRecovered:
		e.Kind = EndOfRecovery
		if !f.has(8) {
			return false
		}
		e.Time = f.time(0)
	case xlogOverwrite:
		e.Kind = Overwritten
		if !f.has(8) {
			return false
		}
		e.From = LSN(f.uint64(0))
	default:
		return false
	}
	return true
}

// database reads records of dbcommands_xlog.h, which has two ways to create since 15.
func (e *Event) database(op byte, major int, f fields) bool {
	drop := byte(0x10)
	if major >= 15 {
		drop = 0x20
	}
	e.Kind = DatabaseCreate
	if op == drop {
		e.Kind = DatabaseDrop
	}
	if op > drop || !f.has(4) {
		return false
	}
	e.OID = f.uint32(0)
	return true
}

// tablespace reads records of tablespace.h.
func (e *Event) tablespace(op byte, f fields) bool {
	switch {
	case op == 0x00 && f.has(5):
		e.Kind, e.Name = TablespaceCreate, text(f.data[4:])
	case op == 0x10 && f.has(4):
		e.Kind = TablespaceDrop
	default:
		return false
	}
	e.OID = f.uint32(0)
	return true
}

// fields reads numbers out of a record.
type fields struct{ data []byte }

func (f fields) has(n int) bool      { return len(f.data) >= n }
func (f fields) uint32(i int) uint32 { return binary.LittleEndian.Uint32(f.data[i:]) }
func (f fields) uint64(i int) uint64 { return binary.LittleEndian.Uint64(f.data[i:]) }

// epoch is 2000-01-01 in Unix time, in microseconds: PostgreSQL counts from there.
const epoch = 946684800 * 1000 * 1000

// ServerTime returns the time of a number of microseconds since 2000, as the server
// counts, or the zero time for one outside of the years 1 to 9999.
func ServerTime(microseconds int64) time.Time {
	if microseconds > math.MaxInt64-epoch {
		return time.Time{}
	}
	t := time.UnixMicro(microseconds + epoch).UTC()
	if t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// ServerMicroseconds is the inverse of ServerTime.
func ServerMicroseconds(t time.Time) int64 { return t.UnixMicro() - epoch }

func (f fields) time(i int) time.Time { return ServerTime(int64(f.uint64(i))) }

// text returns a string of C.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
