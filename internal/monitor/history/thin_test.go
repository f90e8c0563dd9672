package history_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/history"
)

// TestThinOverYears adds a reading every five minutes for more than two years,
// thins once a day, and looks at what there is.
func TestThinOverYears(t *testing.T) {
	begin := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	now := begin
	var kept []time.Time
	for day := range 900 {
		for i := range 288 {
			kept = append(kept, begin.AddDate(0, 0, day).Add(time.Duration(i)*5*time.Minute))
		}
		now = kept[len(kept)-1]
		kept = without(kept, history.Thin(now, kept))
	}
	count := func(youngest, oldest time.Duration) (n int) {
		for _, m := range kept {
			if age := now.Sub(m); age >= youngest && age < oldest {
				n++
			}
		}
		return n
	}
	const day = 24 * time.Hour
	for _, test := range []struct {
		name             string
		youngest, oldest time.Duration
		least, most      int
	}{
		{"two days, every five minutes", 0, 2 * day, 576, 577},
		{"until 30 days, every hour", 2*day + time.Hour, 30 * day, 28*24 - 2, 28 * 24},
		{"until two years, every day", 31 * day, 729 * day, 697, 699},
		{"beyond", 731 * day, 9999 * day, 0, 0},
	} {
		if n := count(test.youngest, test.oldest); n < test.least || n > test.most {
			t.Errorf("%s: %d readings", test.name, n)
		}
	}
	for i, m := range kept[:len(kept)-1] {
		age := now.Sub(m)
		if age < 729*day && kept[i+1].Sub(m) > 48*time.Hour || age < 29*day && kept[i+1].Sub(m) > 2*time.Hour {
			t.Errorf("a hole after %v", m)
		}
	}
}

// without returns what is not dropped.
func without(moments []time.Time, dropped []int) (kept []time.Time) {
	slices.Sort(dropped)
	for i, m := range moments {
		if _, gone := slices.BinarySearch(dropped, i); !gone {
			kept = append(kept, m)
		}
	}
	return kept
}

func TestThin(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 30, 30, 0, time.UTC)
	at := func(ago ...time.Duration) (all []time.Time) {
		for _, d := range ago {
			all = append(all, now.Add(-d))
		}
		return all
	}
	const day = 24 * time.Hour
	for name, test := range map[string]struct {
		moments []time.Time
		want    []int
	}{
		"none":                     {nil, nil},
		"one of long ago":          {at(5000 * day), nil},
		"all of an hour":           {at(25*time.Second, 20*time.Second, 10*time.Second, 0), nil},
		"one a minute":             {at(0, 2*time.Hour+25*time.Second, 2*time.Hour+20*time.Second, 2*time.Hour+10*time.Second), []int{1, 2}},
		"any order":                {at(0, 2*time.Hour+10*time.Second, 2*time.Hour+25*time.Second), []int{2}},
		"one an hour after 2 days": {at(3*day+20*time.Minute, 3*day+10*time.Minute, 3*day+40*time.Minute, 0), []int{0}},
		"one a day after 30 days":  {at(40*day, 40*day-time.Hour, 40*day+2*time.Hour, 0), []int{0, 2}},
		"none after two years":     {at(731*day, 729*day, 0), []int{0}},
		"a clock that was wrong":   {at(0, time.Minute, 2*time.Minute, -10*365*day, -11*365*day), []int{3}},
		"a clock of 1970 now":      {at(56*365*day, -time.Minute, -2*day, -2*day-time.Second, -40*day), nil},
		"a clock far ahead now":    {at(0, 900*day, 900*day+time.Second, 930*day), nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := history.Thin(now, test.moments)
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("dropped %v instead of %v", got, test.want)
			}
		})
	}
}
