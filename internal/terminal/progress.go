package terminal

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// ProgressOptions say where a Progress writes, and how.
type ProgressOptions struct {
	// Screen gets the lines; it must be set, unless Log is.
	Screen *Screen
	// Live is true where the line of a step can be written over. Elsewhere a step that takes
	// long has a line of its own now and then: after 10 s if a tenth more is done, at the
	// latest after a minute.
	Live bool
	// Width returns the columns of the terminal now, or 0 where they are not known. A line
	// that is written over is cut there. It must be set if Live is.
	Width func() int
	// Color prints the names of steps faint once they are done.
	Color bool
	// Log, if not nil, gets records in place of lines: "step goes on" as often as a line that
	// can't be written over, and "step done".
	Log *slog.Logger
	// Now is the time. It must be set.
	Now func() time.Time
}

const (
	progressRedraw = 500 * time.Millisecond
	// progressPause is the least time between two drawings, and progressLine
	// that between two lines where nothing can be written over.
	progressPause = 100 * time.Millisecond
	progressLine  = 10 * time.Second
	// progressSilence is the longest without such a line.
	progressSilence = time.Minute
)

// Progress shows how far a run is, from its events: each step that is going on, with what
// is done, its rate and an estimate of the time left, and each that is done, with the time
// it took. Steps may nest; the last one that began is shown. It may be used by several
// goroutines at once.
type Progress struct {
	o ProgressOptions

	mu    sync.Mutex
	steps []*stepState // going on, in the order in which they began
	drawn time.Time
}

// stepState is a step that goes on.
type stepState struct {
	last  pgmedic.Event
	began time.Time
	rate  rate
	told  time.Time // the last line of it, and what it said
	share int
}

// NewProgress returns a Progress of a run that has not begun.
func NewProgress(o ProgressOptions) *Progress {
	o.Live = o.Live && o.Log == nil
	return &Progress{o: o}
}

// Start shows time passing from now on, though no events come: a stream that stands still
// sends none. The function that it returns ends that and takes the line away; it may be
// called more than once.
func (p *Progress) Start() (stop func()) {
	ended, ticking := make(chan struct{}), sync.WaitGroup{}
	ticking.Go(func() {
		tick := time.NewTicker(progressRedraw)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				p.Tick()
			}
		}
	})
	return sync.OnceFunc(func() {
		close(ended)
		ticking.Wait()
		p.clear()
	})
}

// clear takes the line away.
func (p *Progress) clear() {
	if p.o.Screen != nil {
		p.o.Screen.Clear()
	}
}

// Event shows an event of a step.
func (p *Progress) Event(e pgmedic.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.o.Now()
	i := slices.IndexFunc(p.steps, func(s *stepState) bool { return s.last.Step == e.Step })
	if i < 0 {
		p.steps = append(p.steps, &stepState{began: now, told: now, last: pgmedic.Event{Step: e.Step}})
		i, p.drawn = len(p.steps)-1, time.Time{}
	}
	s := p.steps[i]
	if e.Finished || e.Failed {
		p.steps = slices.Delete(p.steps, i, i+1)
		p.clear()
		if e.Finished {
			p.finished(e.Step, now.Sub(s.began))
		}
		return
	}
	if e.TotalBytes == 0 { // an event without figures takes none back
		e.DoneBytes, e.TotalBytes = max(e.DoneBytes, s.last.DoneBytes), s.last.TotalBytes
	}
	s.last = e
	s.rate.seen(now, e.DoneBytes)
	p.tell(s, now)
}

func (p *Progress) finished(step string, took time.Duration) {
	if p.o.Log != nil {
		p.o.Log.Info("step done", "step", step, "seconds", took.Round(time.Millisecond).Seconds())
		return
	}
	fmt.Fprintf(p.o.Screen, "  %s %s\n", Painter{On: p.o.Color}.Faint(fmt.Sprintf("%-13s", words.Clean(step))), words.Duration(took))
}

// Tick shows the last step again, since time has passed.
func (p *Progress) Tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.steps); n > 0 {
		p.tell(p.steps[n-1], p.o.Now())
	}
}

// tell draws the line of a step, or writes one if it is time.
func (p *Progress) tell(s *stepState, now time.Time) {
	if p.o.Live {
		if now.Sub(p.drawn) < progressPause {
			return
		}
		p.drawn = now
		line := fmt.Sprintf("  %-13s %s", s.last.Step, s.words(now))
		// A line that wraps can't be written over.
		if columns := p.o.Width(); columns > 0 {
			line = lipgloss.NewStyle().Inline(true).MaxWidth(columns - 1).Render(line)
		}
		p.o.Screen.Draw(line)
		return
	}
	share, silence := s.percent(), now.Sub(s.told)
	if silence < progressLine || silence < progressSilence && share < s.share+10 {
		return
	}
	s.told, s.share = now, share
	if p.o.Log != nil {
		p.o.Log.Info("step goes on", "step", s.last.Step, "done_bytes", s.last.DoneBytes, "total_bytes", s.last.TotalBytes, "seconds", now.Sub(s.began).Round(time.Second).Seconds())
		return
	}
	fmt.Fprintf(p.o.Screen, "  %-13s %s\n", words.Clean(s.last.Step), s.words(now))
}

// percent is how much is done, or -1 where the total is not known.
// What goes on is never all done.
func (s *stepState) percent() int {
	if s.last.TotalBytes <= 0 {
		return -1
	}
	return int(min(max(float64(s.last.DoneBytes)/float64(s.last.TotalBytes), 0)*100, 99))
}

// words are share, bytes, rate, time left and table. The total is what tables
// take on the server, or what was stored; a time left is an estimate.
func (s *stepState) words(now time.Time) string {
	e := s.last
	if e.DoneBytes <= 0 {
		return "…"
	}
	text := words.Bytes(e.DoneBytes)
	if e.TotalBytes > 0 {
		text = fmt.Sprintf("%2d%%  %s of %s", s.percent(), text, words.Bytes(max(e.TotalBytes, e.DoneBytes)))
	}
	if rate, ok := s.rate.at(now); ok {
		text += fmt.Sprintf("  %s/s", words.Bytes(int64(rate)))
		if left, ok := timeLeft(e.TotalBytes-e.DoneBytes, rate); ok {
			text += "  about " + words.Duration(left) + " left"
		}
	}
	if e.Object != "" {
		text += "  " + words.Clean(e.Object)
	}
	return text
}

// timeLeft is how long the rest takes, unless there is none, or so little
// happens that it would be a guess at years.
func timeLeft(bytes int64, rate float64) (time.Duration, bool) {
	if bytes <= 0 || rate < 1 {
		return 0, false
	}
	seconds := float64(bytes) / rate
	if seconds > 100*24*3600 {
		return 0, false
	}
	return time.Duration(math.Ceil(seconds)) * time.Second, true
}
