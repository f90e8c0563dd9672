// Package physical takes base backups: the files of a whole cluster, over the replication
// protocol, into the packs of a backup, with the WAL that makes them consistent.
//
// What a backup holds is its manifest, pgmedic.Physical, and its list of files, the object
// of role pgmedic.RoleFiles, which this package writes and reads. A restore reads the list
// from its beginning to its end and never needs it whole: see Reader.
package physical

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgdata"
)

const (
	// listFormat is the number of the list's format, and sqlListFormat that of backups whose files
	// were read by SQL, which can have files of KindKept.
	listFormat    = 1
	sqlListFormat = 2
	// ChunkBytes is the most plain bytes that a chunk holds.
	ChunkBytes = 8 << 20
	// HoleBytes is the size, and the alignment within its file, of runs of zero bytes that
	// are not stored.
	HoleBytes = 1 << 20
	// maxLineBytes bounds a line of the list: an entry of a file of some 10 TB.
	maxLineBytes = 32 << 20
	// maxPathBytes is PATH_MAX of Linux, beyond which no server can open a file.
	maxPathBytes = 4096
	// maxFileBytes bounds the size of a file, so that no sum overflows.
	maxFileBytes = math.MaxInt64 / 8
	// maxChunks bounds how many chunks a list has: a cluster of 128 TiB.
	maxChunks = 1 << 24
)

// Chunk is bytes of one or more files that are sealed by themselves, within a pack.
type Chunk struct {
	// ID counts the chunks from 0 on, in the order of the list.
	ID int64 `json:"c"`
	// Pack is the name of the object in which the chunk begins at Offset. Chunks of a pack
	// are in the order of their offsets, and do not overlap.
	Pack   string `json:"pack"`
	Offset int64  `json:"off"`
	// StoredBytes and SHA256 are of the bytes as stored, PlainBytes and PlainSHA256 of those
	// of the files. The hashes are 64 lower-case hex digits.
	StoredBytes int64  `json:"stored"`
	SHA256      string `json:"sha"`
	PlainBytes  int64  `json:"plain"`
	PlainSHA256 string `json:"psha"`
}

// Kind says what a file is.
type Kind string

// The kinds of files.
const (
	// KindRelation is a file whose content is pages of a relation: each was checked.
	KindRelation Kind = "rel"
	// KindIncremental is a file with those blocks of a relation's that were changed since the
	// parent, of an incremental backup: pgdata.ReadIncremental reads its head.
	KindIncremental Kind = "incr"
	// KindKept is a file of a relation that is as in the parent, which has its bytes. An incremental
	// backup has such whose files were read by SQL.
	KindKept Kind = "kept"
	// KindOther is any other file.
	KindOther Kind = "other"
	// KindFolder is a folder.
	KindFolder Kind = "dir"
)

// Hole stands for a chunk in an Extent whose bytes are all zero.
const Hole int64 = -1

// Extent is a range of a file: Bytes of chunk Chunk from Offset on, or zero bytes where
// Chunk is Hole. In JSON it is a list of the three.
type Extent struct{ Chunk, Offset, Bytes int64 }

// MarshalJSON implements json.Marshaler.
func (e Extent) MarshalJSON() ([]byte, error) {
	return json.Marshal([3]int64{e.Chunk, e.Offset, e.Bytes})
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *Extent) UnmarshalJSON(text []byte) error {
	var all []int64
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	if len(all) != 3 {
		return errors.New("an extent is a list of three numbers")
	}
	*e = Extent{all[0], all[1], all[2]}
	return nil
}

// Mode is the permission bits of a file.
type Mode fs.FileMode

// MarshalText implements encoding.TextMarshaler.
func (m Mode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", uint32(m)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	*m = Mode(n)
	return err
}

// File is a file or a folder of a data directory.
type File struct {
	// Path is relative to the data directory, with slashes. Files of the tablespace with an
	// OID are below pg_tblspc/<oid>. It need not be UTF-8; pgmedic.EscapeBytes stores it.
	Path string `json:"p"`
	Kind Kind   `json:"k"`
	// SizeBytes is 0 for a folder.
	SizeBytes int64 `json:"n"`
	// Mode is the permission bits, in octal digits.
	Mode Mode `json:"mode"`
	// ModifiedAt is in seconds since 1970, as the server says.
	ModifiedAt int64 `json:"t"`
	// ChangedAt is when the inode was changed, in seconds since 1970, and 0 where the server did not
	// say.
	ChangedAt int64 `json:"ct,omitempty"`
	// CRC32C is that of the content, Castagnoli's, as 8 lower-case hex digits, most
	// significant first: not as in the server's manifest, which turns the bytes around.
	// A folder has none.
	CRC32C string `json:"crc,omitempty"`
	// Extents are the content, from the beginning of the file to its end.
	Extents []Extent `json:"in,omitempty"`
}

// end is the last line of a list: without it the list is not whole.
type end struct {
	Files  int64 `json:"files"`
	Chunks int64 `json:"chunks"`
	// Bytes are those of the files, without those of KindKept.
	Bytes int64 `json:"bytes"`
}

// Entry is a line of a list: exactly one of its fields is not nil.
type Entry struct {
	Chunk *Chunk
	File  *File
}

// line is what a line of a list can be.
type line struct {
	// Format and Backup are of the first line.
	Format int    `json:"format,omitempty"`
	Backup string `json:"backup,omitempty"`
	End    *end   `json:"end,omitempty"`
}

// check holds a file's own fields against each other.
func (f *File) check() error {
	size := int64(0)
	for _, e := range f.Extents {
		if e.Chunk < Hole || e.Offset < 0 || e.Bytes < 1 || e.Bytes > f.SizeBytes-size || e.Chunk == Hole && e.Offset != 0 {
			return Damaged("an extent of %.80q is impossible", f.Path)
		}
		size += e.Bytes
	}
	crc, err := hex.DecodeString(f.CRC32C)
	hasCRC := err == nil && len(crc) == 4 && f.CRC32C == strings.ToLower(f.CRC32C)
	switch {
	case !ValidPath(f.Path):
		return Damaged("%.80q is not the path of a file within a data directory", f.Path)
	case f.Kind != KindRelation && f.Kind != KindIncremental && f.Kind != KindKept && f.Kind != KindOther && f.Kind != KindFolder:
		return Damaged("%.80q is of kind %.20q", f.Path, f.Kind)
	case fs.FileMode(f.Mode)&^fs.ModePerm != 0:
		return Damaged("%.80q has mode %o", f.Path, f.Mode)
	case f.Kind == KindKept && (f.SizeBytes < 1 || size != 0 || !pgdata.IsRelation(f.Path)):
		return Damaged("%.80q is as in another backup, and has bytes, or is not of a relation", f.Path)
	case f.SizeBytes < 0 || f.SizeBytes > maxFileBytes || size != f.SizeBytes && f.Kind != KindKept:
		return Damaged("%.80q has %d bytes, and its extents %d", f.Path, f.SizeBytes, size)
	case f.Kind == KindFolder && (f.SizeBytes != 0 || f.CRC32C != ""), f.Kind != KindFolder && !hasCRC:
		return Damaged("%.80q has no CRC, or is a folder with one", f.Path)
	}
	if _, incremental := pgdata.IncrementalOf(f.Path); f.Kind == KindIncremental && !incremental {
		return Damaged("%.80q does not have the name of an incremental file", f.Path)
	}
	return nil
}

// heldBytes is how many bytes of a file the backup itself holds.
func (f *File) heldBytes() int64 {
	if f.Kind == KindKept {
		return 0
	}
	return f.SizeBytes
}

// ValidPath reports whether a path is one within a folder, written in the only way: it
// never leads out of it.
func ValidPath(p string) bool {
	return p != "" && p != "." && len(p) <= maxPathBytes && !strings.ContainsRune(p, 0) && path.Clean(p) == p &&
		!strings.HasPrefix(p, "/") && p != ".." && !strings.HasPrefix(p, "../")
}

// Restorable reports whether a restore takes a path: a line break would stand in the files by
// which it tells PostgreSQL and people of others.
func Restorable(p string) bool { return ValidPath(p) && !strings.ContainsAny(p, "\n\r") }

// Damaged is the error of a list of files that contradicts itself, of KindIntegrity.
func Damaged(format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup: `pgmedic list` shows them", "the list of files is damaged: "+format, args...)
}
