package words

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
)

// Bytes writes a size in binary units with one decimal: 312.4 MiB.
func Bytes(n int64) string {
	if n > -1024 && n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		value /= 1024
		// What would be rounded to 1024.0 belongs to the next unit.
		if math.Abs(value) < 1023.95 {
			return fmt.Sprintf("%.1f %s", value, unit)
		}
	}
	return fmt.Sprintf("%.1f EiB", value/1024)
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
func Seconds(s float64) string { return Duration(time.Duration(s * float64(time.Second))) }

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
	case n >= 10:
		return Count(int64(n)) + " days"
	default:
		return fmt.Sprintf("%.1f days", n)
	}
}

// FineSeconds writes a time of a statement, which may be far below a second.
func FineSeconds(s float64) string {
	if s < 0.0995 {
		return fmt.Sprintf("%.1f ms", 1000*s)
	}
	return Seconds(s)
}

// Rate writes a number a second.
func Rate(n float64) string {
	if n >= 100 || n == math.Trunc(n) {
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
	return Ago(now, now.Add(-time.Duration(seconds*float64(time.Second))))
}
