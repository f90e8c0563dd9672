package pgdata

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"regexp"
	"strconv"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// ControlBytes is the size of the file pg_control.
const ControlBytes = 8192

// ControlPath is its path within a data directory.
const ControlPath = "global/pg_control"

// Control is what pg_control says of a cluster.
type Control struct {
	SystemIdentifier uint64
	// ControlVersion and CatalogVersion are of the file itself, and of the system catalogue.
	ControlVersion, CatalogVersion uint32
	// Checkpoint is where the record of the last checkpoint is, Redo where a recovery from it
	// begins, Timeline its timeline.
	Checkpoint, Redo wal.LSN
	Timeline         wal.Timeline
	// BlockBytes is the size of pages, SegmentBytes that at which files of relations are cut,
	// WALSegment that of files of WAL.
	BlockBytes, SegmentBytes int64
	WALSegment               wal.SegmentSize
	// Checksums is true where pages have checksums.
	Checksums bool
}

// The layout of pg_control: ControlFileData of pg_control.h. What is in between differs by
// version; a constant, floatFormat, marks where it goes on.
const (
	controlSystem     = 0
	controlVersion    = 8
	controlCatalog    = 12
	controlCheckpoint = 32
	controlRedo       = 40
	controlTimeline   = 48
	// From floatFormat on.
	controlBlock      = 8
	controlRelation   = 12
	controlWALSegment = 20
	controlChecksums  = 44
	controlNonceEnd   = 80
	// minControlFormat is where floatFormat can begin at the earliest, and maxControl the end of
	// what the server writes at once.
	minControlFormat = 100
	maxControl       = 512
)

// floatFormat is the number that a server writes to show how it writes numbers.
const floatFormat = 1234567.0

// The versions of pg_control: those of PostgreSQL 12 to 18.
const (
	oldestControl = 1201
	newestControl = 1800
	// signedControl is the first that says whether characters have a sign, which is a byte
	// more.
	signedControl = 1800
)

// ParseControl reads pg_control, of PostgreSQL 12 to 18 on a little-endian machine. Its own
// checksum must be right.
func ParseControl(b []byte) (Control, error) {
	if len(b) < maxControl {
		return Control{}, fmt.Errorf("pg_control has %d bytes", len(b))
	}
	le := binary.LittleEndian
	c := Control{
		SystemIdentifier: le.Uint64(b[controlSystem:]), ControlVersion: le.Uint32(b[controlVersion:]), CatalogVersion: le.Uint32(b[controlCatalog:]),
		Checkpoint: wal.LSN(le.Uint64(b[controlCheckpoint:])), Redo: wal.LSN(le.Uint64(b[controlRedo:])), Timeline: wal.Timeline(le.Uint32(b[controlTimeline:])),
	}
	if c.ControlVersion < oldestControl || c.ControlVersion > newestControl {
		return Control{}, fmt.Errorf("pg_control has version %d, and those of PostgreSQL 12 to 18 on little-endian machines are read", c.ControlVersion)
	}
	mark := le.AppendUint64(nil, math.Float64bits(floatFormat))
	at := bytes.Index(b[minControlFormat:maxControl-controlNonceEnd-8], mark)
	if at < 0 {
		return Control{}, fmt.Errorf("pg_control of version %d has another layout", c.ControlVersion)
	}
	at += minControlFormat
	sum := at + controlNonceEnd
	if c.ControlVersion >= signedControl {
		sum += 4
	}
	if le.Uint32(b[sum:]) != crc32.Checksum(b[:sum], crc32.MakeTable(crc32.Castagnoli)) {
		return Control{}, fmt.Errorf("pg_control does not have its own checksum")
	}
	c.BlockBytes = int64(le.Uint32(b[at+controlBlock:]))
	c.SegmentBytes = c.BlockBytes * int64(le.Uint32(b[at+controlRelation:]))
	c.WALSegment = wal.SegmentSize(le.Uint32(b[at+controlWALSegment:]))
	c.Checksums = le.Uint32(b[at+controlChecksums:]) != 0
	if c.BlockBytes < 1<<10 || c.BlockBytes > 32<<10 || c.BlockBytes&(c.BlockBytes-1) != 0 || c.SegmentBytes == 0 || !c.WALSegment.Valid() || c.SystemIdentifier == 0 {
		return Control{}, fmt.Errorf("pg_control has pages of %d bytes, files of %d, WAL segments of %d", c.BlockBytes, c.SegmentBytes, c.WALSegment)
	}
	return c, nil
}

// Label is what backup_label says: where a recovery begins.
type Label struct {
	Start, Checkpoint wal.LSN
	Timeline          wal.Timeline
	FromStandby       bool
}

// LabelPath and MapPath are the paths of backup_label, and of tablespace_map, which says
// where each tablespace was.
const (
	LabelPath = "backup_label"
	MapPath   = "tablespace_map"
)

// MaxLabelBytes bounds backup_label.
const MaxLabelBytes = 16 << 10

var (
	labelStart      = regexp.MustCompile(`(?m)^START WAL LOCATION: ([0-9A-F]{1,8}/[0-9A-F]{1,8}) \(file [0-9A-F]{24}\)$`)
	labelCheckpoint = regexp.MustCompile(`(?m)^CHECKPOINT LOCATION: ([0-9A-F]{1,8}/[0-9A-F]{1,8})$`)
	labelFrom       = regexp.MustCompile(`(?m)^BACKUP FROM: (primary|master|standby)$`)
	labelTimeline   = regexp.MustCompile(`(?m)^START TIMELINE: (\d{1,10})$`)
)

// ParseLabel reads backup_label.
func ParseLabel(b []byte) (l Label, err error) {
	start, checkpoint := labelStart.FindSubmatch(b), labelCheckpoint.FindSubmatch(b)
	from, timeline := labelFrom.FindSubmatch(b), labelTimeline.FindSubmatch(b)
	if len(b) > MaxLabelBytes || start == nil || checkpoint == nil || from == nil || timeline == nil {
		return l, fmt.Errorf("backup_label does not say where the backup begins")
	}
	tli, err := strconv.ParseUint(string(timeline[1]), 10, 32)
	if err != nil || tli == 0 {
		return l, fmt.Errorf("backup_label has no timeline")
	}
	l.Timeline, l.FromStandby = wal.Timeline(tli), string(from[1]) == "standby"
	if l.Start, err = wal.ParseLSN(string(start[1])); err == nil {
		l.Checkpoint, err = wal.ParseLSN(string(checkpoint[1]))
	}
	return l, err
}
