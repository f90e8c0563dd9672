package recovery

import (
	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// Answer is what PostgreSQL gets for the name of a file of WAL.
type Answer int

// The answers.
const (
	// Needed: the recovery can't do without it.
	Needed Answer = iota + 1
	// Absent: by the plan it does not exist.
	Absent
	// Unknown: a listing of the store says whether it exists. It is about histories
	// alone, by which PostgreSQL finds a number for a new timeline.
	Unknown
)

// Answer returns what PostgreSQL gets for a name. It is an error for what is not part of the
// recovery: PostgreSQL would take any other answer for the end of the WAL, or for WAL of it.
func (p *Plan) Answer(name string) (Answer, error) {
	if t, err := wal.ParseHistoryName(name); err == nil {
		begin, known := p.History().Begin(t)
		if known && begin > 0 {
			return Needed, nil
		}
		return Unknown, nil
	}
	s, err := p.size().Parse(name)
	if err != nil {
		return 0, pgmedic.Errorf(pgmedic.KindUsage, "give the names that PostgreSQL has for %f", "%w, and not that of a history", err)
	}
	const hint = "see PostgreSQL's log; restore the cluster again for another plan"
	end := p.size().Start(p.Through-1) + wal.LSN(p.size())
	right := p.timeline(s.Start)
	_, known := p.History().Begin(s.Timeline)
	switch {
	case !known:
		return 0, pgmedic.Errorf(pgmedic.KindUsage, hint, "segment %s is of timeline %d, which is not part of the recovery to timeline %d", name, s.Timeline, p.WAL.Timeline)
	case s.Start == end:
		return Absent, nil
	case s.Start > end:
		return 0, pgmedic.Errorf(pgmedic.KindUsage, hint, "segment %s is beyond the end of the recovery, %v", name, p.Through)
	case s.Timeline > right:
		// PostgreSQL asks for the newest timeline first: 12 also before it begins, and the
		// others for the segment in which it begins, of which the old timeline's can be all
		// that is stored. It goes on with the one before.
		return Absent, nil
	case s.Timeline < right:
		return 0, pgmedic.Errorf(pgmedic.KindUsage, hint, "segment %s is not part of the recovery, which is on timeline %d there", name, right)
	}
	return Needed, nil
}

// timeline returns that whose segment at a position the recovery reads: that of the plan,
// or else the newest one that has begun before the segment ends. It holds also what was
// before, as the server copied it.
func (p *Plan) timeline(start wal.LSN) wal.Timeline {
	for _, r := range p.WAL.Ranges {
		if p.size().Start(r.From) <= start && start < r.To {
			return r.Timeline
		}
	}
	t := p.WAL.Timeline
	for i := len(p.Switches) - 1; i >= 0 && p.size().Start(p.Switches[i].End) > start; i-- {
		t = p.Switches[i].Timeline
	}
	return t
}

// last returns the last byte that the recovery needs.
func (p *Plan) last() wal.LSN { return max(p.WAL.End, p.WAL.Base.Stop) - 1 }

// Next returns the names of the segments that the recovery reads after one, at most n, up
// to the last that it needs.
func (p *Plan) Next(name string, n int) (names []string) {
	s, err := p.size().Parse(name)
	if err != nil {
		return nil
	}
	for start := s.Start + wal.LSN(p.size()); start <= p.last() && len(names) < n && start > s.Start; start += wal.LSN(p.size()) {
		names = append(names, p.size().Name(wal.Segment{Timeline: p.timeline(start), Start: start}))
	}
	return names
}
