package testkit

import (
	"testing"
	"time"
)

// Eventually waits until a condition holds, and fails the test if it does not within
// patience, which is far more than a busy machine takes. What completes the sentence
// "waited in vain until".
func Eventually(tb testing.TB, patience time.Duration, what string, holds func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			if !holds() { // it may have become true while this process stood still
				tb.Fatalf("waited %s in vain until %s", patience, what)
			}
			return
		}
	}
}
