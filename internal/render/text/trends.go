package text

import (
	"fmt"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	// trendRows bounds the tables of the section on trends.
	trendRows = 10
)

// trends writes what earlier readings say beside this one.
func (p *page) trends() {
	t := p.report.Trends
	if t == nil {
		return
	}
	p.title("Trends")
	now := p.report.Reading.TakenAt
	p.items(2, p.paint.Faint, []string{
		fmt.Sprintf("%s since %s, %s", words.Plural(t.Readings, "reading"), t.Since.UTC().Format("2006-01-02 15:04 UTC"), words.Ago(now, t.Since)),
	})
	p.growth(t)
	if n := len(t.Points); n > 1 {
		p.rates(t.Points[n-1], now.Sub(t.Points[n-2].At))
	}
	var rows [][]string
	for _, g := range t.Tables[:min(len(t.Tables), trendRows)] {
		rows = append(rows, []string{g.Name, words.Bytes(g.Bytes), words.PerDay(g.BytesPerDay), words.PerDay(g.LowPerDay) + " to " + words.PerDay(g.HighPerDay)})
	}
	if len(rows) > 0 {
		p.table([]string{"GROWING TABLES", "SIZE", "A DAY", "95 % INTERVAL"}, rows, []int{1, 2, 3}, []int{0})
	}
	rows = nil
	for _, s := range t.Statements[:min(len(t.Statements), trendRows)] {
		before := "new"
		if s.BeforeCalls > 0 {
			before = words.FineSeconds(s.BeforeMeanSeconds)
		}
		rows = append(rows, []string{s.Query, words.Count(s.Calls), words.FineSeconds(s.MeanSeconds), before})
	}
	if len(rows) > 0 {
		p.table([]string{"SLOWER AND NEW STATEMENTS", "CALLS", "MEAN", "SAME HOURS BEFORE"}, rows, []int{1, 2, 3}, []int{0})
	}
}

// growth writes how the database grows, and when the disk is full.
func (p *page) growth(t *judge.Trends) {
	if g := t.Database; g != nil {
		p.items(2, plainly, []string{
			"database " + words.Bytes(g.Bytes), words.PerDay(g.BytesPerDay) + " a day (95 %: " + words.PerDay(g.LowPerDay) + " to " + words.PerDay(g.HighPerDay) + ")",
		})
	} else {
		p.prose(2, p.paint.Faint, "Too few readings, or too close, to say how the database grows: five over twelve hours.")
	}
	if d := t.Disk; d != nil && d.SoonestDays < words.TenYears {
		until := fmt.Sprintf("disk full in %s (95 %%: %s", words.Days(d.Days), words.Days(d.SoonestDays))
		if d.LatestDays != nil {
			until += " to " + words.Days(*d.LatestDays) + ")"
		} else {
			until += " at the soonest, perhaps never)"
		}
		p.items(2, plainly, []string{until, words.Bytes(d.FreeBytes) + " free"})
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
	size := func(n float64) string { return words.Bytes(int64(n)) }
	add(last.CommitsPerSecond, words.Rate, "commits/s")
	add(last.RollbacksPerSecond, words.Rate, "rollbacks/s")
	add(last.CacheHitPercent, words.Percent, "found in shared_buffers")
	add(last.WALBytesPerSecond, size, "WAL/s")
	add(last.TempBytesPerSecond, size, "temporary files/s")
	if last.Deadlocks != nil && *last.Deadlocks > 0 {
		facts = append(facts, words.Plural(int(*last.Deadlocks), "deadlock"))
	}
	if len(facts) == 0 {
		p.prose(2, p.paint.Faint, "No rates since the last reading, "+words.Duration(span)+" before: the server or its counters were reset.")
		return
	}
	facts[0] = "since the last reading, " + words.Duration(span) + " before: " + facts[0]
	p.items(2, plainly, facts)
}
