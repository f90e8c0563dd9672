package catalog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
)

// TestLatestByWAL: which of two backups of one system and timeline came last is what
// the server wrote, and not what the clock of a host said. Where it can't be known
// nothing is chosen.
func TestLatestByWAL(t *testing.T) {
	// Minutes by the host's clock and by the server's, position in the WAL, timeline.
	type taken struct {
		host, server int
		lsn          string
		timeline     int64
		system       string
	}
	const now, ahead = 3 * 60, 24 * 60
	for name, test := range map[string]struct {
		taken []taken
		want  int // which of them, or -1 for an error
		words string
	}{
		"in order":                        {[]taken{{10, 10, "0/100", 1, "A"}, {20, 20, "0/200", 1, "A"}}, 1, ""},
		"a host's clock went back":        {[]taken{{10, 10, "0/9099C20", 1, "A"}, {20, 20, "0/9099C50", 1, "A"}, {-1400, 30, "0/9099C90", 1, "A"}}, 2, ""},
		"a host's clock was ahead":        {[]taken{{ahead, 10, "0/100", 1, "A"}, {20, 20, "0/200", 1, "A"}}, 1, ""},
		"all from the future":             {[]taken{{ahead, 10, "0/100", 1, "A"}, {ahead + 1, 20, "0/200", 1, "A"}}, 1, ""},
		"positions are numbers":           {[]taken{{20, 10, "9/FFFFFFFF", 1, "A"}, {10, 20, "A/0", 1, "A"}}, 1, ""},
		"the server's clock, too":         {[]taken{{10, 30, "0/300", 1, "A"}, {20, 40, "0/200", 1, "A"}}, -1, "by its position in the WAL (0/300, the other at 0/200)"},
		"the same position":               {[]taken{{10, 10, "0/100", 1, "A"}, {20, 20, "0/100", 1, "A"}}, 1, ""},
		"after a promotion":               {[]taken{{10, 10, "0/500", 1, "A"}, {20, 20, "0/300", 2, "A"}}, 1, ""},
		"a former primary that is up":     {[]taken{{10, 10, "0/300", 2, "A"}, {20, 20, "0/500", 1, "A"}}, -1, "is of an earlier timeline (1, the other of 2)"},
		"promoted, and a clock went back": {[]taken{{10, 10, "0/500", 1, "A"}, {30, 20, "0/300", 2, "A"}, {20, 30, "0/400", 2, "A"}}, 2, ""},
		"no timeline":                     {[]taken{{20, 10, "0/100", 0, "A"}, {10, 20, "0/200", 0, "A"}}, 0, ""},
		"no timeline, of the future":      {[]taken{{ahead, 10, "0/100", 0, "A"}, {10, 20, "0/200", 1, "A"}}, -1, "in the future"},
		"no identifier":                   {[]taken{{20, 10, "0/100", 1, ""}, {10, 20, "0/200", 1, ""}}, 0, ""},
		"no position":                     {[]taken{{20, 10, "", 1, "A"}, {10, 20, "", 1, "A"}}, 0, ""},
		"another system":                  {[]taken{{10, 10, "0/900", 1, "B"}, {20, 20, "0/100", 1, "A"}}, 1, ""},
		"another system's clock":          {[]taken{{20, 10, "0/100", 1, "B"}, {10, 20, "0/900", 1, "A"}}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			ids := make([]string, len(test.taken))
			for i, tt := range test.taken {
				b := backup(0)
				b.StartedAt, b.SnapshotAt = noon.Add(time.Duration(tt.host)*time.Minute), noon.Add(time.Duration(tt.server)*time.Minute)
				b.FinishedAt = b.StartedAt
				b.ID = b.StartedAt.Format("20060102T150405Z") + fmt.Sprintf("-00000%x", i)
				b.SnapshotLSN, b.SnapshotTimeline, b.Server.SystemIdentifier = tt.lsn, tt.timeline, tt.system
				ids[i] = f.commit(t, b).ID
			}
			e, err := f.Get(t.Context(), catalog.Latest, catalog.Filter{Server: "main", Now: noon.Add(now * time.Minute)})
			if test.want >= 0 {
				if err != nil || e.Backup.ID != ids[test.want] {
					t.Fatalf("latest is %v, %v, want %s", e.Backup, err, ids[test.want])
				}
				return
			}
			if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), test.words) {
				t.Fatalf("got %v", err)
			}
			for _, id := range ids {
				if !strings.Contains(err.Error()+pgmedic.HintOf(err), id) {
					t.Errorf("%s is not named: %v (%s)", id, err, pgmedic.HintOf(err))
				}
			}
		})
	}
}
