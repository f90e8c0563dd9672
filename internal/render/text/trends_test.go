package text_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/render/rendertest"
	"github.com/pgmedic/pgmedic/internal/render/text"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// trends are of a week.
func trends() *judge.Trends {
	latest := 43.5
	t := &judge.Trends{
		Since: rendertest.Noon().AddDate(0, 0, -7), Readings: 712,
		Points: []judge.Point{
			{At: rendertest.Noon().Add(-5 * time.Minute)},
			{
				At: rendertest.Noon(), CacheHitPercent: rendertest.Of(99.31), CommitsPerSecond: rendertest.Of(312.4), RollbacksPerSecond: rendertest.Of(0.25),
				WALBytesPerSecond: rendertest.Of(1.5 * (1 << 20)), TempBytesPerSecond: rendertest.Of(0.0), Deadlocks: rendertest.Of(int64(2)),
			},
		},
		Database: &judge.Growth{Name: "clinic", Bytes: 80 << 30, BytesPerDay: 1.2 * (1 << 30), LowPerDay: -200 << 20, HighPerDay: 2.6 * (1 << 30)},
		Disk:     &judge.DiskForecast{FreeBytes: 40 << 30, Days: 33.3, SoonestDays: 9.87, LatestDays: &latest},
		Tables: []judge.Growth{
			{Name: "public.observations", Bytes: 30 << 30, BytesPerDay: 900 << 20, LowPerDay: 850 << 20, HighPerDay: 950 << 20},
			{Name: "public." + strings.Repeat("long_", 40), Bytes: 30 << 20, BytesPerDay: 0.2, LowPerDay: -5, HighPerDay: 5.4},
		},
		Statements: []judge.StatementChange{
			{QueryID: "42", Query: "SELECT * FROM observations WHERE encounter_id = $1 AND taken_at > $2 ORDER BY taken_at DESC", Calls: 12345, MeanSeconds: 0.0312, BeforeCalls: 70000, BeforeMeanSeconds: 0.0081},
			{QueryID: "43", Query: "SELECT 1\x1b[2J", Calls: 3, MeanSeconds: 95},
		},
	}
	return t
}

func TestTextTrends(t *testing.T) {
	write := func(trends *judge.Trends, width int) string {
		r := rendertest.ReportOn(rendertest.Healthy())
		r.Trends = trends
		var b bytes.Buffer
		if err := text.Write(&b, r, text.Options{Width: width}); err != nil {
			t.Fatal(err)
		}
		_, section, _ := strings.Cut(b.String(), "\nTrends ")
		section, _, _ = strings.Cut(section, "\nConnections ")
		return section
	}
	got := write(trends(), 100)
	testkit.Golden(t, filepath.Join("testdata", "trends.golden"), got, *update)
	for _, width := range []int{60, 80, 100} {
		for line := range strings.SplitSeq(write(trends(), width), "\n") {
			if lipgloss.Width(line) > width {
				t.Errorf("%d columns at %d: %s", lipgloss.Width(line), width, line)
			}
		}
	}

	few := &judge.Trends{Since: rendertest.Noon().Add(-time.Minute), Readings: 2, Points: []judge.Point{{At: rendertest.Noon().Add(-time.Minute)}, {At: rendertest.Noon()}}}
	if got := write(few, 100); !strings.Contains(got, "Too few readings") || !strings.Contains(got, "were reset") {
		t.Error(got)
	}
	never := trends()
	never.Disk.LatestDays, never.Disk.Days = nil, 5000
	if got := write(never, 100); !strings.Contains(got, "disk full in more than 10 years (95 %: 9.9 days at the soonest, perhaps never)") {
		t.Error(got)
	}
	if got := write(nil, 100); got != "" {
		t.Error(got)
	}
}
