package pgmedic_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
)

func TestMeter(t *testing.T) {
	var events []pgmedic.Event
	now := time.Unix(0, 0)
	m := pgmedic.NewMeter(pgmedic.MeterOptions{
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
	pgmedic.NewMeter(pgmedic.MeterOptions{}).Add(1) // nobody listens
}
