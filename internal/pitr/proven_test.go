package pitr_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/pitr"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// drilled is the receipt of a drill of a moment that passed.
func drilled(backup string, end wal.LSN, at time.Time, commit *time.Time) pgmedic.Receipt {
	return pgmedic.Receipt{
		Kind: pgmedic.ReceiptDrill, BackupID: backup, Outcome: pgmedic.OutcomeOK, Proof: pgmedic.ProofProven, At: at,
		PITR: &pgmedic.PITR{Timeline: 1, EndLSN: end.String(), LastCommitAt: commit},
	}
}

// TestProven: which drills prove a moment, which moment that is, and which do not.
func TestProven(t *testing.T) {
	b := newBench(t)
	commit := b.now.Add(-30 * time.Second)
	b.segments(map[wal.LSN]time.Time{2 * seg: b.now.Add(-time.Hour), 3 * seg: commit}, seg, 2*seg, 3*seg)
	b.seen(seg+500, 2*time.Hour)
	b.seen(4*seg, time.Second)
	earlier, newest := b.now.Add(-3*time.Hour), b.now.Add(-time.Hour)
	half := newest.Add(-time.Minute)
	with := func(id string, receipts ...pgmedic.Receipt) catalog.Entry {
		e := entry(id, seg+64, seg+128)
		e.Receipts = receipts
		return e
	}
	c := b.read(true, with("one", drilled("one", 3*seg, earlier, &half), drilled("one", 2*seg, newest, &earlier)))
	p, ok := c.Proven(1, "")
	if !ok || p.Until.LSN != 3*seg || !p.Until.Time.Equal(half) || !slices.Equal(p.Backups, []string{"one"}) || !p.DrilledAt.Equal(earlier) {
		t.Errorf("the newest moment, not the newest drill: %+v", c.Proofs)
	}
	if _, ok := c.Proven(2, ""); ok || len(c.Proofs) != 2 {
		t.Errorf("another timeline: %+v", c.Proofs)
	}
	if _, ok := c.Proven(1, "other"); ok {
		t.Error("through another base backup")
	}
	// The end of an idle server: all since then is proven as well.
	c = b.read(true, with("one", drilled("one", 4*seg, earlier, &commit)))
	if p, ok := c.Proven(1, ""); !ok || !p.Until.Time.Equal(b.now.Add(-time.Second)) {
		t.Errorf("an idle server: %+v", c.Proofs)
	}
	// A clock that was set back: the position is proven, and no time that contradicts what follows.
	ahead := b.now.Add(time.Hour)
	c = b.read(true, with("one", drilled("one", 2*seg, earlier, &ahead)))
	if p, ok := c.Proven(1, ""); !ok || p.Until.LSN != 2*seg || !p.Until.Time.Before(commit) {
		t.Errorf("a clock that was set back: %+v", c.Proofs)
	}

	change := func(do func(*pgmedic.Receipt)) pgmedic.Receipt {
		r := drilled("one", 3*seg, earlier, &half)
		do(&r)
		return r
	}
	marked, foreign, incremental := with("one", drilled("one", 3*seg, earlier, nil)), with("one", drilled("one", 3*seg, earlier, nil)), with("one", drilled("one", 3*seg, earlier, nil))
	marked.Mark = &catalog.Mark{}
	foreign.Backup.Server.SystemIdentifier = "7713000000000000001"
	incremental.Backup.Physical.Kind, incremental.Backup.Physical.Parent, incremental.Backup.Physical.Depth = pgmedic.PhysicalIncremental, "gone", 1
	for name, e := range map[string]catalog.Entry{
		"none":                        with("one"),
		"a failed drill":              with("one", change(func(r *pgmedic.Receipt) { r.Outcome, r.Proof = pgmedic.OutcomeFailed, pgmedic.ProofFailed })),
		"one that failed later":       with("one", drilled("one", 3*seg, earlier, nil), pgmedic.Receipt{Kind: pgmedic.ReceiptDrill, Outcome: pgmedic.OutcomeFailed, At: newest}),
		"damage found later":          with("one", drilled("one", 3*seg, earlier, nil), pgmedic.Receipt{Kind: pgmedic.ReceiptVerify, Outcome: pgmedic.OutcomeFailed, At: newest}),
		"a drill of a database":       with("one", change(func(r *pgmedic.Receipt) { r.PITR = nil })),
		"a verification":              with("one", change(func(r *pgmedic.Receipt) { r.Kind = pgmedic.ReceiptVerify })),
		"a restore":                   with("one", change(func(r *pgmedic.Receipt) { r.Kind = pgmedic.ReceiptRestore })),
		"the receipt of another":      with("one", change(func(r *pgmedic.Receipt) { r.BackupID = "two" })),
		"no position":                 with("one", change(func(r *pgmedic.Receipt) { r.PITR.EndLSN = "x" })),
		"before the backup's end":     with("one", change(func(r *pgmedic.Receipt) { r.PITR.EndLSN = (seg + 127).String() })),
		"behind what is stored":       with("one", change(func(r *pgmedic.Receipt) { r.PITR.EndLSN = (4*seg + 1).String() })),
		"another timeline":            with("one", change(func(r *pgmedic.Receipt) { r.PITR.Timeline = 2 })),
		"no timeline":                 with("one", change(func(r *pgmedic.Receipt) { r.PITR.Timeline = 1<<32 + 1 })),
		"about to be deleted":         marked,
		"another cluster":             foreign,
		"the chain's parent is gone":  incremental,
		"of a backup that is not its": with("two", drilled("one", 3*seg, earlier, nil)),
	} {
		o := b.read
		if name == "another cluster" {
			o = b.readFirst
		}
		if c := o(true, e); len(c.Proofs) != 0 || c.ClaimedDrills != 0 {
			t.Errorf("%s: %+v, %d claimed", name, c.Proofs, c.ClaimedDrills)
		}
	}
	// The chain is said, and goes with its parent.
	child := with("child", drilled("child", 3*seg, earlier, nil))
	child.Backup.Physical.Kind, child.Backup.Physical.Parent, child.Backup.Physical.Depth = pgmedic.PhysicalIncremental, "one", 1
	child.Backup.Physical.StartLSN, child.Backup.Physical.StopLSN = (seg + 256).String(), (seg + 512).String()
	c = b.read(true, with("one"), child)
	if p, ok := c.Proven(1, "child"); !ok || !slices.Equal(p.Backups, []string{"child", "one"}) {
		t.Errorf("a chain: %+v", c.Proofs)
	}
	if _, ok := c.Proven(1, "one"); ok {
		t.Error("the parent by itself is not proven")
	}
}

// TestProvenWALGone: a moment counts no longer as proven once WAL before it is gone.
func TestProvenWALGone(t *testing.T) {
	b := newBench(t)
	b.segments(nil, seg, 3*seg) // the one between is missing
	b.seen(4*seg, time.Second)
	e := entry("one", seg+64, seg+128)
	e.Receipts = []pgmedic.Receipt{drilled("one", 3*seg+100, b.now.Add(-time.Hour), nil), drilled("one", 2*seg, b.now.Add(-time.Hour), nil)}
	c := b.read(true, e)
	if p, ok := c.Proven(1, ""); !ok || p.Until.LSN != 2*seg || len(c.Proofs) != 1 {
		t.Errorf("%+v", c.Proofs)
	}
}

// TestRestorePoints: those of the index that can be recovered to, of each name one alone.
func TestRestorePoints(t *testing.T) {
	b := newBench(t)
	plain := bytes.Repeat([]byte{7}, int(size))
	var lines []wal.Summary
	at := b.now.Add(-time.Hour)
	for i, names := range [][]string{{"before the backup ended", "twice"}, {"one", "twice", ""}, {"two"}, {"of other bytes"}} {
		start := wal.LSN(i+1) * seg
		b.must(b.epoch.PutSegment(t.Context(), wal.Segment{Timeline: 1, Start: start}, plain))
		line := wal.Summary{Segment: size.Name(wal.Segment{Timeline: 1, Start: start}), Start: start, SHA256: archive.SegmentSum(plain)}
		if i == 3 {
			line.SHA256 = archive.SegmentSum(plain[1:])
		}
		for k, name := range names {
			position := start + wal.LSN(96*(k+1))
			line.Add(wal.Event{Kind: wal.RestorePoint, Start: position, End: position + 96, Time: at, Name: name})
		}
		lines = append(lines, line)
	}
	b.must(b.epoch.PutIndex(t.Context(), 0, lines))
	b.seen(5*seg, time.Second)
	e := entry("one", seg+64, seg+512)
	read := func(o pitr.Options) []archive.RestorePoint {
		t.Helper()
		o.Store, o.Server, o.Entries, o.Now = b.store, "clinic", []catalog.Entry{e}, b.now
		o.Open = func(_ context.Context, _ string, wraps []archive.StoredWrap) (*seal.Key, error) {
			return seal.OpenKey(wraps[0].Data, []age.Identity{b.identity})
		}
		all, err := pitr.Read(t.Context(), o)
		if err != nil || len(all) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		return all[0].RestorePoints
	}
	points := read(pitr.Options{RestorePoints: true})
	if len(points) != 2 || points[0].Name != "two" || points[1].Name != "one" || points[1].LSN != 2*seg+96 || points[1].Timeline != 1 || !points[1].Time.Equal(at) {
		t.Errorf("restore points %+v", points)
	}
	if points := read(pitr.Options{}); points != nil {
		t.Errorf("not asked for: %+v", points)
	}
}

// TestDrawRestorePoints: of the draws that are no edges one in eight is a restore point, and
// none of before the time that is asked for.
func TestDrawRestorePoints(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	old, recent := now.Add(-48*time.Hour), now.Add(-time.Hour)
	o := pitr.DrawOptions{
		Windows: []wal.Window{{Timeline: 2, From: wal.Point{Time: now.Add(-72 * time.Hour)}, Until: wal.Point{Time: now}, Bases: []wal.Base{{ID: "b"}}}},
		Points:  []archive.RestorePoint{{Name: "old", Timeline: 2, Time: old}, {Name: "recent", Timeline: 2, Time: recent}},
	}
	drawn := map[string]int{}
	const draws = 20_000
	for i := range draws {
		o.Seed, o.Since = r.Uint64(), time.Time{}
		if i%2 == 1 {
			o.Since = now.Add(-24 * time.Hour)
		}
		d, err := pitr.Draw(o)
		if err != nil {
			t.Fatal(err)
		}
		if d.Target.Kind != wal.TargetName {
			continue
		}
		if drawn[d.Target.Name]++; d.Target.Timeline != 2 || d.How == "" || d.Target.Name == "old" && !o.Since.IsZero() {
			t.Fatalf("%+v: %+v", o, d)
		}
	}
	if share := float64(drawn["old"]+drawn["recent"]) / draws; len(drawn) != 2 || share < 0.09 || share > 0.13 {
		t.Errorf("drawn %v", drawn)
	}
}
