package emergency

import (
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
)

// ParseWhen reads the moment of an accident, which is in the past. A time of day alone is
// the last one; without an offset from UTC it is by the clock of this host, whose location
// is that of now. A wrong text is an error of KindUsage.
func ParseWhen(text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	bad := func(why, hint string) (time.Time, error) {
		return time.Time{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "the moment %.60q %s", text, why)
	}
	at, wall, ok := parseWhen(text, now)
	switch {
	case !ok:
		return bad("is not a time", "write it as 10:42, '2026-11-29 10:42', or with its offset from UTC: '2026-11-29 10:42:00+00'")
	case wall && at.Format(time.DateTime) != wallOf(text, at):
		return bad("does not exist on this host's clock, which was set forward then", "write it with its offset from UTC: '2026-11-29 10:42:00+00'")
	case wall && twice(at):
		return bad("was there twice on this host's clock, which was set back then", "write it with its offset from UTC: '2026-11-29 10:42:00+00'")
	case at.After(now):
		return bad("is in the future", "give the time at which it happened")
	}
	return at, nil
}

// parseWhen reads the text; wall is true where it has no offset from UTC.
func parseWhen(text string, now time.Time) (at time.Time, wall, ok bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999Z07:00", "2006-01-02 15:04:05.999999Z07", "2006-01-02 15:04Z07:00", "2006-01-02 15:04Z07"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, false, true
		}
	}
	for _, layout := range []string{"2006-01-02 15:04:05.999999", "2006-01-02 15:04"} {
		if at, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return at, true, true
		}
	}
	for _, layout := range []string{"15:04:05.999999", "15:04"} {
		clock, err := time.Parse(layout, text)
		if err != nil {
			continue
		}
		day := now
		for range 2 {
			at = time.Date(day.Year(), day.Month(), day.Day(), clock.Hour(), clock.Minute(), clock.Second(), clock.Nanosecond(), now.Location())
			if !at.After(now) {
				break
			}
			day = time.Date(now.Year(), now.Month(), now.Day()-1, 12, 0, 0, 0, now.Location())
		}
		return at, true, true
	}
	return time.Time{}, false, false
}

// wallOf is what the clock of the text shows, on the day of at where the text has none.
func wallOf(text string, at time.Time) string {
	for _, layout := range []string{"2006-01-02 15:04:05.999999", "2006-01-02 15:04"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.Format(time.DateTime)
		}
	}
	for _, layout := range []string{"15:04:05.999999", "15:04"} {
		if t, err := time.Parse(layout, text); err == nil {
			return at.Format(time.DateOnly) + " " + t.Format(time.TimeOnly)
		}
	}
	return ""
}

// twice reports whether the clock showed the same time at another moment, too. Clocks are
// set back by one hour, rarely by half an hour or two.
func twice(at time.Time) bool {
	for _, by := range []time.Duration{-2 * time.Hour, -time.Hour, -30 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour} {
		if at.Add(by).Format(time.DateTime) == at.Format(time.DateTime) {
			return true
		}
	}
	return false
}

// moment writes a time with its offset from UTC, as --to-time takes it.
func moment(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05+00") }
