package wal

import (
	"slices"
	"time"
)

// maxNoted is how many events of a segment are listed: what a segment of 16 MiB has
// when something truncates tables without end.
const maxNoted = 10000

// Summary is what the records of one segment say: a line of an archive's index.
type Summary struct {
	// Segment is its name, and SHA256 that of its plain bytes, in hex.
	Segment string `json:"segment"`
	SHA256  string `json:"sha256,omitempty"`
	// Start is the segment's, and End that of the last whole record that ends in it: 0
	// where none does.
	Start LSN `json:"start"`
	End   LSN `json:"end,omitempty"`
	// LastStart is where that record begins, which can be in a segment before this one.
	LastStart LSN `json:"last_start,omitempty"`
	// Commits and Aborts are the numbers of transactions that end in the segment. Their
	// times are by the server's clock, which may run back: MaxCommit is the largest.
	Commits     int       `json:"commits,omitempty"`
	Aborts      int       `json:"aborts,omitempty"`
	FirstCommit time.Time `json:"first_commit,omitzero"`
	MaxCommit   time.Time `json:"max_commit,omitzero"`
	// MaxEnd is the largest time at which a transaction ended, by a commit or an abort:
	// a recovery to an earlier time stops in the segment, or before it.
	MaxEnd time.Time `json:"max_end,omitzero"`
	// LastEnd is the last end of a transaction, and LastCommit that of one that commits.
	LastEnd    *Ended `json:"last_end,omitempty"`
	LastCommit *Ended `json:"last_commit,omitempty"`
	// Notes are the other events, in order.
	Notes []Note `json:"notes,omitempty"`
	// NotListed is the number of events that are not among Notes because there are too
	// many.
	NotListed int `json:"not_listed,omitempty"`
	// Headless is true where a record ends in the segment that began before what was read,
	// so that nothing is known of it.
	Headless bool `json:"headless,omitempty"`
	// Stopped says why the segment was not read to its end, where it was not.
	Stopped *Stop `json:"stopped,omitempty"`
}

// Whole reports whether the summary has all that the segment's records say.
func (s *Summary) Whole() bool { return !s.Headless && s.Stopped == nil && s.NotListed == 0 }

// Note is an event of a Summary.
type Note struct {
	Kind EventKind `json:"kind"`
	LSN  LSN       `json:"lsn"`
	End  LSN       `json:"end"`
	Time time.Time `json:"time,omitzero"`
	// Name, OID, Relation, Block, Flags, On, Level and From are those of the Event.
	Name     string     `json:"name,omitempty"`
	OID      uint32     `json:"oid,omitempty"`
	Relation *[3]uint32 `json:"relation,omitempty"`
	Block    *uint32    `json:"block,omitempty"`
	Flags    uint32     `json:"flags,omitempty"`
	On       *bool      `json:"on,omitempty"`
	Level    *uint32    `json:"level,omitempty"`
	From     LSN        `json:"from,omitempty"`
}

// Add takes account of an event. Checkpoints and switches are not listed.
func (s *Summary) Add(e Event) {
	if e.Ends() {
		s.ended(e)
		return
	}
	switch e.Kind {
	case Checkpoint, SegmentSwitch, Prepare:
		return
	}
	if len(s.Notes) >= maxNoted {
		s.NotListed++
		return
	}
	s.Notes = append(s.Notes, noteOf(e))
}

func noteOf(e Event) Note {
	n := Note{Kind: e.Kind, LSN: e.Start, End: e.End, Time: e.Time, Name: e.Name, OID: e.OID, From: e.From, Flags: e.Flags}
	switch e.Kind {
	case Truncate:
		n.Relation, n.Block = &[3]uint32{e.Relation.Tablespace, e.Relation.Database, e.Relation.Number}, &e.Block
	case FullPageWrites:
		n.On = &e.On
	case ParameterChange:
		n.Level = &e.Level
	}
	return n
}

func (s *Summary) ended(e Event) {
	if e.Time.After(s.MaxEnd) {
		s.MaxEnd = e.Time
	}
	s.LastEnd = endOf(e)
	if !e.Committed() {
		s.Aborts++
		return
	}
	if s.Commits++; s.Commits == 1 {
		s.FirstCommit = e.Time
	}
	s.LastCommit = s.LastEnd
	if e.Time.After(s.MaxCommit) {
		s.MaxCommit = e.Time
	}
}

// Indexer makes the Summaries of consecutive segments of one timeline out of their
// bytes. Where the WAL of one can't be read it goes on with the next.
type Indexer struct {
	o      WalkerOptions
	event  func(Event)
	walker *Walker
	sum    Summary
	done   []Summary
	tli    Timeline
	// fresh is true up to the end of the record within which the walker began.
	fresh bool
}

// NewIndexer returns an Indexer of the segments of a timeline from the one on that
// begins at o.Start. Record is not used; event is called for each event, and may be nil.
func NewIndexer(t Timeline, o WalkerOptions, event func(Event)) (*Indexer, error) {
	x := &Indexer{tli: t, event: event}
	o.Record = x.record
	x.o = o
	var err error
	x.walker, err = NewWalker(o)
	x.begin(o.Start)
	x.fresh = true
	return x, err
}

func (x *Indexer) record(r *Record) {
	x.sum.LastStart = r.Start
	e, ok := Decode(r)
	if !ok {
		return
	}
	x.sum.Add(e)
	if x.event != nil {
		x.event(e)
	}
}

func (x *Indexer) begin(at LSN) {
	x.sum, x.fresh = Summary{Segment: x.o.SegmentSize.Name(Segment{x.tli, at}), Start: at}, false
}

// Write reads the bytes that follow those written before. It never fails.
func (x *Indexer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		next := x.o.SegmentSize.Start(x.walker.Position()) + LSN(x.o.SegmentSize)
		k := int(min(uint64(len(p)), uint64(next-x.walker.Position())))
		_, _ = x.walker.Write(p[:k]) // which never fails
		if p = p[k:]; x.walker.Position() == next {
			x.done = append(x.done, x.Current())
			stopped := x.walker.Stopped() != nil
			if stopped {
				x.o.Start = next
				if walker, err := NewWalker(x.o); err == nil { // as the first was
					x.walker = walker
				}
			}
			x.begin(next)
			x.fresh = stopped || x.walker.rest > 0
		}
	}
	return n, nil
}

// Position returns where the next byte that is written lies.
func (x *Indexer) Position() LSN { return x.walker.Position() }

// Stopped returns why the rest of the segment that is being written is not read, or nil.
func (x *Indexer) Stopped() *Stop { return x.walker.Stopped() }

// Current returns the Summary of the segment that is being written, as far as it goes.
func (x *Indexer) Current() Summary {
	s := x.sum
	s.Notes = slices.Clone(s.Notes)
	// A record that begins in a segment belongs to that in which it ends.
	if end := x.walker.End(); end > s.Start {
		s.End = end
	}
	s.Headless = x.fresh && x.walker.headless
	s.Stopped = x.walker.Stopped()
	return s
}

// Done returns the Summaries of the segments that were written whole since the last
// call.
func (x *Indexer) Done() []Summary {
	done := x.done
	x.done = nil
	return done
}
