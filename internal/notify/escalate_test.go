package notify_test

import (
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/notify"
)

// TestEscalation: what stays wrong also goes to the channels of a step, once to each, which
// then hear of the rest; and a channel that hears of no end is told none.
func TestEscalation(t *testing.T) {
	svc := newService(t)
	channel := func(name string) notify.Channel {
		return notify.Channel{Name: name, Type: notify.TypeWebhook, URL: svc.URL}
	}
	phone := channel("phone")
	phone.SkipResolved = true
	o := options(t, channel("dba"), channel("head"), phone)
	o.Routes = []notify.Route{{To: []string{"dba"}, Escalate: []notify.Step{
		{After: 15 * time.Minute, To: []string{"phone"}}, {After: time.Hour, To: []string{"phone", "head"}},
	}}}
	send := func(what, want string, e notify.Event) {
		t.Helper()
		if results, err := sender(t, o).Send(t.Context(), []notify.Event{e}); err != nil || outcomes(results) != want {
			t.Errorf("%s: %v: %q, want %q", what, err, outcomes(results), want)
		}
	}
	later := func(d time.Duration) notify.Event {
		e := failed("")
		e.At = at().Add(d)
		return e
	}
	send("it begins", "dba sent", later(0))
	send("too early", "", later(14*time.Minute))
	send("the first step", "phone sent", later(15*time.Minute))
	send("once", "", later(20*time.Minute))
	send("the second step", "head sent", later(time.Hour))
	send("the next repeat", "dba sent, head sent, phone sent", later(5*time.Hour))
	send("the end", "dba sent, head sent", succeeded("", 6*time.Hour))
	send("it begins again", "dba sent", later(7*time.Hour))

	// What a watch sends is due, and says itself what is for others alone.
	due := later(10 * time.Hour)
	due.Due, due.Since, due.Fingerprint = true, due.At.Add(-time.Minute), "f"
	send("a watch", "dba sent", due)
	if n := sender(t, o).Steps(due); n != 0 {
		t.Errorf("%d steps are reached after a minute", n)
	}
	due.Since, due.Further = due.At.Add(-2*time.Hour), true
	if n := sender(t, o).Steps(due); n != 2 {
		t.Errorf("%d steps are reached after two hours", n)
	}
	send("its steps", "head sent, phone sent", due)
	send("once", "", due)
}
