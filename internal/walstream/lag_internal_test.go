package walstream

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// clock is one that tests set.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newTestWatch() (*watch, *clock, *[]Notice) {
	c, all := &clock{time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)}, &[]Notice{}
	return newWatch(Options{Now: c.now, MaxDelay: 10 * time.Second, Notify: func(n Notice) {
		if n.Kind != NoticeStored {
			*all = append(*all, n)
		}
	}}), c, all
}

func wantNotices(t *testing.T, what string, all []Notice, want ...Notice) {
	t.Helper()
	if len(all) != len(want) {
		t.Errorf("%s: %+v, want %+v", what, all, want)
		return
	}
	for i, n := range all {
		if n.Kind != want[i].Kind || n.Over != want[i].Over || n.Summary == "" || n.At.IsZero() {
			t.Errorf("%s: %+v, want %+v", what, n, want[i])
		}
	}
}

// TestBehind: a stream that keeps up is never behind, however much is under way; one that
// does not is, once, until it has caught up.
func TestBehind(t *testing.T) {
	w, c, all := newTestWatch()
	pass := func(d time.Duration, stored, newest wal.LSN) {
		c.at = c.at.Add(d)
		w.position(stored, newest)
	}
	for i := range wal.LSN(1000) { // always a second's worth behind
		pass(time.Second, i*100, i*100+100)
	}
	wantNotices(t, "a stream that keeps up", *all)
	pass(time.Second, 100000, 200000)
	pass(time.Minute, 150000, 300000)
	wantNotices(t, "after as long as is allowed", *all)
	pass(time.Second, 150000, 300000)
	pass(time.Hour, 199999, 400000)
	wantNotices(t, "after more", *all, Notice{Kind: NoticeBehind})
	// What it was behind by is stored; what came meanwhile is not yet late, nor is it over.
	pass(time.Second, 200000, 400000)
	wantNotices(t, "on the way", *all, Notice{Kind: NoticeBehind})
	pass(time.Second, 400000, 400000)
	wantNotices(t, "caught up", *all, Notice{Kind: NoticeBehind}, Notice{Kind: NoticeBehind, Over: true})
}

// TestLagProperty: whatever comes, it is behind exactly where a position that the server had
// reached longer ago than the limit is not stored.
func TestLagProperty(t *testing.T) {
	const limit = 60
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		start := time.Unix(0, 0)
		var l lag
		var seen []wal.LSN // by second
		stored, newest := wal.LSN(0), wal.LSN(0)
		for second := range 400 {
			newest += wal.LSN(r.IntN(50))
			if r.IntN(40) > 0 {
				stored = min(newest, stored+wal.LSN(r.IntN(60)))
			}
			seen = append(seen, newest)
			l = l.next(stored, newest, start.Add(time.Duration(second)*time.Second))
			got := l.behind(start.Add(time.Duration(second)*time.Second), limit*time.Second)
			late := second > limit && seen[second-limit-1] > stored
			if got && !late {
				t.Fatalf("seed %d: behind at %d s, and all that was there %d s before is stored", seed, second, limit)
			}
			// It starts to count when the one before is stored: at most twice the limit.
			if !got && second > 2*limit+1 && seen[second-2*limit-2] > stored {
				t.Fatalf("seed %d: not behind at %d s, and what was there %d s before is not stored", seed, second, 2*limit)
			}
		}
	}
}

// TestAway: a store or a server that is away is noticed after five minutes, once, and its
// return too; a restart is no news.
func TestAway(t *testing.T) {
	away := errors.New("connection refused")
	for what, attempt := range map[NoticeKind]func(w *watch, err error){
		NoticeStoreAway: func(w *watch, err error) { w.put(err) },
		NoticeInterrupted: func(w *watch, err error) {
			if err == nil {
				w.streaming(true)
				return
			}
			w.interrupted(err)
		},
	} {
		w, c, all := newTestWatch()
		w.position(100, 100)
		w.streaming(true)
		*all = nil
		attempt(w, away)
		c.at = c.at.Add(awayAfter - time.Second)
		attempt(w, away)
		attempt(w, nil)
		attempt(w, away)
		c.at = c.at.Add(awayAfter - time.Second)
		attempt(w, away)
		wantNotices(t, "for less than five minutes at a time", *all)
		c.at = c.at.Add(time.Second)
		attempt(w, away)
		attempt(w, away)
		wantNotices(t, "for five minutes", *all, Notice{Kind: what})
		attempt(w, nil)
		attempt(w, nil)
		wantNotices(t, "and back", *all, Notice{Kind: what}, Notice{Kind: what, Over: true})
	}
}

// TestBeginsClean: a run that begins ends what an earlier one may have left open, but not
// that WAL is lost as long as it is.
func TestBeginsClean(t *testing.T) {
	w, _, all := newTestWatch()
	w.streaming(true)
	wantNotices(t, "with a gap", *all, Notice{Kind: NoticeInterrupted, Over: true}, Notice{Kind: NoticeStoreAway, Over: true})
	w, _, all = newTestWatch()
	w.gap(wal.Gap{Timeline: 1, From: 1, To: 2})
	w.streaming(true)
	w.streaming(false)
	if n := len(*all); n < 2 || (*all)[0].Kind != NoticeLost || (*all)[n-1] != (Notice{Kind: NoticeLost, Over: true, At: (*all)[n-1].At, Summary: (*all)[n-1].Summary}) {
		t.Errorf("with a gap that a base backup ended: %+v", *all)
	}
}

// TestCommits: they are counted exactly where all of a branch is known, and not at all
// where a part of it is not.
func TestCommits(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	var c commits
	c.begin(1, 1000)
	for n := range 10 {
		c.add(wal.LSN(1000+10*n), wal.LSN(1010+10*n), at(n))
	}
	c.read(1100)
	branch := func(from, to wal.LSN) wal.Branch { return wal.Branch{Timeline: 1, Next: 2, From: from, To: to} }
	for what, tt := range map[string]struct {
		b           wal.Branch
		count       int
		first, last int
		known       bool
	}{
		"all":               {branch(1000, 1100), 10, 0, 9, true},
		"behind a record":   {branch(1070, 1100), 3, 7, 9, true},
		"none":              {branch(1100, 1100), 0, 0, 0, true},
		"a part stored":     {branch(1070, 1095), 2, 7, 8, true},
		"before what it is": {branch(999, 1100), 0, 0, 0, false},
		"beyond":            {branch(1070, 1101), 0, 0, 0, false},
		"another timeline":  {wal.Branch{Timeline: 2, From: 1000, To: 1100}, 0, 0, 0, false},
	} {
		got, known := c.within(tt.b)
		if got.Count != tt.count || known != tt.known || tt.count > 0 && (!got.First.Equal(at(tt.first)) || !got.Last.Equal(at(tt.last))) {
			t.Errorf("%s: %+v, %v", what, got, known)
		}
	}
	// What comes again counts once.
	c.begin(1, 1050)
	c.add(1090, 1100, at(9))
	c.add(1100, 1110, at(10))
	c.read(1110)
	if got, known := c.within(branch(1070, 1110)); got.Count != 4 || !known {
		t.Errorf("with what came again: %+v, %v", got, known)
	}
	// What can't be read is not counted as nothing.
	c.forget(2000)
	c.read(3000)
	if _, known := c.within(branch(1070, 3000)); known {
		t.Error("WAL that could not be read is counted")
	}
	if got, known := c.within(branch(2000, 3000)); !known || got.Count != 0 {
		t.Errorf("behind it: %+v, %v", got, known)
	}
	// And with more than is remembered it is not known, but for the end.
	c = commits{}
	c.begin(1, 0)
	for n := range keptCommits + 1 {
		c.add(wal.LSN(n), wal.LSN(n+1), at(n))
	}
	c.read(keptCommits + 1)
	if _, known := c.within(branch(0, keptCommits+1)); known {
		t.Error("more than is remembered is counted")
	}
	if got, known := c.within(branch(keptCommits, keptCommits+1)); !known || got.Count != 1 {
		t.Errorf("the last: %+v, %v", got, known)
	}
}
