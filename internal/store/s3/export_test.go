package s3

import (
	"slices"
	"testing"
)

// SetPartGrowth makes parts grow after fewer of them, for one test.
func SetPartGrowth(tb testing.TB, same, grown int64) {
	before := partGrowth
	tb.Cleanup(func() { partGrowth = before })
	partGrowth = slices.Clone(before)
	partGrowth[0].parts, partGrowth[1].parts, partGrowth[2].parts = same, grown, grown
	partGrowth[1].factor, partGrowth[2].factor = 2, 4
}

// PartSize is the size of part n.
func PartSize(o Options, n int64) int64 { return o.partSize(n) }
