// Package pgdata is a data directory as bytes: the files of a base backup, the pages of
// relations, pg_control, backup_label and the server's manifest. It is pure: it reads what
// it is given, and trusts none of it.
package pgdata

import (
	"encoding/binary"
	"regexp"
	"strconv"
	"strings"
)

// relationName matches the names of files that hold pages: a relation's number, perhaps a
// fork, perhaps a segment. Others in the same folders, such as pg_internal.init, hold none.
var relationName = regexp.MustCompile(`^\d+(_(fsm|vm|init))?(\.\d+)?$`)

// IsRelation reports whether the file of that path within a data directory holds pages of
// a relation: it is in global, in base/<database>, or in the folder of a database in a
// tablespace, and has such a name.
func IsRelation(path string) bool {
	folder, rest, _ := strings.Cut(path, "/")
	slash := strings.LastIndexByte(rest, '/')
	depth := strings.Count(rest, "/")
	switch {
	case folder == "global" && depth == 0, folder == "base" && depth == 1, folder == "pg_tblspc" && depth == 3:
		return relationName.MatchString(rest[slash+1:])
	}
	return false
}

// TablespaceOf returns the OID of the tablespace that a file is in, by its path within the data
// directory, and 0 where that is none of its own.
func TablespaceOf(path string) uint32 {
	folder, rest, _ := strings.Cut(path, "/")
	digits, _, _ := strings.Cut(rest, "/")
	oid, err := strconv.ParseUint(digits, 10, 32)
	if folder != "pg_tblspc" || err != nil {
		return 0
	}
	return uint32(oid)
}

// DatabaseOf returns the OID of the database that a file belongs to, or 0.
func DatabaseOf(path string) uint32 {
	parts := strings.Split(path, "/")
	digits := ""
	switch {
	case len(parts) == 3 && parts[0] == "base":
		digits = parts[1]
	case len(parts) == 5 && parts[0] == "pg_tblspc":
		digits = parts[3]
	}
	oid, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(oid)
}

// SegmentNumber returns which segment of a relation a file is: 3 of 16384_vm.3, 0 of 16384.
// Block numbers count through all segments.
func SegmentNumber(path string) uint32 {
	dot := strings.LastIndexByte(path, '.')
	if dot <= strings.LastIndexByte(path, '/') {
		return 0
	}
	n := uint32(0)
	for _, c := range path[dot+1:] {
		if c < '0' || c > '9' || n > (1<<32-1)/10-1 {
			return 0 // not the name of a relation
		}
		n = n*10 + uint32(c-'0')
	}
	return n
}

// PageOptions say how pages are checked.
type PageOptions struct {
	// BlockBytes is the size of a page: a power of two from 1 KiB to 32 KiB.
	BlockBytes int
	// Checksums is true where the cluster's pages have them.
	Checksums bool
	// Start is where the base backup begins: a page with a later position was written while
	// it was copied, so that it may be torn, and is written again by the replay.
	Start uint64
}

// PageFault is what is wrong with a page.
type PageFault int

// What can be wrong.
const (
	// PageRight: nothing.
	PageRight PageFault = iota
	// PageChecksum: its checksum is not that of its content.
	PageChecksum
	// PageHeader: its header contradicts itself.
	PageHeader
)

// The layout of a page's header: PostgreSQL's PageHeaderData in bufpage.h.
const (
	headerLSN      = 0
	headerChecksum = 8
	headerFlags    = 10
	headerLower    = 12
	headerUpper    = 14
	headerSpecial  = 16
	headerVersion  = 18
	headerBytes    = 24
	// validFlags are those that pages can have.
	validFlags = 0x0007
	// layoutVersion is that of pages since PostgreSQL 8.3.
	layoutVersion = 4
)

// CheckPage checks a page of a relation, whose number counts through the segments of its
// fork. A page that was never used, whose bytes are all zero, is right.
func CheckPage(page []byte, block uint32, o PageOptions) PageFault {
	le := binary.LittleEndian
	lower, upper, special := int(le.Uint16(page[headerLower:])), int(le.Uint16(page[headerUpper:])), int(le.Uint16(page[headerSpecial:]))
	if upper == 0 {
		for _, b := range page {
			if b != 0 {
				return PageHeader // PostgreSQL takes such a page for a broken one
			}
		}
		return PageRight
	}
	lsn := uint64(le.Uint32(page[headerLSN:]))<<32 | uint64(le.Uint32(page[headerLSN+4:]))
	if lsn >= o.Start {
		return PageRight
	}
	if o.Checksums {
		if Checksum(page, block) != le.Uint16(page[headerChecksum:]) {
			return PageChecksum
		}
		return PageRight
	}
	// As PageIsVerified does it.
	size := int(le.Uint16(page[headerVersion:]))
	if size != o.BlockBytes|layoutVersion || le.Uint16(page[headerFlags:])&^validFlags != 0 ||
		lower < headerBytes || lower > upper || upper > special || special > o.BlockBytes || special%8 != 0 {
		return PageHeader
	}
	return PageRight
}

// offsetBases are those of the 32 sums of PostgreSQL's checksum, which follows FNV-1a:
// checksumBaseOffsets of checksum_impl.h.
func offsetBases() [32]uint32 {
	return [32]uint32{
		0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
		0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
		0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
		0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
	}
}

// checksumPrime is FNV's.
const checksumPrime = 16777619

// Checksum is PostgreSQL's checksum of a page, whose own field counts as zero. The length
// must be a multiple of 128 bytes. Four of the 32 sums are kept in registers at a time,
// because one pass over all of them keeps none.
func Checksum(page []byte, block uint32) uint16 {
	const row = 32 * 4
	bases := offsetBases()
	result := uint32(0)
	for lane := 0; lane < len(bases); lane += 4 {
		four := bases[lane : lane+4 : lane+4]
		a, b, c, d := four[0], four[1], four[2], four[3]
		for at := lane * 4; at < len(page); at += row {
			p := page[at : at+16 : at+16]
			w := binary.LittleEndian.Uint32(p[8:])
			if at == 0 {
				w &= 0xFFFF0000 // the checksum itself
			}
			a = mix(a ^ binary.LittleEndian.Uint32(p))
			b = mix(b ^ binary.LittleEndian.Uint32(p[4:]))
			c = mix(c ^ w)
			d = mix(d ^ binary.LittleEndian.Uint32(p[12:]))
		}
		// Two rounds of zeros.
		result ^= mix(mix(a)) ^ mix(mix(b)) ^ mix(mix(c)) ^ mix(mix(d))
	}
	// Never 0, which is what pages have that were written without checksums.
	return uint16((result^block)%65535 + 1)
}

func mix(v uint32) uint32 { return v*checksumPrime ^ v>>17 }
