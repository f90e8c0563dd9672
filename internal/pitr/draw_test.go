package pitr_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pitr"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestDraw: every draw can be reached, can be repeated, and none is earlier than asked for;
// half of those that are times fall into the last day, and edges come now and then.
func TestDraw(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	days := func(n float64) time.Time {
		return now.Add(-time.Duration(n * 24 * float64(time.Hour))).Truncate(time.Microsecond)
	}
	windows := []wal.Window{
		{Timeline: 1, From: wal.Point{Time: days(30)}, Until: wal.Point{Time: days(20)}, Bases: []wal.Base{{ID: "a"}}},
		{Timeline: 2, From: wal.Point{LSN: 100, Time: days(10)}, Until: wal.Point{LSN: 300, Time: now}, Bases: []wal.Base{{ID: "b"}, {ID: "c"}}},
		{Timeline: 2, Until: wal.Point{Time: now}, Bases: []wal.Base{{ID: "d"}}}, // of which the beginning is not known
	}
	histories := []wal.History{
		{Timeline: 2, Switches: []wal.Switch{{Timeline: 1, End: 150}}},
		{Timeline: 3, Switches: []wal.Switch{{Timeline: 1, End: 150}, {Timeline: 2, End: 200}}}, // of no window
	}
	times, lastDay, first, edges, kinds := 0, 0, 0, 0, map[string]int{}
	const draws = 20_000
	for range draws {
		o := pitr.DrawOptions{Windows: windows, Histories: histories, Seed: r.Uint64()}
		limited := r.IntN(2) == 0
		if limited {
			o.Since = days(r.Float64() * 40)
		}
		d, err := pitr.Draw(o)
		again, _ := pitr.Draw(o)
		if err != nil || d != again || d.How == "" {
			t.Fatalf("%+v: %+v, then %+v, %v", o, d, again, err)
		}
		if !strings.HasPrefix(d.How, "uniformly") {
			edges++
			kinds[d.How]++
			if d.Target.Kind == wal.TargetLSN && (limited || d.Target.LSN != 150 || d.Target.Timeline != 2) {
				t.Fatalf("%+v: %+v", o, d)
			}
			if d.Target.Kind == wal.TargetTime && !slices.ContainsFunc(windows, func(w wal.Window) bool {
				return w.Timeline == d.Target.Timeline && w.Until.Time.Equal(d.Target.Time) && !w.From.Time.IsZero()
			}) {
				t.Fatalf("%+v: %+v", o, d)
			}
			if d.Target.Kind == wal.TargetBackup && (limited || d.Target.Base == "") {
				t.Fatalf("%+v: %+v", o, d)
			}
			continue
		}
		at := d.Target.Time
		within := false
		for _, w := range windows[:2] {
			within = within || d.Target.Timeline == w.Timeline && !at.Before(w.From.Time) && !at.After(w.Until.Time)
		}
		if !within || at.Before(o.Since) {
			t.Fatalf("%+v: %+v", o, d)
		}
		if !limited {
			times++
			if !at.Before(days(1)) {
				lastDay++
			}
			if d.Target.Timeline == 1 {
				first++
			}
		}
	}
	// Of 20 days 10 are of timeline 1, in the half that is drawn from all.
	share := func(n, of int) float64 { return float64(n) / float64(of) }
	if got := share(edges, draws); got < 0.1 || got > 0.15 {
		t.Errorf("share of edges: %v", got)
	}
	for _, how := range []string{"the end of the stored WAL", "the last time up to which WAL is known to be stored", "the end of a base backup", "the first record of a timeline"} {
		if kinds[how] < edges/20 {
			t.Errorf("%s: %d of %d edges", how, kinds[how], edges)
		}
	}
	if got := share(lastDay, times); got < 0.49 || got > 0.56 {
		t.Errorf("share of the last day: %v", got)
	}
	if got := share(first, times); got < 0.22 || got > 0.28 {
		t.Errorf("share of timeline 1: %v", got)
	}
}

// TestDrawNothing: without a window there is nothing to draw, and without known times only
// edges.
func TestDrawNothing(t *testing.T) {
	now := time.Now()
	if _, err := pitr.Draw(pitr.DrawOptions{}); pgmedic.KindOf(err) != pgmedic.KindNotFound {
		t.Errorf("no windows: %v", err)
	}
	old := []wal.Window{{Timeline: 1, From: wal.Point{Time: now.Add(-2 * time.Hour)}, Until: wal.Point{Time: now.Add(-time.Hour)}}}
	if _, err := pitr.Draw(pitr.DrawOptions{Windows: old, Since: now.Add(-time.Minute)}); pgmedic.KindOf(err) != pgmedic.KindNotFound {
		t.Errorf("an old window: %v", err)
	}
	// A window that ends where the time begins that is asked for.
	for seed := range uint64(50) {
		if d, err := pitr.Draw(pitr.DrawOptions{Windows: old, Since: old[0].Until.Time, Seed: seed}); err != nil || d.Target.Kind != wal.TargetEnd {
			t.Errorf("only the end: %+v, %v", d, err)
		}
	}
	unknown := []wal.Window{{Timeline: 3, Bases: []wal.Base{{ID: "x"}}}}
	for seed := range uint64(50) {
		if d, err := pitr.Draw(pitr.DrawOptions{Windows: unknown, Seed: seed}); err != nil || d.Target.Kind == wal.TargetTime || d.Target.Timeline != 3 {
			t.Errorf("unknown times: %+v, %v", d, err)
		}
	}
	for _, seed := range []uint64{0, 1, 1<<64 - 1} {
		if got, err := pitr.ParseSeed(pitr.SeedText(seed)); got != seed || err != nil {
			t.Errorf("seed %d: %d, %v", seed, got, err)
		}
	}
	for _, text := range []string{"", "1", "-000000000000001", "00000000000000AA", "0000000000000000x", "zzzzzzzzzzzzzzzz"} {
		if got, err := pitr.ParseSeed(text); pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("seed %q: %d, %v", text, got, err)
		}
	}
}
