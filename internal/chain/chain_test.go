package chain_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/chain"
)

func id(n int) string { return fmt.Sprintf("20261130T01000%dZ-00000%d", n, n) }

// backups makes a chain, the full one first.
func backups(n int) (all []*pgmedic.Backup) {
	for i := range n {
		p := &pgmedic.Physical{Kind: pgmedic.PhysicalFull, Timeline: 1, StartLSN: fmt.Sprintf("0/%d000028", i+1), BlockBytes: 8192, SegmentBytes: 1 << 30, CatalogVersion: 7}
		if i > 0 {
			p.Kind, p.Parent, p.Depth = pgmedic.PhysicalIncremental, id(i-1), i
		}
		all = append(all, &pgmedic.Backup{ID: id(i), Method: pgmedic.MethodPhysical, Server: pgmedic.Server{Name: "clinic", SystemIdentifier: "77"}, Physical: p})
	}
	return all
}

func TestOf(t *testing.T) {
	all := backups(4)
	got, err := chain.Of(all[3], slices.Concat(all[2:], all[:2]))
	if err != nil || len(got) != 4 || got[0] != all[3] || got[3] != all[0] {
		t.Errorf("the chain is %d long, %v", len(got), err)
	}
	if got, err := chain.Of(all[0], all); err != nil || len(got) != 1 {
		t.Errorf("the chain of a full backup is %d long, %v", len(got), err)
	}
	logical := &pgmedic.Backup{ID: id(9)}
	if whole := chain.Whole(append(slices.Delete(slices.Clone(all), 1, 2), logical)); len(whole) != 2 || whole[0] != all[0] || whole[1] != logical {
		t.Errorf("%d backups are whole without the second", len(whole))
	}
}

// TestBroken breaks a chain in each way: each is said in one line that names what is wrong.
func TestBroken(t *testing.T) {
	for name, c := range map[string]struct {
		change func(all []*pgmedic.Backup) []*pgmedic.Backup
		says   string
	}{
		"a parent is missing":          {func(all []*pgmedic.Backup) []*pgmedic.Backup { return slices.Delete(all, 1, 2) }, "needs backup " + id(1) + ", which is not in the store"},
		"a parent of another server":   {func(all []*pgmedic.Backup) []*pgmedic.Backup { all[1].Server.Name = "other"; return all }, "not in the store"},
		"a parent of another cluster":  {func(all []*pgmedic.Backup) []*pgmedic.Backup { all[0].Server.SystemIdentifier = "78"; return all }, "another cluster"},
		"a parent of a database":       {func(all []*pgmedic.Backup) []*pgmedic.Backup { all[1].Physical = nil; return all }, "not in the store"},
		"a parent that came later":     {func(all []*pgmedic.Backup) []*pgmedic.Backup { all[1].Physical.StartLSN = "0/9000028"; return all }, "does not begin before it"},
		"a parent of another timeline": {func(all []*pgmedic.Backup) []*pgmedic.Backup { all[0].Physical.Timeline = 2; return all }, "on that timeline"},
		"a parent of another layout":   {func(all []*pgmedic.Backup) []*pgmedic.Backup { all[0].Physical.BlockBytes = 4096; return all }, "another layout"},
		"a depth that is not so":       {func(all []*pgmedic.Backup) []*pgmedic.Backup { all[1].Physical.Depth = 5; return all }, "is not number 2 of a chain of 3"},
		"backups that need each other": {func(all []*pgmedic.Backup) []*pgmedic.Backup {
			all[0].Physical.Kind, all[0].Physical.Parent = pgmedic.PhysicalIncremental, id(2)
			return all
		}, "begins with a full backup"},
	} {
		all := backups(3)
		last := all[2]
		_, err := chain.Of(last, c.change(all))
		if pgmedic.KindOf(err) != pgmedic.KindIntegrity || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") || pgmedic.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	all := backups(3)
	for name, order := range map[string][]*pgmedic.Backup{
		"out of order": {all[2], all[0], all[1]}, "the full one first": {all[0], all[1], all[2]}, "without the full one": {all[2], all[1]}, "nothing": nil,
		"without one between": {all[2], all[0]},
	} {
		if err := chain.Check(order); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Errorf("%s: %v", name, err)
		}
	}
}
