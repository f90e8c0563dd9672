package wal_test

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// story is a random past of a cluster in records, and what of it is stored.
type story struct {
	in wal.PlanInputs
	// paths are the records along each timeline, and histories say where it branched off.
	paths     map[wal.Timeline][]wal.Record
	histories map[wal.Timeline]wal.History
	// indexed are the segments that the index has.
	indexed map[wal.Segment]bool
	walked  int
}

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func moment(r *rand.Rand) time.Time {
	return noon.Add(time.Duration(r.IntN(90)) * time.Microsecond)
}

// newStory makes up to three timelines of records, some of which reach over several
// segments, with times that run back now and then.
func newStory(seed uint64) (*story, *rand.Rand) {
	r := rand.New(rand.NewPCG(seed, 7))
	s := &story{paths: map[wal.Timeline][]wal.Record{}, histories: map[wal.Timeline]wal.History{1: {Timeline: 1}}, indexed: map[wal.Segment]bool{}}
	s.in.SegmentSize = wal.MinSegmentSize
	clock := 10
	write := func(t wal.Timeline, path []wal.Record, n int) []wal.Record {
		at := seg
		if len(path) > 0 {
			at = path[len(path)-1].End
		}
		for range n {
			length := wal.LSN(1+r.IntN(40)) * 8
			if r.IntN(3) == 0 {
				length = wal.LSN(1+r.IntN(300000)) * 8
			}
			if r.IntN(6) == 0 { // it ends at a border of segments, where the next one begins
				length = seg - at%seg
			}
			record := wal.Record{Start: at, End: at + length, Timeline: t, Major: 15, XID: r.Uint32(), Resource: 10}
			if clock += r.IntN(4); r.IntN(8) == 0 {
				clock = max(0, clock-r.IntN(12))
			}
			stamp := binary.LittleEndian.AppendUint64(nil, uint64(wal.ServerMicroseconds(noon.Add(time.Duration(clock)*time.Microsecond))))
			switch k := r.IntN(10); {
			case k < 5:
				record.Resource, record.Info, record.Data = 1, []byte{0x00, 0x00, 0x20, 0x30, 0x40}[k], stamp
			case k == 5:
				record.Resource, record.Info, record.Data = 0, 0x70, slices.Concat(stamp, []byte{'a' + byte(r.IntN(2)), 0})
			case k == 6:
				record.Resource, record.Data = 5, []byte("\x01\x02\x00\x00/srv/new\x00")
			}
			path, at = append(path, record), record.End
		}
		return path
	}
	s.paths[1] = write(1, nil, 5+r.IntN(40))
	for t := wal.Timeline(2); t <= wal.Timeline(1+r.IntN(3)); t++ {
		parent := wal.Timeline(1 + r.IntN(int(t-1)))
		begin, _ := s.histories[parent].Begin(parent)
		i := 1 + r.IntN(len(s.paths[parent]))
		fork := s.paths[parent][i-1].End
		if fork <= begin {
			break
		}
		s.histories[t] = wal.History{Timeline: t, Switches: append(slices.Clone(s.histories[parent].Switches), wal.Switch{Timeline: parent, End: fork})}
		s.in.Histories = append(s.in.Histories, s.histories[t])
		s.paths[t] = write(t, slices.Clone(s.paths[parent][:i]), 1+r.IntN(20))
	}
	s.store(r)
	return s, r
}

// store decides what is stored of it.
func (s *story) store(r *rand.Rand) {
	for n := range len(s.paths) {
		t := wal.Timeline(n + 1)
		path := s.paths[t]
		begin, _ := s.histories[t].Begin(t)
		first, end := s.in.SegmentSize.Start(max(begin, seg)), path[len(path)-1].End
		for at := first; at < end; at += seg {
			if r.IntN(25) == 0 {
				continue // it is missing
			}
			to := min(end, at+seg)
			if to < at+seg && r.IntN(2) == 0 {
				to = at + wal.LSN(1+r.IntN(int(to-at)))
			}
			s.in.Spans = append(s.in.Spans, wal.Span{Timeline: t, From: at, To: to})
			s.indexed[wal.Segment{Timeline: t, Start: at}] = to == at+seg && r.IntN(3) > 0
		}
		for range 1 + r.IntN(2) {
			i := r.IntN(len(path))
			j := min(len(path)-1, i+r.IntN(6))
			if path[j].End > path[i].Start && path[i].Start >= begin {
				s.in.Bases = append(s.in.Bases, wal.Base{ID: fmt.Sprintf("%d-%d-%d", t, i, j), Timeline: t, Start: path[i].Start, Stop: path[j].End})
				if r.IntN(2) == 0 {
					s.in.Seen = append(s.in.Seen, wal.Observation{Timeline: t, LSN: path[i].Start, Time: s.timeOf(path[:i])})
				}
			}
		}
		if r.IntN(2) == 0 {
			// A server that has done nothing since.
			s.in.Seen = append(s.in.Seen, wal.Observation{Timeline: t, LSN: end, Time: noon.Add(200 * time.Microsecond)})
		}
	}
	s.in.Spans = wal.MergeSpans(s.in.Spans)
	s.in.Summary, s.in.Walk = s.summary, s.walk
}

// timeOf is the latest time in some records.
func (s *story) timeOf(path []wal.Record) time.Time {
	latest := noon
	for _, r := range path {
		if e, ok := wal.Decode(&r); ok && e.Time.After(latest) {
			latest = e.Time
		}
	}
	return latest
}

func (s *story) summary(at wal.Segment) (sum wal.Summary, ok bool) {
	if !s.indexed[at] {
		return sum, false
	}
	sum = wal.Summary{Segment: s.in.SegmentSize.Name(at), Start: at.Start}
	for _, r := range s.paths[at.Timeline] {
		if r.End <= at.Start || r.End > at.Start+seg {
			continue
		}
		sum.LastStart, sum.End = r.Start, r.End
		if e, ok := wal.Decode(&r); ok {
			sum.Add(e)
		}
	}
	return sum, true
}

func (s *story) walk(segments []wal.Segment, record func(*wal.Record) bool) (*wal.Stop, error) {
	s.walked++
	first, last := segments[0], segments[len(segments)-1]
	for i, at := range segments {
		if at.Start != first.Start+wal.LSN(i)*seg {
			return nil, fmt.Errorf("segments %v do not follow one another", segments)
		}
	}
	end := wal.LSN(0)
	for _, span := range s.in.Spans {
		if span.Timeline == last.Timeline && span.From <= last.Start && last.Start < span.To {
			end = min(span.To, last.Start+seg)
		}
	}
	if end == 0 {
		return nil, fmt.Errorf("segment %v is not stored", last)
	}
	for _, r := range s.paths[last.Timeline] {
		if r.Start >= first.Start && r.End <= end && !record(&r) {
			return nil, nil
		}
	}
	return nil, nil
}

// replayed is what PostgreSQL does with a plan, in words of the records: those that it
// replays from the base's start on. It is false where it would end with an error.
func (s *story) replayed(p wal.Plan) (done []wal.Record, ok bool) {
	for _, r := range s.along(p.Timeline, p.Base.Start) {
		end := p.Base.Start
		if len(done) > 0 {
			end = done[len(done)-1].End
		}
		if p.Stop == wal.StopImmediate && end >= p.Base.Stop {
			return done, true
		}
		done = append(done, r)
		if p.Stop == wal.StopAtLSN && r.Start >= p.LSN {
			return done, r.End >= p.Base.Stop
		}
	}
	return done, p.Stop != wal.StopAtLSN && (len(done) == 0 || done[len(done)-1].End >= p.Base.Stop)
}

// along returns the stored records along a timeline from a position on, up to the first
// that is not there.
func (s *story) along(t wal.Timeline, from wal.LSN) (all []wal.Record) {
	reach := s.in.Reach(t, from)
	for _, r := range s.paths[t] {
		if r.Start >= from {
			if r.End > reach {
				break
			}
			all = append(all, r)
		}
	}
	return all
}

// endsOf returns the ends of transactions.
func endsOf(records []wal.Record) (all []wal.Event) {
	for _, r := range records {
		if e, ok := wal.Decode(&r); ok && e.Ends() {
			all = append(all, e)
		}
	}
	return all
}

// idleUntil is the time of the last observation of a server that had written no more than up
// to a position, as far as no other observation contradicts it: an earlier one that was seen
// with more, or one of a server that was replaced before it was seen.
func (s *story) idleUntil(t wal.Timeline, reach wal.LSN) time.Time {
	h := s.histories[t]
	var onPath []wal.Observation
	for _, o := range s.in.Seen {
		if end, ok := h.End(o.Timeline); ok && o.LSN <= end {
			onPath = append(onPath, o)
		}
	}
	slices.SortFunc(onPath, func(a, b wal.Observation) int { return cmp.Or(cmp.Compare(a.LSN, b.LSN), a.Time.Compare(b.Time)) })
	for i, o := range slices.Backward(onPath) {
		end, _ := h.End(o.Timeline)
		earlier := func(other wal.Observation) bool { return other.LSN > reach && other.Time.Before(o.Time) }
		var later []time.Time
		for _, other := range s.in.Seen {
			if _, ok := h.End(other.Timeline); ok && other.Timeline > o.Timeline {
				later = append(later, other.Time)
			}
		}
		if replaced := end <= reach && (len(later) == 0 || slices.MinFunc(later, time.Time.Compare).Before(o.Time)); o.LSN <= reach && !replaced && !slices.ContainsFunc(onPath[i+1:], earlier) {
			return o.Time
		}
	}
	return noon.Add(-time.Hour)
}

// byRule is what PostgreSQL replays with recovery_target_time from a base backup on,
// whether it is consistent then, and whether the backup itself has what ended later.
func (s *story) byRule(b wal.Base, t wal.Timeline, at time.Time) (done []wal.Record, consistent, tooNew, complete bool) {
	all := s.along(t, b.Start)
	n := slices.IndexFunc(all, func(r wal.Record) bool {
		e, ok := wal.Decode(&r)
		return ok && e.Ends() && e.Time.After(at)
	})
	until := s.idleUntil(t, s.in.Reach(t, b.Start))
	for _, e := range endsOf(all) {
		if e.Time.After(until) {
			until = e.Time
		}
	}
	if complete = n >= 0 || !at.After(until); n < 0 {
		n = len(all)
	}
	done = all[:n]
	consistent = n < len(all) && all[n].Start >= b.Stop || n == len(all)
	var before []wal.Record
	for _, r := range s.paths[t] {
		if r.Start < b.Start {
			before = append(before, r)
		}
	}
	if last := endsOf(before); len(endsOf(done)) == 0 && len(last) > 0 {
		tooNew = last[len(last)-1].Time.After(at)
	}
	return done, consistent, tooNew, complete
}

func TestPlanTargetProperty(t *testing.T) {
	reached, outside, idle, immediate := 0, 0, 0, 0
	for seed := range uint64(testkit.Amount(1500, 10000, 100000)) {
		s, r := newStory(seed)
		for range 4 {
			target := wal.Target{Kind: wal.TargetTime, Time: moment(r)}
			path := s.paths[wal.Timeline(1+r.IntN(len(s.paths)))]
			record := path[r.IntN(len(path))]
			switch r.IntN(8) {
			case 0:
				target = wal.Target{Kind: wal.TargetLSN, LSN: []wal.LSN{record.Start, record.End, record.Start + 8}[r.IntN(3)]}
			case 1:
				target = wal.Target{Kind: wal.TargetName, Name: []string{"a", "b"}[r.IntN(2)]}
			case 2:
				target = wal.Target{Kind: wal.TargetEnd}
			case 3:
				target = wal.Target{Kind: wal.TargetBackup}
			case 4:
				target.Time = noon.Add(150 * time.Microsecond) // after all commits
			}
			if r.IntN(2) == 0 {
				target.Timeline = wal.Timeline(1 + r.IntN(len(s.paths)))
			}
			fail := func(format string, args ...any) {
				t.Helper()
				t.Fatalf("seed %d, %+v: %s\nbases %+v\nspans %+v\nhistories %+v", seed, target, fmt.Sprintf(format, args...), s.in.Bases, s.in.Spans, s.in.Histories)
			}
			p, err := wal.PlanTarget(s.in, target)
			var beyond *wal.OutsideError
			switch {
			case errors.As(err, &beyond):
				outside++
				s.checkOutside(fail, target, beyond)
				continue
			case err != nil:
				fail("%v", err)
			}
			reached++
			if p.Stop == wal.StopImmediate {
				immediate++
			}
			if p.Next == nil && target.Kind == wal.TargetTime {
				idle++
			}
			s.checkPlan(fail, target, p)
		}
	}
	if reached < 1500 || outside < 1000 || idle < 100 || immediate < 100 {
		t.Errorf("%d reached, %d outside, %d idle, %d at a base backup's end", reached, outside, idle, immediate)
	}
}

// checkPlan compares a plan with what PostgreSQL does.
func (s *story) checkPlan(fail func(string, ...any), target wal.Target, p wal.Plan) {
	done, ok := s.replayed(p)
	if !ok {
		fail("PostgreSQL would end with an error: %+v", p)
	}
	if len(done) > 0 && p.Stop != wal.StopAtEnd && done[len(done)-1].End != p.End {
		fail("it would replay up to %v: %+v", done[len(done)-1].End, p)
	}
	ends := endsOf(done)
	commits := slices.DeleteFunc(slices.Clone(ends), func(e wal.Event) bool { return !e.Committed() })
	if len(commits) != p.Commits || (p.Last == nil) != (len(commits) == 0) || p.Last != nil && (p.Last.LSN != commits[len(commits)-1].Start || !p.Last.Time.Equal(commits[len(commits)-1].Time)) {
		fail("%d commits, last of %+v: %+v, %+v", len(commits), commits, p, p.Last)
	}
	spaces := slices.DeleteFunc(slices.Clone(done), func(r wal.Record) bool { return r.Resource != 5 })
	if len(spaces) != len(p.Tablespaces) {
		fail("%d tablespaces: %+v", len(spaces), p)
	}
	all := s.along(p.Timeline, p.Base.Start)
	rest := endsOf(all[len(done):])
	if (p.Next == nil) != (len(rest) == 0) || p.Next != nil && p.Next.LSN != rest[0].Start {
		fail("next is %+v, of %+v", p.Next, rest)
	}
	at := s.in.SegmentSize.Start(p.Base.Start)
	for _, span := range p.Ranges {
		if span.From != at || span.To <= at || !slices.ContainsFunc(s.in.Spans, func(in wal.Span) bool {
			return in.Timeline == span.Timeline && in.From <= span.From && span.To <= in.To
		}) {
			fail("ranges %+v", p.Ranges)
		}
		at = span.To
	}
	if at != p.End {
		fail("ranges %+v end before %v", p.Ranges, p.End)
	}
	switch target.Kind {
	case wal.TargetTime:
		want, consistent, tooNew, complete := s.byRule(p.Base, p.Timeline, target.Time)
		if !consistent || tooNew || !complete {
			fail("the base can't be used: consistent %t, too new %t, complete %t: %+v", consistent, tooNew, complete, p)
		}
		if wanted := endsOf(want); len(wanted) != len(ends) {
			fail("%d ends of transactions, and PostgreSQL's rule gives %d: %+v", len(ends), len(wanted), p)
		}
	case wal.TargetLSN:
		i := slices.IndexFunc(all, func(r wal.Record) bool { return r.Start >= target.LSN })
		if i < 0 {
			i = len(all) - 1
		}
		if len(all) > 0 && p.Stop == wal.StopAtLSN && p.LSN != all[i].Start || target.LSN < p.Base.Stop {
			fail("%+v", p)
		}
	case wal.TargetName:
		if e, _ := wal.Decode(&done[len(done)-1]); e.Kind != wal.RestorePoint || e.Name != target.Name {
			fail("ends at %+v", e)
		}
		for _, r := range done[:len(done)-1] {
			if e, ok := wal.Decode(&r); ok && e.Kind == wal.RestorePoint && e.Name == target.Name {
				fail("it would stop at %+v before", e)
			}
		}
	case wal.TargetEnd:
		if len(done) != len(all) {
			fail("%d of %d records", len(done), len(all))
		}
	case wal.TargetBackup:
	}
}

// checkOutside looks for a base from which the target could be reached all the same.
func (s *story) checkOutside(fail func(string, ...any), target wal.Target, e *wal.OutsideError) {
	if e.Why == "" || !strings.Contains(e.Error(), "can't be reached on timeline") || e.Hint() == "" {
		fail("%q, %q", e.Error(), e.Hint())
	}
	for _, b := range s.in.Bases {
		end, ok := s.histories[e.Timeline].End(b.Timeline)
		if !ok || b.Stop > end || s.in.Reach(e.Timeline, b.Start) < b.Stop {
			continue
		}
		all := s.along(e.Timeline, b.Start)
		switch target.Kind {
		case wal.TargetTime:
			done, consistent, tooNew, complete := s.byRule(b, e.Timeline, target.Time)
			// Without any end of a transaction at hand it may not be known whether the backup is too new.
			if consistent && !tooNew && complete && len(endsOf(done)) > 0 {
				fail("it can be reached from %+v (%s)", b, e.Why)
			}
		case wal.TargetLSN:
			if target.LSN >= b.Stop && slices.ContainsFunc(all, func(r wal.Record) bool { return r.Start >= target.LSN }) {
				fail("it can be reached from %+v (%s)", b, e.Why)
			}
		case wal.TargetName:
			i := slices.IndexFunc(all, func(r wal.Record) bool {
				e, ok := wal.Decode(&r)
				return ok && e.Kind == wal.RestorePoint && e.Name == target.Name
			})
			if i >= 0 && all[i].Start >= b.Stop {
				fail("it can be reached from %+v (%s)", b, e.Why)
			}
		case wal.TargetEnd, wal.TargetBackup:
			fail("it can be reached from %+v (%s)", b, e.Why)
		}
	}
}

// TestPlanTargetRefuses: targets that are not valid.
func TestPlanTargetRefuses(t *testing.T) {
	for _, target := range []wal.Target{
		{}, {Kind: "moment"}, {Kind: wal.TargetTime}, {Kind: wal.TargetLSN}, {Kind: wal.TargetName},
		{Kind: wal.TargetName, Name: strings.Repeat("x", 64)},
	} {
		if _, err := wal.PlanTarget(wal.PlanInputs{}, target); pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("%+v: %v", target, err)
		}
	}
	var outside *wal.OutsideError
	if _, err := wal.PlanTarget(wal.PlanInputs{}, wal.Target{Kind: wal.TargetEnd}); !errors.As(err, &outside) || outside.Why != "there is no base backup" {
		t.Errorf("without a base backup: %v", err)
	}
}
