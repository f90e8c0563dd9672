package archive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// Survey is what a listing of an archive shows. It takes no key.
type Survey struct {
	wal.Stored
	// Epochs are those whose epoch.json could be read, oldest first.
	Epochs []EpochInfo
	// Seen are the observations, and Gaps what was recorded to be lost: what Stored.Gaps
	// returns is missing whether that was recorded or not.
	Seen []wal.Observation
	Gaps []wal.Gap
	// Listed is the highest position of each timeline that any name says, of segments, of
	// tails and of gaps, whether what is there can be used or not.
	Listed map[wal.Timeline]wal.LSN
	// Bases are the base backups that were taken, as the WAL says. Those of standbys are
	// not among them.
	Bases []wal.Base
	// Split are the names of segments that are there with different content: two servers
	// wrote on one timeline. Neither is used.
	Split []string
	// Promoted are the timelines of which there are histories that differ: two servers
	// were promoted to one number.
	Promoted []wal.Timeline
	// Odd are sentences about what is not as it should be.
	Odd []string
	// Objects and SizeBytes are of everything in the archive, as far as its names are known.
	Objects   int
	SizeBytes int64

	found collected
}

// maxOdd is how many sentences a Survey has.
const maxOdd = 20

func (s *Survey) odd(format string, args ...any) {
	if len(s.Odd) < maxOdd {
		s.Odd = append(s.Odd, fmt.Sprintf(format, args...))
	}
}

// stored is a segment of which at least one object is whole.
type stored struct {
	hash   hash
	split  bool
	suffix suffix
	// epoch is the place of the epoch in collected.ids.
	epoch int32
}

// suffix is the end of an object's name, in a byte.
type suffix uint8

func suffixOf(o seal.Options) (s suffix) {
	switch o.Compression {
	case seal.CompressionGzip:
		s = 1
	case seal.CompressionZstd:
		s = 2
	}
	if o.Encryption == seal.EncryptionAge {
		s |= 4
	}
	return s
}

func (s suffix) text() string {
	text := [...]string{"", ".gz", ".zst", ""}[s&3]
	if s&4 != 0 {
		text += ".age"
	}
	return text
}

// collected is what a listing is turned into.
type collected struct {
	segments map[wal.Segment]stored
	tails    map[wal.Segment][]Part
	// ids are the epochs that are counted, in order, and indexes the objects of their index, by
	// their numbers.
	ids     []string
	indexes map[string]map[int]indexObject
	// small are the objects of which more counts than the name.
	small []smallObject
}

// smallObject is a history or a gap in the epoch with the place in collected.ids.
type smallObject struct {
	epoch int32
	name  string
	object
}

// Survey lists the archive. It keeps some 50 bytes a segment.
func (a *Archive) Survey(ctx context.Context) (*Survey, error) {
	s := &Survey{Listed: map[wal.Timeline]wal.LSN{}}
	found := &collected{segments: map[wal.Segment]stored{}, tails: map[wal.Segment][]Part{}, indexes: map[string]map[int]indexObject{}}
	all, err := a.readEpochs(ctx)
	if err != nil {
		return nil, err
	}
	var lists []func(context.Context) iter.Seq2[store.Object, error]
	for _, e := range all {
		size := wal.SegmentSize(e.info.SegmentBytes)
		switch {
		case e.bare:
			continue
		case e.damaged:
			s.odd("%s of epoch %s is missing or damaged: what it holds is not counted", epochFile, e.id)
			continue
		case s.SegmentSize != 0 && s.SegmentSize != size:
			s.odd("epoch %s has segments of %d bytes, and those before it of %d: it is not counted", e.id, size, s.SegmentSize)
			continue
		}
		s.SegmentSize = size
		s.Epochs = append(s.Epochs, e.info)
		found.ids = append(found.ids, e.id)
		lists = append(lists, func(ctx context.Context) iter.Seq2[store.Object, error] { return a.entries(ctx, e.id) })
	}
	// A run has an epoch a day, and a day can have many pages of a bucket's listing.
	places := map[string]int32{}
	for i, id := range found.ids {
		places[id] = int32(i)
	}
	for entry, err := range store.Together(ctx, epochsAtOnce, lists...) {
		if err != nil {
			return nil, err
		}
		id, name, _ := strings.Cut(strings.TrimPrefix(entry.Key, a.folder), "/")
		s.take(found, places[id], name, entry)
	}
	if err := a.readSmall(ctx, s, found); err != nil {
		return nil, err
	}
	// Ids tell seconds only.
	slices.SortStableFunc(s.Epochs, func(a, b EpochInfo) int { return a.StartedAt.Compare(b.StartedAt) })
	s.fill(*found)
	return s, nil
}

// epochRead is what was found of an epoch.
type epochRead struct {
	id   string
	info EpochInfo
	// bare is true where nothing is missing, since there is nothing but keys, and damaged where
	// it can't be told what is there.
	bare, damaged bool
}

// readEpochs reads what each epoch is, in the order of their ids.
func (a *Archive) readEpochs(ctx context.Context) ([]epochRead, error) {
	ids, err := a.epochs(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]epochRead, len(ids))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(epochsAtOnce)
	for i, id := range ids {
		group.Go(func() (err error) {
			all[i], err = a.readOne(groupCtx, id)
			return err
		})
	}
	return all, group.Wait()
}

func (a *Archive) readOne(ctx context.Context, id string) (e epochRead, err error) {
	e.id = id
	e.info, err = a.readEpoch(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		if e.bare, err = a.Bare(ctx, id); e.bare || err != nil {
			return e, err
		}
		e.info, err = a.readEpoch(ctx, id) // it may have been begun just now
	}
	if errors.Is(err, store.ErrNotFound) || pgmedic.KindOf(err) == pgmedic.KindIntegrity {
		e.damaged, err = true, nil
	}
	return e, err
}

// take takes account of an object of the epoch with the given place in collected.ids. Objects
// come in no order.
func (s *Survey) take(found *collected, at int32, name string, entry store.Object) {
	s.Objects++
	s.SizeBytes += entry.SizeBytes
	o, ok := parse(name, s.SegmentSize)
	if !ok {
		found.noteIndex(found.ids[at], name)
		return
	}
	if o.to > 0 {
		s.Listed[o.timeline] = max(s.Listed[o.timeline], o.to)
	}
	switch o.kind {
	case kindSegment:
		found.noteSegment(o, at)
	case kindTail:
		found.tails[o.segment] = append(found.tails[o.segment], Part{o.from, o.to, o.hash})
	case kindHistory, kindGap:
		found.small = append(found.small, smallObject{at, name, o})
	case kindSeen:
		o.seen.At = entry.ModifiedAt
		s.Seen = append(s.Seen, o.seen)
	case kindBase:
		if !slices.Contains(s.Bases, o.base) {
			s.Bases = append(s.Bases, o.base)
		}
	}
}

// noteSegment takes account of a segment: of several objects that hold the same the one in the
// newest epoch counts.
func (c *collected) noteSegment(o object, at int32) {
	now := stored{hash: o.hash, suffix: suffixOf(o.seal), epoch: at}
	if before, there := c.segments[o.segment]; there {
		now.split = before.split || before.hash != now.hash
		if before.epoch > at || before.epoch == at && before.suffix > now.suffix {
			now.hash, now.suffix, now.epoch = before.hash, before.suffix, before.epoch
		}
	}
	c.segments[o.segment] = now
}

// readSmall reads the histories and the gaps that were listed, in the order of their epochs.
func (a *Archive) readSmall(ctx context.Context, s *Survey, found *collected) error {
	slices.SortFunc(found.small, func(a, b smallObject) int { return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.name, b.name)) })
	for _, small := range found.small {
		id := found.ids[small.epoch]
		if small.kind == kindHistory {
			if err := a.addHistory(ctx, s, id, small.timeline); err != nil {
				return err
			}
			continue
		}
		g, err := a.readGap(ctx, id+"/"+small.name, small.object)
		if err != nil {
			return err
		}
		s.Gaps = append(s.Gaps, g)
	}
	slices.SortFunc(s.Bases, func(a, b wal.Base) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Stop, b.Stop), cmp.Compare(a.Timeline, b.Timeline))
	})
	return nil
}

// readGap reads why WAL is lost. That it is lost is in the name.
func (a *Archive) readGap(ctx context.Context, name string, o object) (wal.Gap, error) {
	g := wal.Gap{Timeline: o.timeline, From: o.from, To: o.to}
	text, err := a.read(ctx, name, maxSmall)
	if err != nil && pgmedic.KindOf(err) != pgmedic.KindIntegrity {
		return g, fmt.Errorf("read a gap of the WAL: %w", err)
	}
	var content struct{ Reason string }
	if json.Unmarshal(text, &content) == nil {
		g.Why = content.Reason
	}
	return g, nil
}

// fill makes spans of what was listed. The tails of a segment that is there whole, or
// twice, say nothing more.
func (s *Survey) fill(found collected) {
	s.found = found
	for segment, at := range found.segments {
		if at.split {
			s.Split = append(s.Split, s.SegmentSize.Name(segment))
			continue
		}
		s.Spans = append(s.Spans, wal.Span{Timeline: segment.Timeline, From: segment.Start, To: segment.Start + wal.LSN(s.SegmentSize)})
	}
	for segment, tails := range found.tails {
		if _, whole := found.segments[segment]; whole {
			continue
		}
		// Only what is there from the segment's start on can be used.
		spans := make([]wal.Span, 0, len(tails))
		for _, p := range tails {
			spans = append(spans, wal.Span{Timeline: segment.Timeline, From: p.From, To: p.To})
		}
		for _, span := range wal.MergeSpans(spans) {
			if span.From == segment.Start {
				s.Spans = append(s.Spans, span)
			}
		}
	}
	s.Spans = wal.MergeSpans(s.Spans)
	s.dropHistories()
	s.Seen = thin(s.Seen, s.Spans)
	slices.Sort(s.Split)
}

const (
	// recentSeen is how many of the newest observations are kept: two days.
	recentSeen = 2 * 24 * 60
	// seenPer is how long one of those before stands for: a base backup's end is dated by
	// the next one.
	seenPer = time.Hour
)

// thin returns what of the observations matters: the newest, one an hour of the others, and
// the last one before the end of each span.
func thin(seen []wal.Observation, spans []wal.Span) []wal.Observation {
	slices.SortFunc(seen, func(a, b wal.Observation) int {
		return cmp.Or(a.At.Compare(b.At), a.Time.Compare(b.Time), cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.LSN, b.LSN))
	})
	if len(seen) <= recentSeen {
		return seen
	}
	last := map[wal.Span]int{}
	for i, o := range seen {
		for _, span := range spans {
			if best, ok := last[span]; o.Timeline == span.Timeline && o.LSN <= span.To && (!ok || !o.Time.Before(seen[best].Time)) {
				last[span] = i
			}
		}
	}
	ends := map[int]bool{}
	for _, i := range last {
		ends[i] = true
	}
	var kept []wal.Observation
	hours := map[wal.Timeline]int64{}
	for i, o := range seen {
		hour := o.Time.Unix() / int64(seenPer/time.Second)
		if before, ok := hours[o.Timeline]; !ok || before != hour || ends[i] || i >= len(seen)-recentSeen {
			kept = append(kept, o)
		}
		hours[o.Timeline] = hour
	}
	return kept
}

// Counts reports whether an observation is among those of Seen.
func (s *Survey) Counts(o Object) bool {
	i, found := slices.BinarySearchFunc(s.Seen, o, func(seen wal.Observation, o Object) int {
		return cmp.Compare(seen.At.UnixNano(), o.ModifiedAt.UnixNano())
	})
	for ; found && i < len(s.Seen) && s.Seen[i].At.Equal(o.ModifiedAt); i++ {
		if one := s.Seen[i]; one.Time.Equal(o.Seen) && one.Timeline == o.Timeline && one.LSN == o.From {
			return true
		}
	}
	return false
}

// Limit is how old an observation may be that still says how far the server is: one is
// stored each minute, and may take as long as WAL may, but at least another minute.
func (s *Survey) Limit() time.Duration {
	const least = time.Minute
	if n := len(s.Epochs); n > 0 {
		const most = 24 * 60 * 60 // seconds
		delay := time.Duration(min(max(s.Epochs[n-1].MaxDelaySeconds, 0), most) * float64(time.Second))
		return SeenEvery + max(3*delay, least)
	}
	return SeenEvery + least
}

// SeenEvery is how often it is stored how far the server is.
const SeenEvery = time.Minute

// Inputs are what the survey says, for judging it.
func (s *Survey) Inputs() wal.Inputs {
	in := wal.Inputs{Stored: s.Stored, Bases: s.Bases, Seen: s.Seen, Lost: s.Gaps}
	for _, name := range s.Split {
		in.Contradictions = append(in.Contradictions, fmt.Sprintf("segment %s is stored with different content: two servers wrote on one timeline", name))
	}
	for _, t := range s.Promoted {
		in.Contradictions = append(in.Contradictions, fmt.Sprintf("there are two histories of timeline %d that differ: two servers were promoted", t))
	}
	return in
}

// Resume is where streaming goes on.
type Resume struct {
	// Found is false where nothing is stored of what the server's timeline came from.
	Found bool
	// Timeline and From are where to begin: the start of a segment.
	Timeline wal.Timeline
	From     wal.LSN
	// Until is up to where WAL is stored: From, or a position in its segment.
	Until wal.LSN
}

// Contradicts returns a timeline of a server's history that has another past in the
// archive, or 0: then the server is not the one that the WAL came from.
func (s *Survey) Contradicts(h wal.History) wal.Timeline {
	for i := 0; i <= len(h.Switches); i++ {
		t := h.Timeline
		if i < len(h.Switches) {
			t = h.Switches[i].Timeline
		}
		for _, known := range s.Histories {
			if known.Timeline == t && (!slices.Equal(known.Switches, h.Switches[:i]) || slices.Contains(s.Promoted, t)) {
				return t
			}
		}
	}
	return 0
}

// Resume returns where streaming goes on from a server on the timeline with the given
// history. An epoch is written without a gap from where it began, if not in that order:
// what is stored behind something that is missing comes again.
func (s *Survey) Resume(h wal.History) Resume {
	known := s.Stored
	known.Histories = append([]wal.History{h}, known.Histories...)
	path := known.Path(h.Timeline)
	from, found := wal.LSN(0), false
	if n := len(path); n > 0 {
		from, found = path[n-1].From, true
	}
	// What a server hands over itself comes in any order.
	for i := len(s.Epochs) - 1; i >= 0; i-- {
		last := s.Epochs[i]
		if last.Writer == WriterPush {
			continue
		}
		if end, ok := h.End(last.Timeline); ok && last.From <= end {
			from, found = last.From, true
		}
		break
	}
	if !found {
		return Resume{}
	}
	until := known.Reach(h.Timeline, from)
	return Resume{Found: true, Timeline: h.At(until), From: s.SegmentSize.Start(until), Until: until}
}

// Overlap returns where streaming goes on so that the last of what is stored comes again,
// to be compared: a Resume at the end of a whole segment begins with that one.
func (s *Survey) Overlap(r Resume, h wal.History) Resume {
	if !r.Found || r.Until != r.From || r.From < wal.LSN(s.SegmentSize) {
		return r
	}
	last := s.SegmentSize.Segment(h.At(r.Until-1), r.Until-1)
	if at, whole := s.found.segments[last]; whole && !at.split {
		r.Timeline, r.From = last.Timeline, last.Start
	}
	return r
}

// Part is a stored range of one segment: all of it, or a tail.
type Part struct {
	From, To wal.LSN
	hash     hash
}

// Is reports whether these bytes are what is stored.
func (p Part) Is(plain []byte) bool { return hashOf(plain) == p.hash }

// Parts returns what is stored of the segments of a timeline from a position on, by where
// each segment starts.
func (s *Survey) Parts(t wal.Timeline, from wal.LSN) map[wal.LSN][]Part {
	parts := map[wal.LSN][]Part{}
	for segment, tails := range s.found.tails {
		if segment.Timeline == t && segment.Start >= from {
			parts[segment.Start] = append(parts[segment.Start], tails...)
		}
	}
	for segment, at := range s.found.segments {
		if segment.Timeline == t && segment.Start >= from && !at.split {
			parts[segment.Start] = append(parts[segment.Start], Part{segment.Start, segment.Start + wal.LSN(s.SegmentSize), at.hash})
		}
	}
	return parts
}
