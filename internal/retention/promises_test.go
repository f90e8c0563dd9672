package retention_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

const (
	segmentBytes = wal.LSN(wal.MinSegmentSize)
	day          = 24 * time.Hour
	// youngWAL is how new WAL is that stays whatever needs it.
	youngWAL = 7 * day
)

// keptSegment is a segment that is stored, and since when it is marked.
type keptSegment struct {
	timeline wal.Timeline
	start    wal.LSN
	at       time.Time
	marked   time.Time
}

// keptBase is a base backup that is listed.
type keptBase struct {
	retention.Backup
	timeline    wal.Timeline
	start, stop wal.LSN
	depth       int
}

// life is a cluster with its base backups and its WAL, day by day.
type life struct {
	r        *rand.Rand
	now      time.Time
	policy   retention.Policy
	pitr     time.Duration // zero: none
	timeline wal.Timeline
	// begins is where each timeline begins, and from is the one that it came from.
	begins map[wal.Timeline]wal.LSN
	from   map[wal.Timeline]wal.Timeline
	next   wal.LSN // where the next segment begins
	bases  []keptBase
	wal    []keptSegment
	// what the test has shown
	deletedBases, deletedWAL, promised, brokenOff, anchored int
}

func newLife(r *rand.Rand) *life {
	l := &life{
		r: r, now: noon.AddDate(0, -2, 0), timeline: 1, next: segmentBytes,
		begins: map[wal.Timeline]wal.LSN{1: 0}, from: map[wal.Timeline]wal.Timeline{},
		policy: retention.Policy{
			Days: pgmedic.Length{Days: r.IntN(8)}, Last: r.IntN(3), Failed: pgmedic.Length{Days: r.IntN(5)},
			Grace: time.Duration(r.IntN(48)) * time.Hour, MaxShare: 1, StaleAfter: -1,
		},
	}
	if r.IntN(2) == 0 {
		l.policy.Daily.Days = r.IntN(8)
	}
	if r.IntN(3) == 0 {
		l.policy.Weekly.Days = 7 * r.IntN(4)
	}
	if r.IntN(4) > 0 {
		l.pitr = time.Duration(1+r.IntN(15)) * day
	}
	return l
}

// live is a day: WAL that is stored or lost, a failover, a base backup, drills, verifications, holds.
func (l *life) live() {
	l.now = l.now.Add(day)
	if l.r.IntN(25) == 0 {
		// Of the segment in which the timeline begins, what was before it is in both.
		old := l.timeline
		l.timeline++
		l.begins[l.timeline], l.from[l.timeline] = l.next-segmentBytes/2, old
		l.wal = append(l.wal, keptSegment{timeline: l.timeline, start: l.next - segmentBytes, at: l.now})
	}
	takes := l.r.IntN(3) == 0
	if takes || l.r.IntN(30) > 0 {
		l.wal = append(l.wal, keptSegment{timeline: l.timeline, start: l.next, at: l.now})
	}
	if takes {
		l.take()
	}
	l.next += segmentBytes
	for i := range l.bases {
		b := &l.bases[i]
		switch l.r.IntN(60) {
		case 0, 1:
			b.Proof, b.Proven, b.ProofAt = pgmedic.ProofProven, true, l.now
		case 2:
			b.Proof, b.Proven, b.ProofAt = pgmedic.ProofFailed, false, l.now
		case 3:
			b.Holds = []catalog.Hold{{Name: "legal", By: "ana", Reason: "118"}}
		case 4:
			b.Holds = nil
		}
	}
}

// take takes a base backup within the segment that is written: a full one, or one that needs the
// newest that can be restored.
func (l *life) take() {
	b := keptBase{Backup: taken(l.now), timeline: l.timeline, start: l.next + 64, stop: l.next + segmentBytes/4}
	b.Unclean = l.r.IntN(20) == 0
	good := l.good()
	for _, parent := range slices.Backward(l.bases) {
		if parent.timeline == l.timeline && parent.depth < 3 && good[parent.ID] && l.r.IntN(4) > 0 {
			b.Parent, b.depth = parent.ID, parent.depth+1
			break
		}
	}
	l.bases = append(l.bases, b)
}

// good are the backups that a restore can begin with: they and all that they need are there, and
// not bad.
func (l *life) good() map[string]bool {
	good := map[string]bool{}
	for _, b := range l.bases { // oldest first
		good[b.ID] = b.Proof != pgmedic.ProofFailed && !b.Unclean && (b.Parent == "" || good[b.Parent])
	}
	return good
}

// reach is up to where recovery along a timeline comes with each of the backups, which are given by
// their ids; what it can't begin with is left out.
func (l *life) reach(t wal.Timeline, good map[string]bool, stored map[wal.Segment]bool) map[string]wal.LSN {
	// has reports whether the half of a segment at a position is stored, of the timeline or of
	// one that it came from before it was left.
	has := func(at wal.LSN) bool {
		end := ^wal.LSN(0)
		for on := t; on != 0; on = l.from[on] {
			if at < end && stored[wal.Segment{Timeline: on, Start: at - at%segmentBytes}] {
				return true
			}
			end = l.begins[on]
		}
		return false
	}
	all := map[string]wal.LSN{}
	for _, b := range l.bases {
		end, on := ^wal.LSN(0), t
		for ; on != 0 && on != b.timeline; on = l.from[on] {
			end = l.begins[on]
		}
		if on == 0 || b.stop > end || !good[b.ID] {
			continue
		}
		at := b.start - b.start%segmentBytes
		for has(at) {
			at += segmentBytes / 2
		}
		if at >= b.stop {
			all[b.ID] = at
		}
	}
	return all
}

// moment is a position along a timeline.
type moment struct {
	timeline wal.Timeline
	at       wal.LSN
}

// reachable are the moments since a time to which recovery is possible with some of the backups: the
// ends of both halves of each segment.
func (l *life) reachable(since time.Time, with func(id string) bool) map[moment]bool {
	good, stored := l.good(), map[wal.Segment]bool{}
	for _, s := range l.wal {
		stored[wal.Segment{Timeline: s.timeline, Start: s.start}] = true
	}
	all := map[moment]bool{}
	for t := wal.Timeline(1); t <= l.timeline; t++ {
		reach := l.reach(t, good, stored)
		for _, s := range l.wal {
			if s.timeline != t || s.at.Before(since) {
				continue
			}
			for _, at := range []wal.LSN{s.start + segmentBytes/2, s.start + segmentBytes} {
				for _, b := range l.bases {
					if end, ok := reach[b.ID]; ok && with(b.ID) && at > l.begins[t] && b.stop <= at && at <= end {
						all[moment{t, at}] = true
					}
				}
			}
		}
	}
	return all
}

// since is the moment from which on any other stays reachable, or zero.
func (l *life) since() time.Time {
	if l.pitr == 0 {
		return time.Time{}
	}
	return l.now.Add(-l.pitr)
}

// inputs are what it depends on which WAL is needed.
func (l *life) inputs() wal.RetainInputs {
	in := wal.RetainInputs{Stored: wal.Stored{SegmentSize: wal.MinSegmentSize}, Since: l.since(), Young: l.now.Add(-youngWAL)}
	newest := map[wal.Timeline]time.Time{}
	for _, s := range l.wal {
		in.Spans = append(in.Spans, wal.Span{Timeline: s.timeline, From: s.start, To: s.start + segmentBytes})
		if s.at.After(newest[s.timeline]) {
			newest[s.timeline] = s.at
			in.Times = append(in.Times, wal.StoredTime{Timeline: s.timeline, LSN: s.start + segmentBytes, At: s.at})
		}
	}
	for t := wal.Timeline(2); t <= l.timeline; t++ {
		h := wal.History{Timeline: t}
		for on := t; l.from[on] != 0; on = l.from[on] {
			h.Switches = append([]wal.Switch{{Timeline: l.from[on], End: l.begins[on]}}, h.Switches...)
		}
		in.Histories = append(in.Histories, h)
	}
	good := l.good()
	for _, b := range l.bases {
		base := wal.Base{ID: b.ID, Timeline: b.timeline, Start: b.start, Stop: b.stop}
		in.Backups = append(in.Backups, wal.RetainedBackup{Base: base, At: b.StartedAt, Kept: true, Bad: !good[b.ID]})
	}
	return in
}

// prune is a run of prune, which ends after so many steps.
func (l *life) prune(steps int) {
	step := func() bool { steps--; return steps >= 0 }
	defer func() {
		if steps < 0 {
			l.brokenOff++
		}
	}()
	needed := map[string]bool{}
	if l.pitr > 0 {
		for _, a := range wal.Anchors(l.inputs()) {
			needed[a.ID] = true
		}
	}
	var series []retention.Backup
	for i := range l.bases {
		if l.bases[i].Needed = ""; needed[l.bases[i].ID] {
			l.bases[i].Needed = "recovery begins with it"
		}
		series = append(series, l.bases[i].Backup)
	}
	decisions, _, _ := retention.Plan(series, l.policy, retention.Circumstances{Now: l.now, Purpose: pgmedic.PurposeRegular})
	for _, d := range slices.Backward(decisions) {
		i := slices.IndexFunc(l.bases, func(b keptBase) bool { return b.ID == d.ID })
		if len(d.Reasons) == 1 && d.Reasons[0] == "recovery begins with it" {
			l.anchored++
		}
		if (d.Unmark || d.Verdict == retention.Mark || d.Verdict == retention.Delete) && !step() {
			return
		}
		switch {
		case d.Unmark:
			l.bases[i].Mark = nil
		case d.Verdict == retention.Mark:
			l.bases[i].Mark = &catalog.Mark{At: l.now}
		case d.Verdict == retention.Delete:
			l.bases = slices.Delete(l.bases, i, i+1)
			l.deletedBases++
		}
	}
	if !l.policy.Off() || l.pitr > 0 {
		l.pruneWAL(step)
	}
}

// pruneWAL marks and deletes WAL, by what is there now.
func (l *life) pruneWAL(step func() bool) {
	kept := wal.RetainWAL(l.inputs())
	young := l.now.Add(-youngWAL)
	if since := l.since(); !since.IsZero() && since.Before(young) {
		young = since
	}
	for i := 0; i < len(l.wal); i++ {
		s := &l.wal[i]
		if _, needed := kept.Why(s.timeline, s.start, s.start+segmentBytes); needed || !s.at.Before(young) {
			s.marked = time.Time{}
			continue
		}
		switch {
		case s.marked.IsZero():
			if !step() {
				return
			}
			s.marked = l.now
		case l.now.Sub(s.marked) >= l.policy.Grace:
			if !step() {
				return
			}
			l.wal = slices.Delete(l.wal, i, i+1)
			l.deletedWAL++
			i--
		}
	}
}

// broken says which promise a run of prune broke.
func (l *life) broken(before *life) string {
	there := map[string]bool{}
	for _, b := range l.bases {
		if there[b.ID] = true; b.Parent != "" && !there[b.Parent] {
			return b.ID + " has lost its parent " + b.Parent
		}
	}
	for _, b := range before.bases {
		if len(b.Holds) > 0 && !there[b.ID] {
			return b.ID + " was held, and has gone"
		}
	}
	// Without retention.pitr a moment goes with the backups before it.
	was := before.reachable(l.since(), func(id string) bool { return l.pitr > 0 || there[id] })
	is := l.reachable(time.Time{}, func(string) bool { return true })
	for m := range was {
		if l.promised++; !is[m] {
			return fmt.Sprintf("%v of timeline %d could be reached", m.at, m.timeline)
		}
	}
	// The WAL of each backup itself.
	var stored []wal.Segment
	for _, s := range l.wal {
		stored = append(stored, wal.Segment{Timeline: s.timeline, Start: s.start})
	}
	for _, b := range l.bases {
		if s := (wal.Segment{Timeline: b.timeline, Start: b.start - b.start%segmentBytes}); !slices.Contains(stored, s) {
			return "the WAL of " + b.ID + " has gone"
		}
	}
	return ""
}

// TestEveryPromise: over the life of a cluster, with chains of base backups, holds, backups that are
// found bad, failovers, gaps, and prunes that break off at any step, each moment stays reachable that
// retention promises, each held backup and what it needs is there, and each has its own WAL.
func TestEveryPromise(t *testing.T) {
	var sum life
	for seed := range uint64(testkit.Amount(700, 10_000, 100_000)) {
		l := newLife(rand.New(rand.NewPCG(seed, 21)))
		for n := range 45 {
			if l.live(); n < 8 || l.r.IntN(3) > 0 {
				continue
			}
			before := *l
			before.bases, before.wal = slices.Clone(l.bases), slices.Clone(l.wal)
			steps := 1_000
			if l.r.IntN(2) == 0 {
				steps = l.r.IntN(12)
			}
			l.prune(steps)
			if why := l.broken(&before); why != "" {
				t.Fatalf("seed %d, day %d: %s\npolicy %+v, pitr %v\nbefore %+v\nafter %+v", seed, n, why, l.policy, l.pitr, before.bases, l.bases)
			}
		}
		sum.deletedBases += l.deletedBases
		sum.deletedWAL += l.deletedWAL
		sum.promised += l.promised
		sum.brokenOff += l.brokenOff
		sum.anchored += l.anchored
	}
	if sum.deletedBases < 1_000 || sum.deletedWAL < 1_000 || sum.promised < 10_000 || sum.brokenOff < 100 || sum.anchored < 100 {
		t.Errorf("this proves little: %d base backups and %d segments deleted, %d promises, %d runs broken off, %d backups kept for pitr alone",
			sum.deletedBases, sum.deletedWAL, sum.promised, sum.brokenOff, sum.anchored)
	}
	t.Logf("%d base backups and %d segments deleted, %d promises, %d runs broken off, %d backups kept for pitr alone",
		sum.deletedBases, sum.deletedWAL, sum.promised, sum.brokenOff, sum.anchored)
}
