package main

import (
	"math"
	"os"
	"runtime/debug"
)

// streamMemory is the memory of a stream of WAL from which on garbage is collected more
// often, in bytes. What a stream holds is bounded by the size of segments, and half as much
// again is soon garbage: without it the process has twice of what it holds. It is well below
// 256 MiB, which a stream is to keep to.
const streamMemory = 160 << 20

// collectFrom has garbage collected more often once the process has so much memory, unless
// GOMEMLIMIT says otherwise, until undo is called.
func collectFrom(limit int64) (undo func()) {
	before := debug.SetMemoryLimit(-1)                            // which only asks
	if before != math.MaxInt64 || os.Getenv("GOMEMLIMIT") != "" { // which can be off
		return func() {}
	}
	debug.SetMemoryLimit(limit)
	return func() { debug.SetMemoryLimit(before) }
}
