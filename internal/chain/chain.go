// Package chain says which backups a restore of an incremental one needs: itself, its parent,
// and so on to a full one. It is pure.
package chain

import (
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// Of returns the backups that a restore of one needs, itself first and a full one last,
// out of those that are in a store. A chain that is not whole is a pgmedic.KindIntegrity error
// that says what is missing.
func Of(b *pgmedic.Backup, all []*pgmedic.Backup) ([]*pgmedic.Backup, error) {
	chain := []*pgmedic.Backup{b}
	for b.Physical != nil && b.Physical.Kind == pgmedic.PhysicalIncremental && len(chain) <= pgmedic.MaxDepth {
		i := slices.IndexFunc(all, func(o *pgmedic.Backup) bool {
			return o.ID == b.Physical.Parent && o.Server.Name == b.Server.Name && o.Physical != nil
		})
		if i < 0 {
			return nil, Broken("backup %s needs backup %s, which is not in the store", b.ID, b.Physical.Parent)
		}
		b = all[i]
		chain = append(chain, b)
	}
	return chain, Check(chain)
}

// Check returns a pgmedic.KindIntegrity error where backups are not each other's parents, the
// newest first, down to a full one.
func Check(chain []*pgmedic.Backup) error {
	for i, b := range chain {
		p := b.Physical
		if p == nil || (p.Kind == pgmedic.PhysicalFull) != (i == len(chain)-1) || p.Depth != len(chain)-1-i {
			return Broken("backup %s is not number %d of a chain of %d that begins with a full backup", b.ID, len(chain)-i, len(chain))
		}
		if i == len(chain)-1 {
			return nil
		}
		parent := chain[i+1]
		q := parent.Physical
		if q == nil || parent.ID != p.Parent {
			return Broken("backup %s comes before backup %s, which needs %s", parent.ID, b.ID, p.Parent)
		}
		start, startErr := wal.ParseLSN(p.StartLSN)
		before, beforeErr := wal.ParseLSN(q.StartLSN)
		switch {
		case parent.Server.SystemIdentifier != b.Server.SystemIdentifier:
			return Broken("backup %s needs backup %s, which is of another cluster", b.ID, parent.ID)
		case p.BlockBytes != q.BlockBytes || p.SegmentBytes != q.SegmentBytes || p.CatalogVersion != q.CatalogVersion:
			return Broken("backup %s needs backup %s, whose files have another layout", b.ID, parent.ID)
		case (p.SQL == nil) != (q.SQL == nil):
			return Broken("backup %s needs backup %s, and only one of them was read by SQL", b.ID, parent.ID)
		case p.SQL != nil && (!p.SQL.ServerStartedAt.Equal(q.SQL.ServerStartedAt) || q.SQL.ClockAt == nil || p.SQL.ClockAt == nil || !p.SQL.ClockAt.After(*q.SQL.ClockAt)):
			return Broken("backup %s needs backup %s, between which the server was restarted, or its clock was set back", b.ID, parent.ID)
		case startErr != nil || beforeErr != nil || start <= before || p.Timeline != q.Timeline:
			return Broken("backup %s, which begins at %s of timeline %d, needs backup %s, which does not begin before it on that timeline", b.ID, p.StartLSN, p.Timeline, parent.ID)
		}
	}
	return Broken("a chain has no backup")
}

// Broken is the error of a chain that is not whole.
func Broken(format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup: `pgmedic list` shows them", "the chain of incremental backups is broken: "+format, args...)
}

// Whole returns those of all backups whose chains are whole among them: full ones and those of
// databases are by themselves.
func Whole(all []*pgmedic.Backup) (whole []*pgmedic.Backup) {
	for _, b := range all {
		if b.Physical != nil {
			if _, err := Of(b, all); err != nil {
				continue
			}
		}
		whole = append(whole, b)
	}
	return whole
}
