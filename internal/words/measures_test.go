package words_test

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/words"
)

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 1 << 20: "1.0 MiB", 5 << 30: "5.0 GiB",
		1 << 50: "1.0 PiB", math.MaxInt64: "8.0 EiB", -2048: "-2.0 KiB", math.MinInt64: "-8.0 EiB",
	} {
		if got := words.Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 bytes", 1: "1 byte", 1000: "1,000 bytes", 1024: "1 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1 MiB", 1 << 20: "1 MiB",
		312<<30 + 400<<20: "312 GiB", 99<<20 + 990<<10: "100 MiB", math.MaxInt64: "8 EiB", -2048: "-2 KiB", math.MinInt64: "-8 EiB",
	} {
		if got := words.Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
	if got := words.Size(uint64(math.MaxUint64)); got != "16 EiB" {
		t.Errorf("the largest size is %q", got)
	}
}

// TestUnitBoundaries walks over every place where a unit ends: no number is written that
// is one of the next unit, and what is larger is never written as less.
func TestUnitBoundaries(t *testing.T) {
	// said returns what a text says, in its smallest unit.
	said := func(t *testing.T, text string, units, limits map[string]float64) (sum float64) {
		t.Helper()
		fields := strings.Fields(strings.ReplaceAll(strings.TrimSuffix(text, " ago"), ",", ""))
		for pair := range slices.Chunk(fields, 2) {
			n, err := strconv.ParseFloat(pair[0], 64)
			unit := pair[len(pair)-1]
			if units[unit] == 0 {
				unit = strings.TrimSuffix(unit, "s")
			}
			if err != nil || units[unit] == 0 {
				t.Fatalf("%q has %q, %v", text, pair, err)
			}
			if limit := limits[unit]; limit > 0 && n >= limit {
				t.Errorf("%q is one of the next unit", text)
			}
			sum += n * units[unit]
		}
		return sum
	}
	sizes := map[string]float64{"B": 1, "byte": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50, "EiB": 1 << 60}
	full := map[string]float64{"B": 1024, "byte": 1024, "KiB": 1024, "MiB": 1024, "GiB": 1024, "TiB": 1024, "PiB": 1024}
	for name, write := range map[string]func(int64) string{"Bytes": words.Bytes, "Size": words.Size[int64]} {
		var values []int64
		for shift := 10; shift <= 60; shift += 10 {
			unit := int64(1) << shift
			for _, at := range []float64{1, 9.95, 10, 99.5, 99.95, 100, 999.5, 1000, 1023.4, 1023.5, 1023.94, 1023.95, 1023.99} {
				around := int64(at * float64(unit))
				if at > 7.9 && shift == 60 {
					break
				}
				for _, step := range []int64{0, 1, unit / 1024, unit / 20, unit / 2048} {
					values = append(values, around-step, around+step)
				}
			}
		}
		slices.Sort(values)
		before := -1.0
		for _, n := range values {
			got := said(t, write(n), sizes, full)
			if got < before || math.Abs(got/float64(n)-1) > 0.06 {
				t.Errorf("%s(%d) = %q", name, n, write(n))
			}
			before = got
		}
	}
	times := map[string]float64{"ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "day": 86400, "hour": 3600, "minute": 60, "second": 1}
	short := map[string]float64{"ms": 1000, "s": 60, "min": 60, "h": 24}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, w := range []struct {
		name   string
		write  func(time.Duration) string
		limits map[string]float64
		apart  float64 // how far a text may be from what it is written for
	}{
		{"Duration", words.Duration, short, 0.06},
		{"FineSeconds", func(d time.Duration) string { return words.FineSeconds(d.Seconds()) }, short, 0.06},
		{"Ago", func(d time.Duration) string { return words.Ago(now, now.Add(-d)) }, map[string]float64{"s": 60, "min": 60, "h": 48}, 0.5},
		{"Long", words.Long, map[string]float64{"second": 120, "minute": 120, "hour": 48}, 0.5},
		{"About", words.About, map[string]float64{"second": 120, "minute": 120, "hour": 48}, 0.5},
	} {
		var values []time.Duration
		for _, unit := range []time.Duration{time.Millisecond, time.Second, time.Minute, time.Hour, 24 * time.Hour} {
			for _, at := range []float64{1, 1.5, 2, 9.95, 10, 23.5, 24, 47.5, 48, 59.4, 59.5, 60, 99.5, 119.5, 120, 999.5, 1000} {
				around := time.Duration(at * float64(unit))
				for _, step := range []time.Duration{0, 1, time.Microsecond, 400 * time.Millisecond, 600 * time.Millisecond, time.Second, time.Minute, time.Hour} {
					for _, d := range []time.Duration{around - step, around + step} {
						if d >= time.Second || w.apart < 0.1 && d >= 10*time.Millisecond { // less has no decimals
							values = append(values, d)
						}
					}
				}
			}
		}
		slices.Sort(values)
		before := -1.0
		for _, d := range values {
			got := said(t, w.write(d), times, w.limits)
			if got < before || math.Abs(got/d.Seconds()-1) > w.apart {
				t.Errorf("%s(%s) = %q", w.name, d, w.write(d))
			}
			before = got
		}
	}
	for n, want := range map[float64]string{0: "0.0 days", 9.94: "9.9 days", 9.95: "10 days", 9.99: "10 days", 10: "10 days", 10.9: "10 days", 3649.9: "3,649 days", 3650: "more than 10 years"} {
		if got := words.Days(n); got != want {
			t.Errorf("Days(%v) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[float64]string{0.5: "0.5", 3: "3", 99.94: "99.9", 99.95: "100", 99.99: "100", 999.6: "1,000"} {
		if got := words.Rate(n); got != want {
			t.Errorf("Rate(%v) = %q, want %q", n, got, want)
		}
	}
}

func TestLong(t *testing.T) {
	for d, want := range map[time.Duration][2]string{
		0: {"0 seconds", "0 seconds"}, time.Second: {"1 second", "1 second"}, time.Minute: {"60 seconds", "60 seconds"},
		119_600 * time.Millisecond: {"119 seconds", "2 minutes"}, 2 * time.Minute: {"2 minutes", "2 minutes"}, 150 * time.Second: {"2 minutes", "3 minutes"},
		time.Hour: {"60 minutes", "60 minutes"}, 119*time.Minute + 40*time.Second: {"119 minutes", "2 hours"}, 24*time.Hour - time.Second: {"23 hours", "24 hours"},
		24 * time.Hour: {"24 hours", "24 hours"}, 47*time.Hour + 40*time.Minute: {"47 hours", "2 days"}, 48 * time.Hour: {"2 days", "2 days"},
		62 * time.Hour: {"2 days", "3 days"}, 4000 * 24 * time.Hour: {"4,000 days", "4,000 days"}, math.MaxInt64: {"106,751 days", "106,751 days"},
	} {
		if got := [2]string{words.Long(d), words.About(d)}; got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
	for s, want := range map[float64]string{90: "90 seconds", 1e30: "106,751 days", math.Inf(-1): "-9,223,372,036 seconds"} {
		if got := words.LongSeconds(s); got != want {
			t.Errorf("%v s are %q, want %q", s, got, want)
		}
	}
	if got := words.Seconds(math.NaN()) + ", " + words.Seconds(1e30) + ", " + words.Aged(1e30); got != "0 s, 106751 d 23 h, 106751 days ago" {
		t.Errorf("what is no time is %q", got)
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -999: "-999",
		math.MinInt64: "-9,223,372,036,854,775,808",
	} {
		if got := words.Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", time.Microsecond: "< 1 ms", 850 * time.Millisecond: "850 ms", 999_700 * time.Microsecond: "1.0 s",
		3200 * time.Millisecond: "3.2 s", 9_960 * time.Millisecond: "10 s", 59_600 * time.Millisecond: "1 min", 42 * time.Second: "42 s",
		125 * time.Second: "2 min 5 s", time.Hour: "1 h", 192 * time.Minute: "3 h 12 min", 26 * time.Hour: "1 d 2 h",
		400 * 24 * time.Hour: "400 d", -time.Minute: "-1 min", math.MaxInt64: "106751 d 23 h", math.MinInt64: "-106751 d 23 h",
	} {
		if got := words.Duration(d); got != want {
			t.Errorf("Duration(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "just now", 5 * time.Second: "5 s ago", 90 * time.Second: "1 min ago", 47 * time.Hour: "47 h ago",
		49 * time.Hour: "2 days ago", -3 * time.Hour: "in 3 h",
	} {
		if got := words.Ago(now, now.Add(-d)); got != want {
			t.Errorf("Ago(%s) = %q, want %q", d, got, want)
		}
	}
	if got := words.Ago(now, time.Time{}); got != "never" {
		t.Errorf("never is %q", got)
	}
}

func TestFirstFew(t *testing.T) {
	for want, things := range map[string][]string{
		"": nil, "a": {"a"}, "a; b; c; d; e": {"a", "b", "c", "d", "e"}, "a; b; c; d; e; and 2 more": {"a", "b", "c", "d", "e", "f", "g"},
	} {
		if got := words.FirstFew(things); got != want {
			t.Errorf("FirstFew(%q) = %q, want %q", things, got, want)
		}
	}
}
