package store

import (
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
)

// ForbidLinks makes l believe that its file system has no hard links, and
// reports whether it can do without.
func ForbidLinks(l *Local) bool {
	l.link = func(*os.Root, string, string) error { return &os.LinkError{Op: "link", Err: syscall.EPERM} }
	return runtime.GOOS == "linux"
}

// SetPartGrowth makes parts grow after fewer of them, for one test.
func SetPartGrowth(tb testing.TB, same, grown int64) {
	before := partGrowth
	tb.Cleanup(func() { partGrowth = before })
	partGrowth = slices.Clone(before)
	partGrowth[0].parts, partGrowth[1].parts, partGrowth[2].parts = same, grown, grown
	partGrowth[1].factor, partGrowth[2].factor = 2, 4
}

// PartSize is the size of part n.
func PartSize(o S3Options, n int64) int64 { return o.partSize(n) }
