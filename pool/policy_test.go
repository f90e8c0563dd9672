package pool

import (
	"context"
	"testing"
	"time"
)

// TestDecide is the table of retries, in full.
func TestDecide(t *testing.T) {
	for name, test := range map[string]struct {
		situation situation
		want      decision
	}{
		"unavailable":                    {situation{class: ClassUnavailable}, backOff},
		"lost":                           {situation{class: ClassConnectionLost}, giveUp},
		"lost, nothing sent":             {situation{class: ClassConnectionLost, unsent: true}, backOff},
		"lost, idempotent":               {situation{class: ClassConnectionLost, idempotent: true}, backOff},
		"lost, whole transaction":        {situation{class: ClassConnectionLost, whole: true}, backOff},
		"conflict":                       {situation{class: ClassConflict}, giveUp},
		"conflict, idempotent":           {situation{class: ClassConflict, idempotent: true}, collided},
		"conflict, whole transaction":    {situation{class: ClassConflict, whole: true}, collided},
		"read-only":                      {situation{class: ClassReadOnly, whole: true, idempotent: true}, giveUp},
		"read-only, no primary any more": {situation{class: ClassReadOnly, moved: true}, backOff},
		"a plan that does not fit":       {situation{class: ClassInvalid, stalePlan: true}, replan},
		"overload of a standby":          {situation{class: ClassOverload, standby: true}, backOff},
		"overload of the primary":        {situation{class: ClassOverload, idempotent: true}, giveUp},
	} {
		if got := decide(test.situation); got != test.want {
			t.Errorf("%s: %d", name, got)
		}
	}
	// Whatever else is true of them, these are never tried again.
	for class := ClassNone; class <= ClassOther; class++ {
		switch class {
		case ClassUnavailable, ClassConnectionLost, ClassConflict, ClassReadOnly:
			continue
		}
		if got := decide(situation{class: class, unsent: true, idempotent: true, whole: true, moved: true}); got != giveUp {
			t.Errorf("%s: %d", class, got)
		}
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{first: time.Second, factor: 2, longest: 10 * time.Second}
	for retry, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second} {
		if got := b.delay(retry, 1); got != want {
			t.Errorf("retry %d at most: %s", retry, got)
		}
		if got := b.delay(retry, 0); got != want/2 {
			t.Errorf("retry %d at least: %s", retry, got)
		}
	}
	if got := b.delay(10000, 1); got != 10*time.Second {
		t.Errorf("very late: %s", got)
	}
}

func TestBudget(t *testing.T) {
	now := time.Unix(1e9, 0)
	take := func(b *budget, calls int64) (n int) {
		for b.take(now, calls) {
			n++
		}
		return n
	}
	b := &budget{share: 0.1}
	if got := take(b, 0); got != budgetFloor {
		t.Errorf("without calls: %d", got)
	}
	if got := take(b, 1000); got != 100 {
		t.Errorf("of 1000 calls: %d more", got)
	}
	now = now.Add(budgetWindow)
	if got := take(b, 1000); got != 110 {
		t.Errorf("in the next window: %d", got)
	}
	now = now.Add(budgetWindow)
	if got := take(b, 1000); got != budgetFloor {
		t.Errorf("when no calls were left in sight: %d", got)
	}
	now = now.Add(time.Hour)
	if got := take(b, 1_000_000); got != budgetFloor {
		t.Errorf("calls of an hour count as recent: %d", got)
	}
}

// TestBreaker walks through closed, open, half-open and back.
func TestBreaker(t *testing.T) {
	p := breakerPolicy{failures: 3, cooldown: time.Second, longest: 3 * time.Second}
	now := time.Unix(1e9, 0)
	var s breakerState
	admit := func() (ok bool) { s, ok = s.admit(now); return ok }
	for range 2 {
		s = s.failed(p, now)
	}
	if !admit() {
		t.Error("open after two failures of three")
	}
	s = s.failed(p, now)
	if admit() {
		t.Error("closed after three")
	}
	now = now.Add(999 * time.Millisecond)
	if admit() {
		t.Error("a call before the cool-down is over")
	}
	now = now.Add(time.Millisecond)
	if !admit() {
		t.Error("no trial after the cool-down")
	}
	if admit() {
		t.Error("a second call beside the trial")
	}
	for _, wait := range []time.Duration{2 * time.Second, 3 * time.Second, 3 * time.Second} {
		s = s.failed(p, now)
		now = now.Add(wait - 1)
		if admit() {
			t.Errorf("admitted before %s", wait)
		}
		now = now.Add(1)
		if !admit() {
			t.Errorf("not admitted after %s", wait)
		}
	}
	if late := s.failed(p, now).failed(p, now); late.cooldown != 3*time.Second || late.until != now.Add(3*time.Second) {
		t.Errorf("failures of calls that began earlier lengthen it: %+v", late)
	}
	b := newBreaker(p)
	for range 3 {
		b.failed(now)
	}
	if b.admit(func() time.Time { return now }) || b.count() != 1 {
		t.Error("the breaker is not open")
	}
	b.succeeded()
	if !b.admit(func() time.Time { return now }) {
		t.Error("the breaker is not closed by a success")
	}
	off := newBreaker(breakerPolicy{cooldown: time.Second})
	for range 100 {
		off.failed(now)
	}
	if !off.admit(func() time.Time { return now }) {
		t.Error("a breaker that is off opened")
	}
}

func TestJudge(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		ran, query, own, socket time.Duration
		want                    verdict
	}{
		"in time":                       {29 * s, 30 * s, 0, 60 * s, leaveAlone},
		"too long":                      {30 * s, 30 * s, 0, 60 * s, cancelStatement},
		"no limits":                     {time.Hour, 0, 0, 0, leaveAlone},
		"no query timeout":              {60 * s, 0, 0, 60 * s, cutConnection},
		"longer for the transaction":    {100 * s, 30 * s, 120 * s, 60 * s, leaveAlone},
		"and too long for it":           {120 * s, 30 * s, 120 * s, 60 * s, cancelStatement},
		"shorter for the transaction":   {5 * s, 30 * s, 5 * s, 60 * s, cancelStatement},
		"its own, without a pool's one": {5 * s, 0, 5 * s, 0, cancelStatement},
	} {
		if got := judge(test.ran, test.query, test.own, test.socket); got != test.want {
			t.Errorf("%s: %d", name, got)
		}
	}
}

func TestBetter(t *testing.T) {
	for name, test := range map[string]struct{ better, worse candidate }{
		"usable":    {candidate{usable: true, load: 9}, candidate{current: true}},
		"current":   {candidate{usable: true, current: true, load: 9}, candidate{usable: true}},
		"less load": {candidate{usable: true, load: 1}, candidate{usable: true, load: 2}},
	} {
		if !test.better.better(test.worse) || test.worse.better(test.better) {
			t.Errorf("%s does not count", name)
		}
	}
}

func TestSlowLogDue(t *testing.T) {
	l := newSlowLog(nil, 10*time.Second)
	now := time.Unix(1e9, 0)
	due := func(sql string, wantSuppressed int, want bool) {
		t.Helper()
		if suppressed, ok := l.due(sql, now); ok != want || suppressed != wantSuppressed {
			t.Errorf("%s: %d, %v", sql, suppressed, ok)
		}
	}
	due("a", 0, true)
	due("a", 0, false)
	due("a", 0, false)
	due("b", 0, true)
	now = now.Add(10 * time.Second)
	due("a", 2, true)
	due("a", 0, false)
	if l.count() != 6 {
		t.Errorf("%d counted", l.count())
	}
	for i := range 2 * maxKnownStatements {
		l.due(string(rune('α'+i)), now)
	}
	if len(l.known) > maxKnownStatements {
		t.Errorf("%d statements kept", len(l.known))
	}
}

// TestWaitForPrimary: who found no primary waits no longer than until there is one.
func TestWaitForPrimary(t *testing.T) {
	db := &DB{monitor: newMonitor(nil, Config{})}
	first, second := &endpoint{}, &endpoint{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	db.monitor.primary.Store(first)
	for name, a := range map[string]attempt{"none": {}, "another": {at: second}} {
		if !db.wait(ctx, &a, time.Hour) {
			t.Errorf("%s: it waited in vain", name)
		}
	}
}

// TestAtOnce: what is tried again without waiting is so once, and a plan as often as
// each connection may have one.
func TestAtOnce(t *testing.T) {
	db := &DB{config: Config{MaxConns: 3, MaxRetries: 1}}
	a := &attempt{}
	if !db.atOnce(a, situation{class: ClassConnectionLost}, backOff) || db.atOnce(a, situation{class: ClassConnectionLost}, backOff) {
		t.Error("a lost connection is not replaced at once, once")
	}
	a = &attempt{misled: true}
	if !db.atOnce(a, situation{class: ClassReadOnly}, backOff) || db.atOnce(a, situation{class: ClassReadOnly}, backOff) {
		t.Error("a connection to a standby is not replaced at once, once")
	}
	if db.atOnce(&attempt{}, situation{class: ClassReadOnly}, backOff) || db.atOnce(&attempt{}, situation{class: ClassUnavailable}, backOff) ||
		db.atOnce(&attempt{}, situation{class: ClassConflict}, collided) {
		t.Error("tried again at once without a reason")
	}
	a = &attempt{}
	times := 0
	for db.atOnce(a, situation{stalePlan: true}, replan) {
		times++
	}
	if times != 4 {
		t.Errorf("planned again %d times", times)
	}
}
