package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	// PageSize is that of PostgreSQL's packages, XLOG_BLCKSZ. WAL of servers that were
	// compiled with another is not walked.
	PageSize = 8192

	shortHeader  = 24
	longHeader   = 40 // on a segment's first page
	recordHeader = 24

	// maxRecord is the most memory that PostgreSQL takes for one value, MaxAllocSize:
	// it could not read a longer record itself.
	maxRecord = 1<<30 - 1
	// maxPrefix is how much of a record is kept. Records whose content matters here have
	// at most some 1,100 bytes (CREATE TABLESPACE, with its path) before what does not.
	maxPrefix = 2048
)

// The flags of a page's header.
const (
	pageContinues = 1 << iota // its first bytes are the rest of a record
	pageLong
	_
	pageOverwrites // the rest of that record was never written
)

// Major returns the version of PostgreSQL that writes pages of a magic number, or 0 for
// one that is not known.
func Major(magic uint16) int {
	switch magic {
	case 0xD101:
		return 12
	case 0xD106:
		return 13
	case 0xD10D:
		return 14
	case 0xD110:
		return 15
	case 0xD113:
		return 16
	case 0xD116:
		return 17
	case 0xD118:
		return 18
	}
	return 0
}

// StopReason says why a Walker reads no more records.
type StopReason string

// The reasons to stop.
const (
	// StopEnd is the end of what the server wrote: zeros, or an older page of a file
	// that is used again.
	StopEnd StopReason = "end"
	// StopUnknown is WAL of a version that is not known here, or of another page size.
	StopUnknown StopReason = "unknown"
	// StopForeign is WAL of another cluster.
	StopForeign StopReason = "foreign"
	// StopInvalid is a page or a record that is not valid here: damage, or what a crash
	// left of the last record.
	StopInvalid StopReason = "invalid"
)

// Stop is where a Walker stopped, and why.
type Stop struct {
	Reason StopReason `json:"reason"`
	At     LSN        `json:"at"`
	// What says what is not valid; it quotes no data.
	What string `json:"what"`
}

// String returns the reason in words.
func (s *Stop) String() string { return fmt.Sprintf("WAL at %v: %s", s.At, s.What) }

// Record is one WAL record.
type Record struct {
	// Start is where it begins, and End where the next one can.
	Start, End LSN
	// Timeline is that of the page on which it ends.
	Timeline Timeline
	// Major is the version of PostgreSQL that wrote it.
	Major    int
	XID      uint32
	Resource byte // the resource manager's number
	Info     byte
	// Data is the beginning of the record's own data, for the few resource managers
	// whose records Decode reads. It is valid during the call alone.
	Data []byte
}

// WalkerOptions say what a Walker reads.
type WalkerOptions struct {
	// Start is where the first byte lies that is written to it: the start of a segment.
	Start LSN
	// SegmentSize has no default.
	SegmentSize SegmentSize
	// SystemIdentifier is that of the cluster. Zero accepts any.
	SystemIdentifier uint64
	// Record is called for each whole record, in order.
	Record func(*Record)
}

// Walker finds the records in WAL that is written to it byte by byte, and checks them
// as PostgreSQL does: addresses, lengths, the chain of records, and their checksums
// (CRC-32C). It holds some kilobytes, whatever a record says that it has.
//
// It is not safe for concurrent use.
type Walker struct {
	o    WalkerOptions
	pos  LSN // of the next byte
	stop *Stop

	head     [longHeader]byte // of the page
	headLen  int              // what is needed of it
	major    int
	timeline Timeline

	jump LSN // bytes before it are passed over: padding, or the rest of a switched segment
	rest int // bytes left of a record that began before Start
	// headless is true where there was such a record, which is not reported.
	headless bool

	synced bool // a record's start was seen
	within bool // a record has begun
	start  LSN  // of the current record
	prev   LSN  // start of the one before; 0 is not known
	end    LSN
	got    int // of the current record
	total  int
	record [recordHeader]byte
	crc    uint32
	prefix []byte
	table  *crc32.Table
}

// NewWalker returns a Walker. A start that is not that of a segment is an error.
func NewWalker(o WalkerOptions) (*Walker, error) {
	if !o.SegmentSize.Valid() {
		return nil, fmt.Errorf("%d bytes is not a size of WAL segments", o.SegmentSize)
	}
	if o.SegmentSize.Start(o.Start) != o.Start {
		return nil, fmt.Errorf("WAL is read from the start of a segment on, not from %v", o.Start)
	}
	return &Walker{o: o, pos: o.Start, headLen: shortHeader, prefix: make([]byte, 0, maxPrefix), table: crc32.MakeTable(crc32.Castagnoli)}, nil
}

// Write reads the bytes that follow those written before. It never fails: where the WAL
// ends or is not valid, Stopped says so, and the rest is passed over.
func (w *Walker) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && w.stop == nil {
		var k int
		offset := int(w.pos % PageSize)
		switch {
		case w.pos < w.jump:
			k = int(min(uint64(len(p)), uint64(w.jump-w.pos)))
		case offset < w.headLen:
			k = copy(w.head[offset:w.headLen], p)
			if offset+k == w.headLen {
				w.page(w.pos - LSN(offset))
			}
		default:
			k = w.body(p[:min(len(p), PageSize-offset)])
		}
		p = p[k:]
		if w.pos += LSN(k); w.pos%PageSize == 0 {
			w.headLen = shortHeader
		}
	}
	w.pos += LSN(len(p))
	return n, nil
}

// Position returns where the next byte that is written lies.
func (w *Walker) Position() LSN { return w.pos }

// End returns the end of the last whole record, or 0 before the first.
func (w *Walker) End() LSN { return w.end }

// Stopped returns why no more records are read, or nil.
func (w *Walker) Stopped() *Stop { return w.stop }

// Timeline returns that of the newest page, or 0.
func (w *Walker) Timeline() Timeline { return w.timeline }

func (w *Walker) stopAt(reason StopReason, at LSN, format string, args ...any) {
	w.stop = &Stop{reason, at, fmt.Sprintf(format, args...)}
}

// page checks the header of the page at the given position, once it is there as far as
// it is needed.
func (w *Walker) page(at LSN) {
	le := binary.LittleEndian
	magic, flags := le.Uint16(w.head[0:]), le.Uint16(w.head[2:])
	address := LSN(le.Uint64(w.head[8:]))
	switch {
	case magic == 0 && address == 0:
		w.stopAt(StopEnd, at, "the page is empty")
	case Major(magic) == 0:
		w.stopAt(StopUnknown, at, "pages of the magic number %04X are of no version of PostgreSQL that is known here, 12 to 18", magic)
	case address != at:
		w.stopAt(StopEnd, at, "the page is one of an earlier use of the file")
	case flags&pageLong != 0 && w.headLen == shortHeader:
		w.headLen = longHeader // and it is called again
		return
	case (flags&pageLong != 0) != (w.o.SegmentSize.Start(at) == at):
		w.stopAt(StopInvalid, at, "the header of the page has the wrong length")
	case w.major != 0 && w.major != Major(magic):
		w.stopAt(StopInvalid, at, "the page is of another version than the one before")
	case flags&pageLong != 0 && w.longHeader(at):
	case Timeline(le.Uint32(w.head[4:])) < w.timeline:
		w.stopAt(StopInvalid, at, "the page is of an older timeline than the one before")
	default:
		w.major, w.timeline = Major(magic), Timeline(le.Uint32(w.head[4:]))
		w.continues(at, flags, le.Uint32(w.head[16:]))
	}
}

// longHeader reports whether what a segment's first page says of the cluster stops the
// walk.
func (w *Walker) longHeader(at LSN) bool {
	le := binary.LittleEndian
	id, size, page := le.Uint64(w.head[24:]), le.Uint32(w.head[32:]), le.Uint32(w.head[36:])
	switch {
	case page != PageSize:
		w.stopAt(StopUnknown, at, "pages of %d bytes are not read here", page)
	case SegmentSize(size) != w.o.SegmentSize:
		w.stopAt(StopForeign, at, "the segment is of a cluster with segments of %d bytes", size)
	case w.o.SystemIdentifier != 0 && id != w.o.SystemIdentifier:
		w.stopAt(StopForeign, at, "the segment is of the cluster with the system identifier %d", id)
	}
	return w.stop != nil
}

// continues compares what a page says of the record that began before it with what is
// known of that.
func (w *Walker) continues(at LSN, flags uint16, rest uint32) {
	left := w.rest
	if w.within {
		left = w.total - w.got
	}
	switch {
	case flags&pageOverwrites != 0:
		// PostgreSQL could not finish the record, and said so when it went on.
		w.within, w.rest, w.synced = false, 0, true
	case flags&pageContinues == 0 && left > 0:
		w.stopAt(StopInvalid, at, "the page does not continue the record before it")
	case flags&pageContinues == 0:
		w.synced = true
	case left == 0 && !w.synced && rest > 0 && rest <= maxRecord:
		w.rest, w.headless = int(rest), true
	case left == 0 || int64(left) != int64(rest):
		w.stopAt(StopInvalid, at, "the page continues another record than the one before it")
	}
	w.synced = w.synced || w.within
}

// body reads bytes behind a page's header, up to its end or that of a record.
func (w *Walker) body(p []byte) int {
	if w.rest > 0 {
		n := min(w.rest, len(p))
		if w.rest -= n; w.rest == 0 {
			w.synced = true
			w.finished(w.pos + LSN(n))
		}
		return n
	}
	if !w.within {
		w.within, w.start, w.got, w.total, w.crc, w.prefix = true, w.pos, 0, 0, 0, w.prefix[:0]
	}
	if w.got < recordHeader {
		n := copy(w.record[w.got:], p)
		w.got += n
		if w.total == 0 && w.got >= 4 {
			w.length()
		}
		if w.stop == nil && w.got == recordHeader {
			w.header(w.pos + LSN(n))
		}
		return n
	}
	n := min(w.total-w.got, len(p))
	w.crc = crc32.Update(w.crc, w.table, p[:n])
	if w.reads() {
		w.prefix = append(w.prefix, p[:min(n, maxPrefix-len(w.prefix))]...)
	}
	if w.got += n; w.got == w.total {
		w.whole(w.pos + LSN(n))
	}
	return n
}

// length checks how long a record says that it is.
func (w *Walker) length() {
	switch total := binary.LittleEndian.Uint32(w.record[:]); {
	case total == 0:
		w.stopAt(StopEnd, w.start, "no record follows")
	case total < recordHeader || total > maxRecord:
		w.stopAt(StopInvalid, w.start, "a record can't have %d bytes", total)
	default:
		w.total = int(total)
	}
}

// header checks a record's header, which ends at the given position.
func (w *Walker) header(end LSN) {
	prev := LSN(binary.LittleEndian.Uint64(w.record[8:]))
	switch {
	case w.prev != 0 && prev != w.prev, prev >= w.start && prev != 0:
		w.stopAt(StopInvalid, w.start, "the record does not follow the one before it")
	case w.total == recordHeader:
		w.whole(end)
	}
}

// reads reports whether the content of the current record matters.
func (w *Walker) reads() bool {
	switch w.record[17] {
	case resourceXLOG, resourceTransaction, resourceStorage, resourceDatabase, resourceTablespace:
		return true
	}
	return false
}

// whole checks and reports a record that ends at the given position.
func (w *Walker) whole(end LSN) {
	if crc32.Update(w.crc, w.table, w.record[:20]) != binary.LittleEndian.Uint32(w.record[20:]) {
		w.stopAt(StopInvalid, w.start, "the checksum of the record does not match")
		return
	}
	w.within, w.prev = false, w.start
	w.finished(end)
	r := Record{
		Start: w.start, End: w.end, Timeline: w.timeline, Major: w.major, XID: binary.LittleEndian.Uint32(w.record[4:]),
		Info: w.record[16], Resource: w.record[17],
	}
	if r.Resource == resourceXLOG && r.Info&0xf0 == xlogSwitch {
		// The rest of the segment is not used.
		if next := w.o.SegmentSize.Start(end + LSN(w.o.SegmentSize) - 1); next != 0 {
			w.jump, w.end = next, next
			r.End = next
		}
	}
	if w.o.Record == nil {
		return
	}
	if w.reads() {
		r.Data = ownData(w.prefix, w.total-recordHeader)
	}
	w.o.Record(&r)
}

// finished passes over the padding behind a record that ends at the given position.
func (w *Walker) finished(end LSN) { w.end, w.jump = end.Align(), end.Align() }

// ownData returns a record's own data out of the beginning of what follows its header,
// or nil for one that refers to blocks of tables, or that contradicts itself.
func ownData(b []byte, total int) []byte {
	for i := 0; i < len(b); {
		left := len(b) - i - 1
		switch id := b[i]; {
		case id == 253 && left >= 2: // the replication origin
			i += 3
		case id == 252 && left >= 4: // the transaction around a subtransaction
			i += 5
		case id == 255 && left >= 1:
			return exactly(b, i+2, int(b[i+1]), total)
		case id == 254 && left >= 4:
			n := binary.LittleEndian.Uint32(b[i+1:])
			if n > maxRecord {
				return nil
			}
			return exactly(b, i+5, int(n), total)
		default:
			return nil
		}
	}
	return nil
}

// exactly returns what there is of n bytes from i on, if they reach to the end.
func exactly(b []byte, i, n, total int) []byte {
	if i+n != total || i > len(b) {
		return nil
	}
	return b[i:]
}
