package pgmedic

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Physical is what a manifest says of a base backup: a copy of a cluster's files, which
// the WAL from StartLSN to StopLSN makes consistent. The files are in packs, and the object
// of RoleFiles lists them. The system identifier is Server.SystemIdentifier, which a physical
// backup always has, and Database is empty: the backup is of all databases.
//
// Positions are as PostgreSQL prints them, such as 16/B374D848.
type Physical struct {
	Kind PhysicalKind `json:"kind"`
	// FromStandby is true where the server was in recovery.
	FromStandby bool `json:"from_standby"`
	// Timeline and StartLSN are where a recovery begins to read WAL, CheckpointLSN is that
	// of the checkpoint that it begins with. WAL up to StopLSN, on StopTimeline, must be
	// replayed before the files are consistent.
	Timeline      int64  `json:"timeline"`
	StartLSN      string `json:"start_lsn"`
	CheckpointLSN string `json:"checkpoint_lsn"`
	StopTimeline  int64  `json:"stop_timeline"`
	StopLSN       string `json:"stop_lsn"`
	// BlockBytes is the size of pages, SegmentBytes that at which PostgreSQL cuts the files
	// of a relation, WALSegmentBytes that of files of WAL.
	BlockBytes      int64 `json:"block_bytes"`
	SegmentBytes    int64 `json:"segment_bytes"`
	WALSegmentBytes int64 `json:"wal_segment_bytes"`
	// Checksums is true where the cluster's pages have checksums.
	Checksums bool `json:"checksums"`
	// ControlVersion and CatalogVersion are those of pg_control: a server whose own differ
	// does not start on the files.
	ControlVersion int64 `json:"control_version"`
	CatalogVersion int64 `json:"catalog_version"`
	// Tablespaces are those outside of the data directory. Their files are listed below
	// pg_tblspc/<oid>.
	Tablespaces []Tablespace `json:"tablespaces,omitempty"`
	// Databases are those of the cluster, where the role could ask for them.
	Databases []ClusterDatabase `json:"databases,omitempty"`
	// Files is how many files and folders the list has, PlainBytes the sum of their sizes.
	Files      int64 `json:"files"`
	PlainBytes int64 `json:"plain_bytes"`
	// ServerManifestSHA256 is the hash of the server's own manifest, which the object of
	// RoleServerManifest holds. PostgreSQL 12 makes none.
	ServerManifestSHA256 string `json:"server_manifest_sha256,omitempty"`
	// PagesChecked is how many pages of relations were checked: their checksums where
	// Checksums is true, else their headers.
	PagesChecked int64 `json:"pages_checked"`
	// BadPages is how many of them were wrong, and PageErrors the first of these, at most
	// MaxPageErrors. A backup with bad pages is never called clean.
	BadPages   int64       `json:"bad_pages,omitempty"`
	PageErrors []PageError `json:"page_errors,omitempty"`
	// Preload are the libraries of shared_preload_libraries, where the role could ask: WAL
	// of custom resource managers can't be replayed without theirs.
	Preload []string `json:"preload,omitempty"`
	// Parent is the id of the backup that an incremental one needs, of the same server, and
	// Depth how many it needs in all. A full one has neither.
	Parent string `json:"parent,omitempty"`
	Depth  int    `json:"depth,omitempty"`
	// Truncations are the relations that were cut between the parent's StartLSN and that of
	// this backup, of an incremental one.
	Truncations []Truncation `json:"truncations,omitempty"`
	// SQL is there where the files were read by SQL, and not from the server's stream of a base
	// backup. Then the server has made no manifest, and an incremental backup has files whole: it
	// lacks those that are as in its parent.
	SQL *SQLRead `json:"sql,omitempty"`
}

// SQLRead is what a backup whose files were read by SQL says for the next one, which can be
// incremental to it.
type SQLRead struct {
	// ServerStartedAt is when the server's first process began, as it says itself.
	ServerStartedAt time.Time `json:"server_started_at"`
	// ClockAt is a moment by the server's clock before the checkpoint that the
	// backup begins with. It is missing where the times of files were not of that clock: no backup is
	// incremental to this one then.
	ClockAt *time.Time `json:"clock_at,omitempty"`
	// ListSHA256 is the hash of the plain bytes of the object of RoleFiles.
	ListSHA256 string `json:"list_sha256"`
}

// PhysicalKind says what a physical backup holds. A reader that does not know a kind refuses
// it.
type PhysicalKind string

// The kinds of physical backups. A full one holds all files whole, an incremental one of some
// files only the blocks that were changed since its parent.
const (
	PhysicalFull        PhysicalKind = "full"
	PhysicalIncremental PhysicalKind = "incremental"
)

// MaxPageErrors is how many bad pages a manifest names.
const MaxPageErrors = 1000

// Tablespace is one outside of the data directory.
type Tablespace struct {
	OID uint32 `json:"oid"`
	// Location is its folder on the server.
	Location string `json:"location"`
	// SizeBytes is the sum of the sizes of its files.
	SizeBytes int64 `json:"size_bytes"`
}

// ClusterDatabase is a database of a cluster.
type ClusterDatabase struct {
	OID  uint32 `json:"oid"`
	Name string `json:"name"`
	// SizeBytes is the sum of the sizes of its files.
	SizeBytes int64 `json:"size_bytes"`
	// Collate and CollationVersion say what its indexes on text are sorted by: on a host
	// whose library sorts otherwise they must be built again. Before PostgreSQL 15 the
	// version is not known.
	Collate          string `json:"collate"`
	LocaleProvider   string `json:"locale_provider"`
	CollationVersion string `json:"collation_version,omitempty"`
}

// PageError is a page that was not as PostgreSQL writes pages.
type PageError struct {
	// Path is the file within the data directory, Block the number of the page in it, from
	// 0 on.
	Path  string `json:"path"`
	Block int64  `json:"block"`
	// Why is checksum or header.
	Why PageFault `json:"why"`
}

// PageFault says what is wrong with a page.
type PageFault string

// The faults of pages.
const (
	PageFaultChecksum PageFault = "checksum"
	PageFaultHeader   PageFault = "header"
)

// Clean reports whether all pages that were checked were right. It is true for backups that
// are not physical.
func (b *Backup) Clean() bool { return b.Physical == nil || b.Physical.BadPages == 0 }

// maxTimeline is the highest number of a timeline.
const maxTimeline = math.MaxUint32

// checkPhysical checks what a manifest says of a base backup, and that it says nothing of
// the kind elsewhere.
func (b *Backup) checkPhysical() error {
	p := b.Physical
	format := ManifestFormat
	switch {
	case p != nil && p.SQL != nil:
		format = SQLFormat
	case p != nil:
		format = PhysicalFormat
	}
	if (b.Method == MethodPhysical) != (p != nil) || b.Format != format {
		return contradiction("method %s with format %d, or without the part that belongs to it", b.Method, b.Format)
	}
	if p == nil {
		return nil
	}
	start, startOK := parsePosition(p.StartLSN)
	checkpoint, checkpointOK := parsePosition(p.CheckpointLSN)
	stop, stopOK := parsePosition(p.StopLSN)
	switch {
	case p.Kind != PhysicalFull && p.Kind != PhysicalIncremental:
		return Errorf(KindUsage, "update pgmedic on this host", "the backup is of kind %.40q, which this version does not know", p.Kind)
	case b.Database.Name != "" || len(b.Tables)+len(b.Chunks) > 0 || b.Scope != nil:
		return contradiction("a physical backup is of a cluster, and this one is of a database, too")
	case p.Timeline < 1 || p.Timeline > maxTimeline || p.StopTimeline < p.Timeline || p.StopTimeline > maxTimeline:
		return contradiction("timelines %d and %d", p.Timeline, p.StopTimeline)
	case !startOK || !checkpointOK || !stopOK || checkpoint < start || stop < start:
		return contradiction("WAL from %.40q by %.40q to %.40q", p.StartLSN, p.CheckpointLSN, p.StopLSN)
	case !powerBetween(p.BlockBytes, 1<<10, 32<<10) || p.SegmentBytes < p.BlockBytes || p.SegmentBytes > maxSum || p.SegmentBytes%p.BlockBytes != 0 ||
		!powerBetween(p.WALSegmentBytes, 1<<20, 1<<30):
		return contradiction("pages of %d bytes, files of %d, WAL of %d", p.BlockBytes, p.SegmentBytes, p.WALSegmentBytes)
	case p.Files < 1 || p.PlainBytes < 0 || p.PlainBytes > maxSum || p.PagesChecked < 0 || p.BadPages < 0 || p.BadPages > p.PagesChecked:
		return contradiction("an impossible number of files or pages")
	case int64(len(p.PageErrors)) != min(p.BadPages, MaxPageErrors):
		return contradiction("%d pages are bad, and %d are named", p.BadPages, len(p.PageErrors))
	case (p.ServerManifestSHA256 != "") != (b.Server.VersionNum >= 130000 && p.SQL == nil), p.ServerManifestSHA256 != "" && !sha256Pattern.MatchString(p.ServerManifestSHA256):
		return contradiction("the hash of the server's manifest is missing, or is not one")
	}
	if id, err := strconv.ParseUint(b.Server.SystemIdentifier, 10, 64); err != nil || id == 0 {
		return contradiction("%.40q is not a system identifier", b.Server.SystemIdentifier)
	}
	if s := p.SQL; s != nil && (s.ServerStartedAt.IsZero() || s.ClockAt != nil && !s.ClockAt.After(s.ServerStartedAt) || !sha256Pattern.MatchString(s.ListSHA256) || p.FromStandby) {
		return contradiction("it was read by SQL, and from a standby, at no time, or without the hash of its list")
	}
	if err := b.checkIncremental(); err != nil {
		return err
	}
	return p.checkLists()
}

// checkLists checks the tablespaces, databases and bad pages.
func (p *Physical) checkLists() error {
	seen := map[uint32]bool{}
	for _, t := range p.Tablespaces {
		if t.OID == 0 || seen[t.OID] || t.Location == "" || len(t.Location) > maxNameBytes || t.SizeBytes < 0 || t.SizeBytes > p.PlainBytes {
			return contradiction("tablespace %d is there twice, or has no folder or an impossible size", t.OID)
		}
		seen[t.OID] = true
	}
	for _, d := range p.Databases {
		if d.OID == 0 || d.Name == "" || len(d.Name)+len(d.Collate)+len(d.LocaleProvider)+len(d.CollationVersion) > maxNameBytes || d.SizeBytes < 0 || d.SizeBytes > maxSum {
			return contradiction("a database of the cluster has no name, or an impossible size")
		}
	}
	for _, e := range p.PageErrors {
		if e.Path == "" || len(e.Path) > maxNameBytes || e.Block < 0 || e.Block > math.MaxUint32 || e.Why != PageFaultChecksum && e.Why != PageFaultHeader {
			return contradiction("a bad page has no file or no number")
		}
	}
	for _, name := range p.Preload {
		if len(name) > maxNameBytes {
			return contradiction("a name of %d bytes", len(name))
		}
	}
	return nil
}

// parsePosition reads a position in the WAL.
func parsePosition(text string) (uint64, bool) {
	if !lsnPattern.MatchString(text) {
		return 0, false
	}
	high, low, _ := strings.Cut(text, "/")
	h, _ := strconv.ParseUint(high, 16, 32) // up to eight hex digits each
	l, _ := strconv.ParseUint(low, 16, 32)
	return h<<32 | l, true
}

// powerBetween reports whether n is a power of two between two others.
func powerBetween(n, least, most int64) bool { return n >= least && n <= most && n&(n-1) == 0 }
