package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// onTwo stores a segment of timeline 2, which left timeline 1 at a position.
func (b *bench) onTwo(e *archive.Epoch, fork, start wal.LSN) {
	b.t.Helper()
	if err := e.PutHistory(b.t.Context(), 2, fmt.Appendf(nil, "1\t%v\tx\n", fork)); err != nil {
		b.t.Fatal(err)
	}
	if err := e.PutSegment(b.t.Context(), wal.Segment{Timeline: 2, Start: start}, segments.plain[4]); err != nil {
		b.t.Fatal(err)
	}
}

// TestTailsAreTheEnd: a segment of which only tails are left is the end of the WAL only
// where nothing comes after them. PostgreSQL would open the server there.
func TestTailsAreTheEnd(t *testing.T) {
	const end = 20000
	for what, c := range map[string]struct {
		more func(b *bench, e *archive.Epoch)
		ends bool
	}{
		"nothing":                       {func(*bench, *archive.Epoch) {}, true},
		"the next segment":              {func(b *bench, e *archive.Epoch) { b.put(e, 2) }, false},
		"one far behind":                {func(b *bench, e *archive.Epoch) { b.put(e, 4) }, false},
		"tails behind a hole":           {func(b *bench, e *archive.Epoch) { b.tail(e, 2, 500, 600) }, false},
		"a fork exactly there":          {func(b *bench, e *archive.Epoch) { b.onTwo(e, at(1)+end, at(1)) }, true},
		"a fork before":                 {func(b *bench, e *archive.Epoch) { b.onTwo(e, at(1)+end-8, at(1)) }, true},
		"a fork behind":                 {func(b *bench, e *archive.Epoch) { b.onTwo(e, at(1)+end+8, at(1)) }, false},
		"a timeline without a past":     {func(b *bench, e *archive.Epoch) { b.onTwo(e, at(3), at(3)); b.remove("2.history") }, false},
		"a gap":                         {func(b *bench, e *archive.Epoch) { b.gap(e, at(1)+end, at(2)) }, false},
		"a gap behind it":               {func(b *bench, e *archive.Epoch) { b.gap(e, at(3), at(4)) }, false},
		"an epoch that was never begun": {func(b *bench, _ *archive.Epoch) { b.remove("epoch.json", b.begin(at(2), true).ID()) }, true},
		"an epoch without its name": {func(b *bench, _ *archive.Epoch) {
			e := b.begin(at(2), true)
			b.seen(e)
			b.remove("epoch.json", e.ID())
		}, false},
		"an epoch that is not read": {func(b *bench, _ *archive.Epoch) { b.begin(at(2), true); b.damageEpoch() }, false},
	} {
		b := newBench(t)
		e := b.begin(at(0), true)
		b.put(e, 0)
		b.put(e, 1)
		b.tail(e, 1, 0, end)
		c.more(b, e)
		b.wantFetched(name(1), segments.plain[1])
		b.remove("seg/", name(1))
		want := append(bytes.Clone(segments.plain[1][:end]), make([]byte, int(size)-end)...)
		got, err := b.fetch(name(1))
		switch {
		case c.ends && (err != nil || !bytes.Equal(got, want)):
			t.Errorf("%s: not the end: %v", what, err)
		case !c.ends && (len(got) > 0 || err == nil || errors.Is(err, archive.ErrAbsent)):
			t.Errorf("%s: taken for the end: %d bytes, %v", what, len(got), err)
		}
	}
}

func (b *bench) gap(e *archive.Epoch, from, to wal.LSN) {
	b.t.Helper()
	if err := e.PutGap(b.t.Context(), wal.Gap{Timeline: 1, From: from, To: to}, b.began); err != nil {
		b.t.Fatal(err)
	}
}

// seen stores an observation.
func (b *bench) seen(e *archive.Epoch) {
	b.t.Helper()
	if err := e.PutSeen(b.t.Context(), wal.Observation{Time: b.began, Timeline: 1, LSN: at(0)}); err != nil {
		b.t.Fatal(err)
	}
}

// remove removes the objects whose path holds all parts.
func (b *bench) remove(parts ...string) {
	b.t.Helper()
	for _, path := range b.objects(parts[0]) {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(path, part) }) {
			if err := os.Remove(path); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

// damageEpoch damages what is stored of the newest epoch.
func (b *bench) damageEpoch() {
	b.t.Helper()
	paths := b.objects("epoch.json")
	if err := os.WriteFile(paths[len(paths)-1], []byte("{}"), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// TestUnusableIsNotAbsent: WAL that can't be used is not the end either.
func TestUnusableIsNotAbsent(t *testing.T) {
	for what, later := range map[string]func(b *bench, e *archive.Epoch){
		"a split segment": func(b *bench, e *archive.Epoch) {
			b.put(e, 2)
			if err := e.PutSegment(t.Context(), segment(2), segments.plain[3]); err != nil {
				t.Fatal(err)
			}
		},
		"tails without a beginning":  func(b *bench, e *archive.Epoch) { b.tail(e, 3, 500, 1000) },
		"a later timeline's segment": func(b *bench, e *archive.Epoch) { b.onTwo(e, at(2), at(2)) },
	} {
		b := newBench(t)
		e := b.begin(at(0), true)
		b.put(e, 0)
		if _, err := b.fetch(name(1)); !errors.Is(err, archive.ErrAbsent) {
			t.Fatalf("the end: %v", err)
		}
		later(b, e)
		if _, err := b.fetch(name(1)); pgmedic.KindOf(err) != pgmedic.KindIntegrity || errors.Is(err, archive.ErrAbsent) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Versions before 13 ask for each segment on the newest timeline first.
	b := newBench(t)
	e := b.begin(at(0), true)
	b.put(e, 0)
	b.onTwo(e, at(1)+100, at(1))
	if _, err := b.fetch(size.Name(wal.Segment{Timeline: 2, Start: at(0)})); !errors.Is(err, archive.ErrAbsent) {
		t.Errorf("before the timeline began: %v", err)
	}
}

// TestHistoryOfAnother: a timeline that only the history of a later one tells of is used.
// PostgreSQL would give its number to another.
func TestHistoryOfAnother(t *testing.T) {
	b := newBench(t)
	e := b.begin(at(0), true)
	put := func(e *archive.Epoch, timeline wal.Timeline, text string) {
		t.Helper()
		if err := e.PutHistory(t.Context(), timeline, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	put(e, 5, "1\t0/300000\tx\n3\t0/500000\tx\n4\t0/600000\tx\n")
	for timeline, want := range map[wal.Timeline][]wal.Switch{
		3: {{Timeline: 1, End: 0x300000}},
		4: {{Timeline: 1, End: 0x300000}, {Timeline: 3, End: 0x500000}},
	} {
		text, err := b.fetch(wal.HistoryName(timeline))
		if err != nil {
			t.Fatal(err)
		}
		if h, err := wal.ParseHistory(timeline, text); err != nil || !slices.Equal(h.Switches, want) {
			t.Errorf("timeline %d: %q, %v", timeline, text, err)
		}
	}
	for _, timeline := range []wal.Timeline{1, 2, 6} {
		if _, err := b.fetch(wal.HistoryName(timeline)); !errors.Is(err, archive.ErrAbsent) {
			t.Errorf("timeline %d: %v", timeline, err)
		}
	}
	put(e, 7, "1\t0/300000\tx\n3\t0/400000\tx\n4\t0/600000\tx\n")
	if _, err := b.fetch("00000004.history"); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("two that differ: %v", err)
	}
	// Its own is believed.
	put(e, 4, "1\t0/300000\tmine\n")
	b.wantFetched("00000004.history", []byte("1\t0/300000\tmine\n"))
	// WAL of a timeline, and no history.
	if err := e.PutTail(t.Context(), wal.Segment{Timeline: 9, Start: at(0)}, 0, segments.plain[0][:100]); err != nil {
		t.Fatal(err)
	}
	if _, err := b.fetch("00000009.history"); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
		t.Errorf("WAL without a history: %v", err)
	}
}

// growing is a store to which something is added after the first lookup of tails.
type growing struct {
	store.Store
	grow func()
}

func (g *growing) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	all := g.Store.List(ctx, prefix)
	return func(yield func(store.Object, error) bool) {
		for entry, err := range all {
			if !yield(entry, err) {
				return
			}
		}
		if strings.Contains(prefix, "/tail/") && g.grow != nil {
			grow := g.grow
			g.grow = nil
			grow()
		}
	}
}

// TestFetchWhileStreaming: what is stored between the lookup of a segment and the proof
// that the WAL ends there is found.
func TestFetchWhileStreaming(t *testing.T) {
	b := newBench(t)
	e := b.begin(at(0), false)
	b.tail(e, 0, 0, 5000)
	g := &growing{Store: storeOf(t, b.dir), grow: func() { b.put(e, 0); b.put(e, 1) }}
	f, err := archive.New(g, "clinic/1", segments.system).NewFetcher(t.Context(), func(context.Context, string, []archive.StoredWrap) (*seal.Key, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := f.Fetch(t.Context(), name(0), &got); err != nil || !bytes.Equal(got.Bytes(), segments.plain[0]) {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
	// The program's end by a panic would be taken for the end of the WAL.
	g.grow = func() { panic("odd") }
	if err := f.Fetch(t.Context(), name(2), io.Discard); err == nil || errors.Is(err, archive.ErrAbsent) {
		t.Errorf("a panic: %v", err)
	}
}

// TestEpochBegunMeanwhile: WAL that came with an epoch which began after the fetcher was made
// is found, and is no hole.
func TestEpochBegunMeanwhile(t *testing.T) {
	b := newBench(t)
	b.put(b.begin(at(0), true), 0)
	f, err := b.a.NewFetcher(t.Context(), b.open)
	if err != nil {
		t.Fatal(err)
	}
	e := b.begin(at(1), true)
	b.put(e, 1)
	b.put(e, 2)
	var got bytes.Buffer
	if err := f.Fetch(t.Context(), name(1), &got); err != nil || !bytes.Equal(got.Bytes(), segments.plain[1]) {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
	if err := f.Fetch(t.Context(), name(3), io.Discard); !errors.Is(err, archive.ErrAbsent) {
		t.Errorf("the end: %v", err)
	}
}
