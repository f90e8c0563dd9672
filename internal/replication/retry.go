package replication

import (
	"errors"
	"time"

	"github.com/pgmedic/pgmedic"
)

// The waits between attempts to connect again: doubled from the shortest to the longest.
const (
	minWait = time.Second
	maxWait = 30 * time.Second
	// activeFor is how long a slot may stay in use: after a connection that broke, the
	// server notices within wal_sender_timeout, which is 60 seconds unless it is set.
	activeFor = 90 * time.Second
)

// Retry says whether a stream that failed is tried again, and after how long. Attempts
// is the number of attempts that failed in a row, this one included, and since is how
// long ago the first of them was. What trying again does not change is not tried again:
// wrong settings, WAL of another cluster, a slot that another process keeps using.
func Retry(err error, attempts int, since time.Duration) (wait time.Duration, again bool) {
	switch kind := pgmedic.KindOf(err); {
	case errors.Is(err, ErrSlotActive):
		again = since < activeFor
	case errors.Is(err, ErrRemoved), errors.Is(err, ErrSlotMissing), errors.Is(err, ErrSlotLost):
		again = false // for the caller to handle
	default:
		again = kind == pgmedic.KindUnreachable || kind == pgmedic.KindFailed
	}
	if !again {
		return 0, false
	}
	wait = minWait
	for i := 1; i < attempts && wait < maxWait; i++ {
		wait *= 2
	}
	return min(wait, maxWait), true
}
