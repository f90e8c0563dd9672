package history

import (
	"slices"
	"time"
)

// The tiers of a history: how long Readings are kept, and how far apart.
const (
	allFor    = time.Hour
	rawFor    = 2 * 24 * time.Hour
	hourlyFor = 30 * 24 * time.Hour
	dailyFor  = 2 * 365 * 24 * time.Hour
)

// Thin returns which of the moments at which Readings were taken are dropped at
// now, by their index: it keeps all for an hour, one a minute for two days, one
// an hour for 30 days, one a day for two years, in UTC and the last of each. The
// newest is always kept. What is more than a day ahead was taken under a wrong clock, and
// is dropped unless it is the newest. Where most are ahead, or most are too old,
// it is now that the clock is wrong, and nothing is dropped. The moments may come
// in any order.
func Thin(now time.Time, moments []time.Time) (dropped []int) {
	outside := 0
	for _, m := range moments {
		if bucketAt(now.Sub(m)) == 0 {
			outside++
		}
	}
	if outside > len(moments)/2 {
		return nil
	}
	order := make([]int, len(moments))
	for i := range order {
		order[i] = i
	}
	// Newest first: the first of a bucket is the one to keep.
	slices.SortStableFunc(order, func(x, y int) int { return moments[y].Compare(moments[x]) })
	type bucket struct {
		size  time.Duration
		start int64
	}
	kept := map[bucket]bool{}
	for n, i := range order {
		age := now.Sub(moments[i])
		size := bucketAt(age)
		b := bucket{size, moments[i].Truncate(size).UnixMicro()}
		if n > 0 && (size == 0 || kept[b]) {
			dropped = append(dropped, i)
			continue
		}
		kept[b] = true
	}
	return dropped
}

// bucketAt is how far apart Readings of an age are kept, zero for not at all.
func bucketAt(age time.Duration) time.Duration {
	switch {
	case age < -24*time.Hour || age > dailyFor:
		return 0
	case age <= allFor:
		return time.Microsecond // all: it is what a history tells moments apart by
	case age <= rawFor:
		return time.Minute
	case age <= hourlyFor:
		return time.Hour
	default:
		return 24 * time.Hour
	}
}
