package wal_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/wal"
)

const seg = wal.LSN(wal.MinSegmentSize)

// past is a random past of a cluster: timelines that branch off, and what of their WAL
// is stored.
type past struct {
	stored wal.Stored
	// written is up to where each timeline was written, and histories are by timeline.
	written   map[wal.Timeline]wal.LSN
	histories map[wal.Timeline]wal.History
}

// quarter is the grain of the random positions.
const quarter = seg / 4

func randomPast(r *rand.Rand) past {
	p := past{written: map[wal.Timeline]wal.LSN{}, histories: map[wal.Timeline]wal.History{1: {Timeline: 1}}}
	p.stored.SegmentSize = wal.MinSegmentSize
	p.written[1] = seg + quarter*wal.LSN(r.IntN(60))
	for t := wal.Timeline(2); t <= wal.Timeline(1+r.IntN(4)); t++ {
		parent := wal.Timeline(1 + r.IntN(int(t-1)))
		h := p.histories[parent]
		begin, _ := h.Begin(parent)
		begin = max(begin, seg)
		if p.written[parent] <= begin {
			p.histories[t], p.written[t] = h, 0
			p.histories[t] = wal.History{Timeline: t}
			continue
		}
		fork := begin + quarter*wal.LSN(r.IntN(int((p.written[parent]-begin)/quarter)+1))
		p.histories[t] = wal.History{Timeline: t, Switches: append(slices.Clone(h.Switches), wal.Switch{Timeline: parent, End: fork})}
		p.written[t] = fork + quarter*wal.LSN(r.IntN(40))
	}
	for _, t := range slices.Sorted(maps.Keys(p.histories)) {
		h := p.histories[t]
		if t > 1 {
			p.stored.Histories = append(p.stored.Histories, h)
		}
		begin, _ := h.Begin(t)
		for at := max(seg, wal.MinSegmentSize.Start(begin)); at < p.written[t]; at += seg {
			end := min(at+seg, p.written[t])
			if r.IntN(8) > 0 {
				p.stored.Spans = append(p.stored.Spans, wal.Span{Timeline: t, From: at, To: end})
			}
		}
	}
	r.Shuffle(len(p.stored.Spans), func(i, j int) {
		p.stored.Spans[i], p.stored.Spans[j] = p.stored.Spans[j], p.stored.Spans[i]
	})
	return p
}

// has reports by looking at each span whether a recovery along a timeline has the quarter
// of a segment at l.
func (p past) has(t wal.Timeline, l wal.LSN) bool {
	h := p.histories[t]
	if t > 1 && len(h.Switches) == 0 {
		h = wal.History{Timeline: t}
	}
	for _, s := range p.stored.Spans {
		if l < s.From || l >= s.To {
			continue
		}
		// Of its own timeline, or of the copy that a later one of the same history begins
		// with.
		if h.At(l) == s.Timeline {
			return true
		}
		if begin, ok := h.Begin(s.Timeline); ok && begin > l && wal.MinSegmentSize.Start(begin) <= l {
			return true
		}
	}
	return false
}

// TestPathProperty compares with each quarter of a segment by itself: what a recovery
// reaches, where gaps are, and that a window holds what it promises and no more.
func TestPathProperty(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 2))
		p := randomPast(r)
		end := seg
		for _, w := range p.written {
			end = max(end, w)
		}
		for _, tli := range p.stored.Timelines() {
			from := seg + quarter*wal.LSN(r.IntN(int((end-seg)/quarter)+1))
			want := from
			for p.has(tli, want) {
				want += quarter
			}
			if got := p.stored.Reach(tli, from); got != want {
				t.Fatalf("seed %d: along timeline %d from %v one reaches %v, want %v\n%+v", seed, tli, from, got, want, p)
			}
		}
		missing := map[wal.Gap]bool{}
		for _, tli := range p.stored.Timelines() {
			h := p.histories[tli]
			last, before := wal.LSN(0), false
			for at := seg; at < end; at += quarter {
				switch has := p.has(tli, at); {
				case has && !before && last != 0:
					missing[wal.Gap{Timeline: h.At(last), From: last, To: at}] = true
					fallthrough
				case has:
					last, before = at+quarter, true
				default:
					before = false
				}
			}
		}
		gaps := p.stored.Gaps()
		for _, g := range gaps {
			if !missing[g] {
				t.Fatalf("seed %d: %+v is no gap: %v\n%+v", seed, g, missing, p)
			}
		}
		if len(gaps) != len(missing) {
			t.Fatalf("seed %d: gaps %+v, want %v\n%+v", seed, gaps, missing, p)
		}
		checkWindows(t, seed, r, p, end)
	}
}

func checkWindows(t *testing.T, seed uint64, r *rand.Rand, p past, end wal.LSN) {
	t.Helper()
	in := wal.Inputs{Stored: p.stored}
	for i := range r.IntN(4) {
		tli := wal.Timeline(1 + r.IntN(len(p.histories)))
		begin, _ := p.histories[tli].Begin(tli)
		start := max(begin, seg) + quarter*wal.LSN(r.IntN(20))
		in.Bases = append(in.Bases, wal.Base{ID: string(rune('a' + i)), Timeline: tli, Start: start, Stop: start + quarter*wal.LSN(r.IntN(5))})
	}
	windows := wal.Windows(in)
	for _, tli := range p.stored.Timelines() {
		begin, _ := p.histories[tli].Begin(tli)
		for at := seg; at <= end; at += quarter {
			// By hand: some base before it on this history, and all WAL from its start on.
			want := false
			for _, b := range in.Bases {
				limit, ok := p.histories[tli].End(b.Timeline)
				if !ok || b.Stop > limit || b.Stop > at || at <= begin && tli != b.Timeline {
					continue
				}
				whole := true
				for l := b.Start; l < at; l += quarter {
					whole = whole && p.has(tli, l)
				}
				want = want || whole
			}
			got := slices.ContainsFunc(windows, func(w wal.Window) bool { return w.Timeline == tli && w.From.LSN <= at && at <= w.Until.LSN })
			if want && !got || got && !want && at > begin {
				t.Fatalf("seed %d: timeline %d, %v is in a window: %t, want %t\n%+v\n%+v\n%+v", seed, tli, at, got, want, windows, in.Bases, p)
			}
		}
	}
}

// TestJudge: each state, and that one without a recent observation is never ok.
func TestJudge(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	const limit = 2 * time.Minute
	seen := func(ago time.Duration, l wal.LSN) wal.Observation {
		return wal.Observation{Time: now.Add(-ago - time.Hour), Timeline: 1, LSN: l, At: now.Add(-ago)}
	}
	stored := func(spans ...wal.Span) wal.Stored { return wal.Stored{SegmentSize: wal.MinSegmentSize, Spans: spans} }
	whole := stored(wal.Span{Timeline: 1, From: seg, To: 4 * seg})
	gap := stored(wal.Span{Timeline: 1, From: seg, To: 2 * seg}, wal.Span{Timeline: 1, From: 3 * seg, To: 4 * seg})
	on := func(tli wal.Timeline, ago time.Duration, l wal.LSN) wal.Observation {
		o := seen(ago, l)
		o.Timeline = tli
		return o
	}
	after := stored(wal.Span{Timeline: 1, From: seg, To: 3 * seg}, wal.Span{Timeline: 2, From: 3 * seg, To: 4 * seg})
	after.Histories = []wal.History{{Timeline: 2, Switches: []wal.Switch{{Timeline: 1, End: 3 * seg}}}}
	twice := after
	twice.Histories = append(slices.Clone(after.Histories), wal.History{Timeline: 3, Switches: []wal.Switch{{Timeline: 1, End: 3 * seg}, {Timeline: 2, End: 4 * seg}}})
	for name, c := range map[string]struct {
		in    wal.Inputs
		state wal.State
		why   string
	}{
		"nothing":                   {wal.Inputs{}, wal.StateNone, "no WAL"},
		"current":                   {wal.Inputs{Stored: whole, Seen: []wal.Observation{seen(time.Second, 4*seg)}}, wal.StateOK, ""},
		"a moment behind":           {wal.Inputs{Stored: whole, Seen: []wal.Observation{seen(time.Second, 5*seg), seen(time.Hour, 4*seg)}}, wal.StateOK, ""},
		"behind":                    {wal.Inputs{Stored: whole, Seen: []wal.Observation{seen(time.Second, 6*seg), seen(3*time.Minute, 5*seg)}}, wal.StateBehind, "since 2026-11-28T11:57:00Z"},
		"never seen":                {wal.Inputs{Stored: whole}, wal.StateUnknown, "no observation"},
		"not seen":                  {wal.Inputs{Stored: whole, Seen: []wal.Observation{seen(3*time.Minute, 4*seg)}}, wal.StateUnknown, "last seen"},
		"in the future":             {wal.Inputs{Stored: whole, Seen: []wal.Observation{seen(-time.Hour, 4*seg)}}, wal.StateUnknown, "a clock is wrong"},
		"a gap":                     {wal.Inputs{Stored: gap, Seen: []wal.Observation{seen(time.Second, 4*seg)}}, wal.StateBroken, "WAL from 0/200000 to 0/300000 is missing"},
		"a base before":             {wal.Inputs{Stored: gap, Bases: []wal.Base{{Timeline: 1, Start: seg, Stop: seg + 8}}, Seen: []wal.Observation{seen(time.Second, 4*seg)}}, wal.StateBroken, ""},
		"a base after":              {wal.Inputs{Stored: gap, Bases: []wal.Base{{Timeline: 1, Start: 3 * seg, Stop: 3*seg + 8}}, Seen: []wal.Observation{seen(time.Second, 4*seg)}}, wal.StateOK, ""},
		"a gap, not seen":           {wal.Inputs{Stored: gap, Bases: []wal.Base{{Timeline: 1, Start: 3 * seg, Stop: 3*seg + 8}}}, wal.StateUnknown, ""},
		"a moment behind, in words": {wal.Inputs{Stored: whole, Seen: []wal.Observation{seen(time.Second, 4*seg+7)}}, wal.StateOK, "7 bytes more"},
		"lost at the end":           {wal.Inputs{Stored: whole, Seen: []wal.Observation{seen(time.Second, 4*seg)}, Lost: []wal.Gap{{Timeline: 1, From: 4 * seg, To: 5 * seg}}}, wal.StateBroken, "is lost"},
		"lost before, and a base": {wal.Inputs{
			Stored: gap, Seen: []wal.Observation{seen(time.Second, 4*seg)}, Lost: []wal.Gap{{Timeline: 1, From: 2 * seg, To: 3 * seg}},
			Bases: []wal.Base{{Timeline: 1, Start: 3 * seg, Stop: 3*seg + 8}},
		}, wal.StateOK, ""},
		"stored twice":       {wal.Inputs{Stored: whole, Seen: []wal.Observation{seen(time.Second, 4*seg)}, Contradictions: []string{"two servers"}}, wal.StateBroken, "two servers"},
		"stored twice alone": {wal.Inputs{Contradictions: []string{"two servers"}}, wal.StateBroken, "two servers"},
		"another timeline": {wal.Inputs{Stored: whole, Seen: []wal.Observation{{Timeline: 2, LSN: 5 * seg, At: now}}},
			wal.StateBroken, "timeline 2"},
		"replaced, and the new server is not seen": {wal.Inputs{Stored: after, Seen: []wal.Observation{seen(time.Second, 3*seg)}},
			wal.StateUnknown, "timeline 2 followed"},
		"replaced, and of the new one there is only its history": {wal.Inputs{
			Stored: wal.Stored{SegmentSize: after.SegmentSize, Histories: after.Histories, Spans: after.Spans[:1]}, Seen: []wal.Observation{seen(time.Second, 3*seg)},
		}, wal.StateUnknown, "timeline 2 followed"},
		"replaced, and the new one was seen before": {wal.Inputs{Stored: after, Seen: []wal.Observation{seen(time.Second, 3*seg), on(2, 3*time.Minute, 4*seg)}},
			wal.StateUnknown, "last seen at 2026-11-28T11:57:00Z"},
		"replaced, and it wrote what is lost": {wal.Inputs{Stored: after, Seen: []wal.Observation{seen(time.Second, 5*seg), on(2, 3*time.Minute, 4*seg)}},
			wal.StateUnknown, "last seen at 2026-11-28T11:57:00Z"},
		"replaced, and the new one is behind": {wal.Inputs{
			Stored: after, Seen: []wal.Observation{on(2, 4*time.Minute, 5*seg), seen(3*time.Minute, 3*seg), on(2, time.Minute, 6*seg), seen(time.Second, 3*seg)},
		}, wal.StateBehind, "since 2026-11-28T11:56:00Z"},
		"replaced, and both are seen": {wal.Inputs{Stored: after, Seen: []wal.Observation{seen(time.Second, 3*seg), on(2, time.Minute, 4*seg)}}, wal.StateOK, ""},
		"a server that was promoted twice": {wal.Inputs{Stored: twice, Seen: []wal.Observation{seen(time.Second, 3*seg), on(2, 2*time.Second, 4*seg)}},
			wal.StateUnknown, "timeline 3 followed"},
	} {
		got := wal.Judge(c.in, now, limit)
		if got.State != c.state || !strings.Contains(got.Why, c.why) || got.Why == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// An idle server stays current though nothing is written: the time is the server's.
	c := wal.Judge(wal.Inputs{Stored: whole, Seen: []wal.Observation{seen(time.Second, 4*seg)}, Marks: []wal.Mark{{Timeline: 1, LSN: 2 * seg, Time: now.Add(-20 * time.Hour)}}}, now, limit)
	if want := now.Add(-time.Hour - time.Second); c.Until.LSN != 4*seg || !c.Until.Time.Equal(want) || c.LagBytes != 0 {
		t.Errorf("until %+v, want %v", c.Until, want)
	}
	// An observation beyond what is stored says nothing of the time up to which it is.
	c = wal.Judge(wal.Inputs{Stored: whole, Seen: []wal.Observation{seen(time.Second, 4*seg+1)}, Marks: []wal.Mark{{Timeline: 1, LSN: 2 * seg, Time: now.Add(-20 * time.Hour)}}}, now, limit)
	if !c.Until.Time.Equal(now.Add(-20*time.Hour)) || c.LagBytes != 1 {
		t.Errorf("until %+v", c)
	}
}

// TestUntilIsNotOverstated: neither what a server that was replaced still says nor a clock
// that was set back makes the end of a window later than is known.
func TestUntilIsNotOverstated(t *testing.T) {
	noon := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	at := func(hours int) time.Time { return noon.Add(time.Duration(hours) * time.Hour) }
	saw := func(tli wal.Timeline, l wal.LSN, hours, stored int) wal.Observation {
		return wal.Observation{Timeline: tli, LSN: l, Time: at(hours), At: at(stored)}
	}
	base := []wal.Base{{ID: "a", Timeline: 1, Start: seg, Stop: seg + 8}}
	one := wal.Stored{SegmentSize: wal.MinSegmentSize, Spans: []wal.Span{{Timeline: 1, From: seg, To: 4 * seg}}}
	two := wal.Stored{
		SegmentSize: wal.MinSegmentSize, Histories: []wal.History{{Timeline: 2, Switches: []wal.Switch{{Timeline: 1, End: 3*seg + 8}}}},
		Spans: []wal.Span{{Timeline: 1, From: seg, To: 3*seg + 8}, {Timeline: 2, From: 3 * seg, To: 4 * seg}},
	}
	for name, c := range map[string]struct {
		in   wal.Inputs
		want time.Time
	}{
		"the old server is idle, and nothing is known of the new one": {wal.Inputs{Stored: two, Seen: []wal.Observation{saw(1, 3*seg, 5, 5)}}, time.Time{}},
		"the old server is idle beside the new one":                   {wal.Inputs{Stored: two, Seen: []wal.Observation{saw(2, 4*seg, 1, 1), saw(1, 3*seg, 5, 5)}}, at(1)},
		"the old server, and a commit on the new one":                 {wal.Inputs{Stored: two, Seen: []wal.Observation{saw(1, 3*seg, 5, 5)}, Marks: []wal.Mark{{Timeline: 2, LSN: 4*seg - 8, Time: at(1)}}}, at(1)},
		"a failover, and the new one is ahead":                        {wal.Inputs{Stored: two, Seen: []wal.Observation{saw(1, 3*seg, 1, 1), saw(2, 5*seg, 2, 2)}}, at(1)},
		"the clock was set back":                                      {wal.Inputs{Stored: one, Seen: []wal.Observation{saw(1, 2*seg, 9, 1), saw(1, 3*seg, 2, 2)}}, at(2)},
		"it was set back, and the commit is from before":              {wal.Inputs{Stored: one, Seen: []wal.Observation{saw(1, 3*seg, 2, 2)}, Marks: []wal.Mark{{Timeline: 1, LSN: 2 * seg, Time: at(9)}}}, at(2)},
		"it was set back behind what is stored":                       {wal.Inputs{Stored: one, Seen: []wal.Observation{saw(1, 2*seg, 1, 1), saw(1, 3*seg, 9, 2), saw(1, 5*seg, 3, 3)}}, at(1)},
		"a commit since it was seen":                                  {wal.Inputs{Stored: one, Seen: []wal.Observation{saw(1, 2*seg, 1, 1)}, Marks: []wal.Mark{{Timeline: 1, LSN: 3 * seg, Time: at(2)}}}, at(2)},
	} {
		c.in.Bases = base
		windows := wal.Windows(c.in)
		if w := windows[len(windows)-1]; w.Until.LSN != 4*seg || !w.Until.Time.Equal(c.want) {
			t.Errorf("%s: until %+v, want %v", name, w.Until, c.want)
		}
	}
}

// TestFromIsNotUnderstated: a window does not begin at a time before its base backup, though
// the server's clock was set back since.
func TestFromIsNotUnderstated(t *testing.T) {
	noon := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	saw := func(l wal.LSN, minutes, stored int) wal.Observation {
		return wal.Observation{Timeline: 1, LSN: l, Time: at(minutes), At: at(stored)}
	}
	base := []wal.Base{{ID: "a", Timeline: 1, Start: seg, Stop: 2 * seg}}
	whole := wal.Stored{SegmentSize: wal.MinSegmentSize, Spans: []wal.Span{{Timeline: 1, From: seg, To: 9 * seg}}}
	of := func(since, to wal.LSN, minutes int) wal.Mark {
		return wal.Mark{Timeline: 1, LSN: to, Since: since, Time: at(minutes)}
	}
	for name, c := range map[string]struct {
		seen  []wal.Observation
		marks []wal.Mark
		want  time.Time
	}{
		"as usual":                            {[]wal.Observation{saw(seg, 1, 1), saw(3*seg, 2, 2), saw(4*seg, 3, 3)}, nil, at(2)},
		"an idle server":                      {[]wal.Observation{saw(2*seg, 1, 1), saw(2*seg, 2, 2)}, nil, at(1)},
		"the WAL of the backup says it":       {[]wal.Observation{saw(3*seg, 3, 3)}, []wal.Mark{of(seg, 3*seg, 1)}, at(1)},
		"nothing ended in it":                 {[]wal.Observation{saw(seg, 2, 2), saw(3*seg, 9, 9)}, []wal.Mark{of(seg, 3*seg, 1)}, at(2)},
		"set back later":                      {[]wal.Observation{saw(seg, 1, 1), saw(3*seg, 2, 2), saw(4*seg, -60, 3), saw(5*seg, 9, 80)}, nil, at(2)},
		"set back since the backup":           {[]wal.Observation{saw(seg, 1, 1), saw(3*seg, -60, 3), saw(4*seg, 4, 80)}, nil, at(4)},
		"set back, and the backup's WAL says": {[]wal.Observation{saw(3*seg, -60, 3), saw(seg, 1, 1), saw(4*seg, 4, 80)}, []wal.Mark{of(seg, 2*seg, 2)}, at(2)},
		"set back, and a commit since":        {[]wal.Observation{saw(seg, 1, 1), saw(3*seg, 2, 2), saw(5*seg, 9, 80)}, []wal.Mark{{Timeline: 1, LSN: 4 * seg, Time: at(-30)}}, at(2)},
		"set back, and not there again":       {[]wal.Observation{saw(seg, 1, 1), saw(3*seg, -60, 3), saw(4*seg, -50, 13)}, nil, time.Time{}},
		"set back long before":                {[]wal.Observation{saw(seg-16, 999, 0), saw(seg, 1, 1), saw(3*seg, 2, 2)}, nil, at(2)},
	} {
		windows := wal.Windows(wal.Inputs{Stored: whole, Bases: base, Seen: c.seen, Marks: c.marks})
		if len(windows) != 1 || !windows[0].From.Time.Equal(c.want) {
			t.Errorf("%s: %+v, want %v", name, windows, c.want)
		}
	}
}

// TestWindowAfterFailover: an idle server that was replaced, and is still seen, says nothing
// of what its successor has written since. A time up to then is not known to be stored.
func TestWindowAfterFailover(t *testing.T) {
	begin, later := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC), time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	in := wal.Inputs{
		Stored: wal.Stored{
			SegmentSize: wal.MinSegmentSize, Spans: []wal.Span{{Timeline: 1, From: seg, To: 4 * seg}, {Timeline: 2, From: 4 * seg, To: 6 * seg}},
			Histories: []wal.History{{Timeline: 2, Switches: []wal.Switch{{Timeline: 1, End: 4 * seg}}}},
		},
		Bases: []wal.Base{{ID: "one", Timeline: 1, Start: seg, Stop: 2 * seg}},
		Marks: []wal.Mark{{Timeline: 2, LSN: 5 * seg, Time: begin}},
		Seen:  []wal.Observation{{Timeline: 1, LSN: 4 * seg, Time: later, At: later}},
	}
	want := map[wal.Timeline]time.Time{1: later, 2: begin}
	for _, spans := range [][]wal.Span{in.Spans, in.Spans[:1]} {
		in.Spans = spans
		for _, w := range wal.Windows(in) {
			if !w.Until.Time.Equal(want[w.Timeline]) {
				t.Errorf("timeline %d until %v, want %v", w.Timeline, w.Until.Time, want[w.Timeline])
			}
		}
	}
}
