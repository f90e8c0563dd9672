// Package archive is WAL in a store: segments, the tails of segments that are still
// growing, the histories of timelines, observations of how far a server was, and gaps.
//
// Nothing stored is rewritten. What is there is known from a listing of names, so that a
// host without keys knows how far WAL goes, and where it has gaps. What the server says
// of its slots is not asked.
package archive

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// folderName is the folder of WAL beside those of databases, whose names never have an @.
const folderName = "@wal"

// ErrAbsent is found in errors about what a complete listing shows not to be in the
// store, with nothing stored that would come after it.
var ErrAbsent = errors.New("it is not in the store, and nothing that follows it")

// Archive is the WAL of one cluster in a store.
type Archive struct {
	store store.Store
	// folder ends with a slash.
	folder string
	system uint64
}

// New returns the archive of a cluster, by the name of its server and its system
// identifier. Nothing of it needs to exist.
func New(s store.Store, server string, system uint64) *Archive {
	return &Archive{s, serverFolder(server) + strconv.FormatUint(system, 10) + "/", system}
}

// System returns the system identifier of the cluster.
func (a *Archive) System() uint64 { return a.system }

func serverFolder(server string) string {
	return catalog.EscapeName(server) + "/" + folderName + "/"
}

// Systems returns the system identifiers of the clusters whose WAL is stored under the
// name of a server: more than one where the server was replaced.
func Systems(ctx context.Context, s store.Store, server string) (all []uint64, err error) {
	folder := serverFolder(server)
	for found, err := range s.Folders(ctx, folder) {
		if err != nil {
			return nil, fmt.Errorf("list the clusters with WAL: %w", err)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(found, folder), "/")
		if id, err := strconv.ParseUint(name, 10, 64); err == nil && strconv.FormatUint(id, 10) == name {
			all = append(all, id)
		}
	}
	return all, nil
}

// hash is the beginning of the SHA-256 of plain bytes, as it stands in names.
type hash [8]byte

func (h hash) String() string { return hex.EncodeToString(h[:]) }

// kind is what an object is.
type kind byte

const (
	kindSegment kind = iota + 1
	kindTail
	kindHistory
	kindSeen
	kindGap
	kindBase
)

// object is what a name within an epoch says.
type object struct {
	kind kind
	// segment is of segments, tails and gaps. Its Start is exact for gaps too.
	segment wal.Segment
	// from and to are of tails, within the segment, and of gaps.
	from, to wal.LSN
	hash     hash
	seal     seal.Options // without a key
	timeline wal.Timeline
	seen     wal.Observation
	base     wal.Base
}

// The names of objects within an epoch.
var (
	segmentName = regexp.MustCompile(`^seg/([0-9A-F]{16})/([0-9A-F]{24})-([0-9a-f]{16})((?:\.gz|\.zst)?(?:\.age)?)$`)
	tailName    = regexp.MustCompile(`^tail/([0-9A-F]{24})/([0-9A-F]{8})-([0-9A-F]{8})-([0-9a-f]{16})((?:\.gz|\.zst)?(?:\.age)?)$`)
	seenName    = regexp.MustCompile(`^seen/([0-9]{8}T[0-9]{6}\.[0-9]{6}Z)-([0-9A-F]{8})-([0-9A-F]{16})\.json$`)
	baseName    = regexp.MustCompile(`^base/([0-9A-F]{8})-([0-9A-F]{16})-([0-9A-F]{16})\.json$`)
	gapName     = regexp.MustCompile(`^gap/([0-9A-F]{8})-([0-9A-F]{16})-([0-9A-F]{16})\.json$`)
)

// seenTime is how the time of an observation stands in its name.
const seenTime = "20060102T150405.000000Z"

func segmentPrefix(size wal.SegmentSize, s wal.Segment) string {
	name := size.Name(s)
	return "seg/" + name[:16] + "/" + name + "-"
}

func tailPrefix(size wal.SegmentSize, s wal.Segment) string { return "tail/" + size.Name(s) + "/" }

func historyKey(t wal.Timeline) string { return "hist/" + wal.HistoryName(t) }

// parse reads the name of an object within an epoch. It is false for what is none, such
// as the epoch's own file, its keys, and what others put there.
func parse(name string, size wal.SegmentSize) (o object, ok bool) {
	folder, _, _ := strings.Cut(name, "/")
	switch folder {
	case "seg":
		m := segmentName.FindStringSubmatch(name)
		if m == nil || !strings.HasPrefix(m[2], m[1]) {
			return o, false
		}
		s, err := size.Parse(m[2])
		o = object{kind: kindSegment, segment: s, timeline: s.Timeline, from: s.Start, to: s.Start + wal.LSN(size), seal: sealOf(m[4])}
		_, _ = hex.Decode(o.hash[:], []byte(m[3])) // 16 hex digits
		return o, err == nil
	case "tail":
		m := tailName.FindStringSubmatch(name)
		if m == nil {
			return o, false
		}
		s, err := size.Parse(m[1])
		from, to := hexOf(m[2]), hexOf(m[3])
		o = object{kind: kindTail, segment: s, timeline: s.Timeline, from: s.Start + wal.LSN(from), to: s.Start + wal.LSN(to), seal: sealOf(m[5])}
		_, _ = hex.Decode(o.hash[:], []byte(m[4])) // 16 hex digits
		return o, err == nil && from < to && to <= uint64(size)
	case "hist":
		t, err := wal.ParseHistoryName(strings.TrimPrefix(name, "hist/"))
		return object{kind: kindHistory, timeline: t}, err == nil
	case "seen":
		m := seenName.FindStringSubmatch(name)
		if m == nil {
			return o, false
		}
		at, err := time.Parse(seenTime, m[1])
		o.kind, o.seen = kindSeen, wal.Observation{Time: at, Timeline: wal.Timeline(hexOf(m[2])), LSN: wal.LSN(hexOf(m[3]))}
		return o, err == nil
	case "base":
		m := baseName.FindStringSubmatch(name)
		if m == nil {
			return o, false
		}
		o.kind, o.base = kindBase, wal.Base{Timeline: wal.Timeline(hexOf(m[1])), Start: wal.LSN(hexOf(m[2])), Stop: wal.LSN(hexOf(m[3]))}
		return o, o.base.Start < o.base.Stop
	case "gap":
		m := gapName.FindStringSubmatch(name)
		if m == nil {
			return o, false
		}
		o = object{kind: kindGap, timeline: wal.Timeline(hexOf(m[1])), from: wal.LSN(hexOf(m[2])), to: wal.LSN(hexOf(m[3]))}
		return o, o.from < o.to
	}
	return o, false
}

// hexOf reads digits that an expression has matched.
func hexOf(digits string) uint64 {
	n, _ := strconv.ParseUint(digits, 16, 64)
	return n
}

// sealOf reads how an object is sealed from the end of its name.
func sealOf(suffix string) seal.Options {
	o := seal.Options{Compression: seal.CompressionNone, Encryption: seal.EncryptionNone}
	switch {
	case strings.HasPrefix(suffix, ".gz"):
		o.Compression = seal.CompressionGzip
	case strings.HasPrefix(suffix, ".zst"):
		o.Compression = seal.CompressionZstd
	}
	if strings.HasSuffix(suffix, ".age") {
		o.Encryption = seal.EncryptionAge
	}
	return o
}

// epochID matches the id of an epoch, which is made as that of a backup.
var epochID = regexp.MustCompile(`^\d{8}T\d{6}Z-[0-9a-f]{6}$`)

// epochs returns the ids of the archive's epochs, in order.
func (a *Archive) epochs(ctx context.Context) (ids []string, err error) {
	for found, err := range a.store.Folders(ctx, a.folder) {
		if err != nil {
			return nil, fmt.Errorf("list the epochs of the WAL: %w", err)
		}
		if id := strings.TrimSuffix(strings.TrimPrefix(found, a.folder), "/"); epochID.MatchString(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

func damaged(format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "use another copy of the store; find out what changed the object", format, args...)
}
