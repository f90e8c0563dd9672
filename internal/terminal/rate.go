package terminal

import (
	"math"
	"time"
)

const (
	// rateMemory is how far back a rate looks: a burst is forgotten by then.
	rateMemory = 10 * time.Second
	// rateFirst is how long a rate is measured before it is shown.
	rateFirst = time.Second
)

// rate is the smoothed speed of a counter: an exponential moving average over
// time, whatever the pauses between two looks.
type rate struct {
	began, last time.Time
	bytes       int64   // at the last look
	sum, weight float64 // of bytes a second, the older the less
}

// seen notes the counter's value. One that falls is counted on from there.
func (r *rate) seen(now time.Time, bytes int64) {
	if r.began.IsZero() {
		r.began, r.last, r.bytes = now, now, bytes
		return
	}
	if now.After(r.last) { // of two looks in one moment the bytes count with the next
		r.advance(now, max(bytes-r.bytes, 0))
		r.bytes = bytes
	}
}

func (r *rate) advance(now time.Time, more int64) {
	passed := now.Sub(r.last).Seconds()
	if passed <= 0 {
		return
	}
	keep := math.Exp(-passed / rateMemory.Seconds())
	r.sum = r.sum*keep + float64(more)/passed*(1-keep)
	r.weight = r.weight*keep + 1 - keep
	r.last = now
}

// at returns the rate in bytes a second, once it is worth showing. A counter
// that stands still slows down.
func (r rate) at(now time.Time) (perSecond float64, ok bool) {
	if r.began.IsZero() || now.Sub(r.began) < rateFirst {
		return 0, false
	}
	r.advance(now, 0)
	if r.weight == 0 {
		return 0, false
	}
	return r.sum / r.weight, true
}
