package wal_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic/internal/pitr"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestDrawnTargets: whatever moment a drill draws out of a random past can be reached, and is
// planned as PostgreSQL recovers it. Where times run back, one may be between times of which a
// base backup has the later. Among the moments are those just behind a fork of
// timelines, in idle times, and at the borders of segments.
func TestDrawnTargets(t *testing.T) {
	counted := map[string]int{}
	for seed := range uint64(testkit.Amount(1500, 5000, 20000)) {
		s, r := newStory(seed)
		for _, w := range s.windows() {
			for range 4 {
				o := pitr.DrawOptions{Windows: []wal.Window{w}, Histories: s.in.Histories, Seed: r.Uint64()}
				drawn, err := pitr.Draw(o)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				p, err := wal.PlanTarget(s.in, drawn.Target)
				fail := func(format string, args ...any) {
					t.Helper()
					t.Fatalf("seed %d, %+v, window %+v: %s", seed, drawn, w, fmt.Sprintf(format, args...))
				}
				var outside *wal.OutsideError
				if errors.As(err, &outside) && drawn.Target.Kind == wal.TargetTime && !s.steady(w.Timeline) {
					s.checkOutside(fail, drawn.Target, outside)
					counted["outside"]++
					continue
				}
				if err != nil {
					fail("%v", err)
				}
				s.checkPlan(fail, drawn.Target, p)
				s.count(counted, drawn, p)
			}
		}
	}
	t.Logf("%v", counted)
	for _, what := range []string{"first of a timeline", "first end behind a fork", "last before a fork", "idle", "first of a segment", "last of a segment", "over a border"} {
		if counted[what] < 20 {
			t.Errorf("%s: %d of the draws", what, counted[what])
		}
	}
}

// steady reports whether the times along a timeline never run back.
func (s *story) steady(t wal.Timeline) bool {
	return slices.IsSortedFunc(endsOf(s.paths[t]), func(a, b wal.Event) int { return a.Time.Compare(b.Time) })
}

// windows are those of what is stored, with the times of all that ended in it.
func (s *story) windows() []wal.Window {
	in := s.in.Inputs
	for t := range s.paths {
		begin, _ := s.histories[t].Begin(t)
		for _, e := range endsOf(s.paths[t]) {
			if e.Start >= begin {
				in.Marks = append(in.Marks, wal.Mark{Timeline: t, LSN: e.End, Time: e.Time})
			}
		}
	}
	return wal.Windows(in)
}

// count counts what kind of moment a plan is for.
func (s *story) count(counted map[string]int, drawn pitr.Drawn, p wal.Plan) {
	done, _ := s.replayed(p)
	if len(done) == 0 || p.Stop == wal.StopImmediate {
		return
	}
	last := done[len(done)-1]
	fork, _ := s.histories[p.Timeline].Begin(p.Timeline)
	isEnd := len(endsOf([]wal.Record{last})) > 0
	behind := endsOf(s.along(p.Timeline, max(fork, p.Base.Start)))
	for what, is := range map[string]bool{
		"first of a timeline":     fork > 0 && last.Start == fork && drawn.Target.Kind == wal.TargetLSN,
		"first end behind a fork": fork > p.Base.Start && isEnd && len(behind) > 0 && last.Start == behind[0].Start,
		"last before a fork":      fork > p.Base.Start && isEnd && last.End <= fork && p.Next != nil && p.Next.LSN >= fork,
		"idle":                    drawn.Target.Kind == wal.TargetTime && p.Next == nil && p.Last != nil && drawn.Target.Time.After(p.Last.Time),
		"first of a segment":      s.in.SegmentSize.Start(last.Start) != s.in.SegmentSize.Start(last.Start-1),
		"last of a segment":       last.End == s.in.SegmentSize.Start(last.End),
		"over a border":           s.in.SegmentSize.Start(last.Start) != s.in.SegmentSize.Start(last.End-1),
	} {
		if is {
			counted[what]++
		}
	}
}
