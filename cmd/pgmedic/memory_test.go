package main

import (
	"math"
	"runtime/debug"
	"testing"
)

// TestCollectFrom: GOMEMLIMIT has the last word, also where it is off.
func TestCollectFrom(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	const limit = 1 << 40 // which changes nothing for other tests
	for given, want := range map[string]int64{"": limit, "off": math.MaxInt64} {
		t.Setenv("GOMEMLIMIT", given)
		undo := collectFrom(limit)
		if got := debug.SetMemoryLimit(-1); got != want {
			t.Errorf("GOMEMLIMIT=%q: %d, want %d", given, got, want)
		}
		undo()
		if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
			t.Errorf("GOMEMLIMIT=%q, and undone: %d", given, got)
		}
	}
}
