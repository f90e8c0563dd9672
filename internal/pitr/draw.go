package pitr

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/wal"
)

const (
	// edgeShare is of how many draws one is an edge of the windows.
	edgeShare = 8
	// pointShare is of how many of the others one is a restore point, where there are any.
	pointShare = 8
	// newest is the time in which half of the other draws fall: what is needed most.
	newest = 24 * time.Hour
)

// DrawOptions say what a random moment is drawn from.
type DrawOptions struct {
	// Windows are those to which the cluster can be recovered.
	Windows []wal.Window
	// Points are the restore points in them.
	Points []archive.RestorePoint
	// Histories say where timelines begin.
	Histories []wal.History
	// Since leaves out what is earlier. Zero means no limit.
	Since time.Time
	// Seed determines the draw, of the same windows.
	Seed uint64
}

// Drawn is a random moment, and how it was drawn, in words.
type Drawn struct {
	Target wal.Target
	How    string
}

// span is a stretch of time on a timeline.
type span struct {
	timeline wal.Timeline
	from, to time.Time
}

// Draw draws a moment: uniformly over the time of all windows, half of the draws within
// the last 24 hours of them, one in eight an edge (see edges), and of the others one in eight
// a restore point, where there are any. Without a window in the time that is asked for it is a
// pgmedic.KindNotFound error.
func Draw(o DrawOptions) (Drawn, error) {
	spans, edges := o.spans(), o.edges()
	if len(edges) == 0 {
		return Drawn{}, pgmedic.Errorf(pgmedic.KindNotFound, "see `pgmedic wal status` for what can be reached", "there is no moment to draw: nothing can be recovered in the time that was asked for")
	}
	r := rand.New(rand.NewPCG(o.Seed, 0)) // a draw that can be repeated
	if len(spans) == 0 || r.IntN(edgeShare) == 0 {
		return edges[r.IntN(len(edges))], nil
	}
	points := slices.DeleteFunc(slices.Clone(o.Points), func(p archive.RestorePoint) bool { return p.Time.Before(o.Since) })
	if len(points) > 0 && r.IntN(pointShare) == 0 {
		p := points[r.IntN(len(points))]
		return Drawn{wal.Target{Kind: wal.TargetName, Timeline: p.Timeline, Name: p.Name}, "one of the restore points"}, nil
	}
	how := "uniformly over the time that can be recovered"
	if r.IntN(2) == 0 {
		end := slices.MaxFunc(spans, func(a, b span) int { return a.to.Compare(b.to) }).to
		how = "uniformly over the last 24 hours that can be recovered"
		for i := range spans {
			spans[i].from = latest(spans[i].from, end.Add(-newest))
		}
		spans = slices.DeleteFunc(spans, func(s span) bool { return !s.to.After(s.from) })
	}
	return Drawn{uniform(r, spans), how}, nil
}

// spans are the times that can be drawn.
func (o DrawOptions) spans() (spans []span) {
	for _, w := range o.Windows {
		if from := latest(w.From.Time, o.Since); !w.From.Time.IsZero() && w.Until.Time.After(from) {
			spans = append(spans, span{w.Timeline, from, w.Until.Time})
		}
	}
	return spans
}

// edges are the moments at which a recovery is most likely to go wrong: the end of the stored
// WAL, and the last time of which it is known that it is all stored, which is in an idle time
// where the server did nothing; the end of a base backup; the first record of a timeline.
func (o DrawOptions) edges() (edges []Drawn) {
	for _, w := range o.Windows {
		if w.Until.Time.Before(o.Since) {
			continue
		}
		edges = append(edges, Drawn{wal.Target{Kind: wal.TargetEnd, Timeline: w.Timeline}, "the end of the stored WAL"})
		if !w.From.Time.IsZero() && w.Until.Time.After(latest(w.From.Time, o.Since)) {
			edges = append(edges, Drawn{wal.Target{Kind: wal.TargetTime, Timeline: w.Timeline, Time: w.Until.Time.Truncate(time.Microsecond)}, "the last time up to which WAL is known to be stored"})
		}
		if !o.Since.IsZero() {
			continue // when the others were is not known
		}
		for _, b := range w.Bases {
			edges = append(edges, Drawn{wal.Target{Kind: wal.TargetBackup, Timeline: w.Timeline, Base: b.ID}, "the end of a base backup"})
		}
		for _, h := range o.Histories {
			if fork, ok := h.Begin(w.Timeline); ok && h.Timeline == w.Timeline && fork >= w.From.LSN && fork < w.Until.LSN && fork > 0 {
				edges = append(edges, Drawn{wal.Target{Kind: wal.TargetLSN, Timeline: w.Timeline, LSN: fork}, "the first record of a timeline"})
			}
		}
	}
	return edges
}

// uniform draws a time of all spans.
func uniform(r *rand.Rand, spans []span) wal.Target {
	total := time.Duration(0)
	for _, s := range spans {
		total += s.to.Sub(s.from)
	}
	at := time.Duration(r.Int64N(int64(total) + 1))
	for _, s := range spans[:len(spans)-1] {
		if length := s.to.Sub(s.from); at > length {
			at -= length
			spans = spans[1:]
			continue
		}
		break
	}
	return wal.Target{Kind: wal.TargetTime, Timeline: spans[0].timeline, Time: spans[0].from.Add(at).Truncate(time.Microsecond)}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ParseSeed reads the seed of a receipt.
func ParseSeed(text string) (seed uint64, err error) {
	if _, err = fmt.Sscanf(text, "%x", &seed); err != nil || SeedText(seed) != text {
		return 0, pgmedic.Errorf(pgmedic.KindUsage, "write the seed of a receipt, such as 00c0ffee00c0ffee", "%.40q is not a seed", text)
	}
	return seed, nil
}

// SeedText is how a seed is written.
func SeedText(seed uint64) string { return fmt.Sprintf("%016x", seed) }
