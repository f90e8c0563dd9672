package words

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
)

// Bytes writes a size for a table or a figure, in binary units with one decimal:
// 312.4 MiB, 1.0 GiB.
func Bytes(n int64) string {
	if n > -1024 && n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := scaled(float64(n), 1023.95)
	return fmt.Sprintf("%.1f %s", value, unit)
}

// Size writes a size for a sentence, without a decimal that says nothing: 1 byte,
// 2.5 MiB, 1 GiB, 312 GiB.
func Size[N ~int | ~int64 | ~uint64](n N) string {
	if float64(n) > -1024 && n < 1024 {
		return Plural(int64(n), "byte")
	}
	value, unit := scaled(float64(n), 1023.5)
	if math.Abs(value) >= 99.95 {
		return fmt.Sprintf("%.0f %s", value, unit)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0") + " " + unit
}

// scaled returns a size in the unit in which it is less than limit: from there on it is
// written as 1024, which is one of the next unit.
func scaled(n, limit float64) (value float64, unit string) {
	value = n
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		if value /= 1024; math.Abs(value) < limit {
			break
		}
	}
	return value, unit
}

// Count writes a whole number with thousands separators: 1,234,567.
func Count(n int64) string { return pgmedic.Count(n) }

// Duration writes a time in the two largest units that matter: 850 ms, 3.2 s,
// 12 min 5 s, 3 h 12 min, 4 d 2 h.
func Duration(d time.Duration) string {
	if d < 0 {
		return "-" + Duration(-max(d, -math.MaxInt64))
	}
	switch {
	case d == 0:
		return "0 s"
	case d < time.Millisecond:
		return "< 1 ms"
	case d < 999500*time.Microsecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
	case d < 9950*time.Millisecond:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return pair(d, time.Minute, "min", time.Second, "s")
	case d < 24*time.Hour:
		return pair(d, time.Hour, "h", time.Minute, "min")
	default:
		return pair(d, 24*time.Hour, "d", time.Hour, "h")
	}
}

// pair writes a duration in two units, the second only where there is any.
func pair(d, big time.Duration, bigName string, small time.Duration, smallName string) string {
	s := fmt.Sprintf("%d %s", d/big, bigName)
	if rest := d % big / small; rest > 0 {
		s += fmt.Sprintf(" %d %s", rest, smallName)
	}
	return s
}

// Long writes a time for a sentence, in whole units of which it has two or more: 3 days,
// 36 hours, 90 seconds. What is left of the last one is dropped, as in an age.
func Long(d time.Duration) string {
	for _, u := range longUnits {
		if d >= 2*u.unit {
			return Plural(int64(d/u.unit), u.name)
		}
	}
	return Plural(int64(d/time.Second), "second")
}

// LongSeconds writes a number of seconds as Long does.
func LongSeconds(s float64) string { return Long(duration(s)) }

// About is Long for a time that is known roughly: it is rounded, so that 23 hours and 50
// minutes are 24 hours.
func About(d time.Duration) string {
	for _, u := range longUnits {
		if d.Round(u.below) >= 2*u.unit {
			return Long(d.Round(u.unit))
		}
	}
	return Long(d.Round(time.Second))
}

// longUnits are the units of Long above a second, each with the one below it.
var longUnits = []struct {
	unit, below time.Duration
	name        string
}{{24 * time.Hour, time.Hour, "day"}, {time.Hour, time.Minute, "hour"}, {time.Minute, time.Second, "minute"}}

// Ago writes how long before now a moment was, in one unit: 3 h ago. A moment
// to come is "in 3 h", the zero time is "never".
func Ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := now.Sub(t)
	switch {
	case d.Abs() < time.Second:
		return "just now"
	case d < 0:
		return "in " + coarse(-d)
	default:
		return coarse(d) + " ago"
	}
}

// coarse writes a positive duration in its largest unit.
func coarse(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	default:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
}

// Seconds writes a number of seconds as Duration does.
func Seconds(s float64) string { return Duration(duration(s)) }

// duration is a number of seconds, or what is next to it that a time.Duration holds.
func duration(s float64) time.Duration {
	switch n := s * float64(time.Second); {
	case math.IsNaN(n):
		return 0
	case n >= math.MaxInt64:
		return math.MaxInt64
	case n <= -math.MaxInt64:
		return -math.MaxInt64
	default:
		return time.Duration(n)
	}
}

// Percent writes a share with one decimal, or none where it is whole.
func Percent(p float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(p, 'f', 1, 64), ".0") + " %"
}

// OrDash fills an empty cell.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// PerDay writes a growth, which can be negative.
func PerDay(bytes float64) string {
	if math.Abs(bytes) > math.MaxInt64/2 {
		return "?"
	}
	if bytes >= 0.5 {
		return "+" + Bytes(int64(math.Round(bytes)))
	}
	return Bytes(int64(math.Round(bytes)))
}

// TenYears is the number of days from which Days is not exact.
const TenYears = 3650

// Days writes a number of days that may be large.
func Days(n float64) string {
	switch {
	case n >= TenYears:
		return "more than 10 years"
	case n >= 9.95: // which one decimal would make 10.0
		return Count(int64(max(n, 10))) + " days"
	default:
		return fmt.Sprintf("%.1f days", n)
	}
}

// FineSeconds writes a time of a statement, which may be far below a second: 0.4 ms, 50 ms.
func FineSeconds(s float64) string {
	if s < 0.0995 {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", 1000*s), ".0") + " ms"
	}
	return Seconds(s)
}

// Rate writes a number a second.
func Rate(n float64) string {
	if n >= 99.95 || n == math.Trunc(n) {
		return Count(int64(math.Round(n)))
	}
	return fmt.Sprintf("%.1f", n)
}

// Maybe writes a number that may not be known.
func Maybe[T any](v *T, write func(T) string) string {
	if v == nil {
		return "?"
	}
	return write(*v)
}

// Aged say how long ago something was, by a clock that is not this one's.
func Aged(seconds float64) string {
	now := time.Unix(0, 0)
	return Ago(now, now.Add(-duration(seconds)))
}
