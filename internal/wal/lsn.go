// Package wal is PostgreSQL's write-ahead log as bytes: positions, the names of
// segments, the histories of timelines, the records of versions 12 to 18, and what
// follows from them. It does no I/O and knows no clock.
//
// What it reads comes from a server or a store and is not trusted: every length is
// checked, memory is bounded whatever the bytes say, and nothing panics.
package wal

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in the write-ahead log: the number of bytes before it.
type LSN uint64

// ParseLSN reads a position as PostgreSQL prints it, such as 16/B374D848.
func ParseLSN(text string) (LSN, error) {
	high, low, ok := strings.Cut(text, "/")
	h, err := parseHex(high)
	l, lowErr := parseHex(low)
	if !ok || err != nil || lowErr != nil {
		return 0, fmt.Errorf("%.40q is not a WAL position, such as 16/B374D848", text)
	}
	return LSN(h)<<32 | LSN(l), nil
}

// parseHex reads one to eight hexadecimal digits.
func parseHex(text string) (uint32, error) {
	if strings.Trim(text, "0123456789abcdefABCDEF") != "" || len(text) > 8 {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(text, 16, 32)
	return uint32(n), err
}

// String returns the position as PostgreSQL prints it.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// MarshalText implements encoding.TextMarshaler.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *LSN) UnmarshalText(text []byte) (err error) {
	*l, err = ParseLSN(string(text))
	return err
}

// Align returns the first position from l on at which a record can begin.
func (l LSN) Align() LSN { return (l + 7) &^ 7 }

// Timeline is the number of one line of history of a cluster: each recovery that ends
// begins a new one.
type Timeline uint32

// SegmentSize is the size of a cluster's WAL segments, in bytes.
type SegmentSize uint64

// The sizes that initdb --wal-segsize takes: powers of two from the smallest to the
// largest.
const (
	MinSegmentSize     SegmentSize = 1 << 20
	DefaultSegmentSize SegmentSize = 16 << 20
	MaxSegmentSize     SegmentSize = 1 << 30
)

// Valid reports whether initdb can have made a cluster of this size of segments.
func (s SegmentSize) Valid() bool {
	return s >= MinSegmentSize && s <= MaxSegmentSize && s&(s-1) == 0
}

// ParseSegmentSize reads the answer to SHOW wal_segment_size, such as 16MB or 1GB.
func ParseSegmentSize(text string) (SegmentSize, error) {
	number, unit := text, uint64(1)
	for suffix, bytes := range map[string]uint64{"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30} {
		if before, ok := strings.CutSuffix(text, suffix); ok {
			number, unit = before, bytes
		}
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if size := SegmentSize(n * unit); err == nil && size.Valid() {
		return size, nil
	}
	return 0, fmt.Errorf("%.40q is not a size of WAL segments", text)
}

// Start returns where the segment begins that holds the byte at l.
func (s SegmentSize) Start(l LSN) LSN { return l &^ LSN(s-1) }

// Segment is one file of WAL: which bytes, and on which timeline.
type Segment struct {
	Timeline Timeline
	// Start is a multiple of the segment size.
	Start LSN
}

// Segment returns the segment of a timeline that holds the byte at l.
func (s SegmentSize) Segment(t Timeline, l LSN) Segment { return Segment{t, s.Start(l)} }

// Name returns the name of a segment's file: 24 hexadecimal digits.
func (s SegmentSize) Name(of Segment) string {
	perLog := uint64(1<<32) / uint64(s)
	number := uint64(of.Start) / uint64(s)
	return fmt.Sprintf("%08X%08X%08X", uint32(of.Timeline), uint32(number/perLog), uint32(number%perLog))
}

// Parse reads the name of a segment's file. It accepts what Name returns and nothing
// else.
func (s SegmentSize) Parse(name string) (Segment, error) {
	bad := fmt.Errorf("%.40q is not the name of a WAL segment", name)
	if len(name) != 24 || strings.Trim(name, "0123456789ABCDEF") != "" {
		return Segment{}, bad
	}
	// Each is eight digits of those that were just checked.
	tli, _ := parseHex(name[:8])
	high, _ := parseHex(name[8:16])
	low, _ := parseHex(name[16:])
	if perLog := uint64(1<<32) / uint64(s); uint64(low) >= perLog || tli == 0 {
		return Segment{}, bad
	}
	return Segment{Timeline(tli), LSN(high)<<32 | LSN(low)*LSN(s)}, nil
}
