package azure

import (
	"time"

	"github.com/pgmedic/pgmedic/internal/store/remote"
)

// NewGrowing is New with blocks that grow after so many, and end after as many more.
func NewGrowing(o Options, same, grown int64) (*remote.Locking, error) {
	return newStore(o, growth{{same, 1}, {grown, 2}})
}

// BlockSize is the size of block n.
func BlockSize(partSizeBytes, n int64) int64 {
	s := service{o: Options{PartSizeBytes: partSizeBytes}, growth: allBlocks()}
	return s.blockSize(n)
}

// Clock has the time between two readings of credentials told by now.
func (o *Options) Clock(now func() time.Time) { o.now = now }
