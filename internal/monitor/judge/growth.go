package judge

import (
	"math"
	"time"
)

const (
	// growthReadings and growthSpan are what a line needs at least: fewer
	// points, or less than half a day, say nothing of a day.
	growthReadings = 5
	growthSpan     = 12 * time.Hour
	// growthParts is into how many equal parts the time is cut, of each of which
	// the last size counts: recent Readings lie closer than old ones, and would
	// outweigh them.
	growthParts = 60
	// forecastSpans is how many times the observed time a forecast may reach
	// ahead to be found by Analyse.
	forecastSpans = 10
)

// sample is a size at a moment.
type sample struct {
	at    time.Time
	bytes int64
}

// line is a straight line fitted to sizes.
type line struct {
	perDay    float64
	low, high float64 // the ends of the 95 % interval of perDay
}

// fit fits a line to sizes, which come oldest first, by ordinary least squares;
// ok is false where they are too few or too close.
//
// The interval is b ± t·s/√Sxx (NIST/SEMATECH e-Handbook of Statistical
// Methods, 4.1.4.1 and 4.1.3.2). Sizes of a database are not independent draws:
// one that is above the line is followed by others above it, and the plain
// formula promises far too much. So the number of readings is reduced to the
// effective one, n(1-r)/(1+r) with r the residuals' autocorrelation at lag one
// (B. D. Santer et al., Journal of Geophysical Research 105, 2000, pages
// 7337-7356), both in s and in the degrees of freedom of t, as there.
func fit(samples []sample) (l line, ok bool) {
	if len(samples) == 0 || samples[len(samples)-1].at.Sub(samples[0].at) < growthSpan {
		return line{}, false
	}
	samples = lastOfEachPart(samples, growthParts)
	n := float64(len(samples))
	if n < growthReadings {
		return line{}, false
	}
	days := func(s sample) float64 { return s.at.Sub(samples[0].at).Hours() / 24 }
	var meanX, meanY, sxx, sxy float64
	for _, s := range samples {
		meanX += days(s) / n
		meanY += float64(s.bytes) / n
	}
	for _, s := range samples {
		dx := days(s) - meanX
		sxx += dx * dx
		sxy += dx * (float64(s.bytes) - meanY)
	}
	l.perDay = sxy / sxx
	var squares, products, before float64
	for i, s := range samples {
		residual := float64(s.bytes) - meanY - l.perDay*(days(s)-meanX)
		squares += residual * residual
		if i > 0 {
			products += residual * before
		}
		before = residual
	}
	effective := n
	if r := products / squares; squares > 0 && r > 0 {
		effective = max(3, n*(1-r)/(1+r))
	}
	margin := studentT(effective-2) * math.Sqrt(squares/(effective-2)/sxx)
	l.low, l.high = l.perDay-margin, l.perDay+margin
	return l, true
}

// lastOfEachPart cuts the time of samples into equal parts and returns the last
// sample of each.
func lastOfEachPart(samples []sample, parts int) []sample {
	moments := make([]time.Time, len(samples))
	for i, s := range samples {
		moments[i] = s.at
	}
	kept := evenly(moments, parts)
	var last []sample
	for _, s := range samples {
		if len(last) < len(kept) && s.at.Equal(kept[len(last)]) {
			last = append(last, s)
		}
	}
	return last
}

// studentT returns the 97.5 % quantile of Student's t for degrees of freedom
// from 1: tabled up to 6 and between them interpolated in 1/df, beyond by the
// expansion around the normal quantile (Abramowitz and Stegun, 26.7.5). It is
// right to 0.5 %.
func studentT(df float64) float64 {
	table := []float64{12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469}
	if i := int(df); i < len(table) {
		i = max(1, i)
		low, high := 1/float64(i+1), 1/float64(i)
		share := (1/max(1, df) - low) / (high - low)
		return table[i] + share*(table[i-1]-table[i])
	}
	const z = 1.959964
	z3 := z * z * z
	z5 := z3 * z * z
	return z + (z3+z)/(4*df) + (5*z5+16*z3+3*z)/(96*df*df)
}

// grows reports whether there is a pace to speak of: less than a byte a day is
// the rounding of a line through sizes that stay.
func (l line) grows() bool { return l.perDay >= 1 }

// forecast says when what is free is used up by what grows along a line, or nil
// where nothing grows.
func forecast(free int64, l line) *DiskForecast {
	if !l.grows() || free <= 0 {
		return nil
	}
	f := &DiskForecast{FreeBytes: free, Days: float64(free) / l.perDay, SoonestDays: float64(free) / l.high}
	if l.low > 0 {
		latest := float64(free) / l.low
		f.LatestDays = &latest
	}
	return f
}
