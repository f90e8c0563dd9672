package alert_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/alert"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var update = flag.Bool("update", false, "rewrite the golden table")

var begin = time.Date(2026, time.November, 29, 2, 0, 0, 0, time.UTC)

const every = 30 * time.Second

// conditions by their letters.
func conditions() map[rune]alert.Condition {
	return map[rune]alert.Condition{
		'c': {ID: "crit", Object: "x", Severity: pgmedic.SeverityCritical, Summary: "c", Scope: "server"},
		'w': {ID: "warn", Object: "x", Severity: pgmedic.SeverityWarn, Summary: "w", Scope: "server"},
		'W': {ID: "warn", Object: "x", Severity: pgmedic.SeverityCritical, Summary: "w is worse", Scope: "server"},
		'i': {ID: "info", Object: "x", Severity: pgmedic.SeverityInfo, Summary: "i", Scope: "server"},
		'b': {ID: "backup", Object: "x", Severity: pgmedic.SeverityCritical, Summary: "b", Scope: alert.ScopeBackups},
		'g': {ID: "goal", Object: "x", Severity: pgmedic.SeverityCritical, Summary: "g", Scope: alert.ScopeBackups, Goal: true},
		'U': {ID: alert.ServerUnreachable, Object: "x", Severity: pgmedic.SeverityCritical, Summary: "U", Scope: "server"},
		'S': {ID: alert.StoreUnreachable, Object: "x", Severity: pgmedic.SeverityWarn, Summary: "S", Scope: "server"},
	}
}

// observe makes a look of letters: a condition each, ! for a look that failed, 1 and 2 for
// queries of the server and 3 for the store that were skipped. _ has no meaning.
func observe(letters string) alert.Observation {
	o := alert.Observation{Target: "main/clinic", Every: every}
	for _, r := range letters {
		switch r {
		case '!':
			o.Failed = true
		case '1', '2':
			o.Skipped = append(o.Skipped, alert.Skip{Scope: "server", What: "query " + string(r)})
		case '3':
			o.Skipped = append(o.Skipped, alert.Skip{Scope: alert.ScopeBackups, What: "store"})
		case '_':
		default:
			o.Seen = append(o.Seen, conditions()[r])
		}
	}
	return o
}

// play makes a look every 30 seconds, and writes what was reported and when. Looks are
// separated by spaces; w*20 is twenty looks alike, and .*20 are no looks for so long.
func play(s alert.State, looks string) (alert.State, []string) {
	var lines []string
	now := begin
	for _, word := range strings.Fields(looks) {
		letters, count, many := strings.Cut(word, "*")
		n := 1
		if many {
			_, _ = fmt.Sscan(count, &n)
		}
		for range n {
			var seen []alert.Observation
			if letters != "." {
				seen = []alert.Observation{observe(letters)}
			}
			s = alert.Next(s, seen, now)
			due := alert.Due(s, now)
			for _, c := range due {
				lines = append(lines, fmt.Sprintf("%-9s %s %s %s", now.Sub(begin), c.Kind, c.Alert.Severity, c.Alert.ID))
			}
			s = alert.Reported(s, due, now)
			now = now.Add(every)
		}
	}
	return s, lines
}

// TestTable plays looks and compares all that is reported with a golden table.
func TestTable(t *testing.T) {
	var table strings.Builder
	for _, test := range []struct{ name, looks string }{
		{"a critical fires after two looks, and is reported at once: the next look is 30 s away", "c c c c"},
		{"one look is none", "c _ _ _ _ _"},
		{"a warning fires after three looks", "w w w w w"},
		{"a note is never reported", "i*40"},
		{"a critical one does not wait for a warning of the same moment", "cw cw cw cw"},
		{"gone once is not gone", "c c c _ c c c c"},
		{"gone in two looks is resolved", "c c c _*14"},
		{"what ends before it is reported has passed", "c c c cw cw cw c*14"},
		{"a later one waits five minutes after the last report", "c c c cw*14"},
		{"and a critical one does not", "w w w w cw cw cw cw"},
		{"worse is reported", "w w w w W*12"},
		{"less bad is not, nor the way back", "W W W w*12 W*12"},
		{"a failed look changes nothing", "c c c !*2 c*3"},
		{"a failed look resolves nothing, and stale is reported once", "c c c !*30"},
		{"what was skipped resolves nothing", "c c c 1*30"},
		{"what was always skipped does not matter", "c1 c1 c1 1*14"},
		{"what is skipped elsewhere does not matter", "c c c 3*14"},
		{"a skipped store keeps what is known of backups", "b b b 3*12 _*14"},
		{"no look at all", "c c c .*20 c*3"},
		{"a server that is away hushes what is known of it", "w w w w c c!U !U !U*14 _*14"},
		{"and not a goal", "gwU*3 gwU*20"},
		{"a store that is away hushes backups and nothing else", "bwgS*16"},
		{"what was hushed is reported afterwards", "US w U!w U!w U!w w*3 w*14"},
		{"repeated every four hours, six times", "c*4000"},
		{"a warning once a day", "w*9000"},
		{"it comes back", "c c c _*14 c*14"},
		{"comes and goes", strings.Repeat("c c _ _ ", 20) + "_*150"},
		{"comes and goes, and stays", strings.Repeat("c c _ _ ", 20) + "c*150"},
		{"comes and goes for hours", strings.Repeat("c c _ _ ", 120)},
	} {
		_, lines := play(alert.State{}, test.looks)
		fmt.Fprintf(&table, "# %s\n", test.name)
		for _, line := range lines {
			fmt.Fprintf(&table, "  %s\n", line)
		}
	}
	testkit.Golden(t, filepath.Join("testdata", "reported.golden"), table.String(), *update)
}

func only(t *testing.T, s alert.State) alert.Alert {
	t.Helper()
	for _, a := range s.Alerts {
		if a.ID != alert.Unwatched {
			return a
		}
	}
	t.Fatal("no alert")
	return alert.Alert{}
}

func TestAcknowledged(t *testing.T) {
	s, _ := play(alert.State{}, "w w w w")
	a := only(t, s)
	now := begin.Add(2 * time.Minute)
	if _, ok := (alert.Answers{}).Acknowledge(s, "other", "ana", now); ok {
		t.Error("what is not there is acknowledged")
	}
	answers, ok := alert.Answers{}.Acknowledge(s, a.Fingerprint, "ana", now)
	acknowledged := s.With(answers)
	if !ok || only(t, acknowledged).AcknowledgedBy != "ana" {
		t.Fatalf("%+v", acknowledged)
	}
	if only(t, s).AcknowledgedBy != "" {
		t.Error("the argument was changed")
	}
	later := func(s alert.State, letters string, after time.Duration) []alert.Change {
		at := now.Add(after)
		s = alert.Next(s, []alert.Observation{observe(letters)}, at)
		return alert.Due(alert.Next(s, []alert.Observation{observe(letters)}, at.Add(every)), at.Add(every))
	}
	if got := later(acknowledged, "w", 23*time.Hour); len(got) != 0 {
		t.Errorf("repeated: %+v", got)
	}
	if got := later(acknowledged, "w", 24*time.Hour); len(got) != 1 || got[0].Kind != alert.KindRepeat {
		t.Errorf("not repeated after a day: %+v", got)
	}
	if got := later(acknowledged, "W", time.Hour); len(got) != 1 || got[0].Kind != alert.KindWorse || got[0].Alert.AcknowledgedBy != "" {
		t.Errorf("worse, and acknowledged: %+v", got)
	}
	pending, _ := play(alert.State{}, "w")
	if _, ok := (alert.Answers{}).Acknowledge(pending, a.Fingerprint, "ana", now); ok {
		t.Error("what does not fire is acknowledged")
	}
	// A watch takes the same answers in at each look. They say nothing of what got worse, nor
	// of the next time that it fires, and what is taken back no longer counts.
	worse := alert.Next(acknowledged, []alert.Observation{observe("W")}, now.Add(time.Hour))
	if got := only(t, worse.With(answers)); got.AcknowledgedBy != "" {
		t.Errorf("worse, and acknowledged: %+v", got)
	}
	again := a
	again.FiredAt = now.Add(time.Second)
	if got := only(t, alert.State{Alerts: map[string]alert.Alert{a.Fingerprint: again}}.With(answers)); got.AcknowledgedBy != "" {
		t.Errorf("another firing is acknowledged: %+v", got)
	}
	if got := only(t, acknowledged.With(alert.Answers{})); got.AcknowledgedBy != "" || !got.AcknowledgedUntil.IsZero() {
		t.Errorf("taken back, and acknowledged: %+v", got)
	}
	if left := answers.Current(now.Add(24 * time.Hour)); len(left.Acknowledged) != 0 || len(answers.Acknowledged) != 1 {
		t.Errorf("%+v, %+v", left, answers)
	}
	if answers.Check() == nil || (alert.Answers{Format: alert.AnswersFormat, Silences: []alert.Silence{{ID: "1"}}}).Check() == nil {
		t.Error("answers of another format, or with a silence of everything, are taken")
	}
}

func TestSilence(t *testing.T) {
	valid := alert.Silence{
		ID: "1", By: "ana", Reason: "migration", From: begin, Until: begin.Add(time.Hour),
		Matchers: []alert.Matcher{{Label: "target", Value: "main/clinic"}, {Label: "id", Value: "crit"}},
	}
	if err := valid.Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*alert.Silence){
		"no reason":   func(x *alert.Silence) { x.Reason = "" },
		"no author":   func(x *alert.Silence) { x.By = "" },
		"no end":      func(x *alert.Silence) { x.Until = time.Time{} },
		"too long":    func(x *alert.Silence) { x.Until = begin.Add(30*24*time.Hour + 1) },
		"everything":  func(x *alert.Silence) { x.Matchers = nil },
		"other label": func(x *alert.Silence) { x.Matchers = []alert.Matcher{{Label: "colour", Value: "red"}} },
	} {
		x := valid
		x.Matchers = slices.Clone(valid.Matchers)
		if change(&x); pgmedic.KindOf(x.Check()) != pgmedic.KindUsage {
			t.Errorf("%s: %v", name, x.Check())
		}
	}
	// What is silenced keeps its state, and is reported when the silence ends.
	_, lines := play(alert.State{Silences: []alert.Silence{valid}}, "cw*130")
	want := []string{"1m0s      firing warn warn", "1h0m0s    firing critical crit"}
	if d := cmp.Diff(want, lines); d != "" {
		t.Error(d)
	}
	// What was resolved meanwhile has passed.
	_, lines = play(alert.State{Silences: []alert.Silence{valid}}, "c*10 _*130")
	if d := cmp.Diff([]string{"1h0m0s    passed critical crit"}, lines); d != "" {
		t.Error(d)
	}
	s, _ := play(alert.State{Silences: []alert.Silence{valid}}, "c*130")
	if len(s.Silences) != 0 {
		t.Error("a silence that has ended is kept")
	}
}

func TestCheck(t *testing.T) {
	s, _ := play(alert.State{}, "c c c")
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*alert.State){
		"format": func(s *alert.State) { s.Format = 2 },
		"key": func(s *alert.State) {
			for k, a := range s.Alerts {
				delete(s.Alerts, k)
				s.Alerts["other"] = a
			}
		},
		"phase": func(s *alert.State) {
			for k, a := range s.Alerts {
				a.Phase = "odd"
				s.Alerts[k] = a
			}
		},
	} {
		s, _ := play(alert.State{}, "c c c")
		if change(&s); pgmedic.KindOf(s.Check()) != pgmedic.KindUsage {
			t.Errorf("%s: %v", name, s.Check())
		}
	}
}

func TestFingerprint(t *testing.T) {
	seen := map[string]string{}
	for _, parts := range [][4]string{{"a", "b", "c", "d"}, {"ab", "", "c", "d"}, {"a", "b", "cd", ""}, {"a", "b", "", "cd"}, {"a", "1:b", "c", "d"}, {"a", "b", "c", ""}} {
		f := alert.Fingerprint(parts[0], alert.Condition{ID: parts[1], Database: parts[2], Object: parts[3], Severity: pgmedic.SeverityWarn})
		if other, ok := seen[f]; ok {
			t.Errorf("%v and %s are the same", parts, other)
		}
		seen[f] = fmt.Sprint(parts)
		if f != alert.Fingerprint(parts[0], alert.Condition{ID: parts[1], Database: parts[2], Object: parts[3], Severity: pgmedic.SeverityCritical}) {
			t.Error("the severity is part of it")
		}
	}
}

// TestForgotten: what was resolved is forgotten after 30 days, and not before it was reported.
func TestForgotten(t *testing.T) {
	s, _ := play(alert.State{}, "c c c _*14")
	at := func(s alert.State, after time.Duration) int {
		now := begin.Add(after)
		return len(alert.Next(s, []alert.Observation{observe("_")}, now).Alerts)
	}
	if n := at(s, 29*24*time.Hour); n != 1 {
		t.Errorf("%d alerts after 29 days", n)
	}
	if n := at(s, 31*24*time.Hour); n != 0 {
		t.Errorf("%d alerts after 31 days", n)
	}
}

// TestJSON: a state goes to JSON and back, and goes on as it would have.
func TestJSON(t *testing.T) {
	const first, rest = "cw cw cw w !U !U !U*5 3w b", "b*20 _*20 w*9"
	s, _ := play(alert.State{}, first)
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back alert.State
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if err := back.Check(); err != nil {
		t.Fatal(err)
	}
	a, linesA := play(s, rest)
	b, linesB := play(back, rest)
	if d := cmp.Diff(linesA, linesB); d != "" {
		t.Error(d)
	}
	wantJSON, _ := json.Marshal(a)
	gotJSON, _ := json.Marshal(b)
	if string(wantJSON) != string(gotJSON) {
		t.Error("the states differ")
	}
}

// TestCovers: a condition that a look may only have left out is not gone, and is stale in time.
func TestCovers(t *testing.T) {
	s, _ := play(alert.State{}, "w w w w w")
	look := func(s alert.State, n int, covers bool) (alert.State, string) {
		var kinds []string
		for range n {
			at := s.Targets["main/clinic"].LastLooked.Add(every)
			o := observe("_")
			o.Covers = func(c alert.Condition) bool { return covers || c.ID != "warn" }
			s = alert.Next(s, []alert.Observation{o}, at)
			due := alert.Due(s, at)
			for _, c := range due {
				kinds = append(kinds, string(c.Kind))
			}
			s = alert.Reported(s, due, at)
		}
		return s, strings.Join(kinds, " ")
	}
	s, kinds := look(s, 30, false)
	if a := only(t, s); a.Phase != alert.Firing || !a.Stale || kinds != "stale" {
		t.Errorf("left out: %s, reported %q", a.Phase, kinds)
	}
	s, kinds = look(s, 30, true)
	if a := only(t, s); a.Phase != alert.Resolved || kinds != "resolved" {
		t.Errorf("gone: %s, reported %q", a.Phase, kinds)
	}
}

// TestGrouping: news waits for more while the next look comes within half a minute, and no
// longer than that where it does not.
func TestGrouping(t *testing.T) {
	for _, test := range []struct {
		every time.Duration
		want  time.Duration // when a critical condition is reported that is there from the start
	}{
		{10 * time.Second, time.Minute}, {29 * time.Second, 2*29*time.Second + 29*2*time.Second}, {30 * time.Second, 30 * time.Second}, {5 * time.Minute, 5 * time.Minute}, {time.Hour, time.Hour},
	} {
		s, at := alert.State{}, time.Duration(0)
		for ; at <= 2*test.every+3*time.Minute; at += test.every {
			o := observe("c")
			o.Every = test.every
			s = alert.Next(s, []alert.Observation{o}, begin.Add(at))
			if len(alert.Due(s, begin.Add(at))) > 0 {
				break
			}
		}
		if at != test.want {
			t.Errorf("every %s: reported after %s, want %s", test.every, at, test.want)
		}
	}
}
