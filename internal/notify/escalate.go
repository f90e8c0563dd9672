package notify

import (
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
)

// Step says who also hears of what is still wrong after a while.
type Step struct {
	// After is how long it has been wrong.
	After time.Duration
	// To are names of channels.
	To []string
}

// reached are the steps that an event has reached.
func (r Route) reached(e Event) []Step {
	if e.State != StateFiring || e.Since.IsZero() {
		return nil
	}
	n := slices.IndexFunc(r.Escalate, func(s Step) bool { return e.At.Sub(e.Since) < s.After })
	if n < 0 {
		n = len(r.Escalate)
	}
	return r.Escalate[:n]
}

// Steps returns how many steps of its route's escalation an event has reached.
func (s *Sender) Steps(e Event) int {
	i := slices.IndexFunc(s.o.Routes, func(r Route) bool { return r.matches(e) })
	if i < 0 {
		return 0
	}
	return len(s.o.Routes[i].reached(e))
}

// checkEscalation refuses steps that lead nowhere, or that are not in the order of time.
func checkEscalation(route int, steps []Step, channels []string) error {
	var last time.Duration
	for _, s := range steps {
		if s.After <= last {
			return pgmedic.Errorf(pgmedic.KindUsage, "write the earlier step first, such as after: 15m and then after: 1h", "route %d: the times of escalate do not grow", route)
		}
		last = s.After
		if len(s.To) == 0 {
			return pgmedic.Errorf(pgmedic.KindUsage, "add to:, or leave the step out", "route %d: a step of escalate leads to no channel", route)
		}
		if err := checkChannels(route, s.To, channels); err != nil {
			return err
		}
	}
	return nil
}
