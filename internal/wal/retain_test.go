package wal_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// keptPast is a past with base backups, and when its WAL was stored: by a clock that
// may step back.
type keptPast struct {
	past
	in wal.RetainInputs
	// at is when the WAL was stored that begins at a position.
	at map[wal.Segment]time.Time
}

var zeroHour = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func randomKept(r *rand.Rand) keptPast {
	k := keptPast{past: randomPast(r), at: map[wal.Segment]time.Time{}}
	k.in.Stored = k.stored
	spans := slices.Clone(k.stored.Spans)
	slices.SortFunc(spans, func(a, b wal.Span) int {
		if a.Timeline != b.Timeline {
			return int(a.Timeline) - int(b.Timeline)
		}
		return int(a.From) - int(b.From)
	})
	clock := zeroHour
	newest := map[wal.Timeline]time.Time{}
	for _, s := range spans {
		clock = clock.Add(time.Duration(r.IntN(12)) * time.Hour)
		if r.IntN(12) == 0 {
			clock = clock.Add(-time.Duration(r.IntN(100)) * time.Hour)
		}
		k.at[wal.Segment{Timeline: s.Timeline, Start: s.From}] = clock
		if clock.After(newest[s.Timeline]) {
			newest[s.Timeline] = clock
			k.in.Times = append(k.in.Times, wal.StoredTime{Timeline: s.Timeline, LSN: s.To, At: clock})
		}
	}
	for n := range r.IntN(8) {
		timelines := k.stored.Timelines()
		if len(timelines) == 0 {
			break
		}
		t := timelines[r.IntN(len(timelines))]
		start := seg + quarter*wal.LSN(r.IntN(60))
		k.in.Backups = append(k.in.Backups, wal.RetainedBackup{
			Base: wal.Base{ID: strconv.Itoa(n), Timeline: t, Start: start, Stop: start + quarter*wal.LSN(1+r.IntN(6))},
			At:   zeroHour.Add(time.Duration(r.IntN(400)) * time.Hour), Kept: r.IntN(3) > 0, Bad: r.IntN(6) == 0,
		})
	}
	if r.IntN(4) > 0 {
		k.in.Since = zeroHour.Add(time.Duration(r.IntN(400)) * time.Hour)
	}
	k.in.Young = zeroHour.Add(time.Duration(300+r.IntN(400)) * time.Hour)
	return k
}

// reaches reports whether recovery to a position on a timeline is possible with some of
// the backups, and what is stored.
func reaches(s wal.Stored, backups []wal.RetainedBackup, t wal.Timeline, p wal.LSN) bool {
	h := wal.History{Timeline: t}
	for _, known := range s.Histories {
		if known.Timeline == t {
			h = known
		}
	}
	return slices.ContainsFunc(backups, func(b wal.RetainedBackup) bool {
		end, ok := h.End(b.Timeline)
		return ok && !b.Bad && b.Stop <= end && b.Stop <= p && s.Reach(t, b.Start) >= p
	})
}

// TestRetainedWALKeepsEveryPromise: for random histories every moment that could be
// reached and is promised can be reached with what is kept.
func TestRetainedWALKeepsEveryPromise(t *testing.T) {
	dropped, promised, anchored := 0, 0, 0
	for seed := range uint64(testkit.Amount(4000, 100000, 100000)) {
		r := rand.New(rand.NewPCG(seed, 16))
		k := randomKept(r)
		kept := wal.RetainWAL(k.in)
		anchors := wal.Anchors(k.in)
		after := k.stored
		after.Spans = nil
		for _, s := range k.stored.Spans {
			if _, needed := kept.Why(s.Timeline, s.From, s.To); needed {
				after.Spans = append(after.Spans, s)
			} else {
				dropped++
			}
		}
		var left []wal.RetainedBackup
		for _, b := range k.in.Backups {
			if b.Kept || slices.Contains(anchors, b.Base) {
				left = append(left, b)
			}
			if !b.Kept && slices.Contains(anchors, b.Base) {
				anchored++
			}
		}
		for _, b := range left {
			if reach := k.stored.Reach(b.Timeline, b.Start); b.Kept && reach >= b.Stop && after.Reach(b.Timeline, b.Start) < b.Stop {
				t.Fatalf("seed %d: backup %+v can no longer be made consistent", seed, b)
			}
		}
		for _, tli := range k.stored.Timelines() {
			for _, s := range k.stored.Spans {
				h := k.histories[tli]
				begin, ok := h.Begin(s.Timeline)
				end, _ := h.End(s.Timeline)
				if !ok {
					continue
				}
				for p := s.From + quarter; p <= s.To; p += quarter {
					// Of the segment in which a timeline begins, the copy of what was before it
					// is no moment of its own.
					if p <= begin || p > end {
						continue
					}
					before := k.in.Backups
					if k.in.Since.IsZero() {
						before = left
					} else if k.at[wal.Segment{Timeline: s.Timeline, Start: s.From}].Before(k.in.Since) {
						continue
					}
					if !reaches(k.stored, before, tli, p) {
						continue
					}
					promised++
					if !reaches(after, left, tli, p) {
						t.Fatalf("seed %d: %v on timeline %d was reachable, and is not: since %v\n%+v\nanchors %+v\nkept %+v", seed, p, tli, k.in.Since, k.in, anchors, kept)
					}
				}
			}
		}
	}
	if dropped < 1000 || promised < 1000 || anchored < 100 {
		t.Errorf("the histories show little: %d spans dropped, %d promises, %d anchors that retention would not have kept", dropped, promised, anchored)
	}
}

// TestWALWithoutABackupStays: without a base backup nothing says which WAL is needed.
func TestWALWithoutABackupStays(t *testing.T) {
	in := wal.RetainInputs{Stored: wal.Stored{SegmentSize: wal.MinSegmentSize, Spans: []wal.Span{{Timeline: 1, From: seg, To: 9 * seg}}}}
	if why, needed := wal.RetainWAL(in).Why(1, seg, 2*seg); !needed || why != wal.NoBackup {
		t.Errorf("%q, %v", why, needed)
	}
	in.Backups = []wal.RetainedBackup{{Base: wal.Base{ID: "b", Timeline: 1, Start: 4 * seg, Stop: 5*seg + 8}, Kept: true}}
	got := wal.RetainWAL(in)
	for at, want := range map[wal.LSN]bool{1: false, 3: false, 4: true, 5: true, 8: true} {
		if why, needed := got.Why(1, at*seg, at*seg+seg); needed != want {
			t.Errorf("segment %d: %v %q, want %v", at, needed, why, want)
		}
	}
	if from, ok := got.Begins(1); !ok || from != 4*seg {
		t.Errorf("everything is needed from %v on", from)
	}
	// Of what a timeline came from nothing is known: all of it stays.
	in.Spans = append(in.Spans, wal.Span{Timeline: 7, From: seg, To: 2 * seg})
	if _, needed := wal.RetainWAL(in).Why(7, seg, math.MaxUint64); !needed {
		t.Error("WAL of a timeline without a history goes")
	}
}

// TestDeadBranchGoesWithTheWindow: what an old primary wrote after a failover stays as
// long as the window reaches it, whatever the numbers of the timelines are.
func TestDeadBranchGoesWithTheWindow(t *testing.T) {
	day := 24 * time.Hour
	in := wal.RetainInputs{
		Stored: wal.Stored{
			SegmentSize: wal.MinSegmentSize,
			Spans:       []wal.Span{{Timeline: 1, From: seg, To: 20 * seg}, {Timeline: 2, From: 10 * seg, To: 40 * seg}},
			Histories:   []wal.History{{Timeline: 2, Switches: []wal.Switch{{Timeline: 1, End: 10*seg + 64}}}},
		},
		Backups: []wal.RetainedBackup{
			{Base: wal.Base{ID: "first", Timeline: 1, Start: 2 * seg, Stop: 3 * seg}, At: zeroHour, Kept: true},
			{Base: wal.Base{ID: "second", Timeline: 2, Start: 20 * seg, Stop: 21 * seg}, At: zeroHour.Add(10 * day), Kept: true},
		},
		Times: []wal.StoredTime{
			{Timeline: 1, LSN: 3 * seg, At: zeroHour}, {Timeline: 1, LSN: 20 * seg, At: zeroHour.Add(5 * day)},
			{Timeline: 2, LSN: 11 * seg, At: zeroHour.Add(5 * day)}, {Timeline: 2, LSN: 21 * seg, At: zeroHour.Add(10 * day)},
			{Timeline: 2, LSN: 40 * seg, At: zeroHour.Add(20 * day)},
		},
	}
	in.Since = zeroHour.Add(4 * day)
	if _, needed := wal.RetainWAL(in).Why(1, 15*seg, 16*seg); !needed {
		t.Error("the window reaches the dead branch, and it goes")
	}
	in.Since = zeroHour.Add(15 * day)
	got := wal.RetainWAL(in)
	if why, needed := got.Why(1, 15*seg, 16*seg); needed {
		t.Errorf("the dead branch stays: %s", why)
	}
	if _, needed := got.Why(1, 2*seg, 3*seg); !needed {
		t.Error("the WAL of a backup that is kept goes")
	}
	if _, needed := got.Why(2, 12*seg, 13*seg); needed {
		t.Error("WAL before the window stays, and only a backup before it could use it")
	}
	if a := wal.Anchors(in); len(a) != 1 || a[0].ID != "second" {
		t.Errorf("anchors %+v", a)
	}
}
