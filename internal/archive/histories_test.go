package archive_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestHistoryThatTheWALContradicts: of a history whose position is damaged the WAL of the
// timeline shows that it began before. It counts as one that is not there.
func TestHistoryThatTheWALContradicts(t *testing.T) {
	for what, c := range map[string]struct {
		timeline wal.Timeline
		history  string
		odd      int
	}{
		"in the first segment of it": {2, fmt.Sprintf("1\t%v\tx\n", at(2)+100), 0},
		"where that begins":          {2, fmt.Sprintf("1\t%v\tx\n", at(2)), 0},
		"a segment before it":        {2, fmt.Sprintf("1\t%v\tx\n", at(1)+100), 0}, // then WAL is missing
		"a segment behind":           {2, fmt.Sprintf("1\t%v\tx\n", at(3)+100), 1},
		"in a later one's":           {3, fmt.Sprintf("1\t%v\tx\n2\t%v\tx\n", at(3)+100, at(4)+100), 1},
		"right in a later one's":     {3, fmt.Sprintf("1\t%v\tx\n2\t%v\tx\n", at(2)+100, at(4)+100), 0},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			e := b.begin(at(0), true)
			for i := range wal.LSN(4) {
				b.put(e, i)
			}
			for i := wal.LSN(2); i < 4; i++ {
				if err := e.PutSegment(t.Context(), wal.Segment{Timeline: 2, Start: at(i)}, segments.plain[i]); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.PutHistory(t.Context(), c.timeline, []byte(c.history)); err != nil {
				t.Fatal(err)
			}
			s := b.survey()
			there := slices.ContainsFunc(s.Histories, func(h wal.History) bool { return h.Timeline == c.timeline })
			if len(s.Odd) != c.odd || there != (c.odd == 0) {
				t.Errorf("histories %v, odd %q", s.Histories, s.Odd)
			}
		})
	}
}
