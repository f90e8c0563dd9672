package schedule

import (
	"errors"
	"fmt"
	"math/bits"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// fieldSets are the values of the five fields as bits: value n is bit n.
type fieldSets struct {
	minute, hour, day, month, weekday uint64
	// text are the fields as they were written, where every cron reads them alike,
	// otherwise empty.
	text [5]string
	// either is true where one of the two days suffices.
	either bool
	zone   *time.Location
}

// The values that the fields can have.
const (
	allMinutes  = 1<<60 - 1
	allHours    = 1<<24 - 1
	allDays     = (1<<31 - 1) << 1
	allMonths   = (1<<12 - 1) << 1
	allWeekdays = 1<<7 - 1
	minutesADay = 24 * 60
	// maxCarry is by how many days a time of day moves at most: clocks are up to 26 hours
	// apart.
	maxCarry = 2
)

// sets returns the fields that other schedulers need. An interval has them in UTC, if
// they can say it.
func (t *Times) sets() (fieldSets, error) {
	if t.every > 0 {
		text := intervalFields(int(t.every / time.Minute))
		if text == "" {
			return fieldSets{}, usage("write an interval that divides an hour or a day, every 7d, or five fields", "%q can't be said to cron, systemd or Kubernetes", t.text)
		}
		inUTC, err := ParseTimes(text, time.UTC)
		if err != nil {
			return fieldSets{}, err
		}
		return inUTC.sets()
	}
	if len(t.spec.DomConstraints) > 0 || len(t.spec.DowConstraints) > 0 || t.spec.Year != nil {
		return fieldSets{}, usage("write plain days of the month or weekdays", "%q has a day that cron, systemd and Kubernetes do not all know", t.text)
	}
	weekday := t.spec.Dow
	if weekday&(1<<7) != 0 {
		weekday |= 1
	}
	s := fieldSets{
		minute: t.spec.Minute & allMinutes, hour: t.spec.Hour & allHours, day: t.spec.Dom & allDays, month: t.spec.Month & allMonths,
		weekday: weekday & allWeekdays, either: t.EitherDay(), zone: t.zone,
	}
	// Of Sunday some know 0 alone. A step of 7 is not a day.
	sunday7 := regexp.MustCompile(`(^|[,-])7`)
	plain := regexp.MustCompile(`^(\*(/[0-9]+)?|[0-9]+(-[0-9]+(/[0-9]+)?)?)(,(\*(/[0-9]+)?|[0-9]+(-[0-9]+(/[0-9]+)?)?))*$`)
	for i, text := range t.fields {
		if plain.MatchString(text) && (i < 4 || !sunday7.MatchString(text)) {
			s.text[i] = text
		}
	}
	return s, nil
}

// bothDays reports whether the day of the month and the weekday both have to be right.
func (s fieldSets) bothDays() bool {
	return !s.either && s.day != allDays && s.weekday != allWeekdays
}

// intervalFields returns five fields in UTC for an interval, or empty. 1970 began on a
// Thursday.
func intervalFields(minutes int) string {
	switch {
	case minutes == 1:
		return "* * * * *"
	case minutes < 60 && 60%minutes == 0:
		return fmt.Sprintf("*/%d * * * *", minutes)
	case minutes == 60:
		return "0 * * * *"
	case minutes == minutesADay:
		return "0 0 * * *"
	case minutes == 7*minutesADay:
		return "0 0 * * 4"
	case minutes%60 == 0 && minutesADay%minutes == 0:
		return fmt.Sprintf("0 */%d * * *", minutes/60)
	}
	return ""
}

// lines returns the fields for cron, whose clock is ahead by shift minutes of the
// entry's, as one line or several that together mean the same.
func (s fieldSets) lines(shift int) ([]string, error) {
	if shift == 0 {
		day, weekday, err := s.days(0)
		if err != nil {
			return nil, err
		}
		return []string{strings.Join([]string{
			s.field(0, s.minute, allMinutes), s.field(1, s.hour, allHours), day, s.field(3, s.month, allMonths), weekday,
		}, " ")}, nil
	}
	everyDay := s.day == allDays && s.month == allMonths && s.weekday == allWeekdays
	// Minutes by the day that they move to and by hour: those with equal minutes are
	// one line.
	type line struct {
		carry   int
		minutes uint64
	}
	hours := map[line]uint64{}
	for carry := -maxCarry; carry <= maxCarry; carry++ {
		for hour := range 24 {
			minutes := s.moved(shift, hour+carry*24)
			if everyDay {
				if carry != 0 {
					continue
				}
				for day := -maxCarry; day <= maxCarry; day++ {
					minutes |= s.moved(shift, hour+day*24)
				}
			}
			if minutes != 0 {
				hours[line{carry, minutes}] |= 1 << hour
			}
		}
	}
	var all []string
	for carry := -maxCarry; carry <= maxCarry; carry++ {
		for hour := range 24 { // in the order of the day
			for l, set := range hours {
				if l.carry != carry || bits.TrailingZeros64(set) != hour {
					continue
				}
				if carry != 0 && (s.day != allDays || s.month != allMonths) {
					return nil, errMoved
				}
				day, weekday, err := s.days(carry)
				if err != nil {
					return nil, err
				}
				all = append(all, strings.Join([]string{
					ranges(l.minutes, allMinutes), ranges(set, allHours), day, s.field(3, s.month, allMonths), weekday,
				}, " "))
			}
		}
	}
	return all, nil
}

// days returns the day of the month and the weekday for cron, moved by a number of days.
// Where one of the two begins with a star, cron wants both to be right, otherwise either
// one suffices: what would change that is errDays.
func (s fieldSets) days(carry int) (day, weekday string, err error) {
	day, weekday = s.field(2, s.day, allDays), s.field(4, s.weekday, allWeekdays)
	if carry != 0 {
		weekday = ranges(rotate(s.weekday, carry), allWeekdays)
	}
	for _, field := range []struct {
		text     *string
		every    bool
		unmarked string
	}{{&day, s.day == allDays, "1-31"}, {&weekday, s.weekday == allWeekdays, "0-6"}} {
		switch {
		case field.every && s.either:
			*field.text = field.unmarked
		case field.every:
			*field.text = "*"
		}
	}
	if s.bothDays() && !starred(day) && !starred(weekday) {
		return "", "", errDays
	}
	return day, weekday, nil
}

// errDays is returned where cron would run on either day instead of on both.
var errDays = errors.New("the day of the month and the weekday both count, which cron can't say of these two")

// errMoved is returned where a day of the month would have to move.
var errMoved = fmt.Errorf("the time of day moves to another day of the month")

// moved returns the minutes that fall into an hour, counted from the entry's midnight in
// the other clock.
func (s fieldSets) moved(shift, hour int) (minutes uint64) {
	for m := range 60 {
		was := hour*60 + m - shift
		if was < 0 || was >= minutesADay {
			continue
		}
		if s.hour&(1<<(was/60)) != 0 && s.minute&(1<<(was%60)) != 0 {
			minutes |= 1 << m
		}
	}
	return minutes
}

// rotate moves weekdays by a number of days.
func rotate(weekday uint64, days int) (moved uint64) {
	for d := range 7 {
		if weekday&(1<<d) != 0 {
			moved |= 1 << ((d + days + 7) % 7)
		}
	}
	return moved
}

// field returns a field as it was written, or from its values.
func (s fieldSets) field(i int, set, all uint64) string {
	if s.text[i] != "" {
		return s.text[i]
	}
	return ranges(set, all)
}

// ranges writes a set of values as cron does.
func ranges(set, all uint64) string {
	if set == all {
		return "*"
	}
	var parts []string
	for n := 0; n < 60; n++ {
		if set&(1<<n) == 0 {
			continue
		}
		last := n
		for set&(1<<(last+1)) != 0 {
			last++
		}
		if last < n+2 {
			parts = append(parts, strconv.Itoa(n))
			continue
		}
		parts = append(parts, fmt.Sprintf("%d-%d", n, last))
		n = last
	}
	return strings.Join(parts, ",")
}

// calendars returns the fields as OnCalendar of systemd takes them, in the entry's zone.
func (s fieldSets) calendars() []string {
	if s.either {
		byDay, byWeekday := s, s
		byDay.either, byDay.weekday = false, allWeekdays
		byWeekday.either, byWeekday.day = false, allDays
		return append(byDay.calendars(), byWeekday.calendars()...)
	}
	two := func(set, all uint64) string {
		if set == all {
			return "*"
		}
		var parts []string
		for n := range 60 {
			if set&(1<<n) != 0 {
				parts = append(parts, fmt.Sprintf("%02d", n))
			}
		}
		return strings.Join(parts, ",")
	}
	text := fmt.Sprintf("*-%s-%s %s:%s:00", two(s.month, allMonths), two(s.day, allDays), two(s.hour, allHours), two(s.minute, allMinutes))
	if s.weekday != allWeekdays {
		var names []string
		for d := range 7 {
			if s.weekday&(1<<d) != 0 {
				names = append(names, time.Weekday(d).String()[:3])
			}
		}
		text = strings.Join(names, ",") + " " + text
	}
	if name := s.zone.String(); name != localName {
		text += " " + name
	}
	return []string{text}
}

// localName is what the machine's zone is called where it has no name.
const localName = "Local"

// difference returns by how many minutes the clock of one zone is ahead of another's, if
// that is the same for 400 days from a moment on.
func difference(of, from *time.Location, now time.Time) (minutes int, constant bool) {
	offset := func(at time.Time) int {
		_, a := at.In(of).Zone()
		_, b := at.In(from).Zone()
		return a - b
	}
	seconds := offset(now)
	if seconds%60 != 0 {
		return 0, false
	}
	until := now.Add(lookAhead)
	for _, zone := range []*time.Location{of, from} {
		for at := now; ; {
			_, ends := at.In(zone).ZoneBounds()
			if ends.IsZero() || ends.After(until) {
				break
			}
			if offset(ends) != seconds {
				return 0, false
			}
			at = ends
		}
	}
	return seconds / 60, true
}

// lookAhead is how far changes of the clock are looked for: each zone's next ones are
// in it.
const lookAhead = 400 * 24 * time.Hour
