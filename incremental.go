package pgmedic

import "cmp"

// Limits of chains of physical backups.
const (
	// MaxDepth is how many backups an incremental one can need: each block of a restore may
	// be in any of them.
	MaxDepth = 100
	// MaxTruncations is how many relations a manifest lists that were cut. A backup between
	// whose parent and itself more were is taken in full.
	MaxTruncations = 10_000
)

// Truncation is a table or an index that was cut, at least once: its blocks from Block on
// were gone then, whatever it has now.
type Truncation struct {
	// Tablespace, Database and Relation are the OIDs of the first two and the number of the
	// file, as in PostgreSQL's RelFileLocator.
	Tablespace uint32 `json:"tablespace"`
	Database   uint32 `json:"database"`
	Relation   uint32 `json:"relation"`
	// Block is the least one, counted through all files of the relation.
	Block uint32 `json:"block"`
}

// checkIncremental checks what a manifest says of its place in a chain.
func (b *Backup) checkIncremental() error {
	p := b.Physical
	if p.Kind == PhysicalFull {
		if p.Parent != "" || p.Depth != 0 || p.Truncations != nil {
			return contradiction("a full backup that needs another one")
		}
		return nil
	}
	switch {
	case !idPattern.MatchString(p.Parent) || p.Parent == b.ID:
		return contradiction("the parent %.40q is not another backup", p.Parent)
	case p.Depth < 1 || p.Depth > MaxDepth:
		return contradiction("%d backups before it", p.Depth)
	case p.SQL != nil && p.Truncations != nil:
		return contradiction("it has files whole, and relations that were cut")
	case p.SQL == nil && b.Server.VersionNum < 170000:
		return contradiction("an incremental backup of PostgreSQL %.40s, which takes none", b.Server.Version)
	case len(p.Truncations) > MaxTruncations:
		return contradiction("%d relations that were cut", len(p.Truncations))
	}
	for i, t := range p.Truncations {
		if t.Tablespace == 0 || t.Relation == 0 || i > 0 && t.compare(p.Truncations[i-1]) <= 0 {
			return contradiction("a relation that was cut has no number, or is not in its turn")
		}
	}
	return nil
}

// compare orders truncations by their relations.
func (t Truncation) compare(o Truncation) int {
	return cmp.Or(cmp.Compare(t.Tablespace, o.Tablespace), cmp.Compare(t.Database, o.Database), cmp.Compare(t.Relation, o.Relation))
}

// CompareTruncations is the order in which a manifest lists truncations, with none twice.
func CompareTruncations(a, b Truncation) int { return a.compare(b) }
