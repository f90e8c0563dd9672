package history_test

import (
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/history"
)

// TestThinAll thins series to which nothing is added any more, drops what it said that it
// would, and keeps the newest of each.
func TestThinAll(t *testing.T) {
	path, now := file(t), noon
	h := open(t, history.Options{Path: path, Now: func() time.Time { return now }})
	for minutes := range 50 {
		add(t, h, aReading(noon.Add(time.Duration(minutes-50)*time.Minute)))
	}
	now = noon.Add(10 * 24 * time.Hour)
	reader := open(t, history.Options{Path: path, ReadOnly: true, Now: func() time.Time { return now }})
	if _, err := reader.ThinAll(t.Context()); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("one that only reads has thinned: %v", err)
	}
	for range 2 { // asking changes nothing
		if n, err := reader.Superfluous(t.Context()); err != nil || n != 49 {
			t.Errorf("%d would go, %v", n, err)
		}
	}
	if n, err := h.ThinAll(t.Context()); err != nil || n != 49 {
		t.Errorf("%d went, %v", n, err)
	}
	if n, err := h.ThinAll(t.Context()); err != nil || n != 0 {
		t.Errorf("%d went again, %v", n, err)
	}
	if left := earlier(t, h); len(left) != 1 || !left[0].TakenAt.Equal(noon.Add(-time.Minute)) {
		t.Errorf("%d are left", len(left))
	}
}
