// Package schedule says when jobs run, and writes that down for cron, systemd and
// Kubernetes. It starts nothing, and reads no clock: every moment is passed in.
package schedule

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	cron "github.com/netresearch/go-cron"

	"github.com/pgmedic/pgmedic"
)

// Times are the moments at which something runs.
//
// Where the clock of their time zone is set forward, a time of day that it skips runs
// once, at the moment of the change; where it is set back, a time of day that comes twice
// runs once, the first time. Times in every hour (the hour is * or */n) run at each
// reading of the clock: never where it is skipped, and twice where it comes twice. An
// interval (every 6h) knows no clock: it is counted from 1970 on, in UTC.
type Times struct {
	text  string
	zone  *time.Location
	every time.Duration // 0: fields
	spec  *cron.SpecSchedule
	// hourly is true where every reading of the clock counts.
	hourly bool
	fields [5]string
}

const (
	minEvery = time.Minute
	maxEvery = 31 * 24 * time.Hour
	// searchYears is how far Next looks: 29 February comes after 8 years at most, as
	// around 2100, and on a given weekday after 40.
	searchYears = 40
)

// atHint says how times are written.
const atHint = `write five fields such as "0 2 * * *", @daily, or "every 6h"`

// ParseTimes reads five fields of cron (minute, hour, day of the month, month, weekday),
// @hourly, @daily, @weekly, @monthly or @yearly, or "every 6h". Where both days are given,
// either one suffices, as in cron. What never comes, such as 30 February, is refused with
// a pgmedic.KindUsage error, as all that can't be read is.
func ParseTimes(text string, zone *time.Location) (*Times, error) {
	t := &Times{text: strings.Join(strings.Fields(text), " "), zone: zone}
	if length, ok := strings.CutPrefix(t.text, "every "); ok {
		every, err := parseEvery(length)
		if err != nil {
			return nil, err
		}
		t.every = every
		return t, nil
	}
	expression := t.text
	if named, ok := map[string]string{
		"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
		"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
	}[expression]; ok {
		expression = named
	}
	fields := strings.Fields(expression)
	if len(fields) != len(t.fields) {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, atHint, "%q has %d fields instead of 5", t.text, len(fields))
	}
	copy(t.fields[:], fields)
	parser, err := cron.TryNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.DowOrDom)
	if err != nil {
		return nil, fmt.Errorf("make a parser of times: %w", err)
	}
	// In UTC, whose clock never changes: those of other zones are mapped here.
	parsed, err := parser.WithMaxSearchYears(searchYears).Parse("CRON_TZ=UTC " + expression)
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, atHint, "%q: %w", t.text, err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, atHint, "%q are not five fields", t.text)
	}
	// As cron has it, a day that begins with * is none of two of which either suffices:
	// with */2 and a weekday both have to be right. The parser marks * alone, and that
	// anywhere in a list.
	const star = 1 << 63
	mark := func(days uint64, field string) uint64 {
		if starred(field) {
			return days | star
		}
		return days &^ star
	}
	spec.Dom, spec.Dow = mark(spec.Dom, fields[2]), mark(spec.Dow, fields[4])
	t.spec, t.hourly = spec, starred(fields[1])
	if spec.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "check the day against the month", "%q never comes", t.text)
	}
	return t, nil
}

// parseEvery reads an interval.
func parseEvery(text string) (time.Duration, error) {
	every, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok && err != nil {
		n, daysErr := strconv.Atoi(days)
		every, err = time.Duration(n)*24*time.Hour, daysErr
		if n > 31 || n < 0 {
			every = 2 * maxEvery
		}
	}
	switch {
	case err != nil:
		return 0, pgmedic.Errorf(pgmedic.KindUsage, atHint, "every %q is not an interval", text)
	case every < minEvery || every > maxEvery || every%time.Minute != 0:
		return 0, pgmedic.Errorf(pgmedic.KindUsage, "write whole minutes, from 1m to 31d", "every %s can't be kept", text)
	}
	return every, nil
}

// String returns the times as they were written.
func (t *Times) String() string { return t.text }

// Zone returns the time zone whose clock counts.
func (t *Times) Zone() *time.Location { return t.zone }

// EitherDay reports whether a day of the month and a weekday are both given, of which
// either one suffices: in cron "1,15 * 1" does not mean Mondays alone.
func (t *Times) EitherDay() bool {
	return t.every == 0 && !starred(t.fields[2]) && !starred(t.fields[4])
}

// starred reports whether a field begins with a star, or with the question mark that some
// write for it.
func starred(field string) bool {
	return strings.HasPrefix(field, "*") || strings.HasPrefix(field, "?")
}

// Next returns the first moment after another, in the times' zone, or the zero time
// where none comes within 40 years.
func (t *Times) Next(after time.Time) time.Time {
	after = after.In(t.zone)
	if t.every > 0 {
		seconds := int64(t.every / time.Second)
		n := after.Unix() / seconds
		if after.Unix() < 0 && after.Unix()%seconds != 0 {
			n--
		}
		return time.Unix((n+1)*seconds, 0).In(t.zone)
	}
	// Period by period, in each of which the clock runs on evenly.
	for read := wall(after); ; {
		began, ends := after.ZoneBounds()
		_, offset := after.Zone()
		for {
			read = t.spec.Next(read)
			if read.IsZero() {
				return time.Time{}
			}
			at := read.Add(-time.Duration(offset) * time.Second)
			if !ends.IsZero() && !at.Before(ends) {
				break
			}
			if !t.hourly && !began.IsZero() && read.Before(wallBefore(began)) {
				continue // the clock was set back: it read this before, when it ran
			}
			return at.In(t.zone)
		}
		after = ends
		if !t.hourly && t.skipped(ends) {
			return ends
		}
		read = wall(ends).Add(-time.Nanosecond)
	}
}

// skipped reports whether one of the times of day is skipped by a change of the clock.
func (t *Times) skipped(change time.Time) bool {
	next := t.spec.Next(wallBefore(change).Add(-time.Nanosecond))
	return !next.IsZero() && next.Before(wall(change))
}

// wall returns what a clock reads, as if it were UTC's.
func wall(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// wallBefore returns what the clock would read at a change without it.
func wallBefore(change time.Time) time.Time {
	_, offset := change.Add(-time.Nanosecond).Zone()
	return change.UTC().Add(time.Duration(offset) * time.Second)
}

// Change is a change of the clock that times fall into.
type Change struct {
	At time.Time
	// Read is the first time of day that is skipped or comes twice, as the clock reads it
	// in hours and minutes.
	Read string
	// Twice is true where the clock is set back.
	Twice bool
	// Runs is how often it runs for it: once, but for times in every hour.
	Runs int
}

// Changes returns the changes of the clock between two moments that times fall into.
func (t *Times) Changes(from, until time.Time) (all []Change) {
	if t.every > 0 {
		return nil
	}
	for {
		_, at := from.In(t.zone).ZoneBounds()
		if at.IsZero() || !at.Before(until) {
			return all
		}
		from = at
		low, high, twice := wallBefore(at), wall(at), false
		if high.Before(low) {
			low, high, twice = high, low, true
		}
		read := t.spec.Next(low.Add(-time.Nanosecond))
		if read.IsZero() || !read.Before(high) {
			continue
		}
		c := Change{At: at, Read: read.Format("15:04"), Twice: twice, Runs: 1}
		if t.hourly && twice {
			c.Runs = 2
		} else if t.hourly {
			c.Runs = 0
		}
		all = append(all, c)
	}
}
