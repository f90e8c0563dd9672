//go:build !race

package testkit

// Race says that the race detector is at work, which makes what computes much ten
// times as slow: tests of one goroutine have less to do then, since they also run
// without it.
const Race = false
