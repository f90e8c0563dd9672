package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// screen is standard error with, at its end, a line that is written over. What
// else is written takes that line away first; it comes again by itself.
type screen struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	key      string // of the colours that may be written
	occupied bool
}

// Write writes whole lines.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	return cleaned{s.w, s.terminal, s.key}.Write(p)
}

// draw writes the line over.
func (s *screen) draw(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprint(s.w, "\r"+words.Unmark(s.key, words.Keep{Key: s.key}.Clean(line))+"\x1b[K")
	s.occupied = true
}

// take takes the line away.
func (s *screen) take() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}

func (s *screen) clear() {
	if s.occupied {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.occupied = false
	}
}

// progress returns a listener that tells what a run does: one line that is
// written over on a terminal, a line a step and now and then one between
// elsewhere, records where logs are JSON, nothing with -q or --json. The
// listener may be called until done is.
func (a *app) progress() (listen func(pgmedic.Event), done func()) {
	if a.global.quiet || a.global.json && !a.logSteps {
		return func(pgmedic.Event) {}, func() {}
	}
	p := &progress{app: a, paint: a.paint(a.stderrTTY), live: a.stderrTTY && !a.logSteps && !slices.Contains(a.environ, "TERM=dumb")}
	ended, ticking := make(chan struct{}), sync.WaitGroup{}
	ticking.Go(func() {
		tick := time.NewTicker(progressRedraw)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C: // a stream that stands still sends no events
				p.tick()
			}
		}
	})
	return p.event, sync.OnceFunc(func() {
		close(ended)
		ticking.Wait()
		a.screen.take()
	})
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

type progress struct {
	app   *app
	paint paint
	live  bool // a line can be written over

	mu    sync.Mutex
	steps []*stepState // going on: they nest, the last one is told of
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

func (p *progress) event(e pgmedic.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.app.now()
	i := slices.IndexFunc(p.steps, func(s *stepState) bool { return s.last.Step == e.Step })
	if i < 0 {
		p.steps = append(p.steps, &stepState{began: now, told: now, last: pgmedic.Event{Step: e.Step}})
		i, p.drawn = len(p.steps)-1, time.Time{}
	}
	s := p.steps[i]
	if e.Finished || e.Failed {
		p.steps = slices.Delete(p.steps, i, i+1)
		p.app.screen.take()
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

func (p *progress) finished(step string, took time.Duration) {
	if p.app.logSteps {
		p.app.log.Info("step done", "step", step, "seconds", took.Round(time.Millisecond).Seconds())
		return
	}
	fmt.Fprintf(&p.app.screen, "  %s %s\n", p.paint.dim(fmt.Sprintf("%-13s", words.Clean(step))), words.Duration(took))
}

// tick tells of the last step again: time has passed.
func (p *progress) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.steps); n > 0 {
		p.tell(p.steps[n-1], p.app.now())
	}
}

// tell draws the line of a step, or writes one if it is time.
func (p *progress) tell(s *stepState, now time.Time) {
	if p.live {
		if now.Sub(p.drawn) < progressPause {
			return
		}
		p.drawn = now
		line := fmt.Sprintf("  %-13s %s", s.last.Step, s.words(now))
		// A line that wraps can't be written over.
		if columns := p.app.stderrWidth(); columns > 0 {
			line = lipgloss.NewStyle().Inline(true).MaxWidth(columns - 1).Render(line)
		}
		p.app.screen.draw(line)
		return
	}
	share, silence := s.percent(), now.Sub(s.told)
	if silence < progressLine || silence < progressSilence && share < s.share+10 {
		return
	}
	s.told, s.share = now, share
	if p.app.logSteps {
		p.app.log.Info("step goes on", "step", s.last.Step, "done_bytes", s.last.DoneBytes, "total_bytes", s.last.TotalBytes, "seconds", now.Sub(s.began).Round(time.Second).Seconds())
		return
	}
	fmt.Fprintf(&p.app.screen, "  %-13s %s\n", words.Clean(s.last.Step), s.words(now))
}

// percent is how much is done, or -1 where nobody can know. What goes on is
// never all done.
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

const (
	// rateMemory is how far back a rate looks: a burst is forgotten by then.
	rateMemory = 10 * time.Second
	// rateFirst is how long a rate is looked at before it is told.
	rateFirst = time.Second
)

// rate is the smoothed speed of a counter: an exponential moving average over
// time, whatever the pauses between two looks.
type rate struct {
	began, last time.Time
	bytes       int64   // at the last look
	sum, weight float64 // of bytes a second, the older the less
}

// seen notes the counter's value. One that falls is counted on from there.
func (r *rate) seen(now time.Time, bytes int64) {
	if r.began.IsZero() {
		r.began, r.last, r.bytes = now, now, bytes
		return
	}
	if now.After(r.last) { // of two looks in one moment the bytes count with the next
		r.advance(now, max(bytes-r.bytes, 0))
		r.bytes = bytes
	}
}

func (r *rate) advance(now time.Time, more int64) {
	passed := now.Sub(r.last).Seconds()
	if passed <= 0 {
		return
	}
	keep := math.Exp(-passed / rateMemory.Seconds())
	r.sum = r.sum*keep + float64(more)/passed*(1-keep)
	r.weight = r.weight*keep + 1 - keep
	r.last = now
}

// at returns the rate in bytes a second, once it is worth to be told. A counter
// that stands still slows down.
func (r rate) at(now time.Time) (perSecond float64, ok bool) {
	if r.began.IsZero() || now.Sub(r.began) < rateFirst {
		return 0, false
	}
	r.advance(now, 0)
	if r.weight == 0 {
		return 0, false
	}
	return r.sum / r.weight, true
}
