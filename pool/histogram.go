package pool

import (
	"sync/atomic"
	"time"
)

// bounds are the upper bounds of the buckets of all histograms; one more bucket
// has what is longer.
var bounds = [...]time.Duration{ //nolint:gochecknoglobals // a table that nothing changes
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// histogram counts durations; the zero value is empty. Its methods may be
// called from several goroutines.
type histogram struct {
	buckets [len(bounds) + 1]atomic.Int64
	sum     atomic.Int64
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

func (h *histogram) snapshot() Histogram {
	s := Histogram{Bounds: bounds[:], Counts: make([]int64, len(h.buckets)), Sum: time.Duration(h.sum.Load())}
	for i := range h.buckets {
		s.Counts[i] = h.buckets[i].Load()
		s.Count += s.Counts[i]
	}
	return s
}

// Histogram says how long things took.
type Histogram struct {
	// Bounds are the upper bounds of the buckets, and Counts how many durations
	// were in each: above the bound before it, at most its own. Counts has one
	// more, for those above the last bound.
	Bounds []time.Duration
	Counts []int64
	// Count is how many there were, and Sum all of them together.
	Count int64
	Sum   time.Duration
}

// operation is what a connection was taken for.
type operation int

const (
	opQuery operation = iota // Query, QueryRow, and all that is done in a transaction
	opExec
	opBatch
	opCopy
	opTx // a whole transaction
	operations
	opAny operation = -1
)

var operationNames = [operations]string{"query", "exec", "batch", "copy", "transaction"} //nolint:gochecknoglobals // a table that nothing changes

// outcome is how it ended.
type outcome int

const (
	outcomeOK outcome = iota
	outcomeError
	outcomeTimeout
	outcomeCanceled
	outcomeUnavailable
	outcomes
)

var outcomeNames = [outcomes]string{"ok", "error", "timeout", "canceled", "unavailable"} //nolint:gochecknoglobals // a table that nothing changes

// durations has a histogram for each operation and outcome.
type durations [operations][outcomes]histogram

func (d *durations) observe(op operation, out outcome, took time.Duration) { d[op][out].observe(took) }
