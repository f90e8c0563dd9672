package store

import (
	"context"
	"math/rand/v2"
	"time"
)

// maxPause is the longest that Pause waits.
const maxPause = 10 * time.Second

// Pause waits before another attempt, which counts from 0, longer each time up to 10
// seconds, and reports whether ctx still lives.
func Pause(ctx context.Context, try int) bool {
	d := min(100*time.Millisecond<<min(try, 10), maxPause)
	t := time.NewTimer(d/2 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
