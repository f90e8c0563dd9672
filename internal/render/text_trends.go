package render

import (
	"fmt"
	"math"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/judge"
)

const (
	// trendRows bounds the tables of the section on trends.
	trendRows = 10
	// tenYears is from how many days on nobody cares when a disk is full.
	tenYears = 3650
)

// trends writes what earlier readings say beside this one.
func (p *page) trends() {
	t := p.report.Trends
	if t == nil {
		return
	}
	p.title("Trends")
	now := p.report.Reading.TakenAt
	p.items(2, p.paint.faint, []string{
		fmt.Sprintf("%s since %s, %s", plural(t.Readings, "reading"), t.Since.UTC().Format("2006-01-02 15:04 UTC"), Ago(now, t.Since)),
	})
	p.growth(t)
	if n := len(t.Points); n > 1 {
		p.rates(t.Points[n-1], now.Sub(t.Points[n-2].At))
	}
	var rows [][]string
	for _, g := range t.Tables[:min(len(t.Tables), trendRows)] {
		rows = append(rows, []string{g.Name, Bytes(g.Bytes), perDay(g.BytesPerDay), perDay(g.LowPerDay) + " to " + perDay(g.HighPerDay)})
	}
	if len(rows) > 0 {
		p.table([]string{"GROWING TABLES", "SIZE", "A DAY", "95 % INTERVAL"}, rows, []int{1, 2, 3}, []int{0})
	}
	rows = nil
	for _, s := range t.Statements[:min(len(t.Statements), trendRows)] {
		before := "new"
		if s.BeforeCalls > 0 {
			before = fraction(s.BeforeMeanSeconds)
		}
		rows = append(rows, []string{s.Query, Count(s.Calls), fraction(s.MeanSeconds), before})
	}
	if len(rows) > 0 {
		p.table([]string{"SLOWER AND NEW STATEMENTS", "CALLS", "MEAN", "SAME HOURS BEFORE"}, rows, []int{1, 2, 3}, []int{0})
	}
}

// growth writes how the database grows, and when the disk is full.
func (p *page) growth(t *judge.Trends) {
	if g := t.Database; g != nil {
		p.items(2, plainly, []string{
			"database " + Bytes(g.Bytes), perDay(g.BytesPerDay) + " a day (95 %: " + perDay(g.LowPerDay) + " to " + perDay(g.HighPerDay) + ")",
		})
	} else {
		p.prose(2, p.paint.faint, "Too few readings, or too close, to say how the database grows: five over twelve hours.")
	}
	if d := t.Disk; d != nil && d.SoonestDays < tenYears {
		until := fmt.Sprintf("disk full in %s (95 %%: %s", days(d.Days), days(d.SoonestDays))
		if d.LatestDays != nil {
			until += " to " + days(*d.LatestDays) + ")"
		} else {
			until += " at the soonest, perhaps never)"
		}
		p.items(2, plainly, []string{until, Bytes(d.FreeBytes) + " free"})
	}
}

// rates writes what happened since the reading before.
func (p *page) rates(last judge.Point, span time.Duration) {
	var facts []string
	add := func(value *float64, write func(float64) string, what string) {
		if value != nil {
			facts = append(facts, write(*value)+" "+what)
		}
	}
	size := func(n float64) string { return Bytes(int64(n)) }
	add(last.CommitsPerSecond, rate, "commits/s")
	add(last.RollbacksPerSecond, rate, "rollbacks/s")
	add(last.CacheHitPercent, percent, "found in shared_buffers")
	add(last.WALBytesPerSecond, size, "WAL/s")
	add(last.TempBytesPerSecond, size, "temporary files/s")
	if last.Deadlocks != nil && *last.Deadlocks > 0 {
		facts = append(facts, plural(int(*last.Deadlocks), "deadlock"))
	}
	if len(facts) == 0 {
		p.prose(2, p.paint.faint, "No rates since the last reading, "+Duration(span)+" before: the server or its counters began anew.")
		return
	}
	facts[0] = "since the last reading, " + Duration(span) + " before: " + facts[0]
	p.items(2, plainly, facts)
}

// perDay writes a growth, which can be negative.
func perDay(bytes float64) string {
	if math.Abs(bytes) > math.MaxInt64/2 {
		return "?"
	}
	if bytes >= 0.5 {
		return "+" + Bytes(int64(math.Round(bytes)))
	}
	return Bytes(int64(math.Round(bytes)))
}

// days writes a number of days that may be large.
func days(n float64) string {
	switch {
	case n >= tenYears:
		return "more than 10 years"
	case n >= 10:
		return Count(int64(n)) + " days"
	default:
		return fmt.Sprintf("%.1f days", n)
	}
}

// rate writes a number a second.
func rate(n float64) string {
	if n >= 100 || n == math.Trunc(n) {
		return Count(int64(math.Round(n)))
	}
	return fmt.Sprintf("%.1f", n)
}

// fraction writes a time of a statement, which may be far below a second.
func fraction(s float64) string {
	if s < 0.0995 {
		return fmt.Sprintf("%.1f ms", 1000*s)
	}
	return seconds(s)
}
