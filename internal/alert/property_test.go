package alert_test

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/alert"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// receiver is somebody who gets reports, and complains about those that make no sense after
// what came before.
type receiver struct {
	firing   map[string]bool
	flapping map[string]bool
	last     map[string]time.Time
}

// take returns what is wrong with a report.
func (r *receiver) take(c alert.Change) string {
	key := c.Alert.Fingerprint
	firing := r.firing[key]
	switch c.Kind {
	case alert.KindFiring:
		if firing {
			return "fires twice"
		}
		r.firing[key] = true
	case alert.KindWorse, alert.KindStale:
		if !firing {
			return "is worse or stale before it fires"
		}
	case alert.KindRepeat:
		if !firing {
			return "is repeated before it fires"
		}
		if c.At.Sub(r.last[key]) < 4*time.Hour && !r.flapping[key] {
			return "is repeated within four hours"
		}
	case alert.KindResolved:
		if !firing {
			return "is resolved before it fires"
		}
		delete(r.firing, key)
	case alert.KindPassed:
		if firing {
			return "has passed while it fires"
		}
		if c.Alert.ResolvedAt.Before(c.Alert.FiredAt) {
			return "has passed before it fired"
		}
	case alert.KindFlapping:
		if c.At.Sub(r.last[key]) < time.Hour && r.flapping[key] {
			return "is said to flap twice within an hour"
		}
		r.firing[key] = true
	}
	r.flapping[key] = c.Kind == alert.KindFlapping
	r.last[key] = c.At
	return ""
}

// TestProperties plays random looks of two targets, with looks that fail and skip, reports
// that can't be sent, restarts, silences and acknowledgements. Whatever happens, the order of
// reports makes sense, nothing is reported twice, and once all is quiet those who received the
// reports know of each alert whether it fires, and of each firing that there was one.
func TestProperties(t *testing.T) {
	letters := []string{"_", "c", "w", "W", "cw", "b", "g", "bg", "!", "!U", "U", "S3", "3", "1", "c1", "cwbg", "i"}
	for seed := range testkit.Amount(8, 100, 500) {
		random := rand.New(rand.NewPCG(uint64(seed), 5))
		var s alert.State
		r := &receiver{firing: map[string]bool{}, flapping: map[string]bool{}, last: map[string]time.Time{}}
		now := begin
		current := map[string]string{"main/a": "_", "main/b": "_"}
		step := func(quiet bool) {
			var looks []alert.Observation
			for _, target := range slices.Sorted(maps.Keys(current)) {
				if !quiet && random.IntN(6) == 0 {
					current[target] = letters[random.IntN(len(letters))]
				}
				if !quiet && random.IntN(20) == 0 {
					continue // nobody looked
				}
				o := observe(current[target])
				o.Target = target
				looks = append(looks, o)
			}
			random.Shuffle(len(looks), func(i, j int) { looks[i], looks[j] = looks[j], looks[i] })
			var before []byte
			if random.IntN(20) == 0 {
				before, _ = json.Marshal(s)
			}
			next := alert.Next(s, looks, now)
			if before != nil {
				if after, _ := json.Marshal(s); string(before) != string(after) {
					t.Fatalf("seed %d: Next changed its argument", seed)
				}
			}
			s = next
			due := alert.Due(s, now)
			if again := alert.Due(s, now); len(again) != len(due) {
				t.Fatalf("seed %d: what is due depends on who asks", seed)
			}
			told := map[string]bool{}
			for _, c := range due {
				if told[c.Alert.Fingerprint] {
					t.Fatalf("seed %d: %s is due twice at once", seed, c.Alert.ID)
				}
				told[c.Alert.Fingerprint] = true
				if c.Alert.Severity == pgmedic.SeverityInfo {
					t.Fatalf("seed %d: a note is reported", seed)
				}
			}
			if quiet || random.IntN(5) != 0 { // else it can't be sent
				for _, c := range due {
					if problem := r.take(c); problem != "" {
						t.Fatalf("seed %d, %s: %s %s (%s)", seed, now.Sub(begin), c.Alert.ID, problem, c.Kind)
					}
				}
				s = alert.Reported(s, due, now)
			}
			if !quiet {
				s = disturb(t, random, s, now)
			}
			now = now.Add(time.Duration(20+random.IntN(40)) * time.Second)
			if quiet {
				now = now.Add(30 * time.Second)
			}
		}
		for range 400 {
			step(false)
		}
		for _, target := range slices.Sorted(maps.Keys(current)) {
			current[target] = []string{"_", "cw", "g"}[random.IntN(3)]
		}
		for range 150 { // longer than any silence and any flapping
			step(true)
		}
		for key, a := range s.Alerts {
			if firing := a.Phase == alert.Firing; firing != r.firing[key] {
				t.Errorf("seed %d: %s is %s, and who received the reports thinks that it fires: %t", seed, a.ID, a.Phase, r.firing[key])
			}
			if a.Phase == alert.Resolved && a.Told.FiredAt != a.FiredAt {
				t.Errorf("seed %d: %s fired at %s, and nobody was told", seed, a.ID, a.FiredAt)
			}
		}
		for key := range r.firing {
			if _, known := s.Alerts[key]; !known {
				t.Errorf("seed %d: an alert is forgotten before it was resolved", seed)
			}
		}
	}
}

// disturb restarts, silences or acknowledges.
func disturb(t *testing.T, random *rand.Rand, s alert.State, now time.Time) alert.State {
	t.Helper()
	switch random.IntN(30) {
	case 0:
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		s = alert.State{}
		if err := json.Unmarshal(data, &s); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
	case 1:
		id := []string{"crit", "warn", "goal", alert.ServerUnreachable}[random.IntN(4)]
		s.Silences = append(slices.Clone(s.Silences), alert.Silence{
			ID: id, By: "ana", Reason: "x", From: now, Until: now.Add(time.Duration(random.IntN(60)) * time.Minute),
			Matchers: []alert.Matcher{{Label: "id", Value: id}},
		})
	case 2:
		if keys := slices.Sorted(maps.Keys(s.Alerts)); len(keys) > 0 {
			x, _ := alert.Answers{Silences: s.Silences}.Acknowledge(s, keys[random.IntN(len(keys))], "ana", now)
			s = s.With(x)
		}
	}
	return s
}
