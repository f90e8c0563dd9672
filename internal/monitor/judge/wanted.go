package judge

import (
	"slices"
	"time"
)

const (
	// spanLeast is the shortest newest span of statements, so that a span of a
	// report every five minutes holds some calls.
	spanLeast = 55 * time.Minute
	// daysBefore is of how many earlier days the same hours are compared.
	daysBefore = 7
	// tableSamples is at how many moments tables are measured for their growth.
	tableSamples = 16
)

// OutlinesWanted returns the moments that are worth comparing with a Reading
// taken at now, sorted, out of those that there are, which are sorted too: all
// of the last day, and of the time before as many as Trends can show.
func OutlinesWanted(now time.Time, moments []time.Time) []time.Time {
	day, _ := slices.BinarySearchFunc(moments, now.Add(-recently), time.Time.Compare)
	return slices.Concat(evenly(moments[:day], MaxPoints/2), moments[day:])
}

// DetailsWanted returns the moments whose details Analyse and TrendsOf compare
// with a Reading taken at now, sorted, out of those that there are, which are
// sorted too: about thirty however many there are.
func DetailsWanted(now time.Time, moments []time.Time) []time.Time {
	if len(moments) == 0 {
		return nil
	}
	wanted := []time.Time{moments[0], moments[len(moments)-1]}
	if dayAgo := newestBefore(now, moments, newAfter); !dayAgo.IsZero() {
		wanted = append(wanted, dayAgo)
	}
	if span := newestBefore(now, moments, spanLeast); !span.IsZero() {
		wanted = append(wanted, span)
		for day := 1; day <= daysBefore; day++ {
			if begin, end, ok := sameHours(span, now, day, moments); ok {
				wanted = append(wanted, begin, end)
			}
		}
	}
	wanted = append(wanted, evenly(moments, tableSamples)...)
	slices.SortFunc(wanted, time.Time.Compare)
	return slices.CompactFunc(wanted, time.Time.Equal)
}

// newestBefore returns the newest moment that is at least so long before now, or
// zero without one.
func newestBefore(now time.Time, moments []time.Time, least time.Duration) time.Time {
	for _, m := range slices.Backward(moments) {
		if now.Sub(m) >= least {
			return m
		}
	}
	return time.Time{}
}

// sameHours returns the moments nearest to the span from begin to end some days
// earlier, if there are two that are near enough: as near as half a span, and
// half an hour in any case, since old readings are an hour apart.
func sameHours(begin, end time.Time, days int, moments []time.Time) (from, to time.Time, ok bool) {
	near := max(end.Sub(begin)/2, 30*time.Minute)
	earlier := time.Duration(days) * -24 * time.Hour
	from, to = nearest(begin.Add(earlier), moments), nearest(end.Add(earlier), moments)
	ok = from.Sub(begin.Add(earlier)).Abs() <= near && to.Sub(end.Add(earlier)).Abs() <= near &&
		// Neither the same moment twice, nor one that the newest span holds.
		from.Before(to) && !to.After(begin)
	return from, to, ok
}

// nearest returns the moment that is nearest to another; there is at least one.
func nearest(to time.Time, moments []time.Time) time.Time {
	i, _ := slices.BinarySearchFunc(moments, to, time.Time.Compare)
	switch {
	case i == len(moments):
		return moments[i-1]
	case i > 0 && to.Sub(moments[i-1]) < moments[i].Sub(to):
		return moments[i-1]
	}
	return moments[i]
}

// evenly returns at most n moments, one in each of n parts of the time between
// the first and the last, the last of each.
func evenly(moments []time.Time, n int) []time.Time {
	if len(moments) <= n {
		return moments
	}
	var kept []time.Time
	first, last := moments[0], moments[len(moments)-1]
	part := last.Sub(first)/time.Duration(n) + 1
	for i, m := range moments {
		if i == len(moments)-1 || moments[i+1].Sub(first)/part > m.Sub(first)/part {
			kept = append(kept, m)
		}
	}
	return kept
}
