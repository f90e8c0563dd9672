package archive_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// summaries are what the records of the segments say.
func summaries(t *testing.T) (all []wal.Summary) {
	t.Helper()
	x, err := wal.NewIndexer(1, wal.WalkerOptions{Start: at(0), SegmentSize: size, SystemIdentifier: segments.system}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, plain := range segments.plain {
		_, _ = x.Write(plain)
	}
	all = x.Done()
	for i := range all {
		all[i].SHA256 = archive.SegmentSum(segments.plain[i])
	}
	return all
}

func (b *bench) fetcher() *archive.Fetcher {
	b.t.Helper()
	f, err := b.a.NewFetcher(b.t.Context(), func(_ context.Context, _ string, wraps []archive.StoredWrap) (*seal.Key, error) {
		for _, w := range wraps {
			return seal.OpenKey(w.Data, []age.Identity{b.identity})
		}
		return nil, nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

func (b *bench) putIndex(e *archive.Epoch, seq int, lines ...wal.Summary) {
	b.t.Helper()
	for range 2 { // its answer may have been lost
		if err := e.PutIndex(b.t.Context(), seq, lines); err != nil {
			b.t.Fatal(err)
		}
	}
}

// known returns the segments that the index knows, and fails where it knows anything else
// than the truth.
func (b *bench) known(want []wal.Summary) (known [5]bool, problems []string) {
	b.t.Helper()
	x := b.fetcher().NewIndex(b.survey())
	for i := range want {
		got, ok := x.Summary(b.t.Context(), segment(wal.LSN(i)))
		if known[i] = ok; ok && !reflect.DeepEqual(got, want[i]) {
			b.t.Errorf("segment %d: %+v, want %+v", i, got, want[i])
		}
	}
	return known, x.Problems
}

// plan plans a recovery of the whole archive, and one to the time of a commit within it.
func (b *bench) plan(bases []wal.Base, at time.Time) (plans []wal.Plan) {
	b.t.Helper()
	for _, target := range []wal.Target{{Kind: wal.TargetEnd}, {Kind: wal.TargetTime, Time: at}, {Kind: wal.TargetLSN, LSN: bases[0].Stop + 1}} {
		p, err := b.fetcher().Plan(b.t.Context(), b.survey(), bases, target)
		if err != nil {
			b.t.Fatalf("%s: %v", target, err)
		}
		plans = append(plans, p)
	}
	return plans
}

// TestIndex: what was indexed is known without reading the segments; and whatever is done
// to an object of the index, nothing else than the truth is, and plans stay the same.
func TestIndex(t *testing.T) {
	for _, encrypted := range []bool{true, false} {
		b := newBench(t)
		want := summaries(t)
		first := b.begin(at(0), encrypted)
		for i := range wal.LSN(3) {
			b.put(first, i)
		}
		b.putIndex(first, 0, want[0], want[1])
		b.putIndex(first, 1, want[2])
		second := b.begin(at(3), encrypted)
		b.put(second, 3)
		b.tail(second, 4, 0, 200000)
		b.putIndex(second, 0, want[3], want[4]) // the latter is not stored whole
		known, problems := b.known(want)
		if known != [5]bool{true, true, true, true, false} || len(problems) != 0 {
			t.Fatalf("known %v, %q", known, problems)
		}
		bases := []wal.Base{{ID: "one", Timeline: 1, Start: at(0), Stop: want[0].End}}
		var last *wal.Ended
		for _, sum := range want[:4] {
			if sum.LastCommit != nil {
				last = sum.LastCommit
			}
		}
		plans := b.plan(bases, last.Time)
		if plans[0].Last == nil || plans[0].Last.LSN < last.LSN || plans[0].End < last.End || plans[1].Last == nil || plans[1].LSN == 0 || plans[2].Stop != wal.StopAtLSN || plans[2].LSN < bases[0].Stop {
			t.Fatalf("plans %+v", plans)
		}
		objects := b.objects("/index/")
		if len(objects) != 6 {
			t.Fatalf("objects %v", objects)
		}
		for how, change := range map[string]func(data, other []byte) []byte{
			"flipped": func(data, _ []byte) []byte { data[len(data)/2] ^= 4; return data },
			"cut":     func(data, _ []byte) []byte { return data[:len(data)*2/3] },
			"empty":   func([]byte, []byte) []byte { return nil },
			"removed": nil,
			"swapped": func(_, other []byte) []byte { return other },
		} {
			for i, path := range objects {
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for k := range objects {
					other, err := os.ReadFile(objects[k])
					if err != nil {
						t.Fatal(err)
					}
					if k == i || filepath.Ext(path) != filepath.Ext(objects[k]) || how != "swapped" && k != (i+2)%len(objects) {
						continue
					}
					if change == nil {
						err = os.Remove(path)
					} else {
						err = os.WriteFile(path, change(bytes.Clone(data), other), 0o600)
					}
					if err != nil {
						t.Fatal(err)
					}
					known, problems := b.known(want)
					if known == [5]bool{true, true, true, true} || len(problems) == 0 && change != nil {
						t.Errorf("%s %s: all is known, %q", filepath.Base(path), how, problems)
					}
					if !encrypted || i%3 > 0 {
						// A plan reads segments, which takes longer.
					} else if got := b.plan(bases, last.Time); !reflect.DeepEqual(got, plans) {
						t.Errorf("%s %s: %+v, want %+v", filepath.Base(path), how, got, plans)
					}
					if err := os.WriteFile(path, data, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

// TestIndexOfOthers: an index of another cluster, under its key, or about other bytes, is
// not used; a segment that it knows and that is gone ends what can be recovered.
func TestIndexOfOthers(t *testing.T) {
	b := newBench(t)
	want := summaries(t)
	e := b.begin(at(0), true)
	for i := range wal.LSN(4) {
		b.put(e, i)
	}
	wrong := want[1]
	wrong.SHA256 = want[2].SHA256
	b.putIndex(e, 0, want[0], wrong, want[2], want[3])
	if known, problems := b.known(want); known != [5]bool{true, false, true, true} || len(problems) != 0 {
		t.Errorf("known %v, %q", known, problems)
	}
	if err := os.Remove(b.objects("/seg/")[2]); err != nil {
		t.Fatal(err)
	}
	bases := []wal.Base{{ID: "one", Timeline: 1, Start: at(0), Stop: want[0].End}}
	p, err := b.fetcher().Plan(t.Context(), b.survey(), bases, wal.Target{Kind: wal.TargetEnd})
	if err != nil || p.End > at(2) {
		t.Errorf("plan %+v, %v", p, err)
	}
	_, err = b.fetcher().Plan(t.Context(), b.survey(), bases, wal.Target{Kind: wal.TargetLSN, LSN: at(3)})
	if outside := (*wal.OutsideError)(nil); !errors.As(err, &outside) || pgmedic.KindOf(err) != pgmedic.KindNotFound || outside.Before == nil || outside.Before.LSN != at(2) || outside.After != nil {
		t.Errorf("a position behind what is gone: %v, %+v", err, outside)
	}
	// A damaged segment, too, and nothing before it is in doubt.
	b.put(e, 2)
	path := b.objects("/seg/")[2]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2]++
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, indexed := range []bool{false, true} {
		if indexed {
			b.remove("/index/")
		}
		p, err = b.fetcher().Plan(t.Context(), b.survey(), bases, wal.Target{Kind: wal.TargetLSN, LSN: want[1].LastStart})
		if err != nil || p.LSN != want[1].LastStart {
			t.Errorf("before the damage: %+v, %v", p, err)
		}
	}
	_, err = b.fetcher().Plan(t.Context(), b.survey(), bases, wal.Target{Kind: wal.TargetEnd})
	if outside := (*wal.OutsideError)(nil); !errors.As(err, &outside) {
		t.Errorf("to the end, behind the damage: %v", err)
	}
}

// TestIndexOfMany: a segment is found in whichever object it is, also where one was stored
// later than those behind it, and what the index does not have is not found.
func TestIndexOfMany(t *testing.T) {
	b := newBench(t)
	e := b.begin(at(0), false)
	plain := bytes.Repeat([]byte{1}, int(size))
	at := func(timeline wal.Timeline, n int) wal.Segment {
		return wal.Segment{Timeline: timeline, Start: wal.LSN(n) * wal.LSN(size)}
	}
	line := func(s wal.Segment) wal.Summary {
		if err := e.PutSegment(t.Context(), s, plain); err != nil {
			t.Fatal(err)
		}
		return wal.Summary{Segment: size.Name(s), Start: s.Start, SHA256: archive.SegmentSum(plain), Commits: int(s.Timeline)}
	}
	want := map[wal.Segment]bool{}
	for seq := range 12 {
		timeline, first := wal.Timeline(1), 10+seq*3
		if seq > 8 {
			timeline, first = 2, 30+(seq-9)*3 // it begins before where the first was left
		}
		segments := []wal.Segment{at(timeline, first), at(timeline, first+1), at(timeline, first+2)}
		if seq == 4 {
			segments = []wal.Segment{at(1, 22), at(1, 24)}
		}
		if seq == 5 {
			segments = append(segments, at(1, 23)) // stored late
		}
		if seq == 6 {
			segments = segments[:2] // one has no line
			line(at(1, 30))
		}
		var lines []wal.Summary
		for _, s := range segments {
			lines = append(lines, line(s))
			want[s] = true
		}
		b.putIndex(e, seq, lines...)
	}
	survey := b.survey()
	for _, order := range []int{1, -1, 7} {
		x := b.fetcher().NewIndex(survey)
		for n := range 60 {
			for timeline := wal.Timeline(1); timeline <= 2; timeline++ {
				s := at(timeline, ((n*order)%60+60)%60)
				got, ok := x.Summary(t.Context(), s)
				if ok != want[s] || ok && (got.Start != s.Start || got.Commits != int(timeline)) {
					t.Errorf("order %d: %+v: %+v, %t, want %t", order, s, got, ok, want[s])
				}
			}
		}
		if len(x.Problems) != 0 {
			t.Errorf("problems %q", x.Problems)
		}
	}
}
