package pgmedic

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// checkHint is what to do about a manifest that contradicts itself.
const checkHint = "restore from another backup: `pgmedic list` shows them"

// Limits on what a manifest may say, all far above what any server has.
const (
	maxNameBytes    = 4 << 10
	maxCommentBytes = 1 << 20
	maxLabelBytes   = 1 << 20
	// maxSum bounds each sum of sizes and of rows, so that none overflows.
	maxSum = math.MaxInt64 / 4
)

var (
	idPattern     = regexp.MustCompile(`^\d{8}T\d{6}Z-[0-9a-f]{6}$`)
	objectPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)
	sha256Pattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
	hmacPattern   = regexp.MustCompile(`^[0-9a-f]{32}:[0-9a-f]{64}$`)
	lsnPattern    = regexp.MustCompile(`^[0-9A-F]{1,8}/[0-9A-F]{1,8}$`)
)

// Check holds a manifest against itself: its words are known, the objects that
// its method needs are there once each, names are legal and unique, numbers are
// not negative and add up, and every chunk is a part of a pack and of a table. It
// reads nothing. What it finds is an error of KindIntegrity: pgmedic writes no
// such manifest, so it was damaged or forged. A manifest that passes may still be
// forged; only its authentication tells.
func (b *Backup) Check() error {
	for _, check := range []func(*Backup) error{
		(*Backup).checkHead, (*Backup).checkDatabase, (*Backup).checkObjects, (*Backup).checkRoles,
		(*Backup).checkTables, (*Backup).checkScope, (*Backup).checkChunks, (*Backup).checkPhysical,
	} {
		if err := check(b); err != nil {
			return err
		}
	}
	return nil
}

func contradiction(format string, args ...any) error {
	return Errorf(KindIntegrity, checkHint, "the manifest contradicts itself: "+format, args...)
}

// checkHead checks what identifies a backup and how it was taken.
func (b *Backup) checkHead() error {
	begun, err := time.Parse("20060102T150405Z", b.ID[:min(len(b.ID), 16)])
	switch {
	case b.Format < ManifestFormat || b.Format > LatestFormat:
		return contradiction("format %d is not one that this version reads", b.Format)
	case !idPattern.MatchString(b.ID) || err != nil:
		return contradiction("%.40q is not an id", b.ID)
	case !b.StartedAt.UTC().Truncate(time.Second).Equal(begun):
		return contradiction("it began at %s, which is not the second of its id", b.StartedAt.UTC().Format(time.RFC3339))
	case b.Method != MethodPlain && b.Method != MethodParallel && b.Method != MethodPhysical:
		return contradiction("unknown method %.40q", b.Method)
	case b.Purpose != PurposeRegular && b.Purpose != PurposeSafety:
		return contradiction("unknown purpose %.40q", b.Purpose)
	case !slices.Contains([]string{"gzip", "zstd", "none"}, b.Seal.Compression):
		return contradiction("unknown compression %.40q", b.Seal.Compression)
	case !slices.Contains([]string{"age", "aes-256-cbc", "none"}, b.Seal.Encryption):
		return contradiction("unknown encryption %.40q", b.Seal.Encryption)
	case b.Seal.Encryption == "aes-256-cbc" && b.Method != MethodPlain:
		return contradiction("a %s backup is not encrypted with %s", b.Method, b.Seal.Encryption)
	case b.SnapshotLSN != "" && !lsnPattern.MatchString(b.SnapshotLSN):
		return contradiction("%.40q is not a position in the WAL", b.SnapshotLSN)
	case b.SnapshotTimeline < 0 || b.SnapshotTimeline > math.MaxUint32:
		return contradiction("timeline %d", b.SnapshotTimeline)
	}
	for _, at := range []time.Time{b.StartedAt, b.SnapshotAt, b.FinishedAt} {
		if year := at.UTC().Year(); year < 2000 || year > 9000 {
			return contradiction("a time of the year %d", year)
		}
	}
	// A clock may be set while a backup runs, by less than a day.
	if b.FinishedAt.Before(b.StartedAt.Add(-24 * time.Hour)) {
		return contradiction("it finished before it began")
	}
	labels := 0
	for k, v := range b.Labels {
		labels += len(k) + len(v)
	}
	if labels > maxLabelBytes {
		return contradiction("its labels take %d bytes", labels)
	}
	return nil
}

// checkDatabase checks the names and numbers of the server and the database.
func (b *Backup) checkDatabase() error {
	s, d := b.Server, b.Database
	switch {
	case s.Name == "" || d.Name == "" && b.Method != MethodPhysical:
		return contradiction("it is of no server or of no database")
	case s.VersionNum < 80000 || s.VersionNum > 9999999:
		return contradiction("server version %d", s.VersionNum)
	case d.SizeBytes < 0 || d.SizeBytes > maxSum || d.ConnectionLimit < -2:
		return contradiction("a negative size or connection limit of the database")
	case len(d.Comment) > maxCommentBytes:
		return contradiction("a comment of %d bytes", len(d.Comment))
	}
	for _, name := range []string{
		b.Host, b.Programs.Pgmedic, b.Programs.PgDump, s.Name, s.SystemIdentifier, s.Version, s.BootstrapRole,
		d.Name, d.Owner, d.Encoding, d.Collate, d.CType, d.LocaleProvider, d.ICULocale, d.Tablespace,
	} {
		if len(name) > maxNameBytes {
			return contradiction("a name of %d bytes", len(name))
		}
	}
	return nil
}

// checkObjects checks each object by itself, and that no two have one name.
func (b *Backup) checkObjects() error {
	names := make(map[string]bool, len(b.Objects))
	var stored, plain int64
	for _, o := range b.Objects {
		switch {
		case !objectPattern.MatchString(o.Name), strings.HasPrefix(o.Name, "manifest.json"), o.Name == "keys", o.Name == "receipts":
			return contradiction("%.80q is not the name of an object", o.Name)
		case names[o.Name]:
			return contradiction("%s is listed twice", o.Name)
		case o.StoredBytes < 0 || o.StoredBytes > maxSum || o.PlainBytes < 0 || o.PlainBytes > maxSum:
			return contradiction("%s has an impossible size", o.Name)
		case !sha256Pattern.MatchString(o.SHA256):
			return contradiction("%s has no hash", o.Name)
		case (o.HMAC != "") != (b.Seal.Encryption == "aes-256-cbc" && o.Role != RoleRecovery), o.HMAC != "" && !hmacPattern.MatchString(o.HMAC):
			return contradiction("the authentication of %s is not that of its encryption", o.Name)
		}
		names[o.Name] = true
		if stored, plain = stored+o.StoredBytes, plain+o.PlainBytes; stored > maxSum || plain > maxSum {
			return contradiction("its objects have impossible sizes")
		}
	}
	return nil
}

// checkRoles checks that the objects are those that the method has.
func (b *Backup) checkRoles() error {
	count := map[ObjectRole]int{}
	for _, o := range b.Objects {
		count[o.Role]++
	}
	// How many there are of each role: at least, at most.
	type bounds struct{ least, most int }
	wanted := map[ObjectRole]bounds{RoleRecovery: {0, 8}}
	if b.Method != MethodPhysical {
		wanted[RoleGlobals], wanted[RoleInventory], wanted[RoleSums] = bounds{1, 1}, bounds{1, 1}, bounds{0, 1}
	}
	switch b.Method {
	case MethodPlain:
		wanted[RoleDump] = bounds{1, 1}
	case MethodPhysical:
		wanted[RoleFiles], wanted[RoleSettings] = bounds{1, 1}, bounds{0, 1}
		wanted[RolePack] = bounds{0, math.MaxInt}
		switch {
		case b.Physical != nil && b.Physical.SQL != nil: // for which the server makes none
		case b.Server.VersionNum >= 130000:
			wanted[RoleServerManifest] = bounds{1, 1}
		default:
			wanted[RoleServerManifest] = bounds{0, 1}
		}
	case MethodParallel:
		wanted[RoleSchema], wanted[RoleRest] = bounds{1, 1}, bounds{0, 1}
		wanted[RolePack] = bounds{0, math.MaxInt}
	}
	for role, n := range count {
		if most, known := wanted[role]; !known || n > most.most {
			return contradiction("a %s backup has %d objects of role %.40q", b.Method, n, role)
		}
	}
	for role, n := range wanted {
		if count[role] < n.least {
			return contradiction("it has no object of role %s", role)
		}
	}
	return nil
}

// checkTables checks each table by itself, and that no two have one name.
func (b *Backup) checkTables() error {
	type name struct{ schema, table string }
	seen := make(map[name]bool, len(b.Tables))
	var rows, size int64
	for _, t := range b.Tables {
		full := name{t.Schema, t.Name}
		// What is not valid in the server's encoding is replaced by one sign: two
		// names may then look the same.
		unclear := strings.ContainsRune(t.Schema+t.Name, utf8.RuneError)
		switch {
		case t.Name == "" || len(t.Name)+len(t.Schema) > maxNameBytes:
			return contradiction("a table without a name")
		case seen[full] && !unclear:
			return contradiction("table %q.%q is listed twice", t.Schema, t.Name)
		case (t.RootName == "") != (t.RootSchema == ""):
			return contradiction("table %q.%q has half a parent", t.Schema, t.Name)
		case t.Rows < 0 || t.Rows > maxSum || t.SizeBytes < 0 || t.SizeBytes > maxSum:
			return contradiction("table %q.%q has an impossible number of rows or size", t.Schema, t.Name)
		case t.WithoutRows && (t.Rows != 0 || b.Scope == nil):
			return contradiction("table %q.%q has rows that were left out", t.Schema, t.Name)
		case t.Format != "" && t.Format != CopyText && t.Format != CopyBinary:
			return contradiction("table %q.%q has the unknown format %.40q", t.Schema, t.Name, t.Format)
		case t.Format != "" && b.Method != MethodParallel:
			return contradiction("a %s backup has table %q.%q in chunks", b.Method, t.Schema, t.Name)
		case t.Format == "" && len(t.Columns) > 0:
			return contradiction("table %q.%q has columns and no format", t.Schema, t.Name)
		}
		for _, c := range t.Columns {
			if c.Name == "" || c.Type == "" || len(c.Name)+len(c.Type) > maxNameBytes {
				return contradiction("table %q.%q has a column without a name or a type", t.Schema, t.Name)
			}
		}
		seen[full] = true
		if rows, size = rows+t.Rows, size+t.SizeBytes; rows > maxSum || size > maxSum {
			return contradiction("its tables have an impossible number of rows")
		}
	}
	return nil
}

func (b *Backup) checkScope() error {
	if b.Scope == nil {
		return nil
	}
	for _, k := range b.Scope.LeftOutForeignKeys {
		if k.Name == "" || k.Table == "" || k.OID < 1 || k.OID > math.MaxUint32 {
			return contradiction("a foreign key that was left out has no name or no OID")
		}
	}
	return nil
}

// checkChunks holds the chunks against the packs and the tables: each lies within
// a pack and overlaps no other, its parts are of tables that have parts and are as
// long as it is, and the rows of each table's parts are the table's.
func (b *Backup) checkChunks() error {
	packs, plain := map[string]int64{}, map[string]int64{}
	for _, o := range b.Objects {
		if o.Role == RolePack {
			packs[o.Name], plain[o.Name] = o.StoredBytes, o.PlainBytes
		}
	}
	rows := make([]int64, len(b.Tables))
	for _, c := range b.Chunks {
		size, known := packs[c.Pack]
		switch {
		case !known:
			return contradiction("a chunk is in %.80q, which is not a pack", c.Pack)
		case c.Offset < 0 || c.StoredBytes < 0 || c.Offset > size || c.StoredBytes > size-c.Offset:
			return contradiction("a chunk of %s lies outside of it", c.Pack)
		case !sha256Pattern.MatchString(c.SHA256):
			return contradiction("a chunk of %s has no hash", c.Pack)
		case c.PlainBytes > plain[c.Pack]:
			return contradiction("the chunks of %s are longer than it is", c.Pack)
		}
		plain[c.Pack] -= c.PlainBytes
		if err := b.checkParts(c, rows); err != nil {
			return err
		}
	}
	for pack, left := range plain {
		if left != 0 && b.Method != MethodPhysical { // its list of files has them

			return contradiction("the chunks of %s are not as long as it is", pack)
		}
	}
	for i, t := range b.Tables {
		if t.Format != "" && rows[i] != t.Rows {
			return contradiction("table %q.%q has %d rows, and its chunks %d", t.Schema, t.Name, t.Rows, rows[i])
		}
	}
	return b.checkOverlap()
}

// checkParts checks the parts of one chunk, and adds their rows to each table's.
func (b *Backup) checkParts(c Chunk, rows []int64) error {
	left := c.PlainBytes
	if left < 0 || len(c.Parts) == 0 {
		return contradiction("a chunk of %s holds nothing", c.Pack)
	}
	for _, p := range c.Parts {
		if p.Table < 0 || p.Table >= len(b.Tables) || b.Tables[p.Table].Format == "" {
			return contradiction("a chunk of %s belongs to no table", c.Pack)
		}
		// Counted down from the whole, nothing overflows.
		if p.PlainBytes < 0 || p.PlainBytes > left || p.Rows < 0 || p.Rows > b.Tables[p.Table].Rows-rows[p.Table] {
			return contradiction("a chunk of %s has parts that are longer than it is, or more rows than their table", c.Pack)
		}
		left -= p.PlainBytes
		rows[p.Table] += p.Rows
	}
	if left != 0 {
		return contradiction("a chunk of %s has parts that are not as long as it is", c.Pack)
	}
	return nil
}

// checkOverlap checks that no byte of a pack is of two chunks.
func (b *Backup) checkOverlap() error {
	order := make([]int, len(b.Chunks))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int {
		one, other := b.Chunks[x], b.Chunks[y]
		if pack := strings.Compare(one.Pack, other.Pack); pack != 0 {
			return pack
		}
		return int(min(max(one.Offset-other.Offset, -1), 1))
	})
	for i := 1; i < len(order); i++ {
		before, c := b.Chunks[order[i-1]], b.Chunks[order[i]]
		if before.Pack == c.Pack && c.Offset < before.Offset+before.StoredBytes {
			return contradiction("chunks of %s overlap", c.Pack)
		}
	}
	return nil
}
