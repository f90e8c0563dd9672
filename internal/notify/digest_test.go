package notify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
)

// TestDigest: a digest is due once for each slot, whoever is first, goes out by itself,
// and is not sent where incidents are kept.
func TestDigest(t *testing.T) {
	svc := newService(t)
	o := options(t, notify.Channel{Name: "chat", Type: notify.TypeSlack, URL: svc.URL}, notify.Channel{Name: "pager", Type: notify.TypePagerDuty, URL: svc.URL, Key: "k"})
	now := at()
	o.Now = func() time.Time { return now }
	s := sender(t, o)
	daily := func(after time.Time) time.Time { return after.Truncate(24 * time.Hour).Add(24 * time.Hour) }
	isDue := func(want bool) time.Time {
		t.Helper()
		after, due, err := s.DigestDue(t.Context(), "main", daily)
		if err != nil || due != want {
			t.Errorf("at %v: due %v, %v", now, due, err)
		}
		return after
	}
	digest := func(after time.Time) notify.Event {
		return notify.Digest(notify.Event{At: now, Severity: pgmedic.SeverityWarn, Summary: "2 of 3 databases", Target: notify.Target{Server: "main"}}, after)
	}
	isDue(false) // it begins
	isDue(false)
	now = now.Add(24 * time.Hour)
	after := isDue(true)
	results, err := s.Send(t.Context(), []notify.Event{failed(""), digest(after)})
	if err != nil || outcomes(results) != "chat sent, chat sent, pager sent" {
		t.Errorf("%v: %s", err, outcomes(results))
	}
	// Another job that found it due, too, is late.
	if results, err = s.Send(t.Context(), []notify.Event{digest(after)}); err != nil || len(results) > 0 {
		t.Errorf("%v: %s", err, outcomes(results))
	}
	isDue(false)
	now = now.Add(24 * time.Hour)
	isDue(true)
	// One that is asked for is sent instead of the one that is due, once.
	if after, err = s.LastDigest(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"chat sent", ""} {
		if results, err = s.Send(t.Context(), []notify.Event{digest(after)}); err != nil || outcomes(results) != want {
			t.Errorf("%v: %s", err, outcomes(results))
		}
		now = now.Add(time.Minute)
	}
	isDue(false)
	found := 0
	for _, r := range svc.all() {
		if strings.Contains(r.Body, "2 of 3 databases") && strings.Contains(r.Body, "WARNING  main") {
			found++
		}
	}
	if found != 2 {
		t.Errorf("%d digests", found)
	}
}
