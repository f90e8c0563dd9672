package pgmedic_test

import (
	"testing"

	"github.com/pgmedic/pgmedic"
)

// TestCheckIncremental: a manifest that contradicts itself about its chain is damaged.
func TestCheckIncremental(t *testing.T) {
	incremental := func() *pgmedic.Backup {
		b := baseBackup()
		b.Server.Version, b.Server.VersionNum = "17.12", 170012
		b.Physical.Kind, b.Physical.Parent, b.Physical.Depth = pgmedic.PhysicalIncremental, "20261129T010000Z-abcdef", 1
		b.Physical.Truncations = []pgmedic.Truncation{{Tablespace: 1663, Database: 5, Relation: 16384, Block: 834}, {Tablespace: 1663, Database: 5, Relation: 16390, Block: 1}}
		return b
	}
	if err := incremental().Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b *pgmedic.Backup, p *pgmedic.Physical){
		"no parent":                 func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Parent = "" },
		"a parent that is a path":   func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Parent = "../x" },
		"itself as parent":          func(b *pgmedic.Backup, p *pgmedic.Physical) { p.Parent = b.ID },
		"no depth":                  func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Depth = 0 },
		"a depth beyond all":        func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Depth = pgmedic.MaxDepth + 1 },
		"a version that takes none": func(b *pgmedic.Backup, _ *pgmedic.Physical) { b.Server.VersionNum = 160004 },
		"a full one with a parent":  func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Kind = pgmedic.PhysicalFull },
		"cuts out of order":         func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Truncations[0].Relation = 20000 },
		"a cut twice":               func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Truncations[0] = p.Truncations[1] },
		"a cut of nothing":          func(_ *pgmedic.Backup, p *pgmedic.Physical) { p.Truncations[0].Relation = 0 },
		"too many cuts": func(_ *pgmedic.Backup, p *pgmedic.Physical) {
			p.Truncations = nil
			for n := range uint32(pgmedic.MaxTruncations + 1) {
				p.Truncations = append(p.Truncations, pgmedic.Truncation{Tablespace: 1663, Database: 5, Relation: n + 1})
			}
		},
	} {
		b := incremental()
		change(b, b.Physical)
		if err := b.Check(); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Errorf("%s: %v", name, err)
		}
	}
}
