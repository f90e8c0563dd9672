package wal_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// seen is what a walk of some bytes found.
type seen struct {
	records []wal.Record
	events  []wal.Event
	end     wal.LSN
	stop    *wal.Stop
}

// walk feeds bytes in pieces, which next returns the lengths of.
func walk(t testing.TB, o wal.WalkerOptions, b []byte, next func() int) (s seen) {
	t.Helper()
	o.Record = func(r *wal.Record) {
		if e, ok := wal.Decode(r); ok {
			s.events = append(s.events, e)
		}
		kept := *r
		kept.Data = bytes.Clone(r.Data)
		s.records = append(s.records, kept)
	}
	w, err := wal.NewWalker(o)
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		n := min(max(next(), 1), len(b))
		if _, err := w.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
	s.end, s.stop = w.End(), w.Stopped()
	return s
}

func whole() int { return 1 << 30 }

// TestWalkerProperty: whatever the sizes of records and the pieces that the bytes come
// in, each record is found where it is, and nothing else.
func TestWalkerProperty(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := newBuilder(wal.LSN(wal.MinSegmentSize) * wal.LSN(1+seed))
		var starts []wal.LSN
		for range 1 + r.IntN(60) {
			size := r.IntN(300)
			if r.IntN(10) == 0 {
				size = r.IntN(40000)
			}
			starts = append(starts, b.record(10, 0, r.Uint32(), make([]byte, size)))
		}
		end := b.pos()
		for range 3 {
			got := walk(t, wal.WalkerOptions{Start: b.start, SegmentSize: b.size, SystemIdentifier: 4711}, b.fill(), func() int { return r.IntN(9000) })
			if got.end != end || got.stop == nil || got.stop.Reason != wal.StopEnd {
				t.Fatalf("seed %d: end %v, want %v; stop %v", seed, got.end, end, got.stop)
			}
			if !slices.Equal(starts, startsOf(got.records)) {
				t.Fatalf("seed %d: records at %v, want %v", seed, startsOf(got.records), starts)
			}
		}
	}
}

func startsOf(records []wal.Record) (starts []wal.LSN) {
	for _, r := range records {
		starts = append(starts, r.Start)
	}
	return starts
}

// TestWalkerDamage: with any byte changed, the records that are reported are those
// before the damage. Bytes that mean nothing (padding, unused bytes of headers, and
// what follows the last record) may change.
func TestWalkerDamage(t *testing.T) {
	b := newBuilder(wal.LSN(wal.MinSegmentSize))
	for i := range 25 {
		b.record(10, 0, uint32(i), bytes.Repeat([]byte{7}, i*37))
	}
	used := len(b.b)
	plain := b.fill()
	o := wal.WalkerOptions{Start: b.start, SegmentSize: b.size, SystemIdentifier: 4711}
	want := walk(t, o, plain, whole)
	if len(want.records) != 25 {
		t.Fatalf("%d records", len(want.records))
	}
	shorter := 0
	for i := range used {
		damaged := bytes.Clone(plain[:used+wal.PageSize])
		damaged[i] ^= 1 << (i % 8)
		got := walk(t, o, damaged, whole)
		if n := len(got.records); n < 25 {
			shorter++
			if got.stop == nil {
				t.Fatalf("byte %d: %d records, and no reason", i, n)
			}
		}
		for j, r := range got.records {
			if r.Start != want.records[j].Start || r.XID != want.records[j].XID || r.End != want.records[j].End {
				t.Fatalf("byte %d: record %d is %+v", i, j, r)
			}
		}
	}
	if shorter < used*9/10 {
		t.Errorf("of %d changed bytes only %d were noticed", used, shorter)
	}
}

// TestWalkerStops: each reason to stop.
func TestWalkerStops(t *testing.T) {
	const start = wal.LSN(wal.MinSegmentSize) * 5
	page := func(change func(p []byte)) []byte {
		b := newBuilder(start)
		b.record(10, 0, 1, make([]byte, 9000))
		p := b.fill()
		change(p)
		return p
	}
	put32 := func(at int, v uint32) func([]byte) {
		return func(p []byte) { binary.LittleEndian.PutUint32(p[at:], v) }
	}
	for name, c := range map[string]struct {
		bytes  []byte
		reason wal.StopReason
	}{
		"nothing there":         {make([]byte, 2*wal.PageSize), wal.StopEnd},
		"a file used again":     {page(func(p []byte) { binary.LittleEndian.PutUint64(p[8:], 77*wal.PageSize) }), wal.StopEnd},
		"a newer version":       {page(func(p []byte) { p[0] = 0x7F }), wal.StopUnknown},
		"another size of pages": {page(put32(36, 16384)), wal.StopUnknown},
		"another cluster":       {page(put32(24, 1)), wal.StopForeign},
		"other segments":        {page(put32(32, 64<<20)), wal.StopForeign},
		"a short header":        {page(func(p []byte) { p[2] = 0 }), wal.StopInvalid},
		"a length of 3":         {page(put32(40, 3)), wal.StopInvalid},
		"a length of 2 GiB":     {page(put32(40, 1<<31)), wal.StopInvalid},
		"a wrong checksum":      {page(func(p []byte) { p[100]++ }), wal.StopInvalid},
		"a wrong rest":          {page(put32(wal.PageSize+16, 12)), wal.StopInvalid},
		"no rest":               {page(func(p []byte) { p[wal.PageSize+2] = 0 }), wal.StopInvalid},
		"an older timeline":     {page(put32(wal.PageSize+4, 0)), wal.StopInvalid},
		"another version":       {page(func(p []byte) { p[wal.PageSize] = 0x18 }), wal.StopInvalid},
		"a record of later on":  {page(func(p []byte) { binary.LittleEndian.PutUint64(p[48:], uint64(start)+4096) }), wal.StopInvalid},
	} {
		got := walk(t, wal.WalkerOptions{Start: start, SegmentSize: wal.MinSegmentSize, SystemIdentifier: 4711}, c.bytes, whole)
		if got.stop == nil || got.stop.Reason != c.reason || got.stop.String() == "" {
			t.Errorf("%s: %v", name, got.stop)
		}
	}
	for _, o := range []wal.WalkerOptions{{Start: 8192, SegmentSize: wal.MinSegmentSize}, {SegmentSize: 3 << 20}, {}} {
		if _, err := wal.NewWalker(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// TestWalkerOverwritten: where a crash left a record unfinished, the server goes on at
// the next page and says so; the record is not reported, and what follows is. So it is
// for a walk that begins within the record that was left.
func TestWalkerOverwritten(t *testing.T) {
	b := newBuilder(wal.LSN(wal.MinSegmentSize) * 3)
	first := b.record(10, 0, 1, make([]byte, 100))
	before := b.prev
	lost := b.record(10, 0, 2, make([]byte, 3*wal.PageSize))
	b.b, b.prev = b.b[:2*wal.PageSize], before
	b.flags = 8
	again := b.record(0, 0xD0, 0, binary.LittleEndian.AppendUint64(make([]byte, 0, 16), uint64(lost)))
	last := b.record(10, 0, 3, make([]byte, 10))
	end := b.pos()
	got := walk(t, wal.WalkerOptions{Start: b.start, SegmentSize: b.size}, b.fill(), whole)
	if !slices.Equal(startsOf(got.records), []wal.LSN{first, again, last}) || got.end != end {
		t.Errorf("records at %v, end %v, stop %v", startsOf(got.records), got.end, got.stop)
	}
	if len(got.events) != 1 || got.events[0].Kind != wal.Overwritten || got.events[0].From != lost {
		t.Errorf("events %+v", got.events)
	}
}

// TestWalkerSegments: a record that reaches over whole segments, a walk that begins in
// the middle of it, and a switch, behind which a segment is not used.
func TestWalkerSegments(t *testing.T) {
	b := newBuilder(wal.LSN(wal.MinSegmentSize) * 9)
	b.record(10, 0, 1, make([]byte, 100))
	b.record(10, 0, 2, make([]byte, 5*wal.MinSegmentSize/2))
	commit := b.commit(0, 3, 0)
	b.record(0, 0x40, 0, nil)
	b.fill()
	for i := range b.b[len(b.b)-10000:] { // whatever is behind a switch
		b.b[len(b.b)-10000+i] = 0xFF
	}
	after := b.commit(0x30, 4, 1)
	got := walk(t, wal.WalkerOptions{Start: b.start, SegmentSize: b.size}, b.b, whole)
	if len(got.records) != 5 || got.records[4].Start != after || got.stop != nil || got.end != b.pos() {
		t.Fatalf("%d records, stop %v, end %v of %v", len(got.records), got.stop, got.end, b.pos())
	}
	second := walk(t, wal.WalkerOptions{Start: b.start + wal.LSN(b.size), SegmentSize: b.size}, b.b[b.size:], whole)
	if len(second.records) != 3 || second.records[0].Start != commit || second.stop != nil {
		t.Errorf("from the second segment: %d records, stop %v", len(second.records), second.stop)
	}

	x, err := wal.NewIndexer(1, wal.WalkerOptions{Start: b.start, SegmentSize: b.size}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for rest := b.b; len(rest) > 0; rest = rest[min(len(rest), 100000):] {
		_, _ = x.Write(rest[:min(len(rest), 100000)])
	}
	done := x.Done()
	if len(done) != 3 || done[0].Segment != "000000010000000000000009" || done[0].End >= b.start+wal.LSN(b.size) || done[1].End != 0 ||
		done[2].Commits != 1 || done[2].End != b.start+3*wal.LSN(b.size) || x.Current().Commits != 1 || len(x.Done()) != 0 {
		t.Errorf("summaries %+v and %+v", done, x.Current())
	}
}

// TestIndexerGoesOn: where the records of a segment can't be read, the next one is.
func TestIndexerGoesOn(t *testing.T) {
	b := newBuilder(wal.LSN(wal.MinSegmentSize) * 9)
	b.record(10, 0, 2, make([]byte, 3*wal.MinSegmentSize/2))
	b.commit(0, 3, 5)
	b.fill()
	b.b[wal.PageSize+1]++ // the magic number of the second page
	x, err := wal.NewIndexer(1, wal.WalkerOptions{Start: b.start, SegmentSize: b.size}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = x.Write(b.b)
	if done := x.Done(); len(done) != 2 || done[0].Stopped == nil || done[0].Stopped.Reason != wal.StopUnknown || done[0].Stopped.At != 0x902000 || done[0].Headless ||
		done[1].Commits != 1 || !done[1].Headless || done[1].Stopped == nil || done[1].Stopped.Reason != wal.StopEnd || done[1].Stopped.At != b.prevEnd() {
		t.Errorf("summaries %+v", done)
	}
}

// TestSummaryBound: what lists without end would hold is counted.
func TestSummaryBound(t *testing.T) {
	var s wal.Summary
	for range 10123 {
		s.Add(wal.Event{Kind: wal.Truncate})
	}
	if len(s.Notes) != 10000 || s.NotListed != 123 {
		t.Errorf("%d notes, and %d not listed", len(s.Notes), s.NotListed)
	}
}

// FuzzWalker: nothing that is read makes it panic, or report a record that is not there.
func FuzzWalker(f *testing.F) {
	b := newBuilder(wal.LSN(wal.MinSegmentSize))
	for i := range 20 {
		b.record(byte(i%6), byte(i*16), uint32(i), bytes.Repeat([]byte{byte(i)}, i*50))
	}
	f.Add(b.b[:12000], uint16(100))
	f.Add(b.b[:100], uint16(1))
	f.Add(make([]byte, 50), uint16(7))
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		end := wal.LSN(wal.MinSegmentSize)
		w, err := wal.NewWalker(wal.WalkerOptions{Start: end, SegmentSize: wal.MinSegmentSize, Record: func(r *wal.Record) {
			if r.Start < end || r.End <= r.Start {
				t.Fatalf("a record from %v to %v, after %v", r.Start, r.End, end)
			}
			end = r.End
			_, _ = wal.Decode(r)
		}})
		if err != nil {
			t.Fatal(err)
		}
		for n := int(piece) + 1; len(data) > 0; {
			k := min(n, len(data))
			_, _ = w.Write(data[:k])
			data = data[k:]
		}
		if w.Stopped() != nil && w.Stopped().What == "" || w.End() != 0 && w.End() < end {
			t.Fatalf("stopped %v, end %v", w.Stopped(), w.End())
		}
	})
}
