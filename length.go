package pgmedic

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Length is a length of calendar time. Years, months and days are those of the
// Gregorian calendar, so that a month ago is the same day of the month before.
type Length struct {
	Years, Months, Days int
	// Rest is what is shorter than a day.
	Rest time.Duration
}

// maxLength bounds the number in a Length: a thousand years of days.
const maxLength = 366_000

// ParseLength reads 36h, 30d, 12w, 6mo, 1y, or 0. Its error is the rest of a
// sentence that begins with what was to be one, and does not quote it.
func ParseLength(text string) (Length, error) {
	bad := fmt.Errorf("must be a length of time")
	text = strings.TrimSpace(text)
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || n > maxLength || strings.HasPrefix(digits, "+") || strings.HasPrefix(digits, "-") {
		return Length{}, bad
	}
	switch text[len(digits):] {
	case "m":
		return Length{Rest: time.Duration(n) * time.Minute}, nil
	case "h":
		return Length{Rest: time.Duration(n) * time.Hour}, nil
	case "d":
		return Length{Days: n}, nil
	case "w":
		return Length{Days: 7 * n}, nil
	case "mo":
		return Length{Months: n}, nil
	case "y":
		return Length{Years: n}, nil
	case "":
		if n == 0 {
			return Length{}, nil
		}
	}
	return Length{}, bad
}

// IsZero reports whether nothing is that long.
func (l Length) IsZero() bool { return l == Length{} }

// Before returns the moment that is so long before t, by the calendar of t's
// location. A day that the month lacks is its last one.
func (l Length) Before(t time.Time) time.Time {
	if l.Years != 0 || l.Months != 0 {
		year, month, day := t.Date()
		hour, minute, second := t.Clock()
		first := time.Date(year-l.Years, month-time.Month(l.Months), 1, 0, 0, 0, 0, t.Location())
		last := first.AddDate(0, 1, -1).Day()
		t = time.Date(first.Year(), first.Month(), min(day, last), hour, minute, second, t.Nanosecond(), t.Location())
	}
	return t.AddDate(0, 0, -l.Days).Add(-l.Rest)
}

// After returns the moment that is so long after t, by the calendar of t's location. Where
// the month lacks that day it is one in the next month: never less than for what Before
// takes t to be so long ago.
func (l Length) After(t time.Time) time.Time {
	return t.AddDate(l.Years, l.Months, l.Days).Add(l.Rest)
}

// String writes the length as ParseLength reads it; of one with several units
// each.
func (l Length) String() string {
	hours, minutes := int(l.Rest/time.Hour), 0
	if l.Rest%time.Hour != 0 {
		hours, minutes = 0, int(l.Rest/time.Minute)
	}
	var b strings.Builder
	for _, part := range []struct {
		n    int
		unit string
	}{{l.Years, "y"}, {l.Months, "mo"}, {l.Days, "d"}, {hours, "h"}, {minutes, "m"}} {
		if part.n != 0 {
			fmt.Fprintf(&b, "%d%s", part.n, part.unit)
		}
	}
	if b.Len() == 0 {
		return "0"
	}
	return b.String()
}
