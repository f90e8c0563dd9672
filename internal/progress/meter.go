// Package progress says how far a run is: events of its steps and of bytes that pass.
package progress

import (
	"sync"
	"time"

	"github.com/pgmedic/pgmedic"
)

// MeterOptions say what a Meter reports.
type MeterOptions struct {
	// Step goes into every event.
	Step string
	// TotalBytes is what is expected; zero if it cannot be known.
	TotalBytes int64
	// Report receives the events, one at a time; nil discards them.
	Report func(pgmedic.Event)
	// Now is the time; nil means time.Now.
	Now func() time.Time
}

// meterPause is the least time between two events of a Meter: often enough for
// a person, and too seldom to cost anything.
const meterPause = 200 * time.Millisecond

// Meter makes events of bytes that pass, at most five in a second. It may be
// used by several goroutines at once. What it tells never goes beyond the total
// and never below zero.
type Meter struct {
	o MeterOptions

	mu     sync.Mutex
	object string
	done   int64
	next   time.Time
}

// NewMeter returns a Meter at zero.
func NewMeter(o MeterOptions) *Meter {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Meter{o: o}
}

// Object sets what is worked on from now on, such as a table.
func (m *Meter) Object(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.object = name
}

// Add tells of n more bytes. A negative n takes back bytes that will pass once
// more.
func (m *Meter) Add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	if m.o.Report == nil {
		return
	}
	now := m.o.Now()
	if now.Before(m.next) {
		return
	}
	m.next = now.Add(meterPause)
	m.o.Report(m.event())
}

// Write is Add of len(p), for an io.MultiWriter or an io.TeeReader. It never
// fails.
func (m *Meter) Write(p []byte) (int, error) {
	m.Add(int64(len(p)))
	return len(p), nil
}

func (m *Meter) event() pgmedic.Event {
	e := pgmedic.Event{Step: m.o.Step, Object: m.object, DoneBytes: max(m.done, 0), TotalBytes: m.o.TotalBytes}
	if e.TotalBytes > 0 {
		e.DoneBytes = min(e.DoneBytes, e.TotalBytes)
	}
	return e
}
