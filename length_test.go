package pgmedic_test

import (
	"math/rand/v2"
	"testing"
	"time"
	_ "time/tzdata" // whatever zones this machine knows

	"github.com/pgmedic/pgmedic"
)

// TestLength: lengths go by the calendar, and a day that a month lacks is its last one.
func TestLength(t *testing.T) {
	at := time.Date(2026, 3, 31, 12, 30, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"0": "2026-03-31 12:30", "0d": "2026-03-31 12:30", "36h": "2026-03-30 00:30", "90m": "2026-03-31 11:00", "30d": "2026-03-01 12:30",
		"12w": "2026-01-06 12:30", "1mo": "2026-02-28 12:30", "13mo": "2025-02-28 12:30", "25mo": "2024-02-29 12:30", "1y": "2025-03-31 12:30",
	} {
		l, err := pgmedic.ParseLength(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := l.Before(at).Format("2006-01-02 15:04"); got != want {
			t.Errorf("%s before is %s, want %s", text, got, want)
		}
		again, err := pgmedic.ParseLength(l.String())
		if err != nil || again.Before(at) != l.Before(at) {
			t.Errorf("%s is written as %s, which is read as another", text, l)
		}
	}
	for _, text := range []string{"", "d", "30", "-3d", "+3d", "3.5d", "1e3d", "30 d", "3q", "999999999d", "1y2mo", "ⅷd"} {
		if l, err := pgmedic.ParseLength(text); err == nil {
			t.Errorf("%q is read as %s", text, l)
		}
	}
}

// TestLengthAtClockChange: a day is a civil one where clocks are put forward.
func TestLengthAtClockChange(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 29, 12, 0, 0, 0, zone)
	if got := (pgmedic.Length{Days: 1}).Before(at); at.Sub(got) != 23*time.Hour {
		t.Errorf("a day before is %s", got)
	}
}

// TestLengthAfter: what is so long after a moment is never less than for what that moment
// is so long ago, whatever the month and the clock.
func TestLengthAfter(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 31, 2, 30, 0, 0, time.UTC)
	for text, want := range map[string]string{"0": "2026-01-31 02:30", "36h": "2026-02-01 14:30", "30d": "2026-03-02 02:30", "1mo": "2026-03-03 02:30", "1y": "2027-01-31 02:30"} {
		l, err := pgmedic.ParseLength(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.After(at).Format("2006-01-02 15:04"); got != want {
			t.Errorf("%s after is %s, want %s", text, got, want)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		at := time.Unix(1_700_000_000+r.Int64N(200_000_000), 0).In([]*time.Location{time.UTC, zone}[r.IntN(2)])
		n := r.IntN(100)
		l := []pgmedic.Length{{Years: n}, {Months: n}, {Days: n}, {Rest: time.Duration(n) * time.Hour}}[r.IntN(4)]
		if back := l.Before(l.After(at)); back.Before(at) && at.Sub(back) > time.Hour { // an hour that clocks were put forward
			t.Fatalf("%s after %s is %s, before which so long is %s", l, at, l.After(at), back)
		}
	}
}
