package archive

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// Index is what is known of the segments of an archive without reading them. It is read as
// it is needed, and a few objects of it are in memory at a time. It is not safe for
// concurrent use.
type Index struct {
	f      *Fetcher
	s      *Survey
	epochs map[string]*indexEpoch
	// kept are the objects that are in memory, the last one used at the end.
	kept []keptIndex
	// Problems are sentences about what of the index is not used.
	Problems []string
}

// indexEpoch is the index of one epoch.
type indexEpoch struct {
	objects []indexObject
	// covers are of each object the first and the last segment that it has, once it was
	// read, and read says whether it was.
	covers [][2]wal.Segment
	read   []bool
}

// keptIndex is an object of the index in memory.
type keptIndex struct {
	epoch string
	i     int
	lines []wal.Summary
}

// keptObjects is how many objects of the index are in memory: a plan goes from one to the
// next.
const keptObjects = 8

// NewIndex returns the index of what a survey of the same archive found.
func (f *Fetcher) NewIndex(s *Survey) *Index {
	return &Index{f: f, s: s, epochs: map[string]*indexEpoch{}}
}

// Summary returns what the index says of a segment that is stored. It is false where
// nothing in the index does that can be relied on: where it is missing, damaged, not by
// the key of its epoch, or about other bytes than are stored under the segment's name.
func (x *Index) Summary(ctx context.Context, segment wal.Segment) (wal.Summary, bool) {
	at, ok := x.s.found.segments[segment]
	if !ok || at.split {
		return wal.Summary{}, false
	}
	name := x.s.SegmentSize.Name(segment)
	// An epoch begins with what the one before it ended with.
	for i := int(at.epoch); i < len(x.s.found.ids) && i <= int(at.epoch)+1; i++ {
		for _, line := range x.find(ctx, x.s.found.ids[i], segment) {
			if line.Segment == name && strings.HasPrefix(line.SHA256, at.hash.String()) && line.Start == segment.Start {
				return line, true
			}
		}
	}
	return wal.Summary{}, false
}

// epoch returns the index of an epoch. Without its key there is none.
func (x *Index) epoch(ctx context.Context, id string) *indexEpoch {
	e, ok := x.epochs[id]
	if ok {
		return e
	}
	e = &indexEpoch{}
	x.epochs[id] = e
	for _, o := range x.s.found.indexes[id] {
		if o.stored && o.proof != "" { // else its writer was killed
			e.objects = append(e.objects, o)
		}
	}
	if len(e.objects) > 0 {
		// Once, and not for each object.
		if _, err := x.f.key(ctx, id, e.objects[0].seal); err != nil {
			x.problem("the index of epoch %s is not used: %s", id, err)
			e.objects = nil
		}
	}
	slices.SortFunc(e.objects, func(a, b indexObject) int { return cmp.Compare(a.seq, b.seq) })
	e.covers, e.read = make([][2]wal.Segment, len(e.objects)), make([]bool, len(e.objects))
	return e
}

// find returns the lines that may be of a segment. Objects were written in the order of the
// WAL, but for segments that were stored a little later than the next ones; and a new
// timeline begins before where the last one was left.
func (x *Index) find(ctx context.Context, id string, segment wal.Segment) (lines []wal.Summary) {
	e := x.epoch(ctx, id)
	n := len(e.objects)
	i := sort.Search(n, func(i int) bool {
		x.load(ctx, id, e, i)
		return !before(e.covers[i][1], segment)
	})
	for _, near := range []int{0, i, i + 1, n - 1} {
		if near >= 0 && near < n && !e.read[near] {
			x.load(ctx, id, e, near)
		}
	}
	for i := range e.objects {
		if !e.read[i] && e.mixed() {
			x.load(ctx, id, e, i)
		}
		if cover := e.covers[i]; cover[0].Timeline != 0 && !before(segment, cover[0]) && !before(cover[1], segment) {
			lines = append(lines, x.load(ctx, id, e, i)...)
		}
	}
	return lines
}

// mixed reports whether a search among the objects may miss one: some are damaged, or of
// another timeline than others.
func (e *indexEpoch) mixed() bool {
	timelines := map[wal.Timeline]bool{}
	for i, cover := range e.covers {
		if e.read[i] {
			timelines[cover[0].Timeline], timelines[cover[1].Timeline] = true, true
		}
	}
	return len(timelines) > 1 || timelines[0]
}

// all returns the lines of an epoch's index, by the names of the segments.
func (x *Index) all(ctx context.Context, id string) iter.Seq2[string, wal.Summary] {
	return func(yield func(string, wal.Summary) bool) {
		e := x.epoch(ctx, id)
		for i := range e.objects {
			for _, line := range x.load(ctx, id, e, i) {
				if !yield(line.Segment, line) {
					return
				}
			}
		}
	}
}

// before reports whether a segment was written before another one.
func before(a, b wal.Segment) bool {
	return a.Timeline < b.Timeline || a.Timeline == b.Timeline && a.Start < b.Start
}

// load returns the lines of an object, or none if it is not what it should be.
func (x *Index) load(ctx context.Context, id string, e *indexEpoch, i int) []wal.Summary {
	if k := slices.IndexFunc(x.kept, func(kept keptIndex) bool { return kept.epoch == id && kept.i == i }); k >= 0 {
		kept := x.kept[k]
		x.kept = append(slices.Delete(x.kept, k, k+1), kept)
		return kept.lines
	}
	if e.read[i] && e.covers[i][0].Timeline == 0 {
		return nil // it is damaged
	}
	lines, err := x.f.index(ctx, id, e.objects[i])
	if err != nil {
		x.problem("index %06d of epoch %s is not used, and the segments are read instead: %s", e.objects[i].seq, id, err)
	}
	if !e.read[i] {
		e.read[i], e.covers[i] = true, coverOf(lines, x.s.SegmentSize)
	}
	if len(x.kept) >= keptObjects {
		x.kept = slices.Delete(x.kept, 0, 1)
	}
	x.kept = append(x.kept, keptIndex{id, i, lines})
	return lines
}

// coverOf returns the first and the last segment of some lines.
func coverOf(lines []wal.Summary, size wal.SegmentSize) (cover [2]wal.Segment) {
	for _, line := range lines {
		s, err := size.Parse(line.Segment)
		if err != nil {
			continue
		}
		if cover[0].Timeline == 0 || before(s, cover[0]) {
			cover[0] = s
		}
		if before(cover[1], s) {
			cover[1] = s
		}
	}
	return cover
}

func (x *Index) problem(format string, args ...any) {
	if len(x.Problems) < maxOdd {
		x.Problems = append(x.Problems, fmt.Sprintf(format, args...))
	}
}

// maxBaseSegments is how many segments of the WAL of one base backup LatestEnd looks up, our
// choice: 4 GiB of 16 MiB each, so that a status stays a matter of a second.
const maxBaseSegments = 256

// LatestEnd returns the largest time at which a transaction ended in the segments from
// the one of a position to that of another, along a timeline, and where the last of them
// ends. It is false where the index does not say that of each of them, where there are more
// than maxBaseSegments, and where none ended in them.
func (x *Index) LatestEnd(ctx context.Context, t wal.Timeline, from, to wal.LSN) (m wal.Mark, ok bool) {
	h, size := x.s.history(t), wal.LSN(x.s.SegmentSize)
	first, last := x.s.SegmentSize.Start(from), x.s.SegmentSize.Start(max(from, to-1))
	if (last-first)/size >= maxBaseSegments {
		return m, false
	}
	for at := first; at <= last; at += size {
		sum, known := x.Summary(ctx, wal.Segment{Timeline: h.At(at), Start: at})
		// A record that ends in the first, and began before it, is not replayed.
		if !known || sum.Stopped != nil || sum.Headless && at > first {
			return m, false
		}
		if sum.MaxEnd.After(m.Time) {
			m.Time = sum.MaxEnd
		}
	}
	m.Timeline, m.LSN, m.Since = h.At(last), last+size, first
	return m, !m.Time.IsZero()
}

// LastCommit returns the last commit that the index knows of before a position, along a
// timeline. It looks at no more than two epochs before it.
func (x *Index) LastCommit(ctx context.Context, t wal.Timeline, before wal.LSN) (m wal.Mark, ok bool) {
	h := x.s.history(t)
	epochs := map[int32]bool{}
	for at := x.s.SegmentSize.Start(before - 1); ; at -= wal.LSN(x.s.SegmentSize) {
		on := h.At(at)
		stored, there := x.s.found.segments[wal.Segment{Timeline: on, Start: at}]
		if there {
			epochs[stored.epoch] = true
		}
		if len(epochs) > 2 {
			return m, false
		}
		sum, known := x.Summary(ctx, wal.Segment{Timeline: on, Start: at})
		if end, _ := h.End(on); known && sum.LastCommit != nil && sum.LastCommit.End <= min(before, end) {
			return wal.Mark{Timeline: on, LSN: sum.LastCommit.End, Time: sum.LastCommit.Time}, true
		}
		tail := len(x.s.found.tails[wal.Segment{Timeline: on, Start: at}]) > 0
		if !there && !tail || at < wal.LSN(x.s.SegmentSize) {
			return m, false
		}
	}
}

// RestorePoint is one of pg_create_restore_point.
type RestorePoint struct {
	Name     string
	Timeline wal.Timeline
	// LSN and End are where its record begins and ends.
	LSN, End wal.LSN
	Time     time.Time
}

// maxPointObjects is of how many objects of the index RestorePoints are read, our choice:
// with 16 MiB a segment they are of 250 GiB of WAL.
const maxPointObjects = 256

// RestorePoints returns the restore points that the index knows of, in the newest WAL first.
func (x *Index) RestorePoints(ctx context.Context) (points []RestorePoint) {
	read := 0
	for _, id := range slices.Backward(x.s.found.ids) {
		e := x.epoch(ctx, id)
		for i := range slices.Backward(e.objects) {
			if read++; read > maxPointObjects || ctx.Err() != nil {
				return points
			}
			for _, line := range slices.Backward(x.load(ctx, id, e, i)) {
				s, err := x.s.SegmentSize.Parse(line.Segment)
				at, stored := x.s.found.segments[s]
				if err != nil || !stored || at.split || !strings.HasPrefix(line.SHA256, at.hash.String()) {
					continue // it is about other bytes
				}
				for _, n := range slices.Backward(line.Notes) {
					if n.Kind == wal.RestorePoint {
						points = append(points, RestorePoint{n.Name, s.Timeline, n.LSN, n.End, n.Time})
					}
				}
			}
		}
	}
	return points
}
