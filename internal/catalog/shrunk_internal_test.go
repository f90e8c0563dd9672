package catalog

import (
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
)

// TestShrunkIncremental: a base backup that has only what was changed is not compared by its size,
// and full ones are, whatever is between them.
func TestShrunkIncremental(t *testing.T) {
	for name, c := range map[string]struct {
		kind pgmedic.PhysicalKind
		last int64
		want bool
	}{
		"an incremental one":     {pgmedic.PhysicalIncremental, 2 << 20, false},
		"a full one as before":   {pgmedic.PhysicalFull, 290 << 20, false},
		"a full one of the rest": {pgmedic.PhysicalFull, 20 << 20, true},
	} {
		var l Listing
		for i, of := range []struct {
			kind  pgmedic.PhysicalKind
			bytes int64
		}{{pgmedic.PhysicalFull, 300 << 20}, {pgmedic.PhysicalIncremental, 200 << 20}, {pgmedic.PhysicalIncremental, 3 << 20}, {c.kind, c.last}} {
			b := &pgmedic.Backup{ID: string(rune('a' + i)), Method: pgmedic.MethodPhysical, StartedAt: time.Unix(int64(i)*3600, 0), Physical: &pgmedic.Physical{Kind: of.kind}}
			b.Objects = []pgmedic.Object{{Role: pgmedic.RolePack, PlainBytes: of.bytes}}
			l.Entries = append([]Entry{{Backup: b}}, l.Entries...) // the newest first
		}
		l.markShrunk()
		for i, e := range l.Entries {
			if got := e.Shrunk != nil; got != (i == 0 && c.want) {
				t.Errorf("%s: backup %s is called shrunk: %v", name, e.Backup.ID, got)
			}
		}
	}
}
