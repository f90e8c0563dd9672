package restore

import (
	"sync/atomic"

	"github.com/pgmedic/pgmedic/internal/progress"
)

// meter makes progress of a step's bytes.
func (s *Session) meter(step string, total int64) *progress.Meter {
	return progress.NewMeter(progress.MeterOptions{Step: step, TotalBytes: total, Report: s.report, Now: s.Now})
}

// passing counts bytes that may have to be taken back.
type passing struct {
	to *progress.Meter
	n  atomic.Int64 // a read may go on for a moment when a COPY has failed
}

// Write never fails.
func (p *passing) Write(b []byte) (int, error) {
	p.n.Add(int64(len(b)))
	return p.to.Write(b)
}

func (p *passing) takeBack() {
	p.to.Add(-p.n.Swap(0))
}
