package schedule_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // whatever the machine has

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/schedule"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func parse(t *testing.T, text, zoneName string) *schedule.Times {
	t.Helper()
	times, err := schedule.ParseTimes(text, zone(t, zoneName))
	if err != nil {
		t.Fatal(err)
	}
	return times
}

// TestChangesOfTheClock is the table of what is right where clocks change.
func TestChangesOfTheClock(t *testing.T) {
	for _, tt := range []struct{ zone, at, from, want string }{
		{"Europe/Berlin", "30 2 * * *", "2026-03-28T12:00:00", "03-29T03:00+02:00 03-30T02:30+02:00"},
		{"Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00", "10-25T02:30+02:00 10-26T02:30+01:00"},
		{"Europe/Berlin", "0,30 2,3 * * *", "2026-03-28T12:00:00", "03-29T03:00+02:00 03-29T03:30+02:00 03-30T02:00+02:00"},
		{"Europe/Berlin", "0 2 * * *", "2026-10-25T00:30:00", "10-25T02:00+02:00 10-26T02:00+01:00"},
		{"Europe/Berlin", "0 3 * * *", "2026-10-25T00:30:00", "10-25T03:00+01:00 10-26T03:00+01:00"},
		{"Europe/Berlin", "0 * * * *", "2026-03-29T00:30:00", "03-29T01:00+01:00 03-29T03:00+02:00 03-29T04:00+02:00"},
		{"Europe/Berlin", "0 * * * *", "2026-10-25T00:30:00", "10-25T01:00+02:00 10-25T02:00+02:00 10-25T02:00+01:00 10-25T03:00+01:00"},
		{"Europe/Berlin", "*/30 * * * *", "2026-10-25T01:45:00", "10-25T02:00+02:00 10-25T02:30+02:00 10-25T02:00+01:00 10-25T02:30+01:00 10-25T03:00+01:00"},
		{"Europe/Berlin", "0 */2 * * *", "2026-03-29T00:30:00", "03-29T04:00+02:00 03-29T06:00+02:00"},
		{"Europe/Berlin", "0 2 * * 0", "2026-03-28T12:00:00", "03-29T03:00+02:00 04-05T02:00+02:00"},
		{"Europe/Berlin", "every 6h", "2026-03-28T20:00:00", "03-29T01:00+01:00 03-29T08:00+02:00 03-29T14:00+02:00"},
		{"America/Sao_Paulo", "0 0 * * *", "2018-11-03T12:00:00", "11-04T01:00-02:00 11-05T00:00-02:00"},
		{"America/Sao_Paulo", "30 23 * * *", "2018-02-17T12:00:00", "02-17T23:30-02:00 02-18T23:30-03:00"},
		{"Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00:00", "10-04T02:30+11:00 10-05T02:15+11:00"},
		{"Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00:00", "04-05T01:45+11:00 04-06T01:45+10:30"},
		{"Pacific/Apia", "30 2 * * *", "2011-12-29T12:00:00", "12-31T00:00+14:00 12-31T02:30+14:00 01-01T02:30+14:00"},
		{"America/New_York", "30 1 1,15 * 1", "2026-10-30T12:00:00", "11-01T01:30-04:00 11-02T01:30-05:00 11-09T01:30-05:00 11-15T01:30-05:00"},
		{"UTC", "0 3 */2 * 1", "2026-11-29T12:00:00", "12-07T03:00Z 12-21T03:00Z 01-11T03:00Z"},
		{"UTC", "0 3 1 * */3", "2026-11-29T12:00:00", "05-01T03:00Z"},
		{"UTC", "0 2 29 2 *", "2096-03-01T00:00:00", "02-29T02:00Z"},
	} {
		t.Run(tt.zone+" "+tt.at, func(t *testing.T) {
			times := parse(t, tt.at, tt.zone)
			at, err := time.ParseInLocation("2006-01-02T15:04:05", tt.from, times.Zone())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for range len(strings.Fields(tt.want)) {
				at = times.Next(at)
				got = append(got, at.Format("01-02T15:04Z07:00"))
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestNoRunIsLostOrDoubled follows schedules through years of changing clocks: a time of
// day comes once on each civil day that the zone had, times in every hour come every hour
// of real time, and Next agrees with itself from wherever it is asked.
func TestNoRunIsLostOrDoubled(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{
		"Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Tehran", "America/Havana",
		"Pacific/Apia", "Antarctica/Troll", "Africa/Cairo", "America/Asuncion", "Asia/Beirut", "UTC", "Asia/Kathmandu",
	} {
		loc := zone(t, name)
		for range 12 {
			hour, minute := random.IntN(24), random.IntN(60)
			times := parse(t, fmt.Sprintf("%d %d * * *", minute, hour), name)
			from := time.Date(2009+random.IntN(15), 1, 1, 12, 0, 0, 0, loc)
			at, first := from, 1
			if hour*60+minute > 12*60 {
				first = 0 // later that day
			}
			for day := first; day <= 1100; day++ {
				next := times.Next(at)
				if earlier := at.Add(time.Duration(random.Int64N(int64(next.Sub(at))))); !times.Next(earlier).Equal(next) {
					t.Fatalf("%s %s: after %s comes %s, after %s %s", name, times, at, next, earlier, times.Next(earlier))
				}
				// The civil day, counted without a zone. Where a whole day is missing, what
				// would have run on it runs at its end.
				civil := time.Date(from.Year(), from.Month(), from.Day()+day, hour, minute, 0, 0, time.UTC)
				read := time.Date(next.Year(), next.Month(), next.Day(), next.Hour(), next.Minute(), 0, 0, time.UTC)
				if late := read.Sub(civil); late < 0 || late > 2*time.Hour && name != "Pacific/Apia" || late > 24*time.Hour {
					t.Fatalf("%s %s: the run of %s is at %s", name, times, civil.Format("2006-01-02 15:04"), next)
				}
				at = next
			}
		}
		hourly, at := parse(t, "17 * * * *", name), time.Date(2010, 1, 1, 0, 0, 0, 0, loc)
		odd := 0
		for range 30000 {
			next := hourly.Next(at)
			if gap := next.Sub(at); gap != time.Hour && !at.Equal(time.Date(2010, 1, 1, 0, 0, 0, 0, loc)) {
				odd++
				if gap < 30*time.Minute || gap > 90*time.Minute {
					t.Fatalf("%s: %s after %s", name, gap, at)
				}
			}
			at = next
		}
		// Only where clocks change by half an hour.
		if most := map[string]int{"Australia/Lord_Howe": 16}[name]; odd > most {
			t.Errorf("%s: %d of 30,000 hours are not hours", name, odd)
		}
	}
}

func TestChanges(t *testing.T) {
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct{ at, want string }{
		{"30 2 * * *", "[2026-03-29 02:30 skipped, 1] [2026-10-25 02:30 twice, 1]"},
		{"0 3 * * *", ""},
		{"0 1 * * *", ""},
		{"15 * * * *", "[2026-03-29 02:15 skipped, 0] [2026-10-25 02:15 twice, 2]"},
		{"30 2 1 * *", ""},
		{"every 6h", ""},
	} {
		var got []string
		for _, c := range parse(t, tt.at, "Europe/Berlin").Changes(from, from.AddDate(1, 0, 0)) {
			how := "skipped"
			if c.Twice {
				how = "twice"
			}
			got = append(got, fmt.Sprintf("[%s %s %s, %d]", c.At.Format("2006-01-02"), c.Read, how, c.Runs))
		}
		if got := strings.Join(got, " "); got != tt.want {
			t.Errorf("%s: %s\nwant %s", tt.at, got, tt.want)
		}
	}
}

func TestTimesThatAreNone(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "0 fields"}, {"0 2 * *", "4 fields"}, {"0 2 * * * *", "6 fields"}, {"60 2 * * *", "60"}, {"0 24 * * *", "24"},
		{"0 0 30 2 *", "never comes"}, {"0 0 31 4,6 *", "never comes"}, {"@reboot", "1 fields"}, {"every 5s", "can't be kept"},
		{"every 90d", "can't be kept"}, {"every day", "is not an interval"}, {"every 90s", "can't be kept"}, {"TZ=UTC 0 0 * * *", "6 fields"},
		{"0 2 * * mon#9", "mon#9"}, {"every -6h", "can't be kept"}, {"0 2 L * *", "L"},
	} {
		_, err := schedule.ParseTimes(tt.text, time.UTC)
		if err == nil || pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tt.want)) {
			t.Errorf("%q: %v (%s)", tt.text, err, pgmedic.HintOf(err))
		}
	}
	if at := parse(t, "1 2 1,15 * 1", "UTC"); !at.EitherDay() {
		t.Error("either day suffices, and it is not said")
	}
	if at := parse(t, "1 2 1 * *", "UTC"); at.EitherDay() {
		t.Error("there is one day only")
	}
}
