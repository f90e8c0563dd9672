package progress

import (
	"time"

	"github.com/pgmedic/pgmedic"
)

// Step is one part of a run that is measured.
type Step struct {
	// Name is the step's, in the words of the docs: dump, load.
	Name string
	// Report gets an event at the beginning and one at the end.
	Report func(pgmedic.Event)
	// Now is the time.
	Now func() time.Time
}

// Do does the step and returns how long it took, also where it failed.
func (s Step) Do(do func() error) (pgmedic.Step, error) {
	began := s.Now()
	s.Report(pgmedic.Event{Step: s.Name})
	err := do()
	took := pgmedic.Step{Name: s.Name, Seconds: Seconds(s.Now().Sub(began))}
	s.Report(pgmedic.Event{Step: s.Name, Finished: err == nil, Failed: err != nil})
	return took, err
}

// Steps measures the parts of a run, and keeps what they took.
type Steps struct {
	// Report receives the events of each; nil discards them.
	Report func(pgmedic.Event)
	// Now is the time.
	Now func() time.Time
	// Done are the steps so far, in their order, also one that failed.
	Done []pgmedic.Step
}

// Do does a step under a name, such as load, and returns its error.
func (s *Steps) Do(name string, do func() error) error {
	report := s.Report
	if report == nil {
		report = func(pgmedic.Event) {}
	}
	took, err := Step{Name: name, Report: report, Now: s.Now}.Do(do)
	s.Done = append(s.Done, took)
	return err
}

// Seconds is a duration in seconds, to the millisecond, as manifests and receipts
// have it.
func Seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond).Milliseconds()) / 1000
}
