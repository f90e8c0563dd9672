package progress_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/progress"
)

func TestMeter(t *testing.T) {
	var events []pgmedic.Event
	now := time.Unix(0, 0)
	m := progress.NewMeter(progress.MeterOptions{
		Step: "data", TotalBytes: 100, Now: func() time.Time { return now },
		Report: func(e pgmedic.Event) { events = append(events, e) },
	})
	m.Object("patients")
	m.Add(10)
	m.Add(10) // at once: not told
	now = now.Add(time.Second)
	m.Add(-50) // a piece that is read once more
	now = now.Add(time.Second)
	if _, err := io.Copy(m, strings.NewReader(strings.Repeat("x", 500))); err != nil {
		t.Fatal(err)
	}
	want := []int64{10, 0, 100}
	if len(events) != len(want) {
		t.Fatalf("%d events, want %d: %+v", len(events), len(want), events)
	}
	for i, e := range events {
		if e.DoneBytes != want[i] || e.TotalBytes != 100 || e.Step != "data" || e.Object != "patients" {
			t.Errorf("event %d is %+v, want %d bytes done", i, e, want[i])
		}
	}
	progress.NewMeter(progress.MeterOptions{}).Add(1) // nobody listens
}

func TestStep(t *testing.T) {
	for name, failure := range map[string]error{"done": nil, "failed": errors.New("it failed")} {
		t.Run(name, func(t *testing.T) {
			var events []pgmedic.Event
			now := time.Unix(0, 0)
			step := progress.Step{Name: "load", Now: func() time.Time { return now }, Report: func(e pgmedic.Event) { events = append(events, e) }}
			took, err := step.Do(func() error {
				now = now.Add(1_234_567 * time.Microsecond)
				return failure
			})
			if !errors.Is(err, failure) || took != (pgmedic.Step{Name: "load", Seconds: 1.235}) {
				t.Errorf("%+v, %v", took, err)
			}
			want := []pgmedic.Event{{Step: "load"}, {Step: "load", Finished: failure == nil, Failed: failure != nil}}
			if !slices.Equal(events, want) {
				t.Errorf("events %+v, want %+v", events, want)
			}
		})
	}
}

func TestSteps(t *testing.T) {
	failure := errors.New("it failed")
	now := time.Unix(0, 0)
	var events []pgmedic.Event
	s := progress.Steps{
		Now: func() time.Time { return now }, Report: func(e pgmedic.Event) { events = append(events, e) },
		Done: []pgmedic.Step{{Name: "load", Seconds: 3}},
	}
	err := s.Do("compare", func() error { now = now.Add(2 * time.Second); return nil })
	if failed := s.Do("swap", func() error { return failure }); err != nil || !errors.Is(failed, failure) {
		t.Errorf("%v, %v", err, failed)
	}
	if want := []pgmedic.Step{{Name: "load", Seconds: 3}, {Name: "compare", Seconds: 2}, {Name: "swap"}}; !slices.Equal(s.Done, want) {
		t.Errorf("steps %+v, want %+v", s.Done, want)
	}
	want := []pgmedic.Event{{Step: "compare"}, {Step: "compare", Finished: true}, {Step: "swap"}, {Step: "swap", Failed: true}}
	if !slices.Equal(events, want) {
		t.Errorf("events %+v, want %+v", events, want)
	}
	silent := progress.Steps{Now: time.Now}
	if err := silent.Do("load", func() error { return failure }); !errors.Is(err, failure) || len(silent.Done) != 1 {
		t.Errorf("nobody listens: %v, %+v", err, silent.Done)
	}
}
