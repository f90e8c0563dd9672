package wal_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestNames: names are those that pg_walfile_name gives, for every size of segments.
func TestNames(t *testing.T) {
	for _, c := range []struct {
		size wal.SegmentSize
		tli  wal.Timeline
		lsn  string
		name string
	}{
		{1 << 20, 1, "0/1000028", "000000010000000000000010"},
		{16 << 20, 1, "16/B374D848", "0000000100000016000000B3"},
		{16 << 20, 0x1A, "FFFFFFFF/FFFFFFFF", "0000001AFFFFFFFF000000FF"},
		{64 << 20, 2, "16/B374D848", "00000002000000160000002C"},
		{1 << 30, 3, "16/B374D848", "000000030000001600000002"},
	} {
		lsn, err := wal.ParseLSN(c.lsn)
		if err != nil || lsn.String() != c.lsn {
			t.Errorf("%s: %v, %v", c.lsn, lsn, err)
		}
		s := c.size.Segment(c.tli, lsn)
		if got := c.size.Name(s); got != c.name {
			t.Errorf("segment of %s is %s, want %s", c.lsn, got, c.name)
		}
		if back, err := c.size.Parse(c.name); err != nil || back != s {
			t.Errorf("%s is %+v, %v", c.name, back, err)
		}
	}
	for size := wal.MinSegmentSize; size <= wal.MaxSegmentSize; size *= 2 {
		for _, start := range []wal.LSN{0, wal.LSN(size), math.MaxUint64 &^ wal.LSN(size-1), 1 << 32} {
			s := wal.Segment{Timeline: 7, Start: start}
			if back, err := size.Parse(size.Name(s)); err != nil || back != s {
				t.Errorf("size %d: %+v comes back as %+v, %v", size, s, back, err)
			}
		}
	}
	for _, name := range []string{
		"", "00000001000000000000001", "0000000100000000000000100", "00000001000000000000001g", "00000000000000000000000A",
		"000000010000000000000100", "0000000100000000000000a0", "00000001000000000000000A.partial",
	} {
		if s, err := wal.DefaultSegmentSize.Parse(name); err == nil {
			t.Errorf("%q is taken for %+v", name, s)
		}
	}
	for text, want := range map[string]wal.SegmentSize{"16MB": 16 << 20, "1MB": 1 << 20, "1GB": 1 << 30, "65536kB": 64 << 20, "16777216": 16 << 20, "3MB": 0, "": 0, "-16MB": 0, "16": 0, "2GB": 0} {
		if got, err := wal.ParseSegmentSize(text); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "/", "0/", "0/123456789", "0/+1", "g/0", "0/0/0", " 0/0"} {
		if l, err := wal.ParseLSN(text); err == nil {
			t.Errorf("%q is %v", text, l)
		}
	}
	var back struct{ L wal.LSN }
	if text, err := json.Marshal(struct{ L wal.LSN }{0x1600000001}); err != nil || string(text) != `{"L":"16/1"}` || json.Unmarshal(text, &back) != nil || back.L != 0x1600000001 {
		t.Errorf("as JSON %s, %v, %v", text, err, back)
	}
}

// TestHistories: what PostgreSQL writes is read, what it would refuse is not.
func TestHistories(t *testing.T) {
	h, err := wal.ParseHistory(5, []byte("# a comment\n1\t0/A000198\tno recovery target specified\n\n3\t0/B000000\tbefore 2026-11-28 # x\n"))
	if err != nil || len(h.Switches) != 2 {
		t.Fatal(h, err)
	}
	for lsn, want := range map[wal.LSN]wal.Timeline{0: 1, 0xA000197: 1, 0xA000198: 3, 0xAFFFFFF: 3, 0xB000000: 5, math.MaxUint64: 5} {
		if got := h.At(lsn); got != want {
			t.Errorf("at %v: timeline %d, want %d", lsn, got, want)
		}
	}
	for tli, want := range map[wal.Timeline][2]wal.LSN{1: {0, 0xA000198}, 3: {0xA000198, 0xB000000}, 5: {0xB000000, math.MaxUint64}} {
		begin, ok := h.Begin(tli)
		end, endOK := h.End(tli)
		if !ok || !endOK || begin != want[0] || end != want[1] {
			t.Errorf("timeline %d: %v to %v", tli, begin, end)
		}
	}
	if _, ok := h.End(2); ok {
		t.Error("timeline 2 is in the history")
	}
	if _, ok := h.Begin(2); ok {
		t.Error("timeline 2 is in the history")
	}
	for name, text := range map[string]string{
		"no position": "1\n", "own number": "5 0/1 x", "later number": "6 0/1 x", "twice": "1 0/1 x\n1 0/2 x",
		"numbers back": "3 0/1 x\n2 0/2 x", "positions back": "1 0/2 x\n2 0/1 x", "zero": "0 0/1 x", "no number": "a 0/1 x",
		"too large": strings.Repeat("\n", wal.MaxHistoryBytes+1),
	} {
		if h, err := wal.ParseHistory(5, []byte(text)); err == nil || len(h.Switches) != 0 {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
	for _, name := range []string{"00000000.history", "2.history", "00000002", "0000000g.history", "00000002.history.x", "0000000a.history"} {
		if n, err := wal.ParseHistoryName(name); err == nil {
			t.Errorf("%s is taken for %d", name, n)
		}
	}
	if n, err := wal.ParseHistoryName(wal.HistoryName(0xAB)); n != 0xAB || err != nil {
		t.Error(n, err)
	}
}

// FuzzHistory: a history that is read holds what PostgreSQL demands of one.
func FuzzHistory(f *testing.F) {
	f.Add([]byte("1\t0/A000198\tx\n2\t0/A000198\tx\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := wal.ParseHistory(9, text)
		if err != nil && len(h.Switches) > 0 {
			t.Fatal("an error and a history")
		}
		for i, s := range h.Switches {
			if s.Timeline == 0 || s.Timeline >= 9 || i > 0 && (s.Timeline <= h.Switches[i-1].Timeline || s.End < h.Switches[i-1].End) {
				t.Fatalf("%+v", h)
			}
		}
	})
}

// TestDecodeShort: records that are cut off say nothing.
func TestDecodeShort(t *testing.T) {
	for resource := range byte(7) {
		for info := 0; info < 256; info += 16 {
			for n := range 30 {
				r := wal.Record{Major: 15, Resource: resource, Info: byte(info), Data: bytes.Repeat([]byte{1}, n)}
				if e, ok := wal.Decode(&r); ok && e.Kind == "" {
					t.Fatalf("resource %d, info %x, %d bytes: %+v", resource, info, n, e)
				}
			}
		}
	}
}

// TestServerTime: no number of microseconds becomes a date that JSON can't hold.
func TestServerTime(t *testing.T) {
	want := time.Date(2026, 11, 28, 20, 10, 0, 123456000, time.UTC)
	if got := wal.ServerTime(wal.ServerMicroseconds(want)); !got.Equal(want) {
		t.Error(got)
	}
	for _, n := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64, math.MaxInt64 / 2, 252455616000000000, -63082281600000001} {
		if _, err := json.Marshal(wal.ServerTime(n)); err != nil {
			t.Error(n, err)
		}
	}
}
