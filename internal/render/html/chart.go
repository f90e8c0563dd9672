package html

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/words"
)

// The plane that lines are drawn on. It is stretched to the room there is;
// labels stand around it, so that they stay legible.
const (
	plotWidth  = 1000.0
	plotHeight = 200.0
	// chartRows bounds the table of a chart's numbers.
	chartRows = 24
)

// lineChart is numbers over time.
type lineChart struct {
	// ID tells the charts of a page apart.
	ID, Title, Now, Description string
	// Grid are the heights of the lines across, Ticks their labels from the
	// top.
	Grid, Ticks []string
	// Dates are the labels of the first, middle and last moment.
	Dates  [3]string
	Lines  []chartLine
	Area   string
	Band   string
	Today  string
	Limit  string
	Legend []htmlKey
	Table  htmlTable
}

// chartLine is one line, as the path of an SVG.
type chartLine struct{ Class, Path string }

// series is one line's numbers; those that are nil are not known.
type series struct {
	name, class string
	value       func(judge.Point) *float64
}

// chartOptions say how numbers are drawn.
type chartOptions struct {
	title string
	write func(float64) string
	// bytes chooses round steps of 1024.
	bytes bool
	// zero draws from zero, top never above this where it is not zero.
	zero bool
	top  float64
	// limit draws a line across where it is not zero and near.
	limit     float64
	limitName string
	// ahead is a growth to draw beyond the last point.
	ahead *judge.Growth
}

// chart draws series over the points of the trends, or returns nil where there
// are too few to make a line.
func (s *sheet) chart(o chartOptions, all ...series) *lineChart {
	if s.trends == nil {
		return nil
	}
	f := frame{points: s.trends.Points, options: o}
	if !f.fit(all) {
		return nil
	}
	s.charts++
	c := &lineChart{ID: "chart-" + strconv.Itoa(s.charts), Title: o.title, Dates: f.dates()}
	c.Ticks, c.Grid = f.ticks()
	for _, x := range all {
		c.Lines = append(c.Lines, chartLine{Class: x.class, Path: f.path(x.value)})
		if len(all) > 1 {
			c.Legend = append(c.Legend, htmlKey{Class: x.class, Name: x.name})
		}
	}
	if f.low == 0 && len(all) == 1 {
		c.Area = f.area(all[0].value)
	}
	if o.ahead != nil {
		f.forecast(c, all[0].value)
	}
	if o.limit > 0 && o.limit <= f.high {
		c.Limit = decimals(f.y(o.limit))
		c.Legend = append(c.Legend, htmlKey{Class: "limit", Name: o.limitName + " " + o.write(o.limit)})
	}
	if _, last := f.last(all[0].value); last != nil {
		c.Now = o.write(*last)
	}
	c.Description = f.describe(all)
	c.Table = f.table(all)
	return c
}

// frame places moments and numbers on the plane.
type frame struct {
	points          []judge.Point
	options         chartOptions
	from, to        time.Time
	low, high, step float64
}

// fit finds the frame's bounds, and whether there is anything to draw.
func (f *frame) fit(all []series) bool {
	low, high, known := math.Inf(1), math.Inf(-1), 0
	for _, x := range all {
		for _, p := range f.points {
			if v := x.value(p); v != nil && !math.IsNaN(*v) && !math.IsInf(*v, 0) {
				low, high, known = min(low, *v), max(high, *v), known+1
			}
		}
	}
	if known < 2 || len(f.points) < 2 || !f.points[0].At.Before(f.points[len(f.points)-1].At) {
		return false
	}
	f.from, f.to = f.points[0].At, f.points[len(f.points)-1].At
	if g := f.options.ahead; g != nil {
		f.to = f.to.Add(f.to.Sub(f.from) / 3)
		days := f.to.Sub(f.points[len(f.points)-1].At).Hours() / 24
		low, high = min(low, low+g.LowPerDay*days), max(high, high+g.HighPerDay*days)
	}
	if limit := f.options.limit; limit > 0 && high > limit/2 {
		high = max(high, limit)
	}
	if f.options.zero || low > 0 && low < high/2 {
		low = min(low, 0)
	}
	f.step = niceStep((high-low)/3, f.options.bytes)
	f.low, f.high = math.Floor(low/f.step)*f.step, math.Ceil(high/f.step)*f.step
	if top := f.options.top; top > 0 && f.high > top {
		f.high = top
		f.low = top - math.Ceil((top-low)/f.step)*f.step
	}
	if f.high <= f.low {
		f.high = f.low + f.step
	}
	return true
}

// niceStep is the first of 1, 2, 5, 10, … that is no less than least; of bytes
// the first power of two.
func niceStep(least float64, bytes bool) float64 {
	if least <= 0 {
		return 1
	}
	if bytes {
		return math.Exp2(math.Ceil(math.Log2(least)))
	}
	power := math.Pow(10, math.Floor(math.Log10(least)))
	for _, n := range []float64{1, 2, 5} {
		// What is one by rounding alone is one.
		if n*power >= least*0.999 {
			return n * power
		}
	}
	return 10 * power
}

func (f *frame) x(t time.Time) float64 {
	return plotWidth * t.Sub(f.from).Seconds() / f.to.Sub(f.from).Seconds()
}

func (f *frame) y(v float64) float64 {
	return plotHeight * (f.high - min(max(v, f.low), f.high)) / (f.high - f.low)
}

// ticks are the labels and heights of the lines across, from the top.
func (f *frame) ticks() (labels, heights []string) {
	for v := f.high; v > f.low-f.step/2; v -= f.step {
		// Steps don't add up exactly: what should be zero is almost.
		if math.Abs(v) < f.step/1e6 {
			v = 0
		}
		labels = append(labels, f.options.write(v))
		heights = append(heights, decimals(f.y(v)))
	}
	return labels, heights
}

// dates are the labels below.
func (f *frame) dates() [3]string {
	layout := time.DateOnly
	if f.to.Sub(f.from) < 72*time.Hour {
		layout = "01-02 15:04"
	}
	middle := f.from.Add(f.to.Sub(f.from) / 2)
	return [3]string{f.from.UTC().Format(layout), middle.UTC().Format(layout), f.to.UTC().Format(layout)}
}

// path draws a line that breaks where a number is not known.
func (f *frame) path(value func(judge.Point) *float64) string {
	var b strings.Builder
	begun := false
	for _, p := range f.points {
		v := value(p)
		if v == nil || math.IsNaN(*v) || math.IsInf(*v, 0) {
			begun = false
			continue
		}
		command := "L"
		if !begun {
			command = "M"
		}
		fmt.Fprintf(&b, "%s%s %s", command, decimals(f.x(p.At)), decimals(f.y(*v)))
		if !begun {
			// A point alone shows as a dot.
			b.WriteString("h0")
		}
		begun = true
	}
	return b.String()
}

// area is what lies below an unbroken line, or nothing.
func (f *frame) area(value func(judge.Point) *float64) string {
	first, last := -1, -1
	var b strings.Builder
	for i, p := range f.points {
		v := value(p)
		if v == nil {
			if first >= 0 {
				return ""
			}
			continue
		}
		if first < 0 {
			first = i
			fmt.Fprintf(&b, "M%s %s", decimals(f.x(p.At)), decimals(plotHeight))
		}
		fmt.Fprintf(&b, "L%s %s", decimals(f.x(p.At)), decimals(f.y(*v)))
		last = i
	}
	if first < 0 {
		return ""
	}
	fmt.Fprintf(&b, "L%s %sZ", decimals(f.x(f.points[last].At)), decimals(plotHeight))
	return b.String()
}

// last is the last number that is known, and when it was so.
func (f *frame) last(value func(judge.Point) *float64) (time.Time, *float64) {
	for i := len(f.points) - 1; i >= 0; i-- {
		if v := value(f.points[i]); v != nil {
			return f.points[i].At, v
		}
	}
	return time.Time{}, nil
}

// forecast draws where the line goes, and between which bounds.
func (f *frame) forecast(c *lineChart, value func(judge.Point) *float64) {
	at, now := f.last(value)
	if now == nil {
		return
	}
	g, days := f.options.ahead, f.to.Sub(at).Hours()/24
	point := func(perDay float64) string { return decimals(plotWidth) + " " + decimals(f.y(*now+perDay*days)) }
	from := decimals(f.x(at)) + " " + decimals(f.y(*now))
	c.Lines = append(c.Lines, chartLine{Class: "forecast", Path: "M" + from + "L" + point(g.BytesPerDay)})
	c.Band = "M" + from + "L" + point(g.LowPerDay) + "L" + point(g.HighPerDay) + "Z"
	c.Today = decimals(f.x(at))
	c.Legend = append(c.Legend, htmlKey{Class: "forecast", Name: "at this pace, with the 95 % interval"})
}

// describe says in a sentence what the lines show, for those who don't see them.
func (f *frame) describe(all []series) string {
	var parts []string
	for _, x := range all {
		low, high := math.Inf(1), math.Inf(-1)
		for _, p := range f.points {
			if v := x.value(p); v != nil {
				low, high = min(low, *v), max(high, *v)
			}
		}
		_, last := f.last(x.value)
		if last == nil {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s between %s and %s, last %s", x.name, f.options.write(low), f.options.write(high), f.options.write(*last)))
	}
	end := f.points[len(f.points)-1].At
	text := fmt.Sprintf("From %s to %s: %s.", utc(f.from), utc(end), strings.Join(parts, "; "))
	if g := f.options.ahead; g != nil {
		text += fmt.Sprintf(" It grows by %s.", growthWords(g))
	}
	return text
}

// table is the chart's numbers, thinned.
func (f *frame) table(all []series) htmlTable {
	t := htmlTable{Caption: f.options.title, Columns: columns("Taken at (UTC)")}
	for _, x := range all {
		t.Columns = append(t.Columns, htmlColumn{Name: x.name, Number: true})
	}
	every := (len(f.points)-1)/chartRows + 1
	for i := len(f.points) - 1; i >= 0; i -= every {
		p := f.points[i]
		row := []cell{text(p.At.UTC().Format("2006-01-02 15:04"))}
		for _, x := range all {
			row = append(row, text(words.Maybe(x.value(p), f.options.write)))
		}
		t.Rows = append(t.Rows, row)
	}
	if every > 1 {
		t.Note = fmt.Sprintf("One of %d readings is listed; the line has them all.", every)
	}
	return t
}

// growthWords says how fast something grows.
func growthWords(g *judge.Growth) string {
	return words.PerDay(g.BytesPerDay) + " a day (between " + words.PerDay(g.LowPerDay) + " and " + words.PerDay(g.HighPerDay) + ")"
}

// number reads what a point may know.
func number[T int | int64 | float64](v *T) *float64 {
	if v == nil {
		return nil
	}
	f := float64(*v)
	return &f
}

// compact writes a number for an axis: 1,200 or 0.25.
func compact(v float64) string {
	if v == math.Trunc(v) || math.Abs(v) >= 100 {
		return words.Count(int64(math.Round(v)))
	}
	return strings.TrimRight(strings.TrimRight(strconv.FormatFloat(v, 'f', 2, 64), "0"), ".")
}

// writeBytes writes a size on an axis.
func writeBytes(v float64) string { return words.Bytes(int64(math.Round(v))) }
