package backup

import (
	"sync"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// shares reports the progress of streams whose length is not known in advance: the
// size of each piece on the server is known, and that is what is counted. A
// piece that has ended counts whole; one that goes on, as the pieces before it
// did.
type shares struct {
	meter *progress.Meter

	mu sync.Mutex
	// size and seen are of all pieces that have ended: on the server, and in the
	// stream.
	size, seen int64

	now *share // of a stream with one piece after the other
}

func (r *Run) newShares(step string, total int64) *shares {
	return &shares{meter: progress.NewMeter(progress.MeterOptions{Step: step, TotalBytes: total, Report: r.report, Now: r.Now})}
}

// share begins a piece.
func (s *shares) share(object string, size int64) *share {
	return &share{all: s, object: object, size: size}
}

// tables returns a function to call with each table that begins in a stream that is
// written to the shares.
func (s *shares) tables(all []pgmedic.Table) (onTable func(name string)) {
	sizes := make(map[string]int64, len(all))
	for _, t := range all {
		sizes[sqltext.QuoteQualified(t.Schema, t.Name)] = t.SizeBytes
	}
	return func(name string) {
		s.now.end(true)
		s.now = s.share(name, sizes[name])
		delete(sizes, name) // a root's name can come twice
	}
}

// Write counts for the table that was begun last. It never fails.
func (s *shares) Write(p []byte) (int, error) {
	if s.now != nil {
		return s.now.Write(p)
	}
	return len(p), nil
}

// expect returns what seen bytes of a stream are on the server.
func (s *shares) expect(seen int64) int64 {
	const enough = 1 << 20 // of a stream to extrapolate from
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen < enough {
		return seen
	}
	return int64(float64(seen) * float64(s.size) / float64(s.seen))
}

// share is one piece.
type share struct {
	all        *shares
	object     string
	size       int64
	seen, told int64
}

// Write counts bytes of the piece. It never fails.
func (s *share) Write(p []byte) (int, error) {
	s.seen += int64(len(p))
	s.tell(min(s.all.expect(s.seen), s.size))
	return len(p), nil
}

func (s *share) tell(done int64) {
	s.all.meter.Object(s.object)
	s.all.meter.Add(done - s.told)
	s.told = done
}

// end ends the piece: it is done, or was in vain.
func (s *share) end(done bool) {
	if s == nil {
		return
	}
	if !done {
		s.tell(0)
		return
	}
	s.tell(s.size)
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	s.all.size += s.size
	s.all.seen += s.seen
}
