package wal

import (
	"fmt"
	"slices"
	"time"
)

// file is a segment on the way along a timeline, and up to where it can be used.
type file struct {
	Segment
	to LSN
}

// files returns the segments on the way along the planner's timeline from a position to
// another, between which WAL is stored without a gap. The segment in which a timeline
// begins is the new timeline's, which has what was before, too; where that is not stored
// it is the old one's.
func (p *planner) files(from, to LSN) (all []file) {
	size := LSN(p.in.SegmentSize)
	for at := p.in.SegmentSize.Start(from); at < to; at += size {
		best := file{}
		for _, span := range p.in.Spans {
			end, ok := p.history.End(span.Timeline)
			begin, _ := p.history.Begin(span.Timeline)
			if !ok || span.From > at || span.To <= at || p.in.SegmentSize.Start(begin) > at || end <= at {
				continue
			}
			f := file{Segment{span.Timeline, at}, min(span.To, end, to, at+size)}
			if f.to > best.to || f.to == best.to && f.Timeline > best.Timeline {
				best = f
			}
		}
		if best.to == 0 {
			break
		}
		all = append(all, best)
	}
	return all
}

// scan is what was read of the WAL from a base backup's start on.
type scan struct {
	p     *planner
	base  Base
	files []file

	// last and end are of the last record, ended and commit of the last ends of
	// transactions. They, and what follows, are of what is replayed.
	last, end LSN
	ended     *Ended
	commit    *Ended
	commits   int
	spaces    []Note
	unread    []Span
	// latest is the largest time at which a transaction ended: times can run back.
	latest time.Time
	// hit is true behind the target, where that is a position, a name or a base backup's
	// end.
	hit bool
	// next is the first end of a transaction that is left out, and others are restore
	// points behind the one that is meant.
	next   *Ended
	others []Point
	// broken says why the WAL can't be used to its end, where that is so, and cut is from
	// where on.
	broken string
	cut    LSN
	// prepares are the ends of records that prepare transactions, of those segments that
	// were read by their records.
	prepares []LSN
}

// settled reports whether nothing more needs to be read.
func (s *scan) settled() bool {
	switch s.p.target.Kind {
	case TargetTime:
		return s.next != nil
	case TargetLSN, TargetBackup:
		return s.hit && s.next != nil
	case TargetName, TargetEnd:
	}
	return false
}

// run reads the files in order.
func (s *scan) run() error {
	for i := 0; i < len(s.files) && !s.settled() && s.broken == ""; {
		if sum, ok := s.summary(s.files[i]); ok {
			s.add(sum)
			i++
			continue
		}
		j := i + 1
		for j < len(s.files) {
			if _, ok := s.summary(s.files[j]); ok {
				break
			}
			j++
		}
		limit := s.files[j-1].to
		stop, err := s.p.walk(s.files, i, j, func(r *Record) bool { return s.record(r, limit) })
		if err != nil {
			return err
		}
		if stop != nil {
			s.stopped(stop, limit)
		}
		i = j
	}
	return nil
}

// summary returns what an index says of a file, if that answers all that is asked. A
// record belongs to the segment in which it ends, and may begin before it.
func (s *scan) summary(f file) (Summary, bool) {
	// No summary has the transactions that were prepared: preparedBefore asks for them.
	if s.p.in.Summary == nil || f.to != f.Start+LSN(s.p.in.SegmentSize) || s.base.Start > f.Start || s.p.history.At(f.Start) != f.Timeline {
		return Summary{}, false
	}
	sum, ok := s.p.in.Summary(f.Segment)
	if !ok || !sum.Whole() {
		return Summary{}, false
	}
	if s.hit {
		return sum, s.next != nil || sum.Commits+sum.Aborts == 0
	}
	switch t := s.p.target; t.Kind {
	case TargetTime:
		ok = !sum.MaxEnd.After(t.Time)
	case TargetLSN:
		ok = sum.LastStart < t.LSN
	case TargetBackup:
		ok = sum.LastStart < s.base.Stop
	case TargetName:
		ok = !slices.ContainsFunc(sum.Notes, s.named)
	case TargetEnd:
	}
	return sum, ok && !slices.ContainsFunc(sum.Notes, func(n Note) bool { return n.Kind == ParameterChange && n.Level != nil && *n.Level == 0 })
}

func (s *scan) named(n Note) bool { return n.Kind == RestorePoint && n.Name == s.p.target.Name }

// add takes account of a segment by its summary.
func (s *scan) add(sum Summary) {
	if s.hit {
		for _, n := range sum.Notes {
			if s.p.target.Kind == TargetName && s.named(n) {
				s.others = append(s.others, Point{n.LSN, n.Time})
			}
		}
		return
	}
	if sum.LastEnd != nil {
		s.ended = sum.LastEnd
		s.at(sum.MaxEnd)
	}
	if sum.LastCommit != nil {
		s.commit = sum.LastCommit
	}
	s.commits += sum.Commits
	s.last, s.end = max(s.last, sum.LastStart), max(s.end, sum.End)
	for _, n := range sum.Notes {
		if n.Kind == TablespaceCreate {
			s.spaces = append(s.spaces, n)
		}
	}
}

func (s *scan) at(t time.Time) {
	if t.After(s.latest) {
		s.latest = t
	}
}

// walk calls record for the records that end in files[i:j], as PlanInputs.Walk does. It
// begins as many files before as a record takes that ends in the first of them.
func (p *planner) walk(files []file, i, j int, record func(*Record) bool) (*Stop, error) {
	start := files[i].Start
	for lead := 1; ; lead *= 2 {
		from := max(0, i-lead)
		segments := make([]Segment, 0, j-from)
		for _, f := range files[from:j] {
			segments = append(segments, f.Segment)
		}
		whole := from == 0 // what came before it does not matter
		stop, err := p.in.Walk(segments, func(r *Record) bool {
			whole = whole || r.Start < start
			if !whole || i > 0 && r.End <= start {
				return whole
			}
			return record(r)
		})
		if err != nil || whole || stop != nil {
			return stop, err
		}
	}
}

// stopped takes account of WAL that is not valid from a position on.
func (s *scan) stopped(stop *Stop, limit LSN) {
	if s.hit || s.settled() || s.broken != "" || stop.At >= limit {
		return
	}
	if stop.Reason != StopUnknown {
		s.broken, s.cut = "the stored WAL is damaged: "+stop.String(), stop.At
		return
	}
	s.unread = append(s.unread, Span{Timeline: s.p.history.At(stop.At), From: stop.At, To: limit})
	if s.p.target.Kind == TargetTime || s.p.target.Kind == TargetName {
		s.broken, s.cut = "what the WAL holds is not known: "+stop.String(), stop.At
	}
}

// record takes account of a record, and reports whether more are needed. One that ends
// behind limit is not stored whole, or is of a branch that is not followed.
func (s *scan) record(r *Record, limit LSN) bool {
	if switched := r.Resource == resourceXLOG && r.Info&0xf0 == xlogSwitch; r.Start >= limit || r.End > limit.Align() && !switched {
		return false
	}
	if r.Start < s.base.Start {
		return true
	}
	e, known := Decode(r)
	t := s.p.target
	if t.Kind == TargetBackup && r.Start >= s.base.Stop {
		s.hit = true
	}
	if s.hit {
		if known && e.Ends() && s.next == nil {
			s.next = endOf(e)
		}
		if known && t.Kind == TargetName && e.Kind == RestorePoint && e.Name == t.Name {
			s.others = append(s.others, Point{e.Start, e.Time})
		}
		return !s.settled()
	}
	if known && e.Kind == ParameterChange && e.Level == 0 {
		s.broken, s.cut = fmt.Sprintf("at %v wal_level was set to minimal, and PostgreSQL does not recover beyond that", r.Start), r.Start
		return false
	}
	if t.Kind == TargetTime && known && e.Ends() && e.Time.After(t.Time) {
		s.next = endOf(e)
		return false
	}
	s.last, s.end = r.Start, r.End
	switch {
	case known && e.Kind == Prepare:
		s.prepares = append(s.prepares, r.End)
	case known && e.Ends():
		s.ended = endOf(e)
		s.at(e.Time)
		if e.Committed() {
			s.commit, s.commits = s.ended, s.commits+1
		}
	case known && e.Kind == TablespaceCreate:
		s.spaces = append(s.spaces, noteOf(e))
	}
	s.hit = t.Kind == TargetLSN && r.Start >= t.LSN || t.Kind == TargetName && known && e.Kind == RestorePoint && e.Name == t.Name
	return true
}

// lastBefore returns the last end of a transaction before a base backup's start, in what
// is stored without a gap before it, or nil.
func (p *planner) lastBefore(b Base) (last *Ended, err error) {
	path := p.in.Path(p.timeline)
	i := slices.IndexFunc(path, func(s Span) bool { return s.From <= b.Start && b.Start <= s.To })
	if i < 0 {
		return nil, nil
	}
	files := p.files(path[i].From, b.Start)
	for k := len(files) - 1; k >= 0 && last == nil; k-- {
		if p.in.Summary != nil && files[k].to == files[k].Start+LSN(p.in.SegmentSize) {
			if sum, ok := p.in.Summary(files[k].Segment); ok && sum.Whole() {
				last = sum.LastEnd
				continue
			}
		}
		if _, err = p.walk(files, k, k+1, func(r *Record) bool {
			if r.Start >= b.Start || r.End > files[k].to.Align() {
				return false
			}
			if e, ok := Decode(r); ok && e.Ends() {
				last = endOf(e)
			}
			return true
		}); err != nil {
			return nil, err
		}
	}
	return last, nil
}
