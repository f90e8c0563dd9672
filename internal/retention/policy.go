// Package retention decides which backups may be deleted: a pure function of what
// the stores hold, a policy and a time, which gives a reason for each backup.
package retention

import (
	"time"

	"github.com/pgmedic/pgmedic"
)

const (
	// maxAhead is how far in the future a backup may have begun, and how far a store's
	// clock may be from this host's, before nothing is deleted: our choice.
	maxAhead = 5 * time.Minute
	// staleAtLeast and staleGaps say when backups have stopped: after the larger of this
	// time and so many of the usual gaps between the last staleOf backups.
	staleAtLeast = 48 * time.Hour
	staleGaps    = 3
	staleOf      = 10
	// fewDays is how many days may lose their last backup whatever share that is.
	fewDays = 3
)

// Policy says how long backups are kept. The zero Policy keeps all of them.
type Policy struct {
	// Hourly to Yearly are windows that end now: of each hour, civil day, week, month
	// and year that overlaps its window one backup is kept.
	Hourly, Daily, Weekly, Monthly, Yearly pgmedic.Length
	// Days is how long everything is kept.
	Days pgmedic.Length
	// Last is how many of the newest are kept whatever their age.
	Last int
	// Safety is how long safety backups are kept, Failed how long those that were found
	// bad are, from then on.
	Safety, Failed pgmedic.Length
	// Location is whose days, weeks, months and years count. Nil is UTC.
	Location *time.Location
	// WeekStarts is a week's first day.
	WeekStarts time.Weekday
	// Grace is how long a backup is marked before it is deleted.
	Grace time.Duration
	// StaleAfter is how old the newest backup may be. Zero is the larger of 48 hours and
	// three times the usual gap; below zero there is no limit.
	StaleAfter time.Duration
	// MaxShare is which share of the days that have a backup may lose their last one at
	// once, if those are more than three. Zero is a half; 1 means no limit.
	MaxShare float64

	// withoutNewest keeps none for being the newest of something.
	withoutNewest bool
}

// Unconditional returns a policy by which every backup goes but those that no policy lets
// go: the newest of its kind, what is held, what others need. With newest false only the
// last two are kept: it is for a person who says that the newest, or the newest proven, is
// to go.
func Unconditional(newest bool) Policy {
	return Policy{Days: pgmedic.Length{Rest: 1}, StaleAfter: -1, MaxShare: 1, withoutNewest: !newest}
}

// Off reports whether the policy deletes nothing.
func (p Policy) Off() bool { return len(p.tiers()) == 0 && p.Days.IsZero() }

func (p Policy) location() *time.Location {
	if p.Location == nil {
		return time.UTC
	}
	return p.Location
}

// tier is one of the windows.
type tier struct {
	name   string
	window pgmedic.Length
	// start returns when the bucket begins that a time is in, words names it.
	start func(time.Time) time.Time
	words func(time.Time) string
}

// tiers are the windows that the policy has.
func (p Policy) tiers() []tier {
	var all []tier
	add := func(name string, window pgmedic.Length, start func(time.Time) time.Time, format string) {
		if !window.IsZero() {
			all = append(all, tier{name, window, start, func(t time.Time) string { return name + " " + t.Format(format) }})
		}
	}
	date := func(t time.Time, month time.Month, day int) time.Time {
		return time.Date(t.Year(), month, day, 0, 0, 0, 0, t.Location())
	}
	add("hourly", p.Hourly, func(t time.Time) time.Time {
		return t.Add(-time.Duration(t.Minute())*time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond()))
	}, "15h")
	add("daily", p.Daily, func(t time.Time) time.Time { return date(t, t.Month(), t.Day()) }, "2 Jan")
	add("weekly", p.Weekly, func(t time.Time) time.Time {
		return date(t, t.Month(), t.Day()-int(7+t.Weekday()-p.WeekStarts)%7)
	}, "of 2 Jan")
	add("monthly", p.Monthly, func(t time.Time) time.Time { return date(t, t.Month(), 1) }, "Jan 2006")
	add("yearly", p.Yearly, func(t time.Time) time.Time { return date(t, time.January, 1) }, "2006")
	return all
}
