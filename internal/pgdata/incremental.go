package pgdata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// incrementalPrefix begins the name of a file of which a backup has some blocks only.
const incrementalPrefix = "INCREMENTAL."

// IncrementalOf returns the path of the file that an incremental one stands for:
// base/5/16384.1 for base/5/INCREMENTAL.16384.1. It is false for other paths.
func IncrementalOf(path string) (whole string, ok bool) {
	at := strings.LastIndexByte(path, '/') + 1
	name, ok := strings.CutPrefix(path[at:], incrementalPrefix)
	if whole = path[:at] + name; !ok || !IsRelation(whole) {
		return "", false
	}
	return whole, true
}

// IncrementalPath is the inverse of IncrementalOf.
func IncrementalPath(whole string) string {
	at := strings.LastIndexByte(whole, '/') + 1
	return whole[:at] + incrementalPrefix + whole[at:]
}

// The head of an incremental file: INCREMENTAL_MAGIC of basebackup_incremental.h, how many
// blocks it has, and the length of the file without those that are added behind.
const (
	incrementalMagic     = 0xd3ae1f0d
	incrementalHeadBytes = 12
)

// Incremental is the head of an incremental file.
type Incremental struct {
	// Blocks are the blocks that the file has, in order, counted from the beginning of the
	// file that it stands for. Their bytes follow each other from HeadBytes on.
	Blocks []uint32
	// Length is how many blocks the file has at least that it stands for. Blocks below that are not
	// in Blocks are those of an earlier backup; none of an earlier backup is from Length on.
	Length uint32
	// HeadBytes is the size of the head.
	HeadBytes int64
}

// Sizes are those of a cluster's files.
type Sizes struct {
	// BlockBytes is the size of a page, SegmentBytes that at which files are cut.
	BlockBytes, SegmentBytes int64
}

func (s Sizes) blocks() int64 { return s.SegmentBytes / s.BlockBytes }

// check refuses sizes that no server has.
func (s Sizes) check() error {
	if s.BlockBytes < 1<<10 || s.BlockBytes > 32<<10 || s.SegmentBytes < s.BlockBytes || s.blocks() > math.MaxUint32-1 {
		return fmt.Errorf("pages of %d bytes in files of %d", s.BlockBytes, s.SegmentBytes)
	}
	return nil
}

// ErrIncremental is found in the errors of an incremental file that is not one.
var ErrIncremental = errors.New("the incremental file is damaged")

// ReadIncremental reads the head of an incremental file of so many bytes, and nothing behind
// it. What contradicts itself is ErrIncremental; memory is bounded by the file's size. The
// format is that of PostgreSQL 17 and 18.
func ReadIncremental(file io.Reader, sizeBytes int64, sizes Sizes) (Incremental, error) {
	if err := sizes.check(); err != nil {
		return Incremental{}, err
	}
	var head [incrementalHeadBytes]byte
	if _, err := io.ReadFull(file, head[:]); err != nil {
		return Incremental{}, short(err)
	}
	le := binary.LittleEndian
	magic, count, length := le.Uint32(head[:]), int64(le.Uint32(head[4:])), le.Uint32(head[8:])
	in := Incremental{Length: length, HeadBytes: incrementalHead(count, sizes.BlockBytes)}
	switch {
	case magic != incrementalMagic:
		return in, fmt.Errorf("%w: it begins with %08x", ErrIncremental, magic)
	case count > sizes.blocks() || int64(length) > sizes.blocks():
		return in, fmt.Errorf("%w: %d blocks in a file of %d", ErrIncremental, count, length)
	case in.HeadBytes+count*sizes.BlockBytes != sizeBytes:
		return in, fmt.Errorf("%w: it has %d bytes, and %d for its %d blocks", ErrIncremental, sizeBytes, in.HeadBytes+count*sizes.BlockBytes, count)
	}
	rest := make([]byte, in.HeadBytes-incrementalHeadBytes)
	if _, err := io.ReadFull(file, rest); err != nil {
		return in, short(err)
	}
	in.Blocks = make([]uint32, count)
	for i := range in.Blocks {
		in.Blocks[i] = le.Uint32(rest[4*i:])
		if int64(in.Blocks[i]) >= sizes.blocks() || i > 0 && in.Blocks[i] <= in.Blocks[i-1] {
			return in, fmt.Errorf("%w: block %d is not in its turn", ErrIncremental, in.Blocks[i])
		}
	}
	for _, b := range rest[4*count:] {
		if b != 0 {
			return in, fmt.Errorf("%w: something stands between its head and its blocks", ErrIncremental)
		}
	}
	return in, nil
}

// incrementalHead is the size of the head of a file with so many blocks, which begin where a
// block can: GetIncrementalHeaderSize of basebackup_incremental.c.
func incrementalHead(blocks, blockBytes int64) int64 {
	n := incrementalHeadBytes + 4*blocks
	if blocks > 0 {
		n = (n + blockBytes - 1) / blockBytes * blockBytes
	}
	return n
}

// short is the error of a file that ends too early. That of its source stays what it is.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends within its head", ErrIncremental)
	}
	return err
}

// mapName matches the name of a visibility map's file.
var mapName = regexp.MustCompile(`^\d+_vm(\.\d+)?$`)

// IsVisibilityMap reports whether a file of relations is of a visibility map.
func IsVisibilityMap(path string) bool {
	return IsRelation(path) && mapName.MatchString(path[strings.LastIndexByte(path, '/')+1:])
}

// MainFork returns the numbers in the path of a file that holds a table's or an index's own
// pages: of its tablespace, its database, and its own. It is false for other forks and files.
// 1663 and 1664 are the numbers of the tablespaces pg_default and pg_global.
func MainFork(path string) (tablespace, database, number uint32, ok bool) {
	if !IsRelation(path) {
		return 0, 0, 0, false
	}
	parts := strings.Split(path, "/")
	name, _, _ := strings.Cut(parts[len(parts)-1], ".")
	ids := []string{"1663", "0", name}
	switch parts[0] {
	case "global":
		ids[0] = "1664"
	case "base":
		ids[1] = parts[1]
	default: // pg_tblspc
		ids[0], ids[1] = parts[1], parts[3]
	}
	var numbers [3]uint32
	for i, text := range ids {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return 0, 0, 0, false // another fork, too
		}
		numbers[i] = uint32(n)
	}
	return numbers[0], numbers[1], numbers[2], true
}

// WholeLabel returns a backup_label without the lines that make PostgreSQL refuse the files of
// an incremental backup: those of a merged one are whole.
func WholeLabel(label []byte) []byte {
	var kept []string
	for _, line := range strings.SplitAfter(string(label), "\n") {
		if !strings.HasPrefix(line, "INCREMENTAL FROM ") {
			kept = append(kept, line)
		}
	}
	return []byte(strings.Join(kept, ""))
}
