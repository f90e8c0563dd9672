package walstream

import (
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestSightings: while a server writes without end, of which some is always on its way into
// the store, an observation is stored when the stream begins, another once all before that is
// stored, two for each base backup, and one a minute.
func TestSightings(t *testing.T) {
	began := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	s := &sightings{}
	var all []time.Duration
	const lag = 3 // seconds
	for second := range 300 {
		if second == 150 {
			s.hasten() // a base backup ended
		}
		now := began.Add(time.Duration(second) * time.Second)
		seen := wal.Observation{Time: now, Timeline: 1, LSN: wal.LSN(1000 + 100*second)}
		if s.due(seen, wal.LSN(1000+100*(second-lag)), now) {
			all = append(all, now.Sub(began))
		}
	}
	want := []time.Duration{0, lag * time.Second, 63 * time.Second, 123 * time.Second, 150 * time.Second, 153 * time.Second, 213 * time.Second, 273 * time.Second}
	if len(all) != len(want) {
		t.Fatalf("stored at %v, want %v", all, want)
	}
	for i := range want {
		if all[i] != want[i] {
			t.Fatalf("stored at %v, want %v", all, want)
		}
	}
	// Connections that break and are made again store no more.
	now := began.Add(time.Hour)
	for i := range 100 {
		s.due(wal.Observation{Time: now, Timeline: 1, LSN: wal.LSN(1e6 + i)}, 1e6, now)
	}
	if s.last.LSN != 1e6 {
		t.Errorf("the last one stored is %+v", s.last)
	}
	// A new timeline is seen at once, whatever was seen of the one before.
	if o := (wal.Observation{Time: now, Timeline: 2, LSN: 900}); !s.due(o, 0, now) || s.due(o, 900, now) {
		t.Error("a new timeline is not seen at once, or twice")
	}
	// A store that is away, or slow, does not stop them.
	late := wal.Observation{Time: now, Timeline: 2, LSN: 1e9}
	if s.due(late, 0, now.Add(archive.SeenEvery-1)) || !s.due(late, 0, now.Add(archive.SeenEvery)) {
		t.Error("what is not stored yet is not seen once a minute")
	}
}
