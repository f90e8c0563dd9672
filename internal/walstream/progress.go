// Package walstream streams the WAL of a server into an archive: it receives, stores, and
// tells the server what is stored, so that a slot keeps on the server what is not.
package walstream

import (
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Progress is how far a stream has come. The zero Progress is at the beginning of the WAL.
type Progress struct {
	// Received is up to where WAL was received, and Stored up to where all of it is
	// stored.
	Received, Stored wal.LSN
	// ahead are the ranges that are stored beyond Stored, in order.
	ahead []wal.Span
}

// NewProgress returns the Progress of a stream that begins at a position.
func NewProgress(from wal.LSN) Progress { return Progress{Received: from, Stored: from} }

// Store returns the Progress with a range that is stored: in whatever order ranges come,
// Stored moves only over what is there.
func (p Progress) Store(from, to wal.LSN) Progress {
	p.ahead = wal.MergeSpans(append(slices.Clone(p.ahead), wal.Span{From: from, To: to}))
	for len(p.ahead) > 0 && p.ahead[0].From <= p.Stored {
		p.Stored = max(p.Stored, p.ahead[0].To)
		p.ahead = p.ahead[1:]
	}
	return p
}

// maxBuffered is what the segments that are being stored may take of memory, besides the
// one that is being received.
const maxBuffered = 32 << 20

// MaxSegmentSize is the largest size of segments that is streamed: each is held in memory
// until it is stored.
const MaxSegmentSize wal.SegmentSize = 64 << 20

// CheckSegmentSize refuses segments that are too large, with a pgmedic.KindUsage error.
func CheckSegmentSize(size wal.SegmentSize) error {
	if size <= MaxSegmentSize {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindUsage, "archive such WAL with another program, or make the cluster again with initdb --wal-segsize=64 or less",
		"the server has WAL segments of %s, and up to %s are streamed", words.Size(size), words.Size(MaxSegmentSize))
}

// uploads is how many objects are stored at the same time.
func uploads(size wal.SegmentSize) int { return min(max(int(maxBuffered/size), 1), 4) }
