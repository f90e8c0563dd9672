package alert_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/alert"
)

// TestEscalated: a step is reported once, while the alert fires, was reported, and nobody
// has acknowledged or silenced it; and it moves no repeat.
func TestEscalated(t *testing.T) {
	for name, test := range map[string]struct {
		looks, want string
		answer      func(x alert.Answers, s alert.State, now time.Time) alert.Answers
	}{
		"two steps":             {looks: "c*80", want: "5m30s step 1, 20m30s step 2"},
		"resolved before":       {looks: "c*8 _*80", want: ""},
		"one look is none":      {looks: "c _*80", want: ""},
		"fires again":           {looks: "c*20 _*20 c*20", want: "5m30s step 1, 25m30s step 1"},
		"hushed by the server":  {looks: "c*4 c!U cU!*60", want: "7m30s step 1, 22m30s step 2"},                        // which escalates itself, and alone
		"while it is not known": {looks: "c*4 !*80", want: "5m30s step 1, 8m30s step 1, 20m30s step 2, 23m30s step 2"}, // and that nobody watches
		"a warning":             {looks: "w*40", want: "6m0s step 1"},
		"acknowledged": {looks: "c*80", want: "5m30s step 1", answer: func(x alert.Answers, s alert.State, now time.Time) alert.Answers {
			if now.Sub(begin) != 10*time.Minute {
				return x
			}
			for key := range s.Alerts {
				x, _ = x.Acknowledge(s, key, "ana", now)
			}
			return x
		}},
		"silenced": {looks: "c*80", want: "20m30s step 2", answer: func(x alert.Answers, _ alert.State, _ time.Time) alert.Answers {
			x.Silences = []alert.Silence{{ID: "s", Matchers: []alert.Matcher{{Label: "id", Value: "crit"}}, From: begin, Until: begin.Add(20 * time.Minute), By: "ana", Reason: "x"}}
			return x
		}},
	} {
		var s alert.State
		var x alert.Answers
		var got []string
		now := begin
		repeats := 0
		for _, word := range strings.Fields(test.looks) {
			letters, count, many := strings.Cut(word, "*")
			n := 1
			if many {
				_, _ = fmt.Sscan(count, &n)
			}
			for range n {
				if test.answer != nil {
					x = test.answer(x, s, now)
				}
				s = alert.Next(s.With(x), []alert.Observation{observe(letters)}, now)
				steps := func(a alert.Alert) int {
					return map[bool]int{true: 1}[now.Sub(a.FiredAt) >= 5*time.Minute] + map[bool]int{true: 1}[now.Sub(a.FiredAt) >= 20*time.Minute]
				}
				due := alert.WithSteps(alert.Due(s, now), steps)
				for _, c := range due {
					if c.Kind == alert.KindRepeat {
						repeats++
					}
				}
				s = alert.Reported(s, due, now)
				escalated := alert.Escalated(s, now, steps)
				for _, c := range escalated {
					got = append(got, fmt.Sprintf("%s step %d", now.Sub(begin), c.Steps))
				}
				s = alert.Reported(s, escalated, now)
				now = now.Add(every)
			}
		}
		if strings.Join(got, ", ") != test.want || repeats != 0 {
			t.Errorf("%s: %s, want %s; %d repeats", name, strings.Join(got, ", "), test.want, repeats)
		}
	}
}

// TestStepsOfAnotherRoute: what got worse takes the steps of its new route, however many of
// the old one were reported.
func TestStepsOfAnotherRoute(t *testing.T) {
	s := alert.Next(alert.State{}, []alert.Observation{observe("c")}, begin)
	s = alert.Next(s, []alert.Observation{observe("c")}, begin.Add(every))
	var of alert.Alert
	for _, a := range s.Alerts {
		of = a
	}
	for _, c := range []struct {
		kind           alert.Kind
		steps, reached int
		want           int
	}{
		{alert.KindFiring, 0, 1, 1}, {alert.KindEscalated, 3, 3, 0}, {alert.KindRepeat, 3, 3, 0}, {alert.KindWorse, 0, 0, 0}, {alert.KindRepeat, 0, 1, 1}, {alert.KindEscalated, 1, 1, 0},
	} {
		s = alert.Reported(s, []alert.Change{{Kind: c.kind, At: begin, Alert: of, Steps: c.steps}}, begin)
		if got := alert.Escalated(s, begin, func(alert.Alert) int { return c.reached }); len(got) != c.want {
			t.Errorf("after %s with %d steps, of %d reached: %+v", c.kind, c.steps, c.reached, got)
		}
	}
}
